"""T7 and T9: what is retired and cannot be freed yet is bounded, and stats() tells of it.

Each test runs in a process of its own, with limits that fit it."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import support

from qsbrcontainers import _native

WAITS = pytest.mark.skipif(support.FREES_AT_ONCE, reason="nothing waits here")
HAS_DEFERRED = not getattr(sys, "_is_gil_enabled", lambda: True)() and sys.version_info >= (3, 14)

PREAMBLE = """
import gc, os, signal, sys, threading, time
from qsbrcontainers import ConcurrentDict, ConcurrentList, collect, stats
from qsbrcontainers import _native

class Reader:
    '''A thread that is in a section until it is let go.'''
    def __init__(self):
        self.inside, self.leave, self.left = [threading.Event() for _ in range(3)]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        self.inside.wait()
    def run(self):
        _native._section(True)
        self.inside.set()
        self.leave.wait()
        _native._section(False)
        self.left.set()
    def let_go(self):
        self.leave.set()
        self.thread.join()

def shared(container):
    thread = threading.Thread(target=len, args=(container,))
    thread.start()
    thread.join()
    return container

def churn(container, n):
    '''Replaces n tables of about 80 kB.'''
    for _ in range(n):
        container.clear()
        container.extend(range(10_000))
"""


def run(code, **environment):
    environment = {k: str(v) for k, v in environment.items()}
    done = subprocess.run(
        [sys.executable, "-P", "-c", PREAMBLE + textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(Path(support.__file__).parent), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@WAITS
def test_T7_held_memory_stops_at_the_hard_limit():
    """And the writer goes on when the reader leaves: long before its second is over."""
    run(
        """
        l = shared(ConcurrentList())
        reader = Reader()
        done = threading.Event()
        def write():
            churn(l, 200)
            done.set()
        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        deadline = time.monotonic() + 60
        while stats()['waits'] == 0:
            assert time.monotonic() < deadline and not done.is_set()
            time.sleep(0.01)
        time.sleep(0.2)
        # The limit, twice the largest block, and a batch.
        most = (1 << 20) + 2 * 81_000 + 100_000 + 81_000
        assert stats()['bytes_held'] <= most, stats()
        assert not done.is_set()
        assert stats()['waits_in_vain'] == 0
        reader.let_go()
        writer.join()
        assert stats()['waits_in_vain'] == 0
        assert stats()['bytes_held_peak'] <= most, stats()
        collect()
        assert stats()['bytes_held'] == 0
        """,
        QSBRCONTAINERS_HARD_BYTES=1 << 20,
        QSBRCONTAINERS_BATCH_BYTES=100_000,
        QSBRCONTAINERS_WAIT_MS=60_000,
    )


@WAITS
@pytest.mark.parametrize("threads", [1, 10, 200])
def test_T7_open_batches_count_at_any_number_of_threads(threads):
    """Threads each replace an array that is just too small to close its batch, and then block. No
    more waits than the formula says, and what writers add that had begun by then."""
    run(
        f"""
        N, SIZE = {threads}, 800_000
        lists = [ConcurrentList(range(SIZE // 8)) for _ in range(N)]
        for l in lists:
            l.append(1)
        go, ready = threading.Event(), threading.Semaphore(0)
        def write(l):
            l[0]
            l.insert(0, 1)
            ready.release()
            go.wait()
        writers = [threading.Thread(target=write, args=(l,), daemon=True) for l in lists]
        assert stats()['bytes_limit'] == 4 << 20
        block = (1 << 20) - 1
        for n, writer in enumerate(writers):
            writer.start()
            ready.acquire()  # so one writer is under way at a time
            held = stats()
            assert held['bytes_held'] <= held['bytes_limit'], held
            assert held['bytes_limit'] <= (4 << 20) + 2 * block, held
        assert stats()['bytes_held_peak'] <= (4 << 20) + 2 * block
        assert N == 1 or stats()['bytes_held_peak'] > 0
        go.set()
        for writer in writers:
            writer.join()
        collect()
        assert stats()['bytes_held'] == 0
        """
    )


@WAITS
@pytest.mark.parametrize("stopped", [False, True])
def test_T7_waiting_pages_count_at_any_number_of_threads(stopped):
    """Threads each replace small arrays, too few for a promotion of their own, and then block.
    Their pages count toward the one limit, also behind a reader that is stopped."""
    run(
        f"""
        N, STOPPED = 60, {stopped}
        lists = [shared(ConcurrentList([None] * 1000)) for _ in range(N)]
        reader = Reader() if STOPPED else None
        go = threading.Event()
        def write(l, ready):
            for _ in range(95):
                l.reverse()
            ready.release()
            go.wait()
        def pages():
            return stats()['pages_waiting'] * 65536
        writers, PAGES_MOST = [], (4 << 20) + (N + 1) * 65536
        ready = threading.Semaphore(0)
        for l in lists:
            writers.append(threading.Thread(target=write, args=(l, ready), daemon=True))
            writers[-1].start()
            if not STOPPED:
                ready.acquire()
                assert pages() <= (4 << 20) + 2 * 65536, stats()
        if STOPPED:  # each writer that had begun finishes, the others wait
            deadline = time.monotonic() + 60
            while stats()['waits'] == 0:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.2)
            assert pages() <= PAGES_MOST, stats()
            reader.let_go()
            for _ in lists:
                ready.acquire()
            assert stats()['waits_in_vain'] == 0
        go.set()
        for writer in writers:
            writer.join()
        """,
        QSBRCONTAINERS_WAIT_MS=60_000,
    )


@WAITS
def test_T7_writers_go_on_after_their_time():
    """A reader that never leaves (a debugger holds it) does not stop the program: each wait in
    vain allows twice as much."""
    run(
        """
        l = shared(ConcurrentList())
        reader = Reader()
        churn(l, 300)
        held = stats()
        assert 2 <= held['waits_in_vain'] <= 10, held
        assert held['bytes_held'] > 20_000_000, held
        reader.let_go()
        collect()
        assert stats()['bytes_held'] == 0
        """,
        QSBRCONTAINERS_HARD_BYTES=100_000,
        QSBRCONTAINERS_BATCH_BYTES=100_000,
        QSBRCONTAINERS_WAIT_MS=100,
    )


@WAITS
@pytest.mark.skipif(not hasattr(__import__("signal"), "setitimer"), reason="no timers here")
def test_T7_signals_come_in_while_a_writer_waits():
    """The handler's exception is the operation's, which has changed nothing."""
    run(
        """
        class Alarm(Exception):
            pass
        def handler(*ignored):
            raise Alarm
        l = shared(ConcurrentList())
        reader = Reader()
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            while True:
                l.clear()
                l.extend(range(10_000))
        except Alarm:
            pass
        else:
            raise AssertionError('no signal came in')
        assert stats()['waits'] >= 1
        assert list(l) in ([], list(range(10_000)))
        reader.let_go()
        """,
        QSBRCONTAINERS_HARD_BYTES=1 << 20,
        QSBRCONTAINERS_WAIT_MS=60_000,
    )


@WAITS
def test_T7_pages_that_wait_count_too():
    """Tables of up to 8 KiB are not in the queue but in their pages, and as bounded, with the
    deleted keys, which are in the queue."""
    run(
        """
        d = shared(ConcurrentDict(dict.fromkeys(range(40))))
        reader = Reader()
        done = threading.Event()
        def write():
            for i in range(1000, 101_000):  # a new table every so often
                d[i] = None
                del d[i]
            done.set()
        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        deadline = time.monotonic() + 60
        while stats()['waits'] == 0:
            assert time.monotonic() < deadline and not done.is_set(), stats()
            time.sleep(0.01)
        time.sleep(0.1)
        now = stats()
        assert now['bytes_held'] == 64 * now['items_held'] and now['pages_waiting'] > 5, now
        assert now['bytes_held'] + now['page_bytes_held'] < (1 << 20) + (1 << 19), now
        assert not done.is_set()
        reader.let_go()
        writer.join()
        collect()
        now = stats()
        assert now['pages_waiting'] <= 1 and now['waits_in_vain'] == 0, now
        """,
        QSBRCONTAINERS_HARD_BYTES=1 << 20,
        QSBRCONTAINERS_WAIT_MS=60_000,
    )


def test_T7_pages_go_back_where_nobody_writes():
    """Reads look after them as well. (Caught: only writers did; 60 of 64 pages waited.)"""
    run(
        """
        d = ConcurrentDict(a=1)
        dropped = [ConcurrentDict(dict.fromkeys(range(20))) for _ in range(5000)]
        full = stats()['pages']
        del dropped
        for _ in range(5000):
            d['a']
        now = stats()
        assert now['pages'] * 2 < full and now['pages_waiting'] * (64 << 10) <= 1 << 20, (full, now)
        """,
        QSBRCONTAINERS_HARD_BYTES=1 << 20,
    )


@WAITS
def test_T7_others_run_while_a_writer_waits():
    """It waits without the GIL and without the container's lock."""
    run(
        """
        l = shared(ConcurrentList([1, 2, 3]))
        other = shared(ConcurrentDict())
        reader = Reader()
        writer = threading.Thread(target=churn, args=(l, 100), daemon=True)
        writer.start()
        deadline = time.monotonic() + 60
        while stats()['waits'] == 0:
            assert time.monotonic() < deadline
            len(l)
            time.sleep(0.001)
        for i in range(1000):
            assert len(l) in (0, 10_000)
            for x in l:
                break
            other.get(i)
        reader.let_go()
        writer.join()
        """,
        QSBRCONTAINERS_HARD_BYTES=1 << 20,
        QSBRCONTAINERS_WAIT_MS=60_000,
    )


@WAITS
def test_T7_a_batch_that_nobody_adds_to_is_freed_by_others():
    """T6 as well: the thread that retired it sleeps for ever."""
    run(
        """
        d = shared(ConcurrentDict())
        asleep, end = threading.Event(), threading.Event()
        class Key:
            pass
        def retire():
            for i in range(10):
                key = Key()
                d[key] = None
                del d[key]
            asleep.set()
            end.wait()
        sleeper = threading.Thread(target=retire)
        sleeper.start()
        asleep.wait()
        assert stats()['items_held'] > 0
        deadline = time.monotonic() + 60
        while stats()['items_held']:
            assert time.monotonic() < deadline, stats()
            'other' in d
        end.set()
        sleeper.join()
        """
    )


@pytest.mark.skipif(not HAS_DEFERRED, reason="no deferred reference counting here")
def test_T7_dead_containers_call_for_the_collector():
    """Shared, deferred dicts of 1.3 MiB, one after the other, within 200 MiB: 1,500 of them
    with QC_RACE_SCALE above 1, and otherwise as many as would hold 400."""
    out = run(
        """
        keys = [f'key {i}' for i in range(24_000)]
        requests, answers = threading.Semaphore(0), threading.Semaphore(0)
        box = [None]
        def reader():
            while True:
                requests.acquire()
                d = box[0]
                if d is None:
                    return
                for key in keys[:2000]:
                    d[key]
                    if key == 'key 10':
                        time.sleep(0.002)  # longer than QSBRCONTAINERS_SETTLE_MS
                del d
                answers.release()
        thread = threading.Thread(target=reader, daemon=True)
        thread.start()
        deferred = 0
        for i in range(int(os.environ['DICTS'])):
            d = ConcurrentDict.__new__(ConcurrentDict)
            d.update(dict.fromkeys(keys, i))
            box[0] = d
            requests.release()
            answers.acquire()
            if i == 0:
                assert d.__sizeof__() > 1 << 20, d.__sizeof__()
            del d
        box[0] = None
        requests.release()
        thread.join()
        from support import peak_memory
        print(round(peak_memory()), stats()['collections'])
        """,
        DICTS=1500 if support.RACE_SCALE > 1 else 300,
        QSBRCONTAINERS_SETTLE_MS=1,
    )
    megabytes, collections = map(int, out.split())
    assert megabytes < 200, out
    assert collections > 0


@pytest.mark.parametrize("value", ["0", "-1", "1e6", "a lot", "9" * 30, " 5"])
def test_limits_that_are_no_numbers_are_refused_at_import(value):
    code = "import qsbrcontainers"
    for name in ("BATCH_BLOCKS", "HARD_BYTES"):
        name = f"QSBRCONTAINERS_{name}"
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            env={**os.environ, name: value},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert f"ImportError: {name}={value}" in done.stderr


@pytest.mark.parametrize("name", ["HARD_BYTES", "BARRIER"])
def test_an_import_that_was_refused_can_be_tried_again(name):
    """Caught: the first answer was kept, and the text printed of a variable that was gone."""
    name = f"QSBRCONTAINERS_{name}"
    source = textwrap.dedent(
        """
        import os, sys

        def again():
            for name in [name for name in sys.modules if name.startswith("qsbrcontainers")]:
                del sys.modules[name]
            try:
                import qsbrcontainers
                print(qsbrcontainers.ConcurrentDict(a=1))
            except ImportError as error:
                print(error)

        for value in ["a lot", "nothing, either", "", None, "not read any more"]:
            os.environ[sys.argv[1]] = value or ""
            if value is None:
                del os.environ[sys.argv[1]]
            again()
        """
    )
    refused, again, *accepted = support.run_script(source, name, **{name: ""}).splitlines()
    assert f"{name}=a lot:" in refused and f"{name}=nothing, either:" in again
    assert accepted == ["{'a': 1}"] * 3


@WAITS
def test_T3_the_limit_of_a_batch_can_be_set():
    out = run(
        """
        d = shared(ConcurrentDict())
        d['key'] = object()
        before = stats()['batches']
        l = shared(ConcurrentList())
        churn(l, 51)
        print(stats()['batches'] - before)
        """,
        QSBRCONTAINERS_BATCH_BLOCKS=10,
        QSBRCONTAINERS_BATCH_BYTES=1 << 40,
    )
    assert int(out) == 5  # 50 arrays and no others


def test_T9_stats_has_what_the_docs_say():
    names = set(_native.stats())
    for name in names:
        assert name in _native.stats.__doc__, name
    assert {"waits", "waits_in_vain", "bytes_held", "advances", "polls"} <= names


@pytest.mark.skipif(not support.FREES_AT_ONCE, reason="they may be looking at it here")
def test_T1_with_a_gil_what_two_threads_know_dies_as_with_dict_and_list():
    """At once, when it is replaced or removed; a thread in a section keeps nothing. Caught:
    containers that delay with a GIL too (clear() then waits for the reader, to the time limit)."""
    out = run(
        """
        class Value:
            def __del__(self):
                died.append(None)
        died = []
        d, values = shared(ConcurrentDict()), shared(ConcurrentList())
        reader = Reader()
        steps = [
            lambda: d.update(a=Value(), b=Value(), c=Value(), d=Value()), lambda: d.update(a=1),
            lambda: d.pop("b") and None, lambda: d.popitem() and None, lambda: d.clear(),
            lambda: values.extend([Value() for _ in range(7)]), lambda: values.pop() and None,
            lambda: values.__setitem__(0, 1), lambda: values.__delitem__(1),
            lambda: values.drain() and None,
        ]
        for step in steps:
            step()
            print(len(died), end=" ")
        for i in range(10_000):
            d[i] = str(i)
            values.append(i)
        values.clear()
        d.clear()
        held = stats()
        print(held["items_held"], held["bytes_held"], held["page_bytes_held"])
        reader.let_go()
        """
    )
    assert out.split() == "0 1 2 3 4 4 5 6 7 11 0 0 0".split()

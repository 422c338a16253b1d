"""Domains, sections, goals and queues through the C API, one step at a time: what a probe with a
domain and a queue of its own may and may not do, and when what it retired is run."""

import gc
import signal
import subprocess
import sys
import threading
import types

import pytest
from support import TIMEOUT, Boom, in_other_thread, run_script, run_threads

LOOK_EVERY = 1024  # operations until a thread looks after the queue unasked
BATCH = 127  # blocks that close a batch (T3)


@pytest.fixture
def p(probe):
    return probe.Probe()


class Section:
    """A section of another thread, from `with` to its end."""

    def __init__(self, probe, attach=False):
        self.probe, self.attach = probe, attach
        self.entered, self.leave = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        if self.attach:
            assert self.probe.attach()
        else:
            self.probe.enter()
        self.entered.set()
        self.leave.wait(TIMEOUT)
        self.probe.detach() if self.attach else self.probe.exit()

    def __enter__(self):
        self.thread.start()
        assert self.entered.wait(TIMEOUT)

    def __exit__(self, *exception):
        self.leave.set()
        self.thread.join(TIMEOUT)


# Records


def test_Q4_a_thread_has_one_record_in_a_domain(p, probe):
    mine = p.register()
    assert mine == p.register() == p.register_detached()
    assert in_other_thread(p.register_detached) == in_other_thread(p.register) != mine
    others = [probe.Probe() for _ in range(20)]  # more than a thread remembers
    records = [o.register() for o in others]
    assert len({mine, *records}) == 21
    assert [o.register() for o in others] == records and p.register() == mine


def test_Q5_a_record_is_given_up_and_taken_again(p):
    mine = p.register()
    p.unregister()
    assert p.register() == mine
    p.enter()
    with pytest.raises(RuntimeError, match="in a section"):
        p.unregister()
    p.exit()
    p.unregister()
    p.unregister()  # registers first


def test_Q5_domains_end_under_threads_that_knew_them(probe):
    """Threads that remember a domain's record outlive it; the next one has its address."""
    done, go = [threading.Barrier(3) for _ in range(2)]
    current = []

    def use():
        for _ in range(50):
            go.wait(TIMEOUT)
            current[0].enter()
            current[0].exit()
            current[0].retire_one(int, 8)
            done.wait(TIMEOUT)

    def replace():
        for _ in range(50):
            current[:] = [probe.Probe()]
            go.wait(TIMEOUT)
            done.wait(TIMEOUT)
            current[0].release()

    run_threads(2, lambda me: use(), 1, lambda me: replace())


# Sections and goals


def test_Q1_a_goal_waits_for_the_sections_that_began_before_it(p):
    goal = p.advance()
    assert p.poll(goal) and p.goal_reached(goal) and p.poll(goal)
    with Section(p):
        goal = p.advance()
        assert not p.poll(goal) and not p.goal_reached(goal)
        p.enter()  # a section that begins now holds nothing up
        p.exit()
        assert not p.poll(goal)
    assert not p.goal_reached(goal)  # nobody has looked
    assert p.poll(goal) and p.goal_reached(goal)


def test_Q1_sections_nest(p):
    p.enter()
    p.enter()
    p.exit()
    goal = p.advance()
    assert not in_other_thread(p.poll, goal)
    p.exit()
    assert in_other_thread(p.poll, goal)


def test_Q2_who_is_in_a_section_can_not_wait(p):
    goal = p.advance()
    p.enter()
    later = p.advance()
    assert not p.poll(later)
    with pytest.raises(RuntimeError, match="in a section"):
        p.wait(later)
    with pytest.raises(RuntimeError, match="in a section"):
        p.collect()
    assert p.poll(goal) in (True, False)
    p.exit()
    p.wait(later)
    assert p.goal_reached(goal) and p.collect() == 0


def test_Q1_wait_ends_with_the_section(p):
    section = Section(p)
    with section:
        goal = p.advance()
        waiting = threading.Thread(target=p.wait, args=(goal,))
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive() and not p.goal_reached(goal)
    waiting.join(TIMEOUT)
    assert not waiting.is_alive() and p.goal_reached(goal)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no timer here")
@pytest.mark.parametrize("what", ["wait", "collect"])
def test_a_signal_ends_the_wait(p, what):
    def handler(*arguments):
        raise Boom

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with Section(p):
            arguments = [p.advance()] if what == "wait" else []
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Boom):
                getattr(p, what)(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_domain_waits_for_its_own_readers_only(p, probe):
    """The reason for domains: a slow section elsewhere stalls nobody here, the containers least."""
    from qsbrcontainers import collect

    other = probe.Probe()
    with Section(other):
        goal = p.advance()
        assert p.poll(goal)
        collect()
        assert not other.poll(other.advance())


def test_Q7_attached_readers_hold_goals_up_until_they_are_quiescent(p):
    goal = p.advance()
    assert p.attach()
    later = p.advance()
    assert not in_other_thread(p.poll, later)
    assert not p.poll(later)
    p.quiescent_state()
    assert in_other_thread(p.poll, later) and p.goal_reached(goal)
    last = p.advance()
    assert not in_other_thread(p.poll, last)
    p.detach()
    assert p.poll(last)
    with Section(p, attach=True):
        assert not p.poll(p.advance())


def test_Q1_deferred_advances_count(p):
    goals = [p.advance_deferred(8) for _ in range(BATCH)]
    assert not any(goals[:-1]) and goals[-1] != 0
    assert p.advance_now() == 0  # nothing counted since
    assert p.advance_deferred(8) == 0
    goal = p.advance_now()
    assert goal != 0 and p.poll(goal)
    assert p.advance_deferred(1 << 20) != 0  # large enough alone


# The queue


def fill(p, run, n=BATCH):
    for _ in range(n):
        p.retire_one(lambda: run.append(None), 8)


def test_T2_T5_retiring_runs_nothing_and_the_next_safe_point_does(p):
    run = []
    fill(p, run)
    assert run == [] and p.held() == (8 * BATCH, BATCH)
    p.safe_point()
    assert len(run) == BATCH and p.held() == (0, 0)


def test_T3_a_batch_that_is_not_full_waits(p):
    run = []
    fill(p, run, BATCH - 1)
    p.safe_point()
    assert run == []
    fill(p, run, 1)
    p.safe_point()
    assert len(run) == BATCH


def test_T3_bytes_and_references(p):
    run = []
    p.retire_one(lambda: run.append(1), 1 << 20)
    p.safe_point()
    assert run == [1]
    for _ in range(2 * BATCH):
        p.retire_one(lambda: run.append(2), 0)
    p.safe_point()
    assert run == [1]
    assert p.collect() == 2 * BATCH and len(run) == 1 + 2 * BATCH


def test_T5_nothing_runs_while_a_reader_may_see_it(p):
    run = []
    p.safe_point()
    with Section(p):
        fill(p, run)
        for _ in range(3 * LOOK_EVERY):
            p.safe_point()
        assert run == [] and p.held()[1] == BATCH
    for _ in range(LOOK_EVERY):
        p.safe_point()
    assert len(run) == BATCH


@pytest.mark.parametrize("size", [0, 8, 2 << 20])
def test_T2_retiring_the_pointer_to_nothing_calls_the_function_with_it(p, size, monkeypatch):
    """An item like others: it is counted, it waits for the readers, and is run once. Caught: a
    retire() that takes 0 for nothing to do."""
    freed = []
    module = types.ModuleType("probe_nulls")
    module.freed = freed
    monkeypatch.setitem(sys.modules, "probe_nulls", module)
    with Section(p):
        p.retire_null(size, True)
        p.retire_null(size, True)
        p.safe_point()
        assert freed == [] and p.held() == (2 * size, 2)
    assert p.collect() == 2 and freed == ["null", "null"] and p.held() == (0, 0)


def test_T2_retiring_without_a_function_ends_the_process_at_once(built):
    """And not later, in whatever thread comes to a safe point."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import probe\n"
        "probe.Probe().retire_null(8, False)\n"
        "print('went on', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(built)], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGABRT and done.stdout == "", done
    assert "qsbrc_retire() without a function" in done.stderr


def test_T5_a_safe_point_in_a_section_runs_nothing(p):
    """Not even what could be freed: it may run Python code (Q2)."""
    run = []
    fill(p, run)
    assert p.poll(p.advance())
    p.enter()
    p.safe_point()
    assert run == []
    p.exit()
    p.safe_point()
    assert len(run) == BATCH


def test_T5_processing_is_not_reentrant(p):
    """What an item runs may use the queue and come to its safe points."""
    run = []

    def item():
        depth.append(None)
        assert len(depth) == 1
        run.append(None)
        if len(run) < 3 * BATCH:
            p.retire_one(item, 8)
        p.safe_point()
        depth.pop()

    depth = []
    for _ in range(BATCH):
        p.retire_one(item, 8)
    while p.held()[1]:
        p.collect()
    assert len(run) == 4 * BATCH - 1


def test_T5_an_exception_stays_and_what_items_raise_is_reported(p, monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda u: reported.append(u.exc_value))

    def item():
        raise KeyError("an item")

    p.retire_one(item, 1 << 20)
    with pytest.raises(Boom, match="set before"):
        p.safe_point(Boom("set before"))
    assert [str(e) for e in reported] == ["'an item'"] and p.held() == (0, 0)
    p.retire_one(item, 1 << 20)
    p.safe_point()
    p.retire_one(item, 1)
    assert p.collect() == 1 and len(reported) == 3


def test_T6_what_a_quiet_thread_has_left_is_freed_by_another(p):
    run = []
    thread = threading.Thread(target=fill, args=(p, run, 5))
    thread.start()
    thread.join(TIMEOUT)
    assert p.held()[1] == 5
    while not run:  # after 50 ms
        p.safe_point()
    assert len(run) == 5


def test_T6_collect_takes_what_threads_hold_that_go_on(p):
    run, filled, over = [], threading.Event(), threading.Event()

    def work():
        fill(p, run, 5)
        filled.set()
        over.wait(TIMEOUT)

    thread = threading.Thread(target=work)
    thread.start()
    filled.wait(TIMEOUT)
    assert p.collect() == 5 and len(run) == 5
    over.set()
    thread.join(TIMEOUT)


def test_T8_freeing_the_queue_runs_what_is_in_it(p):
    run = []
    fill(p, run, 5)
    p.release()
    assert len(run) == 5


def test_T8_a_queue_under_a_reader_is_left_behind(probe):
    """Memory that somebody may read is not freed, not even at the end."""
    p, run = probe.Probe(), []
    with Section(p):
        p.retire_one(lambda: run.append(None), 8)
        q = probe.Probe()
        fill(q, run, 1)
        q.release()
        assert len(run) == 1
    p.release()
    assert len(run) == 2


def test_Q5_a_thread_that_ends_with_room_leaves_its_items(p):
    """The next thread with its record takes over what it had retired, and reserves anew."""
    run = []

    def begin():
        p.reserve(3)
        p.retire(lambda: run.append("begun"), 8)

    def go_on():
        p.retire_one(lambda: run.append("gone on"), 8)

    for work in (begin, go_on, begin, go_on):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(TIMEOUT)
    p.collect()
    assert sorted(run) == ["begun", "begun", "gone on", "gone on"]


# Mistakes that are told


def test_room_is_reserved_once(p):
    p.reserve(3)
    with pytest.raises(RuntimeError, match="again"):
        p.reserve(1)
    with pytest.raises(RuntimeError, match="reserve"):
        p.collect()
    run = []
    p.retire(lambda: run.append(None), 1 << 21)
    p.safe_point()  # does nothing
    assert run == []
    p.commit()
    p.safe_point()
    assert len(run) == 1
    p.reserve(1)
    p.commit()
    with pytest.raises(ValueError, match="1000"):
        p.reserve(1001)
    p.reserve(1000)
    for _ in range(1000):
        p.retire(int, 0)
    p.commit()
    assert p.collect() == 1000


FATAL = {
    "p.exit()": "without qsbrc_enter",
    "p.enter(); p.exit(); p.exit()": "without qsbrc_enter",
    "p.enter(); p.attach()": "in a section",
    "p.detach()": "not attached",
    "p.quiescent_state()": "not attached",
    "p.attach(); p.enter(); p.quiescent_state()": "in a section",
    "p.attach(); p.enter(); p.detach()": "in a section",
    "p.reserve(1); p.retire(int, 1); p.retire(int, 1)": "more calls than were reserved",
    "p.reserve(1); p.commit(); p.retire(int, 1)": "without room",
    "p.reserve(1); p.commit(); p.commit()": "without qsbrc_reserve",
}


@pytest.mark.parametrize("mistake", FATAL)
def test_mistakes_that_would_corrupt_memory_end_the_process(built, mistake):
    """Where there is no way to say no."""
    with pytest.raises(AssertionError, match=FATAL[mistake]):
        run_script(
            f"import sys; sys.path.insert(0, sys.argv[1])\n"
            f"import probe; p = probe.Probe(); {mistake}",
            built,
        )


def test_references_are_dropped(probe):
    class Item:
        alive = 0

        def __init__(self):
            Item.alive += 1

        def __call__(self):
            pass

        def __del__(self):
            Item.alive -= 1

    p = probe.Probe()
    for _ in range(300):
        p.retire_one(Item(), 100)
    del p
    gc.collect()
    assert Item.alive == 0


# The end of the interpreter


def test_Q7_other_threads_are_refused_when_the_interpreter_ends(built):
    """The domain of an interpreter that ends is shutting down for all threads but the one that
    ends it; sections go on and are safe."""
    printed = run_script(
        """
import atexit, os, sys, threading
over, joined = threading.Event(), []

@atexit.register  # runs last: after the hook of qsbrcontainers, which is imported below
def last():
    over.set()
    t.join()
    print(*joined)
    assert p.attach()
    p.detach()
    p.retire_one(lambda: os.write(1, b"freed"), 8)
    p.release()

sys.path.insert(0, sys.argv[1])
import probe
p = probe.Probe()

def work():
    assert p.attach()
    p.detach()
    begun.set()
    over.wait()
    p.enter()
    p.exit()
    joined.append(p.attach())
    p.retire_one(int, 8)
    p.safe_point()

begun = threading.Event()
t = threading.Thread(target=work, daemon=True)
t.start()
begun.wait()
""",
        built,
    )
    assert printed.split() == ["False", "freed"]


def test_T8_what_keeps_its_own_module_alive_is_freed_at_exit(built):
    """The queue's item holds a class of __main__, whose globals hold the probe and its module:
    without the drain at exit nobody would ever free it."""
    printed = run_script(
        """
import os, sys
sys.path.insert(0, sys.argv[1])
import probe
p = probe.Probe()

class Item:
    def __call__(self, write=os.write):
        write(1, b"x")

for _ in range(3):
    p.retire_one(Item(), 8)
""",
        built,
    )
    assert printed == "xxx"


# Memory (T7)


def test_T7_writers_wait_for_readers_in_reserve(built):
    """A reader that stays: what is held stops near the hard limit, writers wait, and go on when the
    reader leaves."""
    run_script(
        """
import sys, threading
sys.path.insert(0, sys.argv[1])
import probe
p, entered, leave, peak = probe.Probe(), threading.Event(), threading.Event(), []

def read():
    p.enter()
    entered.set()
    leave.wait()
    p.exit()

def write():
    for i in range(200):
        p.retire_one(int, 1000)
        peak.append(p.held()[0])

reader, writer = threading.Thread(target=read), threading.Thread(target=write)
reader.start()
entered.wait()
writer.start()
writer.join(0.3)
assert writer.is_alive()
stopped = len(peak)
assert 10 <= stopped <= 40, stopped
leave.set()
writer.join()
reader.join()
assert len(peak) == 200
""",
        built,
        QSBRCONTAINERS_HARD_BYTES="20000",
        QSBRCONTAINERS_BATCH_BYTES="4000",
        QSBRCONTAINERS_WAIT_MS="600000",
    )


def test_T7_a_signal_ends_the_wait_in_reserve(built):
    run_script(
        """
import signal, sys, threading
sys.path.insert(0, sys.argv[1])
import probe
p, entered, leave = probe.Probe(), threading.Event(), threading.Event()

def read():
    p.enter()
    entered.set()
    leave.wait()
    p.exit()

def handler(*arguments):
    raise KeyError("the handler's")

reader = threading.Thread(target=read)
reader.start()
entered.wait()
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
try:
    while True:
        p.retire_one(int, 1000)
except KeyError:
    pass
signal.setitimer(signal.ITIMER_REAL, 0)
leave.set()
reader.join()
p.retire_one(int, 1000)
p.collect()
assert p.held() == (0, 0)
""",
        built,
        QSBRCONTAINERS_HARD_BYTES="20000",
        QSBRCONTAINERS_BATCH_BYTES="4000",
        QSBRCONTAINERS_WAIT_MS="600000",
    )


# Many queues, and queues of others


def test_a_thread_may_use_more_queues_than_it_remembers(probe):
    probes, run = [probe.Probe() for _ in range(30)], []
    for i in range(5):
        for p in probes:
            p.reserve(1)
        for p in probes:  # by now the first ones are forgotten
            p.retire(lambda i=i: run.append(i), 8)
            p.commit()
            p.safe_point()
    for p in probes:
        p.release()
    assert len(run) == 5 * 30


def test_Q11_a_queue_of_another_interpreter_is_refused(built):
    """An object that was smuggled into another interpreter: what it retired would be run there."""
    if sys.version_info >= (3, 13):
        pytest.skip("interpreters that share a GIL, and objects, are made otherwise there")
    printed = run_script(
        """
import sys
sys.path.insert(0, sys.argv[1])
import _xxsubinterpreters, probe
p = probe.Probe()
p.retire_one(int, 8)
code = f'''
import sys
sys.path[:] = {sys.path!r}
import ctypes, probe
p = ctypes.cast({id(p)}, ctypes.py_object).value
for call in (lambda: p.reserve(1), p.collect):
    try:
        call()
    except RuntimeError as error:
        assert "interpreter" in str(error)
    else:
        raise AssertionError("not refused")
del p, call
'''
other = _xxsubinterpreters.create(**({"isolated": False} if sys.version_info >= (3, 12) else {}))
_xxsubinterpreters.run_string(other, code)
_xxsubinterpreters.destroy(other)
assert p.collect() == 1
print("refused")
""",
        built,
    )
    assert printed == "refused"


LEFT_OVER = """
import os, sys
sys.path.insert(0, sys.argv[1])
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
other = interpreters.create()
error = interpreters.run_string(other, '''
import sys
sys.path[:] = %r
import probe, qsbrcontainers
p, d = probe.Probe(), qsbrcontainers.ConcurrentDict(a=1)
p.retire_one(int, 8)  # nothing that detaches: that would be 3.11's own trouble
''' % (sys.path,))
assert error is None
raise SystemExit(3)
"""


def test_Q11_an_interpreter_that_is_left_over_when_the_main_one_ends(built):
    """It ends with it, in the same thread, which goes on to the end of the process."""
    with pytest.raises(AssertionError, match="status 3"):
        run_script(LEFT_OVER, built)


def test_a_module_that_is_imported_again(built):
    """The types are those of the last import; objects of the first go on."""
    run_script(
        """
import gc, sys
sys.path.insert(0, sys.argv[1])
import probe, qsbrcontainers
first = probe.dict_new()
assert type(first) is probe.dict_type() is qsbrcontainers.ConcurrentDict
for name in [n for n in sys.modules if n.startswith("qsbrcontainers")]:
    del sys.modules[name]
import qsbrcontainers as again
assert again.ConcurrentDict is not type(first)
assert probe.dict_type() is again.ConcurrentDict is type(probe.dict_new())
assert probe.dict_set(first, 1, 2) == 0 and probe.dict_check_exact(first)
del again
for name in [n for n in sys.modules if n.startswith("qsbrcontainers")]:
    del sys.modules[name]
gc.collect()
try:
    probe.dict_new()
except RuntimeError as error:
    print(error)
assert probe.dict_get_ref(first, 1) == (1, 2)
p = probe.Probe()
p.retire_one(int, 8)
assert p.collect() == 1
""",
        built,
    )

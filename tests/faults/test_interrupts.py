"""Signals: handlers that come back into the container, Ctrl-C in the middle of operations."""

import os
import signal
import threading
import time

import pytest
from support import SameHash, run_script, scaled

from qsbrcontainers import ConcurrentDict, ConcurrentList

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers")


@pytest.fixture
def on_signal():
    """Sets a handler that is called every millisecond while the test runs."""

    def set_handler(handler):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)

    yield set_handler
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_handlers_that_come_back_into_the_container(on_signal):
    d, values, calls = ConcurrentDict(), ConcurrentList([0]), []

    def handler(*_):
        calls.append(None)
        d["handler"] = len(calls)
        d[SameHash(len(calls) % 10)] = calls
        d.pop(SameHash(3), None)
        values.append(len(calls))
        values.pop()
        list(d.items())

    on_signal(handler)
    until = 0
    while len(calls) < 100:
        until += 1
        for i in range(200):
            d[SameHash(i % 10)] = i
            d[i] = i
            assert d[i] == i
            values[0] = i
        d.snapshot()
        for i in range(200):
            del d[i]
    assert len(values) == 1 and len(d) <= 12


def test_handlers_that_raise(on_signal):
    """An exception out of a handler in the middle of __eq__ leaves the container right."""

    class Interrupted(Exception):
        pass

    d, caught = ConcurrentDict((SameHash(i), i) for i in range(20)), 0

    def handler(_, frame):
        # Nowhere else: not where it is caught, nor in the test's own lines.
        if frame.f_code is SameHash.__eq__.__code__:
            raise Interrupted

    on_signal(handler)
    while caught < 50:
        try:
            for i in range(20):
                d[SameHash(i)] = i
                d.get(SameHash(100))
                d.setdefault(SameHash(i))
        except Interrupted:
            caught += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    time.sleep(0.01)
    assert sorted(k.value for k in d) == list(range(20)) and len(d) == 20


def test_interrupt_of_a_wait_for_a_factory():
    """Ctrl-C reaches the main thread while it waits for another thread's factory."""
    run_script(
        "import os, signal, threading\n"
        "from qsbrcontainers import ConcurrentDict\n"
        "d, inside, leave = ConcurrentDict(), threading.Event(), threading.Event()\n"
        "def slow():\n"
        "    inside.set(); leave.wait(); return 5\n"
        "t = threading.Thread(target=lambda: d.get_or_create('key', slow)); t.start()\n"
        "inside.wait()\n"
        "threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        "    d.get_or_create('key', list)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
        "leave.set(); t.join()\n"
        "assert d.get_or_create('key', list) == 5\n"
    )


def test_K10_an_interrupted_waiter_leaves_the_others_to_wait():
    """Ctrl-C takes one waiter of several away: the creator and the others finish as if it had not
    been there, and it can ask again."""
    out = run_script(
        "import os, signal, threading, time\n"
        "from qsbrcontainers import ConcurrentDict\n"
        "d, inside, leave = ConcurrentDict(), threading.Event(), threading.Event()\n"
        "made, results = [], []\n"
        "def slow():\n"
        "    made.append(1); inside.set(); leave.wait(); return ['made']\n"
        "def ask():\n"
        "    results.append(d.get_or_create('key', slow))\n"
        "threads = [threading.Thread(target=ask) for _ in range(5)]\n"
        "[t.start() for t in threads]\n"
        "inside.wait()\n"
        "for _ in range(3):\n"
        "    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "    try:\n"
        "        d.get_or_create('key', list)\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted')\n"
        "assert not results and 'key' not in d\n"
        "leave.set()\n"
        "value = d.get_or_create('key', list)\n"
        "[t.join() for t in threads]\n"
        "assert made == [1] and len(results) == 5 and value == ['made'], (made, results, value)\n"
        "assert all(r is value for r in results) and d['key'] is value\n"
    )
    assert out.split() == ["interrupted"] * 3


def test_interrupt_inside_a_factory_wakes_the_waiters():
    """The factory of the main thread is interrupted: a waiter runs its own."""
    out = run_script(
        "import os, signal, threading, time\n"
        "from qsbrcontainers import ConcurrentDict\n"
        "d, inside = ConcurrentDict(), threading.Event()\n"
        "def slow():\n"
        "    inside.set()\n"
        "    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "    while True: time.sleep(0.01)\n"
        "results = []\n"
        "def wait():\n"
        "    inside.wait(); results.append(d.get_or_create('key', lambda: 'other'))\n"
        "threads = [threading.Thread(target=wait) for _ in range(4)]\n"
        "[t.start() for t in threads]\n"
        "try:\n"
        "    d.get_or_create('key', slow)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
        "[t.join() for t in threads]\n"
        "assert results == ['other'] * 4 and d == {'key': 'other'}, results\n"
    )
    assert out == "interrupted"


def test_signals_beside_threads(on_signal):
    d, calls, stop = ConcurrentDict(), [], []

    def handler(*_):
        calls.append(None)
        d.incr("signals")
        d.snapshot()

    def work():
        i = 0
        while not stop:
            i += 1
            d[i % 300] = [i]
            d.pop((i * 7) % 300, None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    on_signal(handler)
    while len(calls) < scaled(50):
        d.get("signals")
        d["main"] = [len(calls)]
    signal.setitimer(signal.ITIMER_REAL, 0)
    stop.append(True)
    for thread in threads:
        thread.join()
    assert d["signals"] == len(calls)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_Q10_a_forked_child_reads_and_writes():
    """Forked by the only thread there is."""
    run_script(
        "import os\n"
        "from qsbrcontainers import ConcurrentDict, ConcurrentList, collect\n"
        "d, values = ConcurrentDict((i, [i]) for i in range(100)), ConcurrentList(range(100))\n"
        "for _ in range(20):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        assert d[5] == [5] and values[5] == 5 and len(d) == len(values) == 100\n"
        "        d[5] = 6; values.append(1); d.clear(); collect()\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n"
        "    d[7] = [7]\n"
    )

"""Threads that C started use the containers, by PyGILState_Ensure (extensions/foreign.c): each call
has another thread state, the record is the OS thread's and ends with it (Q4). What works with the
engine alone needs no thread state: test_capi_chain.py.
"""

import sys
import time

import pytest
from support import TIMEOUT, Census, run_script, run_threads, scaled, settle

from qsbrcontainers import ConcurrentDict, ConcurrentList, collect, stats

THREADS = 4


@pytest.fixture
def raised(monkeypatch):
    """What was raised in the threads, which have nobody to raise it in."""
    errors = []
    monkeypatch.setattr(sys, "unraisablehook", lambda u: errors.append(u.exc_value))
    return errors


def until_gone(records):
    """pthread_join may come before the last of a thread's end is seen."""
    until = time.monotonic() + TIMEOUT
    while stats()["records"] > records:
        assert time.monotonic() < until, "the records of threads that are gone are still there"
        time.sleep(0.01)


def test_Q4_every_operation_in_threads_of_c(foreign, raised):
    """Beside Python's own threads; each thread ends with frees pending and its record is given
    back. Nothing is lost, nobody is kept alive. Caught: threads' ends that unregister nobody."""
    d, values, census = ConcurrentDict(count=0), ConcurrentList([0]), Census()
    d["object"] = census.new()
    calls, waves = scaled(50), 5
    collect()
    before = stats()["records"]

    def use(me, i):
        d.incr("count")
        d["object"].check()
        d["object"] = census.new(i)
        d["own", me, i] = i
        assert d["own", me, i] == i and d.pop(("own", me, i)) == i
        d.get_or_create(("made", i % 7), list)
        values.append(census.new(i))
        values.pop().check()
        if i % 10 == 0:
            assert d.snapshot()["object"].check() is not None
            assert len(list(d)) >= 2 and values[0] == 0

    def in_c(me):
        for _ in range(waves):
            assert foreign.in_threads(use, THREADS, calls) == 0, raised

    def in_python(me):
        for i in range(calls):
            use(("python", me), i)

    run_threads(1, in_c, 2, in_python)
    assert not raised
    assert d["count"] == waves * THREADS * calls + 2 * calls
    assert len(values) == 1 and len(d) == 2 + min(7, calls)
    until_gone(before)
    d.clear()
    settle()
    assert census.alive == 0 and stats()["items_held"] == 0


def test_T6_what_threads_of_c_leave_is_freed_by_others(foreign, raised):
    """One call a thread: it ends without a thread state, with what it has retired still open."""
    d, census = ConcurrentDict(), Census()
    run_threads(1, lambda me: d.update((i, census.new(i)) for i in range(20)))

    def replace(me, i):
        for k in range(20):
            d[k] = census.new(k)

    for _ in range(20):
        assert foreign.in_threads(replace, THREADS, 1) == 0, raised
    assert census.alive >= 20
    settle()
    assert census.alive == 20 and sorted(d) == list(range(20))


def test_Q4_errors_in_threads_of_c_stay_theirs(foreign, raised):
    d = ConcurrentDict(a=1)

    def miss(me, i):
        d.incr("tries")
        d["none", me, i]

    assert foreign.in_threads(miss, THREADS, 10) == 10 * THREADS == len(raised) == d["tries"]
    assert {type(error) for error in raised} == {KeyError}


def test_Q7_the_process_ends_after_threads_of_c(built):
    """They are over, and nobody has freed what they left."""
    out = run_script(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import foreign\n"
        "from qsbrcontainers import ConcurrentDict\n"
        "d = ConcurrentDict(a=[0])\n"
        "def use(me, i):\n"
        "    d['a'] = [me, i]\n"
        "    d[me, i] = ConcurrentDict(d=d)\n"
        "assert foreign.in_threads(use, 8, 50) == 0\n"
        "print(len(d))\n",
        built,
    )
    assert out == "401"

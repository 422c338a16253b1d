"""A list's iterator that its first thread steps by plain stores while others come and want to step
it, too (src/py/py_turns.h): each way in which they can meet, with one of them made to sleep in the
middle. A debug build lets it.

With the GIL nobody comes in between; there the orders are those of whole steps.
"""

import os
from pathlib import Path

from support import run_script

HERE = Path(__file__).resolve().parent

SCRIPT = '''
import threading
from support import run_threads
from without_memory import failing
from qsbrcontainers import ConcurrentList

COUNT = 40

def meet(view, places, before, others=3):
    """Thread 0 takes `before` elements and then all there are, and so do the others from the moment
    when it sleeps; the first that comes to a place sleeps there."""
    values = ConcurrentList(range(COUNT))
    iterator, begin, over = view(values), threading.Barrier(others + 1), threading.Event()
    slept = failing.slept()
    def step(me):
        got = [next(iterator) for _ in range(before)] if me == 0 else []
        begin.wait(60)
        if me == 0:
            for which, (place, ms) in enumerate(places):
                failing.sleep_at(place, ms, 1, which)
        while me > 0 and failing.slept() == slept and not over.is_set():
            pass  # until thread 0 sleeps
        got += iterator
        over.set()
        return got
    got = run_threads(others + 1, step)
    for which in range(2):
        failing.sleep_at("", 0, 0, which)
    every = list(view(range(COUNT)))
    assert sorted(sum(got, [])) == sorted(every), (places, before, got)
    assert all(each == sorted(each, key=every.index) for each in got), (places, before, got)
    assert next(iterator, None) is None

for view in iter, reversed:
    # The owner is in a step when others come; then one that shares sleeps, too.
    meet(view, [("get: loaded", 30)], 1)
    meet(view, [("get: loaded", 30), ("turn: owner", 10)], 1)
    meet(view, [("get: loaded", 30)], COUNT - 1)  # its last
    # It has just seen that it is the owner; the end comes.
    meet(view, [("turn", 30)], 1)
    meet(view, [("turn", 30)], COUNT)
    # Two have found that there is no owner; only one, and the other has ended then.
    for others in 1, 3:
        meet(view, [("turn: owner", 10), ("get: loaded", 30)], 0, others)
    meet(view, [("turn: owner", 30)], 0)
print("over")
'''


def test_A1_each_element_is_met_once_by_threads_that_share_an_iterator(debug_build):
    """And each thread gets its own in order. Caught, on free-threaded builds: TURNS_NO_WAIT,
    TURNS_LEAVING_IS_LEFT and TURNS_TWO_OWNERS."""
    path = os.pathsep.join(map(str, [debug_build, HERE.parent, HERE]))
    assert run_script(SCRIPT, PYTHONPATH=path) == "over"

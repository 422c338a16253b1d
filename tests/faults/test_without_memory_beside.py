"""T2 beside other threads: where another one was faster, what was made ready before the change does
not fit any more, and has to be made again. Nothing that is without memory then is lost.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import HARD_TIMEOUT, rounds

HERE = Path(__file__).resolve().parent

FRAME = """
import random, sys, threading
from functools import partial
from support import FREE_THREADED
from without_memory import failing
from qsbrcontainers import ConcurrentList

THREADS, EACH = 4, {each}
sys.setswitchinterval(1e-6)
BASE = 2**40  # no small ints: each has to be made
v, taken, errors = ConcurrentList(), [[] for _ in range(THREADS)], []

def without_memory(rng, function, *arguments):
    "Its result, or None and MemoryError: after some allocations all fail, in this thread alone."
    try:
        return failing.call("python", rng.randrange(4), True, partial(function, *arguments))[1]
    except MemoryError:
        return None

def work(me):
    rng = random.Random(me)
    try:
        body(me, rng)
    except BaseException as error:
        errors.append(error)

def run():
    threads = [threading.Thread(target=work, args=(me,)) for me in range(THREADS)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    if errors:
        raise errors[0]
"""

POP = """
v.extend(range(BASE, BASE + EACH * THREADS))
def body(me, rng):
    index = -1 if me % 2 else 0
    for _ in range(EACH):
        item = without_memory(rng, v.pop, index)
        if item is not None:
            taken[me].append(item)
run()
found = sorted([*v, *(i for each in taken for i in each)])
assert found == list(range(BASE, BASE + EACH * THREADS)), len(found)
# Objects, where numbers are, need no memory.
assert bool(v) == FREE_THREADED
print("over")
"""

APPEND_INDEX = """
v.extend(range(1000))  # beyond the small ints
def body(me, rng):
    for i in range(EACH):
        item = (me, i)
        index = without_memory(rng, v.append_index, item)
        if index is not None:
            taken[me].append((index, item))
run()
given = dict(i for each in taken for i in each)
assert 0 < len(given) < EACH * THREADS
found = dict(enumerate(v))
assert given == {i: item for i, item in found.items() if i >= 1000}, (len(given), len(found))
print("over")
"""

DRAIN = """
def body(me, rng):
    for i in range(EACH):
        if me < 2:
            v.append(BASE + me * EACH + i)
        elif i % 5 == 0:
            taken[me] += without_memory(rng, v.drain) or []
run()
found = sorted([*v, *(i for each in taken for i in each)])
assert found == list(range(BASE, BASE + 2 * EACH)), len(found)
print("over")
"""


@pytest.mark.parametrize("what", ["POP", "APPEND_INDEX", "DRAIN"])
def test_T2_nothing_is_lost_beside_others(debug_build, what):
    """Caught, on 3.15t, as they were before: pop() took a number out that it could not make an
    object for, and append_index() had appended what it had no index for."""
    script = FRAME.format(each=rounds(2000)) + globals()[what]
    path = os.pathsep.join(map(str, [debug_build, HERE.parent, HERE]))
    done = subprocess.run(
        [sys.executable, "-P", "-X", "faulthandler", "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=HARD_TIMEOUT,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip() == "over"

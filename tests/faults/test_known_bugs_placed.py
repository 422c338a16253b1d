"""Those of the known bugs of others (test_known_bugs.py) that need one thread to be at one place
while another comes: a debug build lets the first sleep there.

With the GIL nobody comes in between, except where threads register, which they do without it.
"""

import os
from pathlib import Path

import pytest
from support import run_script

HERE = Path(__file__).resolve().parent

LOOKUPS = """
import threading
from support import SameHash, run_threads, touch
from without_memory import failing
from qsbrcontainers import ConcurrentDict

keys = [0, "a", ("b", 1), SameHash(1), 1 << 70]
for place, ms in ("publish table", 5), ("table published", 5), ("next", 5), ("moved", 1):
    d = ConcurrentDict((key, [key]) for key in keys)
    touch(d)
    before = failing.slept()
    failing.sleep_at(place, ms)
    def grow(_):
        for i in range(50):
            d["more", i] = i
        assert failing.slept() > before
    def look():
        for key in keys:
            assert key in d and d[key] == [key] and d.get(key) is not None
    run_threads(1, grow, background=[look, look])
print("over")
"""

SIZES = """
import sys, time
from support import run_threads, touch
from without_memory import failing
from qsbrcontainers import ConcurrentDict, ConcurrentList, collect

d, values = ConcurrentDict(), ConcurrentList(range(300))
least, most = sys.getsizeof(d), 1 << 20  # what is freed has other sizes, mostly 0
touch(d), touch(values)
failing.sleep_at("sizeof", 2)
def resize(_):
    for _ in range(15):
        d.update((i, i) for i in range(300))
        values.extend(range(3000))
        time.sleep(0.001)
        values[:] = range(300)
        d.clear()
        collect()
        time.sleep(0.004)  # nothing is made in its place
def look():
    size, length = sys.getsizeof(d), sys.getsizeof(values)
    assert least <= size < most and 300 * 8 < length < most, (size, length)
run_threads(1, resize, background=[look, look])
assert failing.slept() >= 4
print("over")
"""

REGISTRY = """
import threading, time
from support import run_threads, settle
from without_memory import failing
from qsbrcontainers import ConcurrentDict, stats

d, count, records = ConcurrentDict(count=0), 100, []
begin = threading.Barrier(count, lambda: failing.sleep_at("lock", 3))
def all_are_there():
    failing.sleep_at("", 0)
    records.append(stats()["records"])
hold = threading.Barrier(count, all_are_there)
def work(me):
    begin.wait(60)
    d.incr("count")  # registers: at the lock all sleep at once
    hold.wait(60)
    for i in range(20):
        d.incr("count")
        d[me, i] = [me]
        assert d.pop((me, i)) == [me]
    hold.wait(60)
run_threads(count, work)
assert d == {"count": count * 21} and min(records) >= count, (d, records)
settle()
assert stats()["items_held"] == 0
until = time.monotonic() + 20
while stats()["records"] > 1 and time.monotonic() < until:
    time.sleep(0.001)
assert stats()["records"] == 1, stats()
print("over")
"""


@pytest.mark.parametrize("name", ["lookups", "sizes", "registry"])
def test_with_one_thread_asleep_in_the_middle(debug_build, name):
    """lookups, in the middle of a resize. Caught: a table that is published before the entries are
    in it, a lookup that does not follow MOVED.

    sizes, while the sizeof before is not over. Caught: a table that is looked at without the lock.

    registry: a hundred threads wait for its lock. Caught: REGISTRY_READ_EARLY.
    """
    path = os.pathsep.join(map(str, [debug_build, HERE.parent, HERE]))
    script = {"lookups": LOOKUPS, "sizes": SIZES, "registry": REGISTRY}[name]
    assert run_script(script, PYTHONPATH=path) == "over"

"""The process does not grow: each case does the same work again and again in a fresh interpreter,
and the peak of its resident memory stays where it was after the first rounds. What a container
takes beside a builtin one is below."""

import sys

import pytest
from support import run_script

from qsbrcontainers import ConcurrentDict

FRAME = """
import gc, sys, threading
from qsbrcontainers import ConcurrentDict, ConcurrentList, collect
from support import DICTS, LISTS, peak_memory, touch

def rounds(count, work):
    for _ in range(count):
        work()

{case}

rounds({few}, work)
collect()
before = peak_memory()
rounds({many}, work)
collect()
grown = peak_memory() - before
assert grown < {limit}, f"{{grown:.1f}} MiB more after as much work again, and again"
"""

CASES = {
    "the same keys set and deleted": """
d = DICTS[KIND]()
def work():
    for i in range(1000):
        d[i] = [i] * 50
    for i in range(1000):
        del d[i]
""",
    "one key replaced": """
d = DICTS[KIND](a=[])
def work():
    for _ in range(2000):
        d["a"] = [0] * 100
""",
    "filled and cleared": """
d = DICTS[KIND]()
def work():
    for i in range(3000):
        d[str(i)] = i
    d.clear()
""",
    "made and dropped": """
def work():
    d = DICTS[KIND]((i, [i]) for i in range(3000))
    d["self"] = d
    gc.collect()
""",
    "iterators left in the middle": """
d = DICTS[KIND]((i, i) for i in range(1000))
def work():
    for _ in range(20):
        iterator = iter(d)
        next(iterator)
        for i in range(1000, 1200):
            d[i] = i
        next(iterator)
        for i in range(1000, 1200):
            del d[i]
""",
    "factories that raise": """
d = DICTS["ConcurrentDict"]()
def fail():
    raise ValueError([0] * 100)
def work():
    for i in range(500):
        try:
            d.get_or_create(i, fail)
        except ValueError:
            pass
        d.get_or_create(("there", i % 10), list)
""",
    "a list appended and popped": """
values = LISTS[KIND]()
def work():
    for i in range(3000):
        values.append([i])
    while values:
        values.pop()
""",
    "a list extended and cleared": """
values = LISTS[KIND]()
def work():
    for i in range(20):
        values.extend([[i] for i in range(500)])
        values[0] = values[-1]
    values.clear()
""",
    "threads that end": """
d, values = DICTS["ConcurrentDict"](), LISTS["ConcurrentList"]([0])
def use():
    for i in range(20):
        d[i] = [0] * 100
        values[0] = [0] * 100
    d.pop(0, None)
def work():
    threads = [threading.Thread(target=use) for _ in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
""",
}


@pytest.mark.parametrize("kind", ["unshared", "shared"])
@pytest.mark.parametrize("name", CASES)
def test_memory_stays(name, kind):
    case = CASES[name]
    if "KIND" not in case and kind == "shared":
        pytest.skip("these containers are shared as they are")
    which = {"unshared": "Concurrent", "shared": "shared"}[kind]
    for table in ("Dict", "List"):
        key = repr("shared" if which == "shared" else f"Concurrent{table}")
        case = case.replace(f"{table.upper()}S[KIND]", f"{table.upper()}S[{key}]")
    run_script(FRAME.format(case=case, few=30, many=120, limit=12))


@pytest.mark.parametrize("make", [str, int, float])
def test_K9_a_dict_and_its_objects(make):
    """At every size, with the smallest values that there are, each of them counted once."""
    builtin, ours, objects = {}, ConcurrentDict(), 0
    for i in range(2000):
        key, value = make(i), object()
        builtin[key] = ours[key] = value
        objects += sys.getsizeof(key) + sys.getsizeof(value)
        if i >= 2:  # a container itself is larger
            ratio = (sys.getsizeof(ours) + objects) / (sys.getsizeof(builtin) + objects)
            assert ratio < 1.4, (i, sys.getsizeof(ours), sys.getsizeof(builtin))

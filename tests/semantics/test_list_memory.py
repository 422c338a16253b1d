"""Without memory: whatever list does, ours is done with it, or raises MemoryError and has changed
nothing. The interpreter's allocations fail here, from the n-th on; those of the arrays' heap fail
in tests/engine. (No repr: without memory the interpreter forgets that a tuple's has ended.)"""

import pytest
from support import run_script

SCRIPT = """
import sys, threading
from _testcapi import remove_mem_hooks, set_nomemory
from qsbrcontainers import ConcurrentList

CALLS = {
    "append": lambda x: x.append(2.5),
    "extend": lambda x: x.extend([1, 2.5, None]),
    "extend by an iterator": lambda x: x.extend(iter("abcdef")),
    "extend by itself": lambda x: x.extend(x),
    "insert": lambda x: x.insert(1, "new"),
    "pop": lambda x: x.pop(),
    "pop(1)": lambda x: x.pop(1),
    "del": lambda x: x.__delitem__(2),
    "remove a number": lambda x: x.remove(5.5),
    "remove by eq": lambda x: x.remove(("obj" "ect",)),
    "set": lambda x: x.__setitem__(0, 2**45),
    "set slice": lambda x: x.__setitem__(slice(1, 3), range(40)),
    "set extended slice": lambda x: x.__setitem__(slice(None, None, -1), tuple(x)),
    "delete slice": lambda x: x.__delitem__(slice(1, 5)),
    "delete extended slice": lambda x: x.__delitem__(slice(None, None, 3)),
    "sort": lambda x: x.sort(key=id_of),
    "reverse": lambda x: x.reverse(),
    "clear": lambda x: x.clear(),
    "+=": lambda x: x.__iadd__([None]) and None,
    "*=": lambda x: x.__imul__(3) and None,
    "*= 0": lambda x: x.__imul__(0) and None,
    "init": lambda x: x.__init__([1.5]),
    "slice": lambda x: list(x[1:9]),
    "copy": lambda x: list(x.copy()),
    "+": lambda x: list(x + x),
    "*": lambda x: list(x * 2),
    "read": lambda x: x[3],
    "search": lambda x: (x.index(5.5), x.count(1e300), ("obj" "ect",) in x),
    "==": lambda x: x == EXPECTED,
    "<": lambda x: x < EXPECTED,
    "iterate": lambda x: list(x),
    "reversed": lambda x: list(reversed(x)),
    "reduce": lambda x: list(x.__reduce_ex__(4)[3]),
}
EXPECTED = [("object",), 5.5, 1e300, -(2**45), None, "text", *range(2**40, 2**40 + 60)]


def id_of(v):
    return v if type(v) is int else 0


for shared in (False, True):
    for name, call in CALLS.items():
        model = list(EXPECTED)
        result = call(model)
        if name == "reduce":
            result = list(EXPECTED)
        for _ in range(20):  # so that the interpreter has what it needs for itself
            call(ConcurrentList(EXPECTED))
        for n in [*range(24), *range(24, 300, 13)]:
            values = ConcurrentList(EXPECTED)
            if shared:
                thread = threading.Thread(target=lambda: len(values))
                thread.start()
                thread.join()
            set_nomemory(n)
            try:
                got = call(values)
                remove_mem_hooks()
                raised = False
            except MemoryError:
                remove_mem_hooks()
                raised = True
            left = values.snapshot()
            assert left == (EXPECTED if raised else model), (shared, name, n, raised, left[:4])
            assert raised or got == result, (shared, name, n, got)
            del values, left
        assert not raised, (shared, name)
"""


def test_T2_without_memory_nothing_changes():
    if not hasattr(pytest.importorskip("_testcapi"), "set_nomemory"):
        pytest.skip("this interpreter's _testcapi cannot make allocations fail")
    run_script(SCRIPT)

"""K8 step by step: a reader sleeps between its load of a value's word and its reference, in a debug
build, while the value dies and another object gets its address.

With a GIL nothing comes in between.
"""

import os
from pathlib import Path

import pytest
from support import FREE_THREADED, run_script

TESTS = Path(__file__).resolve().parent.parent

SCRIPT = """
import faulthandler, sys, threading
faulthandler.dump_traceback_later(60, exit=True)
from without_memory import failing
from qsbrcontainers import ConcurrentDict, ConcurrentList

class Value:
    "The next one may get the address of one that is gone."
    __slots__ = ("name",)
    def __init__(self, name):
        self.name = name

elsewhere = ConcurrentList()  # what is stored there readers can take references to

def take_address(address):
    "An object lives there from now on, which no container that is read has."
    for _ in range(20_000):
        impostor = Value("impostor")
        elsewhere.append(impostor)
        if id(impostor) == address:
            return
    sys.exit("no object has got the address of the one that died")

def race(make, read, change, right):
    for place in "value: found", "value: tried":
        beside = [Value("beside") for _ in range(50)]  # in its page
        value = Value("value")
        container, address = make(value), id(value)
        del value
        outcome = []
        def reader():
            try:
                outcome.append(read(container))
            except LookupError as error:
                outcome.append(error)
        thread = threading.Thread(target=reader)
        before = failing.slept()
        failing.sleep_at(place, 120, 1)
        thread.start()
        while failing.slept() == before:
            pass
        change(container, address)
        if place == "value: found" and not outcome:  # clear() waits until it is through
            take_address(address)
        thread.join()
        found = outcome[0]
        found = getattr(found, "name", type(found).__name__)
        # Tried before the change, the reader has the value; it may say so, or start over.
        assert found in right, (place, found)
        outcome.clear()
        elsewhere.clear()
"""

DICT_READS = {
    "[]": "lambda d: d['k']",
    "[] by an int": "lambda d: d[7]",
    "[] by a tuple": "lambda d: d[1, 'k']",
    "get": "lambda d: d.get('k')",
    "get by an int": "lambda d: d.get(7)",
    "get_many": "lambda d: d.get_many(['k'])[0]",
    "values": "lambda d: next(iter(d.values()), None)",
    "items": "lambda d: next(iter(d.items()), (None, None))[1]",
    "setdefault": "lambda d: d.setdefault('k', next_value)",
    "get_or_create": "lambda d: d.get_or_create('k', lambda: next_value)",
    "swap": "lambda d: d.swap('k', next_value, next_value)",
    "compute": "lambda d: d.compute('k', lambda old: old, next_value)",
}
DICT_CHANGES = {
    "assign": "lambda d, _: [d.__setitem__(k, next_value) for k in keys]",
    "delete": "lambda d, _: [d.__delitem__(k) for k in keys]",
    "pop": "lambda d, _: [d.pop(k) and None for k in keys]",
    "clear": "lambda d, _: d.clear()",
    "grow and assign": "lambda d, _: (d.update((i, i) for i in range(100, 200)),"
    " [d.__setitem__(k, next_value) for k in keys])",
}
LIST_READS = {
    "[]": "lambda x: x[0]",
    "[-1]": "lambda x: x[-1]",
    "iterate": "lambda x: next(iter(x), None)",
    "reversed": "lambda x: next(reversed(x), None)",
    "swap": "lambda x: x.swap(0, x[0])",
    "compute": "lambda x: x.compute(0, lambda old: old)",
}
LIST_CHANGES = {
    "assign": "lambda x, _: x.__setitem__(0, next_value)",
    "pop": "lambda x, _: x.pop() and None",
    "pop and append": "lambda x, _: (x.pop(), x.append(next_value)) and None",
    "delete": "lambda x, _: x.__delitem__(0)",
    "clear": "lambda x, _: x.clear()",
    "drain": "lambda x, _: x.drain() and None",
    "assign a slice": "lambda x, _: x.__setitem__(slice(None), [next_value])",
    "insert and delete": "lambda x, _: (x.insert(0, next_value), x.__delitem__(1))",
}
RACES = """
next_value = Value("next")
keys = {keys}
for change in {changes}:
    race({make}, {read}, change, ("value", "next", "NoneType", "KeyError", "IndexError",
                                  "StopIteration", "AssertionError"))
print("over")
"""


def run(debug_build, script):
    path = os.pathsep.join(map(str, [debug_build, TESTS, TESTS / "faults"]))
    assert run_script(SCRIPT + script, PYTHONPATH=path) == "over"


pytestmark = pytest.mark.skipif(not FREE_THREADED, reason="with a GIL nothing comes in between")


@pytest.mark.parametrize("read", DICT_READS)
def test_K8_a_dicts_reader_gets_no_object_that_was_not_its_value(debug_build, read):
    """Caught: VALUE_NO_SECOND_LOOK by all, VALUE_NOT_ENABLED (a reader that never ends)."""
    key = "7" if "int" in read else "(1, 'k')" if "tuple" in read else "'k'"
    make = f"lambda value: ConcurrentDict({{{key}: value}})"
    changes = "[" + ", ".join(DICT_CHANGES.values()) + "]"
    source = RACES.format(keys=f"[{key}]", changes=changes, make=make, read=DICT_READS[read])
    run(debug_build, source)


@pytest.mark.parametrize("read", LIST_READS)
def test_K8_a_lists_reader_gets_no_object_that_was_not_its_element(debug_build, read):
    """Caught: VALUE_NO_SECOND_LOOK and LIST_LOOKS_AT_WORD by all, VALUE_NOT_ENABLED."""
    changes = "[" + ", ".join(LIST_CHANGES.values()) + "]"
    make = "lambda value: ConcurrentList([value])"
    run(debug_build, RACES.format(keys="[]", changes=changes, make=make, read=LIST_READS[read]))


CLEAR = """
class Last:
    "Dropped after the value, by the same clear()."
    def __del__(self):
        take_address(address)
        over.wait(30)

value = Value("value")
beside = [Value("beside") for _ in range(50)]
address, over, outcome = id(value), threading.Event(), []
d = ConcurrentDict(k=value, last=Last())
del value
def wait_for(count):
    while failing.slept() < count:
        pass
def reader():
    wait_for(1)
    outcome.append(d.get("k"))
    over.set()
other = threading.Thread(target=len, args=(d,))
other.start(), other.join()
# The reader comes when clear() has waited for the readers before it, and has its table.
failing.sleep_at("publish table", 300, 1, 0)
failing.sleep_at("value: found", 900, 1, 1)
reading = threading.Thread(target=reader)
reading.start()
d.clear()
reading.join()
assert failing.slept() == 2
assert outcome == [None], outcome[0].name
print("over")
"""


def test_K8_clear_says_so_before_it_drops(debug_build):
    """Caught: VALUE_DROPPED_FIRST."""
    run(debug_build, CLEAR)

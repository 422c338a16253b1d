"""Debuggers, profilers and memory tracers look on, from the start or from the middle of operations,
and what they call comes back into the containers: everything goes on as without them.
"""

import sys

import pytest
from support import FREE_THREADED, rounds, run_script

FRAME = """
import gc, sys, threading, time
from support import CallsOnEq, Census, SameHash, settle
from qsbrcontainers import ConcurrentDict, ConcurrentList, collect, stats

THREADS, TIMES = 3, {times}
d, values, census = ConcurrentDict(count=0, seen=0), ConcurrentList([0]), Census()
d["object"] = census.new()
inside, errors = threading.local(), []

def come_back():
    "What a tool's hook does: an operation in the middle of others', of this thread's too."
    if getattr(inside, "now", False):
        return
    inside.now = True
    try:
        seen = d.incr("seen")
        if seen % 50 == 0:
            d["from", "hook"] = [seen]
            d["object"].check(), len(values), d.get(SameHash(1)), list(values)[:1]
    finally:
        inside.now = False

def work(me):
    try:
        for i in range(TIMES):
            d.incr("count")
            d["object"] = census.new(i)
            d["object"].check()
            d[CallsOnEq((me, i % 3), lambda: None)] = [i]
            d.pop(SameHash((me, i % 3)))
            d.get_or_create(("made", i % 5), lambda: [me])
            d.compute(("own", me), lambda old: i)
            values.append(census.new(i))
            getattr(values.pop(), "check", int)()
            values.extend(range(3))
            del values[-1]
            sorted(values[:2], key=lambda v: 0)
            if i % 20 == 0:
                values[:1] = [0]
                d.snapshot(), list(d.items()), d == values, collect()
            try:
                d["none"]
            except KeyError:
                pass
    except BaseException as error:
        errors.append(error)

def run(during=lambda: None):
    threads = [threading.Thread(target=work, args=(me,)) for me in range(THREADS)]
    [t.start() for t in threads]
    while any(t.is_alive() for t in threads):
        during()
        time.sleep(0.001)
    [t.join() for t in threads]
    if errors:
        raise errors[0]

{tool}

assert d["count"] == THREADS * TIMES and values[0] == 0
assert [d["own", me] for me in range(THREADS)] == [TIMES - 1] * THREADS
assert not any(isinstance(key, SameHash) for key in d)
d.clear()
values.clear()
settle()
assert census.alive == 0 and stats()["items_held"] == 0, (census.alive, stats())
print("over")
"""

TOOLS = {
    "sys.settrace": """
def trace(frame, event, argument):
    frame.f_trace_opcodes = True
    come_back()
    return trace
threading.settrace(trace)
run()
threading.settrace(None)
assert d["seen"] > TIMES
""",
    "sys.settrace, raising": """
# A debugger that quits, in the middle of an operation.
class Quit(Exception):
    pass
def trace(frame, event, argument):
    come_back()
    if frame.f_code is SameHash.__eq__.__code__ and event == "line":
        raise Quit
    return trace
quits = []
def work(me):
    for i in range(TIMES):
        d[SameHash((me, "stays"))] = stays = [i]
        sys.settrace(trace)
        try:
            d[SameHash((me, i))] = [i]
        except Quit:
            quits.append(me)
            sys.settrace(None)
            assert SameHash((me, i)) not in d
        else:  # 3.15t forgets to call it, where another thread sets its own just then
            sys.settrace(None)
            del d[SameHash((me, i))]
        assert d[SameHash((me, "stays"))] is stays
        d.incr("count")
        d["own", me] = i
run()
assert quits and d["seen"] > 0, (len(quits), d["seen"])
for me in range(THREADS):
    d.pop(SameHash((me, "stays")))
""",
    "sys.setprofile": """
calls = set()
def profile(frame, event, argument):
    if event == "c_call":
        calls.add(getattr(argument, "__name__", ""))
    come_back()
threading.setprofile(profile)
run()
threading.setprofile(None)
assert d["seen"] > TIMES
if {"incr", "pop", "append", "get_or_create"} - calls:
    raise AssertionError(calls)
""",
    "sys.monitoring": """
events, mine = sys.monitoring.events, 4
sys.monitoring.use_tool_id(mine, "tests")
every = [events.PY_START, events.PY_RETURN, events.LINE, events.CALL, events.C_RETURN,
         events.C_RAISE, events.RAISE, events.INSTRUCTION]
for event in every:
    sys.monitoring.register_callback(mine, event, lambda *ignored: come_back())
on = True
def switch():
    "On and off, in the middle of what the threads do."
    global on
    on = not on
    sys.monitoring.set_events(mine, ON if on else 0)
ON = 0
for event in every:
    if event not in (events.C_RETURN, events.C_RAISE):  # come with CALL
        ON |= event
sys.monitoring.set_events(mine, ON)
run(switch)
sys.monitoring.set_events(mine, 0)  # before 3.14 free_tool_id leaves them on
sys.monitoring.free_tool_id(mine)
assert d["seen"] > TIMES
""",
    "tracemalloc": """
import tracemalloc
tracemalloc.start(10)
d["traced"] = [bytearray(100) for _ in range(20)]
taken = []
def look():
    come_back()
    taken.append(len(tracemalloc.take_snapshot().traces))
look()
run(look)
assert max(taken) > 10
tracemalloc.stop()
""",
    "tracemalloc, on and off": """
import tracemalloc
def look():
    tracemalloc.start(5)
    come_back()
    tracemalloc.get_traced_memory()
    tracemalloc.stop()
run(look)
""",
    "faulthandler": """
import faulthandler, os
nowhere = open(os.devnull, "w")
def look():
    faulthandler.dump_traceback(nowhere, all_threads=True)
    faulthandler.dump_traceback_later(0.001, repeat=True, file=nowhere)
    come_back()
run(look)
faulthandler.cancel_dump_traceback_later()
""",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_nothing_changes_while_a_tool_looks_on(tool):
    """Counts and lives are right; the tool has seen something."""
    if tool == "sys.monitoring" and sys.version_info < (3, 12):
        pytest.skip("3.12 has brought sys.monitoring")
    slow = tool.startswith(("sys.settrace", "sys.monitoring"))
    source = FRAME.replace("{times}", str(rounds(60 if slow else 200)))
    assert run_script(source.replace("{tool}", TOOLS[tool])) == "over"


@pytest.mark.skipif(not FREE_THREADED, reason="the GIL is always there on this build")
def test_nothing_changes_while_a_profiler_looks_on_with_the_gil():
    source = FRAME.replace("{times}", str(rounds(100)))
    source = source.replace("{tool}", TOOLS["sys.setprofile"])
    assert run_script(source, PYTHON_GIL="1") == "over"

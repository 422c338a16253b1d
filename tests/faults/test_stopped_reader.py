"""A reader that is stopped in its section, as by a debugger: every operation that needs a grace
period waits for it, and must let signals, the collector and the other threads in (T7, py_wait.h).

A wait that keeps them out hangs here, and the script's own watchdog ends it.
"""

import os

import pytest
from support import FREES_AT_ONCE, run_script

BEGIN = """
import faulthandler, gc, os, signal, sys, threading, time
faulthandler.dump_traceback_later(40, exit=True)
from qsbrcontainers import ConcurrentDict, ConcurrentList, _native, collect, stats

class Reader(threading.Thread):
    '''In a section from the constructor to leave().'''
    def __init__(self):
        super().__init__(daemon=True)
        self.entered, self.may_leave = threading.Event(), threading.Event()
        self.start()
        self.entered.wait()
    def run(self):
        _native._section(True)
        self.entered.set()
        self.may_leave.wait()
        _native._section(False)
    def leave(self):
        self.may_leave.set()
        self.join()

PAIRS = {"a": 1, "b": [2], 3: "c"}

def made():
    '''A shared dict, and the iterator of a list that another thread owns.'''
    d, iterator = ConcurrentDict(PAIRS), iter(ConcurrentList([5, 6, 7]))
    def share():
        d["a"] = 1
        next(iterator)
    thread = threading.Thread(target=share)
    thread.start()
    thread.join()
    d.get("a")
    return d, iterator

def retired(d, _):
    d["b"] = [2]
    d["more"] = [1]
    del d["more"]
    return collect()

# The operations that wait, each with a check of its result.
OPERATIONS = {
    "clear": (lambda d, _: d.clear(), lambda d, r: dict(d.items()) == {}),
    "copy": (lambda d, _: d.copy(), lambda d, r: dict(r.items()) == PAIRS),
    "snapshot": (lambda d, _: d.snapshot(), lambda d, r: r == PAIRS),
    "repr": (lambda d, _: repr(d), lambda d, r: r == repr(PAIRS)),
    "==": (lambda d, _: d == dict(PAIRS), lambda d, r: r is True),
    "== reflected": (lambda d, _: dict(PAIRS) == d, lambda d, r: r is True),
    "|": (lambda d, _: d | {}, lambda d, r: dict(r.items()) == PAIRS),
    "collect": (retired, lambda d, r: r >= 0),
    "next": (lambda _, iterator: next(iterator), lambda d, r: r == 6),
}
operation, is_right = OPERATIONS[sys.argv[1]]
d, iterator = made()
collect()
"""

# Signal handlers, the collector in another thread, and other threads' reads and writes all run.
LETS_IN = """
ticks, outcome = [], []

def others():
    while len(ticks) < 3:
        time.sleep(0.001)
    if stats()["frees"] == "later":  # else the operation is over, and has waited for nothing
        d["a"] = 1
        assert d["a"] == 1 and len(d) == 3 and d.setdefault("b") == [2]
        d["own"] = 5
        assert d.pop("own") == 5
    gc.collect()
    reader.leave()

def handler(*_):
    ticks.append(None)

signal.signal(signal.SIGALRM, handler)
for _ in range(3):
    ticks.clear()
    reader, thread = Reader(), threading.Thread(target=others)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    thread.start()
    result = operation(d, iterator)
    signal.setitimer(signal.ITIMER_REAL, 0)
    reader.leave()
    while len(ticks) < 3:  # nothing waits here, with a GIL
        ticks.append(None)
    thread.join()
    assert is_right(d, result), result
    d, iterator = made()
print("over")
"""

# An exception of a signal handler ends the wait, and the container is unchanged.
INTERRUPTED = """
def handler(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, handler)
reader = Reader()
for _ in range(5):
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    try:
        result = operation(d, iterator)
        while must_wait:
            time.sleep(0.001)  # a wait that is over by itself
            raise AssertionError(f"did not wait: {result}")
        break
    except KeyboardInterrupt:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert dict(d.items()) == PAIRS and len(d) == 3
    d["a"] = 1
    d["own"] = 5
    assert d.pop("own") == 5
reader.leave()
d, iterator = (d, iterator) if must_wait else made()
result = operation(d, iterator)
assert is_right(d, result), result
print("over")
"""

# A signal handler forks. The reader is not in the child, so the operation finishes there.
FORKS = """
parent, children = os.getpid(), []

def handler(*_):
    if not children:
        children.append(os.fork())

signal.signal(signal.SIGALRM, handler)
reader = Reader()
def leave():
    while not children:
        time.sleep(0.001)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    reader.leave()
thread = threading.Thread(target=leave)
thread.start()
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
result = operation(d, iterator)
signal.setitimer(signal.ITIMER_REAL, 0)
if not children:
    assert not must_wait
    handler()
assert is_right(d, result), result
if os.getpid() != parent:
    for i in range(20):
        d["a"] = i
        d["new", i] = [i]
    assert dict(d.copy().items())["a"] == 19
    os._exit(0)
thread.join()
print("over")
"""

WAITING = ["clear", "copy", "snapshot", "repr", "==", "== reflected", "|", "collect", "next"]


@pytest.fixture(params=["installed", "debug"])
def build(request):
    """Where a GIL frees at once, only the debug build waits."""
    if request.param == "installed":
        return {}, not FREES_AT_ONCE
    return {"PYTHONPATH": str(request.getfixturevalue("debug_build"))}, True


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no signals to speak of")
@pytest.mark.parametrize("operation", WAITING)
@pytest.mark.parametrize("script", ["LETS_IN", "INTERRUPTED", "FORKS"])
def test_T7_a_wait_for_a_stopped_reader(build, script, operation):
    variables, must_wait = build
    source = f"{BEGIN}\nmust_wait = {must_wait}\n{globals()[script]}"
    source = f"import sys; sys.argv[1:] = [{operation!r}]\n{source}"
    assert run_script(source, **variables) == "over"


# At the interpreter's end its thread cannot detach, so a wait that would last is an error.
AT_THE_END = """
import faulthandler, os, sys, threading
faulthandler.dump_traceback_later(40, exit=True)
from qsbrcontainers import ConcurrentDict, _native

d = ConcurrentDict(a=[1], b=2)
thread = threading.Thread(target=d.update, args=({"b": 3},))
thread.start()
thread.join()

class Late:
    def __del__(self, clear=d.clear, write=os.write):
        try:
            clear()
        except RuntimeError as error:
            write(1, str(error).encode())
        else:
            write(1, b"cleared")

# With globals of its own: a frame that lives on keeps those of this module.
STAY = '''
def stay(section, entered, event):
    section(True)
    entered.set()
    event.wait()
'''
exec(STAY, apart := {})
entered = threading.Event()
arguments = _native._section, entered, threading.Event()
threading.Thread(target=apart["stay"], args=arguments, daemon=True).start()
entered.wait()
late = Late()
del d["a"]
"""


def test_T7_a_stopped_reader_at_the_end(build):
    variables, must_wait = build
    said = run_script(AT_THE_END, QSBRCONTAINERS_WAIT_MS="50", **variables)
    assert "finalizing" in said if must_wait else said == "cleared"

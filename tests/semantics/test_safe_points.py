"""T5: what a thread that goes idle has retired is freed by a call that the main thread makes
between two of its own instructions; where no more such calls can be asked for, by whoever comes
next."""

import pytest
from support import FREES_AT_ONCE, run_script

SOURCE = """
import ctypes, threading, time
from qsbrcontainers import ConcurrentDict, stats

class Value:
    alive = 0
    def __init__(self):
        Value.alive += 1
    def __del__(self):
        Value.alive -= 1

def add_pending_call(api=ctypes.pythonapi):
    nothing = ctypes.cast(api.PyErr_CheckSignals, ctypes.c_void_p)  # returns 0
    return api.Py_AddPendingCall(nothing, None)

d = ConcurrentDict.fromkeys(range(100))
COUNT = 20_000
go, idle, leave = threading.Event(), threading.Event(), threading.Event()

def work(fill):
    d.get(0)
    for i in range(COUNT):
        while fill and add_pending_call() == 0:
            pass
        d[i % 100] = Value()
    if fill:
        held.append(Value.alive)
    idle.set()
    leave.wait()

# The main thread waits in C: no call is made, and there is no room for another.
held = []
thread = threading.Thread(target=work, args=(True,))
leave.set()
thread.start()
thread.join()
assert 100 <= held[0] < COUNT // 2, held  # the thread has freed by itself
for _ in range(100):
    time.sleep(0)

# There is room again.  The other thread stays, and does nothing more.
idle.clear()
leave.clear()
thread = threading.Thread(target=work, args=(False,))
thread.start()
idle.wait()
limit = time.monotonic() + 60
while Value.alive > 5000 and time.monotonic() < limit:
    time.sleep(0.001)
assert Value.alive <= 5000, Value.alive
leave.set()
thread.join()
print("over")
"""


@pytest.mark.skipif(FREES_AT_ONCE, reason="nothing waits here")
def test_T5_a_full_queue_of_pending_calls():
    assert run_script(SOURCE) == "over"

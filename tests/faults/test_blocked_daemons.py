"""Q7: the interpreter ends while daemon threads are in each of the places where one waits for
another of us: for a container's lock, for a grace period (a moment's, a writer's over the limit),
for a factory, in registration. A debug build lets threads sleep there, or those that they wait for.

With the GIL, who holds a container's lock has the GIL too, so that the others wait for that.
"""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from support import FREE_THREADED

HERE = Path(__file__).resolve().parent
LIMIT = 60
# See test_finalization.py: one hang of such an interpreter is its own, two are ours.
HANGS_BY_ITSELF = FREE_THREADED and sys.version_info[:4] == (3, 15, 0, "alpha")

FRAME = """
import os, sys, threading, time
from without_memory import failing
from qsbrcontainers import ConcurrentDict, ConcurrentList, collect, stats

d, values = ConcurrentDict((i, [i]) for i in range(20)), ConcurrentList([[1]] * 20)
go, began = threading.Event(), []

def forever(step):
    def run():
        began.append(None)
        go.wait()
        while True:
            step()
    return run

def start(count, target):
    for _ in range(count):
        threading.Thread(target=target, daemon=True).start()

class AtEnd:
    "Uses what the daemons had, late: the modules are being taken apart."
    def __init__(self):
        self.d, self.values, self.write = d, values, os.write
    def __del__(self):
        self.d.get(1)
        self.d["late"] = [1]
        self.values.append(1)
        self.d.snapshot(), self.values.snapshot(), len(self.d)
        self.d.clear()
        self.values.clear()
        self.write(1, b"over")

{daemons}

while len(began) < COUNT:
    time.sleep(0.001)
go.set()
until = time.monotonic() + 20
while not blocked():
    assert time.monotonic() < until, "nobody ever waits"
    time.sleep(0.001)
sys.modules["kept"] = AtEnd()
{ending}
"""

PLACES = {
    "a list's lock": """
COUNT = 6
failing.sleep_at("word", 20)  # the holder
start(COUNT, forever(lambda: values.append([1])))
blocked = lambda: failing.slept() > 3
""",
    "a dict's lock": """
COUNT, numbers = 6, iter(range(10**9))
failing.sleep_at("slot", 20)
def insert():
    n = next(numbers)
    d["new", n] = [n]
    d.pop(("new", n - 100), None)
start(COUNT, forever(insert))
blocked = lambda: failing.slept() > 3
""",
    "the grace period of a moment": """
COUNT = 6
failing.sleep_at("assign", 20)  # in a section
def assign():
    d[3] = [1]
start(3, forever(assign))
start(1, forever(d.snapshot))
start(1, forever(d.copy))
start(1, forever(lambda: d == values))
blocked = lambda: failing.slept() > 6
""",
    "a writer over the limit": """
from qsbrcontainers import _native
COUNT, large = 5, list(range(5000))
def stay():
    _native._section(True)
    began.append(None)
    threading.Event().wait()
threading.Thread(target=stay, daemon=True).start()
def write():
    values.extend(large)
    values.clear()
start(4, forever(write))
blocked = lambda: stats()["waits"] > 2
""",
    "a factory": """
COUNT, inside = 8, []
def slow():
    inside.append(None)
    threading.Event().wait()
start(COUNT, forever(lambda: d.get_or_create("made", slow)))
waited = time.monotonic() + 0.2
blocked = lambda: inside and time.monotonic() > waited
""",
    "registration": """
COUNT = 40
failing.sleep_at("lock", 5)  # on the way to the lock of the registry, detached
start(COUNT, forever(lambda: d.get(1)))
blocked = lambda: failing.slept() > 2
""",
}

ENDINGS = {
    "return": (0, "", ""),
    "sys.exit(3)": (3, "", ""),
    "raise ValueError": (1, "Traceback", "ValueError"),
}


def end_of(place, ending, script, settings):
    command = [sys.executable, "-P", "-X", "faulthandler", "-c", script]
    try:
        done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired as expired:
        return f"{place}, {ending}: hangs\n{expired.stdout}\n{expired.stderr}"
    status, begins, ends = ENDINGS[ending]
    said = done.stderr.strip()
    silent = not said if not begins else said.startswith(begins) and said.endswith(ends)
    if done.returncode == status and silent and done.stdout == "over":
        return None
    return f"{place}, {ending}: status {done.returncode}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("place", PLACES)
def test_Q7_daemon_threads_that_wait_at_the_end(debug_build, place, ending):
    """The status is the right one, nothing is said, and a finalizer that comes later uses the very
    containers."""
    last = ending if ending != "return" else "pass"
    script = FRAME.replace("{daemons}", PLACES[place]).replace("{ending}", last)
    path = os.pathsep.join(map(str, [debug_build, HERE.parent, HERE]))
    settings = {**os.environ, "PYTHONPATH": path}
    settings.pop("QSBRCONTAINERS_YIELD", None)
    if place == "a writer over the limit":
        limits = {"HARD_BYTES": 100_000, "BATCH_BYTES": 20_000, "WAIT_MS": 300}
        settings |= {f"QSBRCONTAINERS_{name}": str(value) for name, value in limits.items()}
    wrong = end_of(place, ending, script, settings)
    if wrong and "hangs" in wrong and HANGS_BY_ITSELF:
        warnings.warn("ONE PROCESS HUNG AT ITS END: " + wrong, stacklevel=1)
        wrong = end_of(place, ending, script, settings)
    assert not wrong, wrong

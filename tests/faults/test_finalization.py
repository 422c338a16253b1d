"""Q7: the interpreter ends while daemon threads are in the middle of everything (daemons.py, which
says what). Each run is a process of its own, whose status and silence are checked.

QC_RACE_SCALE multiplies the number of runs: 200 with 1.
"""

import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import FREE_THREADED, HARD_TIMEOUT, rounds, run_script

DAEMONS = Path(__file__).with_name("daemons.py")
AT_ONCE = 3

# 3.15.0a0 free-threaded: the lock of the interpreter's registry of thread states can go to a thread
# that hangs for ever since the interpreter ends (seen in a debugger, about once in a thousand
# processes). One hang is reported, two of a kind are a failure.
HANGS_BY_ITSELF = FREE_THREADED and sys.version_info[:4] == (3, 15, 0, "alpha")

# Status, and the beginning and the end of what may be said on standard error.
ENDINGS = {
    "return": (0, "", ""),
    "exit": (0, "", ""),
    "exception": (1, "Traceback", "ValueError: the end"),
    "module": (0, "", ""),
    "busy": (0, "", ""),
}


def one_process(seed, ending, **environment):
    """What is wrong with how it ends, as text; None if nothing is."""
    command = [sys.executable, "-P", "-X", "faulthandler", str(DAEMONS), str(seed), ending]
    settings = {**os.environ, **environment}
    try:
        done = subprocess.run(
            command, env=settings, capture_output=True, text=True, timeout=HARD_TIMEOUT / 5
        )
    except subprocess.TimeoutExpired as expired:
        return f"{ending} {seed}: hangs; it printed\n{expired.stdout}\n{expired.stderr}"
    status, begins, ends = ENDINGS[ending]
    said = done.stderr.strip()
    silent = not said if not begins else said.startswith(begins) and said.endswith(ends)
    if done.returncode == status and silent and not done.stdout:
        return None
    return f"{ending} {seed}: status {done.returncode}\n{done.stdout}\n{done.stderr}"


def processes(ending, count, **environment):
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda seed: one_process(seed, ending, **environment), range(count))
    wrong = [text for text in found if text]
    hangs = [text for text in wrong if "hangs; it printed" in text]
    if len(hangs) == 1 and HANGS_BY_ITSELF:
        warnings.warn("ONE PROCESS HUNG AT ITS END: " + hangs[0], stacklevel=1)
        wrong.remove(hangs[0])
    assert not wrong, f"{len(wrong)} of {count} processes\n" + "\n".join(wrong[:3])


@pytest.mark.parametrize("ending", ENDINGS)
def test_Q7_daemon_threads_in_the_middle_of_everything(ending):
    # A traceback is slow to print beside threads that run hot.
    processes(ending, rounds(45 if ending != "exception" else 20))


@pytest.mark.skipif(not FREE_THREADED, reason="the GIL is always there on this build")
def test_Q7_daemon_threads_with_the_gil_turned_on():
    processes("return", rounds(20), PYTHON_GIL="1")
    processes("module", rounds(20), PYTHON_GIL="1")


def test_Q7_daemon_threads_with_fences():
    processes("module", rounds(10), QSBRCONTAINERS_BARRIER="fence")


# The creator and those who wait for it are ended by the interpreter (to 3.13) or hang (from 3.14)
# when a finalizer asks for the same key: their stacks may be gone. Forty of them are more than
# libc keeps mapped. In the last place sys is empty already.
WAITERS = """
import os, sys, threading, time
from qsbrcontainers import ConcurrentDict
d, inside, never = ConcurrentDict(), threading.Event(), threading.Event()
asking = []

def slow():
    inside.set()
    never.wait()

def create():
    asking.append(None)
    d.get_or_create("key", slow)

class AtEnd:
    def __del__(self, d=d, list=list, error=RuntimeError, write=os.write):
        try:
            d.get_or_create("key", list)
        except error:
            pass
        write(1, b"over")

threading.Thread(target=create, daemon=True).start()
inside.wait()
for _ in range(40):
    threading.Thread(target=create, daemon=True).start()
while len(asking) <= 40:
    time.sleep(0.01)
time.sleep(0.2)
{place} = AtEnd()
"""


@pytest.mark.parametrize("place", ["sys.modules['kept']", "sys.kept"])
def test_K10_a_finalizer_asks_for_what_dead_threads_wait_for(place):
    assert run_script(WAITERS.replace("{place}", place)) == "over"

"""The same torture in processes of their own: both barriers (Q12), the GIL turned on (Q8), Python's
debugging allocator (freed memory is overwritten), a subclass of nothing left out."""

from pathlib import Path

import pytest
from support import FREE_THREADED, RACE_SCALE, rounds, run_script

TORTURE = Path(__file__).with_name("torture.py").read_text()
MODES = {
    "membarrier": {"QSBRCONTAINERS_BARRIER": "membarrier"},
    "fence": {"QSBRCONTAINERS_BARRIER": "fence"},
    "debugging allocator": {"PYTHONMALLOC": "debug"},
    "fence and debugging allocator": {"QSBRCONTAINERS_BARRIER": "fence", "PYTHONMALLOC": "debug"},
}


@pytest.mark.parametrize("mode", MODES)
def test_Q12_torture(mode):
    chosen = run_script("from qsbrcontainers import stats; print(stats()['barrier'])")
    wanted = MODES[mode].get("QSBRCONTAINERS_BARRIER", chosen)
    if wanted == "membarrier" != chosen:
        pytest.skip("this machine has no membarrier")
    assert run_script(TORTURE, RACE_SCALE, **MODES[mode]) == wanted


@pytest.mark.skipif(not FREE_THREADED, reason="the GIL is always there on this build")
@pytest.mark.parametrize("barrier", ["membarrier", "fence"])
def test_Q8_torture_with_the_gil_turned_on(barrier):
    run_script(TORTURE, RACE_SCALE, PYTHON_GIL="1", QSBRCONTAINERS_BARRIER=barrier)


@pytest.mark.skipif(not FREE_THREADED, reason="the GIL is always there on this build")
def test_importing_leaves_the_gil_off():
    source = (
        "import sys, warnings\n"
        "warnings.simplefilter('error')\n"
        "import qsbrcontainers\n"
        "print(sys._is_gil_enabled())\n"
    )
    assert run_script(source) == "False"


THREAD_STORM = """
import sys, threading
from qsbrcontainers import ConcurrentDict, stats
sys.setswitchinterval(1e-4)
d = ConcurrentDict(a=[0])
def use():
    for i in range(5):
        d["a"] = [i]
        d.get("a")
def hold():
    while not done:
        sum(range(1000))
done = []
holders = [threading.Thread(target=hold) for _ in range(2)]
for t in holders:
    t.start()
for _ in range({rounds}):
    threads = [threading.Thread(target=use) for _ in range(10)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
done.append(True)
for t in holders:
    t.join()
assert stats()["records"] <= 100, stats()
"""


@pytest.mark.parametrize("gil", ["0", "1"] if FREE_THREADED else [""])
def test_Q8_threads_register_and_end_in_a_storm(gil):
    """While others hold the GIL, where there is one: no deadlock."""
    environment = {"PYTHON_GIL": gil} if gil else {}
    run_script(THREAD_STORM.format(rounds=rounds(15)), **environment)

"""T8: valgrind finds nothing, neither while the C programs run nor at their end: no block lost, not
even possibly, and no access to one that is free. A build without sanitizers, as it is shipped, on
libc's heap. What only tortures or forks is for the sanitizers.
"""

import os
import shutil

import pytest
from programs import HANGS, MODES, PROGRAMS, Builder, Failed, run

NAMES = "heap keytable page page_others ptrarray records registry retire retire_held retire_others"
CHOSEN = [path for path in PROGRAMS if path.stem[5:] in [*NAMES.split(), "states"]]
FOUND = 99
LOST = "--leak-check=full --show-leak-kinds=definite,indirect,possible".split()
LOST += ["--errors-for-leak-kinds=definite,indirect,possible"]
TIMEOUT = 300

pytestmark = pytest.mark.skipif(
    shutil.which("valgrind") is None, reason="VALGRIND IS NOT INSTALLED: nothing was looked for"
)


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    breaks = [name for name in os.environ.get("QC_BREAK", "").split(",") if name]
    return Builder(tmp_path_factory.mktemp("valgrind"), breaks)


@pytest.mark.parametrize("program", CHOSEN, ids=lambda path: path.stem[5:])
def test_T8_nothing_is_lost(builder, program, monkeypatch):
    """Caught: FREE_AT_ONCE; by hand, a queue that does not free its locals."""
    monkeypatch.setenv("QC_TORTURE_SCALE", "0.02")
    try:
        command = builder.program(program, "valgrind")
    except Failed as reason:
        pytest.fail(str(reason), pytrace=False)
    # Fair: its threads run one at a time, and some spin until another one comes.
    valgrind = ["valgrind", "-q", "--fair-sched=yes", f"--error-exitcode={FOUND}", *LOST]
    status, said = run([*valgrind, *command], MODES[1], TIMEOUT)
    assert status != HANGS, f"hangs\n{said}"
    assert status == 0, f"status {status}\n{said}"

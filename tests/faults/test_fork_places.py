"""Q10: a fork while another thread is at any place of an operation, in a debug build of the
extension (its yield hook is where the thread is stopped): see fork_places.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fork_places import DICT_CHANGES, LIST_CHANGES

SCRIPT = Path(__file__).resolve().with_name("fork_places.py")
TIMEOUT = 300


CASES = [
    pytest.param(kind, name, shared, id=f"{kind}-{name}-{shared}".replace(" ", "_"))
    for kind, changes in [("dict", DICT_CHANGES), ("list", LIST_CHANGES)]
    for name in changes
    for shared in ("unshared", "shared")
]


@pytest.mark.parametrize(("kind", "name", "shared"), CASES)
def test_Q10_fork_at_every_place_of_an_operation(debug_build, kind, name, shared):
    command = [sys.executable, "-P", "-X", "faulthandler", SCRIPT, kind, name, shared]
    settings = {**os.environ, "PYTHONPATH": str(debug_build)}
    try:
        done = subprocess.run(
            command, env=settings, capture_output=True, text=True, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired as expired:
        pytest.fail(f"hangs\n{expired.stdout}\n{expired.stderr}")
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert int(done.stdout.split()[-1]) > 0, "no place to stop at was found"

"""The tests of hostile keys, operations and known bugs once more, on a debug build: its validators
look at each table after each change, and what is freed is poisoned."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import HARD_TIMEOUT

HERE = Path(__file__).resolve().parent
# What takes long there, or builds something itself.
NOT = "not allocation_failure and not million and not hundred_thousand and not limit_of_memory"


@pytest.mark.parametrize("name", ["hostile_keys", "hostile_operations", "known_bugs"])
def test_with_validators(debug_build, name):
    """Valid: they pass."""
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(HERE / f"test_{name}.py"), "-k", NOT],
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONPATH": str(debug_build)},
        capture_output=True,
        text=True,
        timeout=HARD_TIMEOUT,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]

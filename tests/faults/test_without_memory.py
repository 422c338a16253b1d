"""T2: every allocation of every operation fails in turn, once and for good: the interpreter's, our
heap's, and what is asked of libc (records, batches, pages). See without_memory.py.

What is not asked for: repr, since without memory the interpreter forgets that a tuple's has ended.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().with_name("without_memory.py")
TESTS = SCRIPT.parents[1]
TIMEOUT = 300

# Of operations: so many at least have such an allocation.
# "records": threads that come for the first time, when there is no record left for them.
LEAST = {"python": 30, "heap": 20, "libc": 1, "records": 30}
CASES = [(whose, shared) for whose in LEAST for shared in ("unshared", "shared")]
CASES.remove(("records", "shared"))  # who shares it has had a record


@pytest.mark.parametrize("whose, shared", CASES)
@pytest.mark.parametrize("kind", ["dict", "list"])
def test_T2_each_allocation_of_each_operation_fails(debug_build, kind, whose, shared):
    command = [sys.executable, "-P", "-X", "faulthandler", str(SCRIPT), kind, whose, shared]
    path = os.pathsep.join(map(str, [debug_build, TESTS, SCRIPT.parent]))
    settings = {**os.environ, "PYTHONPATH": path}
    try:
        done = subprocess.run(
            command, env=settings, capture_output=True, text=True, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired as expired:
        pytest.fail(f"hangs\n{expired.stdout}\n{expired.stderr}")
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    failed, with_failures, _ = map(int, done.stdout.split())
    assert failed >= with_failures >= LEAST[whose], done.stdout

"""T2 through the C API: each allocation of each function fails in turn, once and for good, the
interpreter's, our heap's and what is asked of libc. Valid: MemoryError and nothing has changed, or
all is done; nothing is lost. See capi_without_memory.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from debug_build import TESTS

SCRIPT = Path(__file__).resolve().with_name("capi_without_memory.py")
# Of functions: so many at least have such an allocation.
LEAST = {
    ("dict", "python"): 3,
    ("dict", "heap"): 2,
    ("dict", "libc"): 1,
    ("list", "python"): 2,
    ("list", "heap"): 2,
    ("dict", "records"): 8,
    ("list", "records"): 5,
    ("engine", "python"): 1,
    ("engine", "libc"): 5,
}


CASES = [(*case, shared) for case in LEAST for shared in ("unshared", "shared")]
CASES = [case for case in CASES if case[0] != "engine" or case[2] == "shared"]  # as queues are
# Who shares it has had a record.
CASES = [case for case in CASES if case[1] != "records" or case[2] == "unshared"]


@pytest.mark.parametrize("kind, whose, shared", CASES)
def test_T2_each_allocation_of_each_function_fails(built, debug_build, kind, whose, shared):
    path = os.pathsep.join(map(str, [debug_build, built, TESTS, TESTS / "faults"]))
    done = subprocess.run(
        [sys.executable, "-P", "-X", "faulthandler", str(SCRIPT), kind, whose, shared],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    failed, with_failures, _ = map(int, done.stdout.split())
    assert failed >= with_failures >= LEAST[kind, whose], done.stdout

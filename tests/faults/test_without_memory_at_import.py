"""T2 where it begins: each allocation of making the extension module fails, the interpreter's, our
heap's and libc's. Valid: MemoryError, nothing of the module stays, and the next import works.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().with_name("import_without_memory.py")
# So many allocations there are at least.
LEAST = {"libc": 4}
# From 3.13 on a dict of theirs that a type is made of crashes where it cannot grow.
if sys.version_info < (3, 13):
    LEAST["python"] = 100


@pytest.mark.parametrize("whose", LEAST)
def test_T2_each_allocation_of_the_import_fails(debug_build, whose):
    (extension,) = (debug_build / "qsbrcontainers").glob("_native*.so")
    done = subprocess.run(
        [sys.executable, "-P", "-X", "faulthandler", str(SCRIPT), str(extension), whose],
        env={**os.environ, "PYTHONPATH": str(debug_build)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert int(done.stdout) >= LEAST[whose], done.stdout

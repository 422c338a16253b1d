"""The race tests. Each is named for the guarantee that it tries (DESIGN's labels), is bounded by
counts of operations (QC_RACE_SCALE multiplies them) and runs on GIL builds too.

A test that has been seen to fail on a broken build says so: "Caught: NAME" stands for a build with
QSBRCONTAINERS_BREAK=NAME, tried by hand on the interpreter named.
"""

import sys

import pytest
from support import only_our_objects, real_stderr, watchdog  # noqa: F401


@pytest.fixture(autouse=True)
def switch_often():
    """With the GIL, threads change only where the interpreter is asked to: ask all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)

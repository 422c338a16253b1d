"""Sees to it that the installed package is tested, and says what it is."""

import os
import platform
import signal
import sys
import sysconfig
from pathlib import Path

import pytest

# A shell starts background jobs with SIGINT ignored, and children inherit that: the tests of
# Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# `python -m pytest` puts the current folder first on the path, where the package's sources
# are without the extension; so does every interpreter that a test starts.
ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
os.environ["PYTHONSAFEPATH"] = "1"

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def gil():
    return "on" if getattr(sys, "_is_gil_enabled", lambda: True)() else "off"


def pytest_report_header(config):
    build = "free-threaded" if FREE_THREADED else "GIL"
    before = gil()
    line = f"CPython {platform.python_version()}, {build} build, GIL {before}"
    try:
        import qsbrcontainers
    except ImportError as error:
        # tests/test_structure.py needs no build; everything else says the same when collected.
        return f"{line}; qsbrcontainers is not installed: {error}"
    if gil() != before:
        raise pytest.UsageError("Importing qsbrcontainers has turned the GIL on.")
    barrier = qsbrcontainers.stats().get("barrier", "unknown")
    return f"qsbrcontainers {qsbrcontainers.__version__}, {barrier} barrier; {line}"

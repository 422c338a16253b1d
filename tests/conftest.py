"""Sees to it that the installed package is tested, and says what it is.

QC_SEED repeats what tests leave to chance; QC_COUNTERS has the figures of stats() printed in the
end, as tests/soak.py reads them.
"""

import os
import platform
import random
import signal
import sys
import sysconfig
from pathlib import Path

import pytest
from debug_build import debug_build  # noqa: F401  (made once, for all folders)

# A shell starts background jobs with SIGINT ignored, and children inherit that: the tests of
# Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# `python -m pytest` puts the current folder first on the path, where the package's sources
# are without the extension; so does every interpreter that a test starts.
ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
os.environ["PYTHONSAFEPATH"] = "1"
# Containers that are used much settle (T1) without a second's wait; support.touch() knows.
os.environ.setdefault("QSBRCONTAINERS_SETTLE_MS", "1")

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def gil():
    return "on" if getattr(sys, "_is_gil_enabled", lambda: True)() else "off"


@pytest.fixture(autouse=True)
def seeded(request):
    if seed := os.environ.get("QC_SEED"):
        random.seed(f"{seed} {request.node.nodeid}")


def pytest_terminal_summary(terminalreporter):
    if os.environ.get("QC_COUNTERS") and "qsbrcontainers" in sys.modules:
        for name, value in sys.modules["qsbrcontainers"].stats().items():
            if name.endswith("_peak") or name == "records":
                terminalreporter.write_line(f"counter most {name}: {value}")
            elif isinstance(value, int) and name in SUMS:
                terminalreporter.write_line(f"counter sum {name}: {value}")


SUMS = ["advances", "polls", "heavy_barriers", "quarantined", "items_freed", "bytes_freed"]
SUMS += ["batches", "waits", "waits_in_vain", "collections", "pages_reused"]


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

"""A debug build of the extension for scripts of their own, whatever build is installed."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
EXTENSIONS = TESTS / "faults" / "extensions"


@pytest.fixture(scope="session")
def debug_build(tmp_path_factory):
    """A folder with the package, its extension with the yield hook and with allocations that can
    be made to fail (extensions/failing.c). On libc's malloc, which fork sees to, and every name
    of it visible."""
    folder = tmp_path_factory.mktemp("debug")
    package = folder / "qsbrcontainers"
    package.mkdir()
    for source in (ROOT / "qsbrcontainers").glob("*.py"):
        shutil.copy(source, package)
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        pytest.fail(f"there is no {compiler[0]} here to compile the extension with")
    call = [*compiler, "-std=c11", "-O1", "-g", "-fPIC", "-pthread", "-DQC_DEBUG=1"]
    call += ["-DQC_HEAP_LIBC", f"-I{ROOT / 'src'}", f"-I{ROOT / 'qsbrcontainers' / 'include'}"]
    call += ["-include", str(EXTENSIONS / "failing.h"), "-isystem", sysconfig.get_path("include")]
    call += ["-shared"] if sys.platform != "darwin" else ["-bundle", "-undefined", "dynamic_lookup"]
    if os.environ.get("QSBRCONTAINERS_COVERAGE") == "1":  # tests/covered.py
        call += ["-O0", "--coverage", "-fprofile-update=atomic", "-fprofile-abs-path"]
        call += ["-DQC_COUNTING=1", "-Wl,--wrap=_Py_FatalErrorFunc"]
        call += [str(ROOT / "build_support" / "coverage_dump.c")]
    # To see the tests fail, as in tests/engine.
    call += [f"-DQC_BREAK_{name}" for name in os.environ.get("QC_BREAK", "").split(",") if name]
    call += sorted(str(path) for path in (ROOT / "src").rglob("*.c"))
    call += [str(EXTENSIONS / "failing.c")]
    call += ["-o", str(package / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}")]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(call)}\n{done.stderr}"
    return folder

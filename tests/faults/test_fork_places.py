"""Q10: a fork while another thread is at any place of an operation, in a debug build of the
extension (its yield hook is where the thread is stopped): see fork_places.py."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from fork_places import DICT_CHANGES, LIST_CHANGES

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SCRIPT = HERE / "fork_places.py"
TIMEOUT = 300


@pytest.fixture(scope="session")
def debug_build(tmp_path_factory):
    """A folder with the package, its extension with the hook. On libc's malloc, which fork sees
    to, and every name of it visible."""
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
    call += ["-isystem", sysconfig.get_path("include")]
    call += ["-shared"] if sys.platform != "darwin" else ["-bundle", "-undefined", "dynamic_lookup"]
    # To see the tests fail, as in tests/engine.
    call += [f"-DQC_BREAK_{name}" for name in os.environ.get("QC_BREAK", "").split(",") if name]
    call += sorted(str(path) for path in (ROOT / "src").rglob("*.c"))
    call += ["-o", str(package / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}")]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(call)}\n{done.stderr}"
    return folder


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

"""The semantics suite under AddressSanitizer, with replaced memory freed at once.

That is how builds for a GIL free. Debug and sanitizer builds free later instead, to test the paths
of free-threaded builds; so without this test no sanitizer would see the paths of a GIL build.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
COMPILER = "gcc"
LIMIT = 600
CHECK = "import qsbrcontainers as q; print(q.__file__, q.stats()['frees'], sep='|')"


def runtime():
    """The runtime library of gcc's AddressSanitizer, which must be loaded first."""
    if shutil.which(COMPILER) is None or not sys.platform.startswith("linux"):
        return None
    command = [COMPILER, "-print-file-name=libasan.so"]
    path = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return path if os.path.isabs(path) else None


def build(folder):
    package = folder / "qsbrcontainers"
    package.mkdir()
    for source in (ROOT / "qsbrcontainers").glob("*.py"):
        shutil.copy(source, package)
    call = [COMPILER, "-std=c11", "-O1", "-g", "-fPIC", "-shared", "-pthread"]
    call += ["-fsanitize=address", "-fno-omit-frame-pointer"]
    call += ["-DQC_HEAP_LIBC", "-DQC_FREES_AT_ONCE=1"]
    call += [f"-I{ROOT / 'src'}", f"-I{ROOT / 'qsbrcontainers' / 'include'}"]
    call += ["-isystem", sysconfig.get_path("include")]
    call += sorted(str(path) for path in (ROOT / "src").rglob("*.c"))
    call += ["-o", str(package / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}")]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(FREE_THREADED, reason="nothing can be freed at once without a GIL")
@pytest.mark.skipif(runtime() is None, reason="NO LIBASAN: FREEING AT ONCE IS NOT CHECKED")
@pytest.mark.timeout(LIMIT + 60)
def test_the_semantics_with_freeing_at_once(tmp_path):
    build(tmp_path)
    settings = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "PYTHONMALLOC": "malloc",  # so that ASan sees each object
        "LD_PRELOAD": runtime(),
        "ASAN_OPTIONS": "detect_leaks=0:exitcode=99:allocator_may_return_null=1",
    }

    def run(*arguments):
        command = [sys.executable, "-P", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=LIMIT
        )

    said = run("-c", CHECK)
    assert said.stdout == f"{tmp_path / 'qsbrcontainers' / '__init__.py'}|at once\n", said
    done = run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(TESTS / "semantics"))
    assert done.returncode == 0, f"{done.stdout[-5000:]}\n{done.stderr[-5000:]}"

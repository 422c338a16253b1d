"""The engine as a shared library on musl, which reserves no static TLS for libraries that are
loaded later: a single variable of the initial-exec model makes dlopen fail. (Debian: musl-tools.)
"""

import shutil
import subprocess

import pytest
from programs import HERE, SOURCES, SRC, WARNINGS

# The kernel's headers are not musl's.
KERNEL = ["-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"]
COMPILER = ["musl-gcc", *WARNINGS, "-O2", "-g", f"-I{SRC}", "-DQC_HEAP_LIBC"]


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.skipif(shutil.which("musl-gcc") is None, reason="NO MUSL-GCC: NOT LOADED ON MUSL")
def test_the_engine_can_be_loaded_with_dlopen_on_musl(tmp_path):
    library, program = tmp_path / "libengine.so", tmp_path / "program"
    shared = ["-shared", "-fPIC", "-fvisibility=hidden", *KERNEL]
    run(*COMPILER, *shared, *SOURCES, HERE / "musl_library.c", "-o", library)
    run(*COMPILER, HERE / "musl_program.c", "-o", program)
    assert run(program, library) == "over\n"

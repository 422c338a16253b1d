"""Compilers and interpreters of 32-bit platforms are refused, each with a sentence that says so."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "build_support"))

import mimalloc_link  # noqa: E402

# Only the base layer, since the machine may have no headers of a 32-bit C library.
SOURCE = '#include "base/qc_debug.h"\n'


def syntax(folder, *arguments):
    (folder / "gnu").mkdir(exist_ok=True)
    (folder / "gnu" / "stubs-32.h").touch()
    command = [*mimalloc_link.compiler(), "-std=c11", "-fsyntax-only", f"-I{ROOT / 'src'}"]
    command += [f"-I{folder}", "-idirafter", "/usr/include/x86_64-linux-gnu"]
    command += [*arguments, "-x", "c", "-"]
    return subprocess.run(command, input=SOURCE, capture_output=True, text=True)


def test_a_32_bit_compiler_is_refused(tmp_path):
    assert syntax(tmp_path).returncode == 0
    plain = subprocess.run(
        [*mimalloc_link.compiler(), "-m32", "-fsyntax-only", "-x", "c", "-"],
        input=b"int x;\n",
        capture_output=True,
    )
    if plain.returncode != 0:
        pytest.skip("this compiler has no 32-bit mode")
    said = syntax(tmp_path, "-m32")
    assert said.returncode != 0 and "needs a 64-bit platform" in said.stderr, said.stderr


def test_a_32_bit_interpreter_is_refused(tmp_path):
    source = f"""
import runpy, sys
sys.maxsize = 2**31 - 1
sys.argv = ["setup.py", "--version"]
runpy.run_path({str(ROOT / "setup.py")!r})
"""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "error: qsbrcontainers needs a 64-bit interpreter.\n"

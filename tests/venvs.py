"""Virtual environments with this package in them, made once and kept up to date.

    python tests/venvs.py PATH_OF_VENV EXTRA[,EXTRA...] [INTERPRETER]

makes or updates one. The package is installed again only where the files that it is
made of, the interpreter or the build switches have changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INPUTS = ["pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"]
INPUT_TREES = ["src", "qsbrcontainers", "build_support"]

# Builds write to the source tree (build/, *.egg-info): one at a time.
building = threading.Lock()


def ensure(venv: Path, extras: str, python: str, **switches: str) -> Path:
    """Makes or updates `venv`; gives the path of its interpreter. Raises CalledProcessError.
    `switches` are environment variables for the build, beside those of the environment."""
    venv = Path(venv)
    executable = venv / "bin" / "python"
    stamp = venv / "installed-from"
    environment = {**os.environ, **switches}
    wanted = f"{python} {extras} {fingerprint(environment)}\n"
    if executable.exists() and stamp.exists() and stamp.read_text() == wanted:
        return executable
    with building:
        if not stamp.exists() or stamp.read_text().split(" ")[0] != python:
            shutil.rmtree(venv, ignore_errors=True)
            call([python, "-m", "venv", str(venv)])
        stamp.unlink(missing_ok=True)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        pip = [str(executable), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        linked = mimalloc() if "test" in extras.split(",") else []
        # pip reinstalls a directory even where the version is the same.
        call([*pip, f"{ROOT}[{extras}]", *linked], environment)
        stamp.write_text(wanted)
    return executable


def mimalloc() -> list[str]:
    """The C programs in tests/engine are linked with it too, outside pip's isolated build."""
    tool = str(ROOT / "build_support" / "mimalloc_link.py")
    return subprocess.check_output([sys.executable, tool, "requirements"], text=True).splitlines()


def fingerprint(environment: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    files = [ROOT / name for name in INPUTS]
    for tree in INPUT_TREES:
        files += sorted(p for p in (ROOT / tree).rglob("*") if p.suffix not in (".pyc", ".so"))
    for file in files:
        if file.is_file():
            digest.update(f"{file.relative_to(ROOT)} {file.stat().st_size}\n".encode())
            digest.update(file.read_bytes())
    for name in sorted(environment):
        if name.startswith("QSBRCONTAINERS_") or name in ("CC", "CFLAGS", "LDFLAGS"):
            digest.update(f"{name}={environment[name]}\n".encode())
    return digest.hexdigest()[:16]


def call(command: list[str], environment: Mapping[str, str] | None = None) -> None:
    subprocess.run(command, check=True, cwd=ROOT, env=environment)


if __name__ == "__main__":
    try:
        python = shutil.which(sys.argv[3]) if len(sys.argv) > 3 else sys.executable
        ensure(Path(sys.argv[1]), sys.argv[2], python or sys.argv[3])
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)

"""Finds the CPython interpreters on this machine that the tests run with.

    python tests/interpreters.py

prints them, a line each: name, path, and "free-threaded" or "GIL".
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

OLDEST, NEWEST = (3, 11), (3, 15)
# Free-threaded ones first: they are what this package is for.
NAMES = ["3.15t", "3.14t", "3.15", "3.14", "3.13", "3.12", "3.11"]

# Run by every candidate: says what it is, and what it lacks to build an extension.
PROBE = """
import os, sys, sysconfig
try:
    import ensurepip, venv
except ImportError:
    lacks = "venv"
else:
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    lacks = "" if os.path.exists(header) else "headers"
free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
version = "%d.%d" % sys.version_info[:2]
print(sys.implementation.name, version, free, lacks, sys.executable, sep="|")
"""


class Interpreter(NamedTuple):
    name: str  # "3.13", "3.15t"
    path: str
    lacks: str = ""  # "" for a usable one, else "venv" or "headers"

    @property
    def free_threaded(self) -> bool:
        return self.name.endswith("t")

    @property
    def supported(self) -> bool:
        version = tuple(int(part) for part in self.name.rstrip("t").split("."))
        return OLDEST <= version <= NEWEST


def probe(path: str | os.PathLike[str]) -> Interpreter | None:
    """What `path` is; None when it does not run or is not CPython (a pyenv shim may not)."""
    try:
        done = subprocess.run(
            [str(path), "-c", PROBE], capture_output=True, text=True, timeout=60, env=_environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    fields = done.stdout.strip().split("|")
    if done.returncode != 0 or len(fields) != 5 or fields[0] != "cpython":
        return None
    return Interpreter(fields[1] + fields[2], fields[4], fields[3])


def find_all() -> list[Interpreter]:
    """One interpreter for each name, in the order of NAMES; unusable ones only if no other."""
    found: dict[str, Interpreter] = {}
    for candidate in _candidates():
        interpreter = probe(candidate)
        if interpreter is None or interpreter.name not in NAMES:
            continue
        before = found.get(interpreter.name)
        if before is None or (before.lacks and not interpreter.lacks):
            found[interpreter.name] = interpreter
    return [found[name] for name in NAMES if name in found]


def _candidates() -> list[str]:
    paths = [shutil.which(f"python{name}") for name in NAMES]
    found = [path for path in paths if path]
    for root in _pyenv_roots():
        # 3.13.10 before 3.13.9; 3.14.0t beside 3.14.0. python3 is there in each of them.
        versions = sorted(root.glob("versions/3.*"), key=_version_key, reverse=True)
        found += [str(version / "bin" / "python3") for version in versions]
    # The system's own may be complete where another that stands before it is not.
    return [*found, "/usr/local/bin/python3", "/usr/bin/python3"]


def _pyenv_roots() -> list[Path]:
    roots = [os.environ.get("PYENV_ROOT", ""), os.path.expanduser("~/.pyenv")]
    if shutil.which("pyenv"):
        done = subprocess.run(["pyenv", "root"], capture_output=True, text=True)
        roots.append(done.stdout.strip())
    return list(dict.fromkeys(Path(root).resolve() for root in roots if root))


def _version_key(path: Path) -> list[int]:
    digits = "".join(c if c.isdigit() else " " for c in path.name)
    return [int(part) for part in digits.split()]


def _environment() -> dict[str, str]:
    """The environment without what would change an interpreter under our hands."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHON_GIL", "PYTHONHOME")}


if __name__ == "__main__":
    for interpreter in find_all():
        kind = "free-threaded" if interpreter.free_threaded else "GIL"
        lacks = f"  (has no {interpreter.lacks})" if interpreter.lacks else ""
        print(f"{interpreter.name:6} {interpreter.path}  {kind}{lacks}")

"""`make bench`: virtual environments with this package and its peers, then the suite with them.

    python benchmarks/everywhere.py [--only "3.15t 3.11"] [--full] [SUITE_ARGUMENT...]

Without --only: the newest free-threaded interpreter that is found, the oldest and the newest one
of 3.11 to 3.13 with a GIL; with --full also the free-threaded one with PYTHON_GIL=1. A peer that
does not install is left out, and said to be. The environments, .venv-bench-NAME, live on.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import interpreters  # noqa: E402
import venvs  # noqa: E402

OLDER_WITH_GIL = ("3.11", "3.12", "3.13")


def extra(name: str) -> list[str]:
    """The requirements of an extra of pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(rf"^{name} = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)
    return re.findall(r'"([^"]+)"', found.group(1))


def chosen(only: list[str]) -> list[interpreters.Interpreter]:
    found = {i.name: i for i in interpreters.find_all() if not i.lacks}
    if only:
        missing = set(only) - set(found)
        if missing:
            sys.exit(f"There is no usable interpreter {', '.join(missing)} on this machine.")
        return [found[name] for name in only]
    free = [i for i in found.values() if i.free_threaded][:1]
    older = [found[name] for name in OLDER_WITH_GIL if name in found]
    if not free:
        print("!" * 20 + " NO FREE-THREADED INTERPRETER: most goals need one " + "!" * 20)
    return free + list(dict.fromkeys(older[:1] + older[-1:]))


def installed(interpreter: interpreters.Interpreter) -> Path:
    """The interpreter of its environment, with what can be had of the peers."""
    venv = ROOT / f".venv-bench-{interpreter.name}"
    python = venvs.ensure(venv, "demo", interpreter.path)
    null = str(ROOT / "benchmarks" / "limit")  # what does nothing, to compare with
    for requirement in [*extra("peers"), *extra("plots"), null]:
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*pip, requirement], capture_output=True, text=True)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["?"])[-1]
            print(f"!! {interpreter.name}: {requirement} does not install: {why}", flush=True)
    return python


def main(arguments: list[str]) -> int:
    only: list[str] = []
    if arguments[:1] == ["--only"]:
        only, arguments = arguments[1].replace(",", " ").split(), arguments[2:]
    full = "--full" in arguments
    suite = ["--all"] if full else ["--minutes", "5", "--seconds", "0.1"]
    arguments = [argument for argument in arguments if argument != "--full"]
    pythons = []
    for interpreter in chosen(only):
        try:
            pythons.append(python := installed(interpreter))
        except subprocess.CalledProcessError:
            print(f"!! {interpreter.name}: COULD NOT BE SET UP, see above: left out")
            continue
        suite += ["--python", str(python)]
        if full and interpreter.free_threaded:
            suite += ["--python", f"{python},PYTHON_GIL=1"]
    if not pythons:
        return 1
    command = [str(pythons[0]), str(ROOT / "benchmarks" / "suite.py"), *suite, *arguments]
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

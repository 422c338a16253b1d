"""The race tests on an interpreter that is built with ThreadSanitizer itself, the extension too.

Part of `make test` where python3.15t-tsan, python3.14t-tsan or python3.13t-tsan is on PATH; under
another name such a run cannot be told from one that sees only half of the accesses.

    python tests/thread_sanitizer.py [PYTEST_ARGUMENT...]

is this part alone. A report fails the run where any of its stacks goes through the extension; what
the interpreter has with itself is only counted. Its own list of suppressions is used where it lies
below its prefix (suppressions_free_threading.txt) or QC_TSAN_SUPPRESSIONS says where; a list that
would hide a function of ours is refused. TSAN_OPTIONS are added to ours.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import interpreters
import venvs

NAMES = ["python3.15t-tsan", "python3.14t-tsan", "python3.13t-tsan"]
SUPPRESSIONS = "suppressions_free_threading.txt"
PLACES = ["", "share", "Tools/tsan"]  # below the prefix; the last is a checkout's
OURS = re.compile(r"^ +#\d+ .*\b_native\.[^ /]*\.so\b", re.MULTILINE)
REPORT = re.compile(r"^={10,}\nWARNING: ThreadSanitizer: .*?^={10,}$", re.MULTILINE | re.DOTALL)
SCALE = "0.05"  # QC_RACE_SCALE: a few minutes
NONE_FOUND = (
    "No interpreter built with ThreadSanitizer (python3.15t-tsan) on PATH:"
    " the race tests are not run under it"
)


class Wrong(Exception):
    """The reason why nothing can be said."""


def find() -> interpreters.Interpreter | None:
    for name in NAMES:
        path = shutil.which(name)
        found = interpreters.probe(path) if path else None
        if found is not None and not found.lacks:
            return found._replace(name=f"{found.name}-tsan")
    return None


def environment(interpreter: interpreters.Interpreter, installer: Path) -> Path:
    """Its virtual environment; `installer` is an interpreter with pip, which takes minutes under
    ThreadSanitizer."""
    venv = venvs.ROOT / f".venv-{interpreter.name}"
    executable, stamp = venv / "bin" / "python", venv / "installed-from"
    settings = {**os.environ, "QSBRCONTAINERS_SANITIZE": "thread"}
    wanted = f"{interpreter.path} {venvs.fingerprint(settings)}\n"
    if stamp.exists() and stamp.read_text() == wanted:
        return executable
    with venvs.building:
        shutil.rmtree(venv, ignore_errors=True)
        venvs.call([interpreter.path, "-m", "venv", "--without-pip", str(venv)])
        asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
        packages = subprocess.check_output([str(executable), "-c", asked], text=True).strip()
        project = tomllib.loads((venvs.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        needed = [*project["build-system"]["requires"], *venvs.mimalloc()]
        for requirement in project["project"]["optional-dependencies"]["test"]:
            needed += [requirement] if re.match("pytest|hypothesis|packaging", requirement) else []
        pip = [str(installer), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        venvs.call([*pip, "--target", packages, *needed])
        build = [str(executable), "setup.py", "--quiet", "build", "--build-lib", packages]
        venvs.call(build, settings)
        stamp.write_text(wanted)
    return executable


def suppressions(interpreter: interpreters.Interpreter) -> Path | None:
    """The interpreter's own list. Raises Wrong if it hides a function of ours."""
    if chosen := os.environ.get("QC_TSAN_SUPPRESSIONS"):
        path = Path(chosen)
    else:
        asked = "import sys; print(sys.base_prefix)"
        prefix = subprocess.check_output([interpreter.path, "-c", asked], text=True).strip()
        candidates = [Path(prefix, place, SUPPRESSIONS) for place in PLACES]
        found = [candidate for candidate in candidates if candidate.exists()]
        if not found:
            return None
        path = found[0]
    for name in our_names():
        if (pattern := hiding(path.read_text(encoding="utf-8"), name)) is not None:
            raise Wrong(f"{path} would hide {name}: {pattern}")
    return path


def our_names() -> list[str]:
    """Functions, files and the module, as a stack shows them."""
    names = ["_native.cpython.so"]
    for path in sorted((venvs.ROOT / "src").rglob("*.[ch]")):
        names.append(str(path.relative_to(venvs.ROOT)))
        # A definition's name stands at the beginning of a line.
        names += re.findall(r"^(\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    return names


def hiding(text: str, name: str) -> str | None:
    """The line of a list of suppressions that matches `name`: parts of names, with * for anything,
    ^ and $ for begin and end."""
    for line in text.splitlines():
        kind, colon, pattern = line.strip().partition(":")
        if not colon or kind.startswith("#"):
            continue
        expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\^", "^").replace(r"\$", "$")
        if re.search(expression, name):
            return line.strip()
    return None


def options(reports: Path, list_used: Path | None) -> str:
    """TSAN_OPTIONS: the last of equal ones counts."""
    given = [f"suppressions={list_used}"] if list_used else []
    given += filter(None, [os.environ.get("TSAN_OPTIONS")])
    # Every process writes a file of its own, and ends with its own status.
    return ":".join([*given, "exitcode=0", f"log_path={reports / 'report'}"])


def sort(texts: list[str]) -> tuple[list[str], int]:
    """The reports with the extension in one of their stacks, and how many others there are."""
    found = [report for text in texts for report in REPORT.findall(text)]
    ours = [report for report in found if OURS.search(report)]
    return ours, len(found) - len(ours)


def run(
    interpreter: interpreters.Interpreter,
    installer: Path,
    folder: Path,
    say: Callable[[str], None],
    run_tests: Callable[[list[str], dict[str, str]], None],
) -> list[str]:
    """Runs the race tests through `run_tests`, which has the command and what to add to the
    environment; gives the reports that are about us."""
    python = environment(interpreter, installer)
    list_used = suppressions(interpreter)
    if list_used is None:
        say(f"{interpreter.name}: no {SUPPRESSIONS} below its prefix; going on without")
    reports = folder / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    scale = os.environ.get("QC_RACE_SCALE", SCALE)
    settings = {"QC_RACE_SCALE": scale, "TSAN_OPTIONS": options(reports, list_used)}
    # Every script that a test starts would compile what it imports, at a tenth of the speed.
    settings |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "pycache")}
    command = [str(python), "-P", "-m", "pytest", "-p", "no:cacheprovider", "tests/races"]
    command += ["-k", "not turned_on"]  # the GIL: one thread at a time, for minutes
    run_tests(command, settings)
    written = sorted(reports.glob("report*"))
    ours, others = sort([path.read_text(errors="replace") for path in written])
    if others:
        say(f"{interpreter.name}: {others} reports about the interpreter alone, in {reports}")
    return ours


def main(arguments: list[str]) -> int:
    found, default = find(), interpreters.probe(sys.executable)
    if found is None or default is None:
        print(NONE_FOUND)
        return 0
    installer = venvs.ensure(venvs.ROOT / f".venv-{default.name}", "test,demo", default.path)
    status = 0

    def run_tests(command: list[str], settings: dict[str, str]) -> None:
        nonlocal status
        settings = {**os.environ, **settings}
        status = subprocess.run([*command, *arguments], cwd=venvs.ROOT, env=settings).returncode

    folder = venvs.ROOT / "build" / "thread-sanitizer"
    ours = run(found, installer, folder, lambda line: print(line, flush=True), run_tests)
    print("\n".join(ours + [f"{len(ours)} reports about the extension"]))
    return 1 if status or ours else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

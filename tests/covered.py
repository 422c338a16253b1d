"""`make coverage`: which lines and branches of src the tests execute, counted by gcov.

    python tests/covered.py [--report] [PYTEST_ARGUMENT...]

The extension and the engine's programs are built unoptimized and counting, for the default
interpreter and the newest free-threaded one that is found, and all tests run; --report only shows
what was counted before. The table, build/coverage/index.html with every line, and what is left
in build/coverage/left.txt: the limits are 95 % of lines and 85 % of branches, without what
tests/covered.txt names, where each line of text says a function and why no test gets there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import interpreters
import venvs

ROOT = venvs.ROOT
BUILD = ROOT / "build" / "coverage"
LINES, BRANCHES = 95.0, 85.0
TESTS = ["tests/semantics", "tests/capi", "tests/leaks", "tests/faults", "tests/races"]
# Branches that are no choice of ours. Of an assertion only the good end is ever seen; whether a
# debugging hook is there is the build's choice, or the test's; what Py_VISIT visits is there, and
# only get_referrers() stops it.
NOT_BRANCHES = r".*\b(qc_assert|qc_yield|assert|Py_VISIT)\b.*"
EXITS = Path(__file__).with_name("covered_exits.py")


def chosen() -> list[interpreters.Interpreter]:
    default = interpreters.probe(sys.executable)
    found = [i for i in interpreters.find_all() if i.free_threaded and not i.lacks]
    return [i for i in found[:1] + [default] if i is not None]


def environment(interpreter: interpreters.Interpreter) -> Path:
    """Its virtual environment, with a package that counts."""
    venv = ROOT / f".venv-coverage-{interpreter.name}"
    python = venvs.ensure(venv, "test,demo", interpreter.path)
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.check_output([str(python), "-c", asked], text=True).strip())
    shutil.copy(EXITS, packages)
    (packages / "covered_exits.pth").write_text("import covered_exits\n")
    return python


def count(arguments: list[str]) -> int:
    os.environ["QSBRCONTAINERS_COVERAGE"] = "1"
    for old in (ROOT / "build").rglob("*.gcda"):
        old.unlink()
    BUILD.mkdir(parents=True, exist_ok=True)  # pytest makes only the last folder of a path
    worst = 0
    pythons = [(i.name, environment(i)) for i in chosen()]
    for name, python in pythons:
        engine = ["tests/engine/test_engine.py"] if name == pythons[-1][0] else []
        print(f"Counting with {name}", flush=True)
        command = [str(python), "-P", "-m", "pytest", "-q", *engine, *TESTS, *arguments]
        status = subprocess.run(
            [*command, f"--basetemp={BUILD / f'tests-{name}'}"], cwd=ROOT
        ).returncode
        worst = max(worst, status)
    return worst


def gcovr() -> list[str]:
    """The tool, in the lint environment's neighbour."""
    venv = ROOT / ".venv-gcovr"
    if not (venv / "bin" / "gcovr").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "gcovr==8.4"]
        subprocess.run(pip, check=True)
    return [str(venv / "bin" / "gcovr"), "--root", str(ROOT), "--filter", "src/", "-j2"]


def excused() -> dict[tuple[str, str], str]:
    """Function of a file -> why no test gets everywhere in it."""
    found = {}
    for line in Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            file, function, why = re.split(r"\s+", line, maxsplit=2)
            found[file, function] = why
    return found


@dataclass
class Share:
    """How many of them were executed."""

    executed: int = 0
    of: int = 0

    def add(self, executed: int, of: int = 1) -> None:
        self.executed += executed
        self.of += of

    def __str__(self) -> str:
        return f"{100 * self.executed / self.of:.1f} %" if self.of else "-"

    def reaches(self, limit: float) -> bool:
        return 100 * self.executed >= limit * self.of


def counted() -> list[dict]:
    """The files of src, as gcovr sees them."""
    BUILD.mkdir(parents=True, exist_ok=True)
    data = BUILD / "coverage.json"
    options = ["--merge-mode-functions=merge-use-line-min", "--gcov-ignore-parse-errors=all"]
    options += ["--exclude-branches-by-pattern", NOT_BRANCHES]
    outputs = ["--json", str(data), "--html-details", str(BUILD / "index.html")]
    subprocess.run([*gcovr(), *options, *outputs, str(ROOT / "build")], check=True, cwd=ROOT)
    return sorted(json.loads(data.read_text())["files"], key=lambda file: file["file"])


def report() -> int:
    reasons, left = excused(), []
    all_lines, all_branches = Share(), Share()
    for file in counted():
        name, lines, branches = file["file"], Share(), Share()
        missed: dict[str, list[str]] = {}
        for line in file["lines"]:
            function = line.get("function_name", "?")
            if (name, function) in reasons or line.get("gcovr/excluded"):
                continue
            lines.add(line["count"] > 0)
            seen = [branch["count"] > 0 for branch in line["branches"]]
            branches.add(sum(seen), len(seen))
            if not line["count"]:
                missed.setdefault(function, []).append(str(line["line_number"]))
        all_lines.add(lines.executed, lines.of)
        all_branches.add(branches.executed, branches.of)
        print(f"{name:40} {lines!s:>8} {branches!s:>8}")
        left += [f"{name} {function}: {', '.join(lines)}" for function, lines in missed.items()]
    print(f"{'all of src':40} {all_lines!s:>8} {all_branches!s:>8}   (lines, branches)")
    (BUILD / "left.txt").write_text("\n".join(left) + "\n")
    reached = all_lines.reaches(LINES) and all_branches.reaches(BRANCHES)
    verdict = "reached" if reached else "NOT REACHED"
    print(f"The limits are {LINES:g} % and {BRANCHES:g} %: {verdict}")
    return 0 if reached else 1


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--report"]:
        return report()
    status = count(arguments)
    return max(status, report())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

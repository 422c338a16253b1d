"""`make coverage`: which lines and branches of src the tests execute, counted by gcov.

    python tests/covered.py [--report] [PYTEST_ARGUMENT...]

The extension and the engine's programs are built unoptimized and counting, for the default
interpreter and the newest free-threaded one that is found, and all tests run; --report only shows
what was counted before. The table, build/coverage/index.html with every line, and what is left
in build/coverage/left.txt (`17 (2)`: of line 17 two branches). The limits are 95 % of lines and
85 % of branches, without what tests/covered.txt names, where each line of text says a function and
why no test gets there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
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
NOT_BRANCHES = re.compile(r"\b(qc_assert|qc_yield|assert|Py_VISIT)\b")
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


# ---- what gcov has counted ----


@dataclass
class Line:
    """A line of src that is compiled, in all builds together."""

    function: str = "?"
    count: int = 0
    # Builds make different numbers of branches of a line, by macros and by debug builds: of each
    # number that there is, how often each was taken.
    branches: dict[int, list[int]] = field(default_factory=dict)

    def add(self, found: dict) -> None:
        self.count += max(0, found["count"])
        taken = [max(0, branch["count"]) for branch in found["branches"]]
        if taken:
            before = self.branches.get(len(taken), [0] * len(taken))
            self.branches[len(taken)] = [a + b for a, b in zip(before, taken, strict=True)]

    def all_branches(self) -> list[int]:
        return [count for taken in self.branches.values() for count in taken]


def read_gcov() -> Iterator[dict]:
    """What gcov has of each compiled file: of its source and of all headers."""
    data = sorted(str(path.resolve()) for path in (ROOT / "build").rglob("*.gcda"))
    command = [os.environ.get("GCOV", "gcov"), "--json-format", "--branch-probabilities"]
    for i in range(0, len(data), 50):
        done = subprocess.run(
            [*command, "--stdout", *data[i : i + 50]], stdout=subprocess.PIPE, check=True, cwd=BUILD
        )
        yield from map(json.loads, done.stdout.splitlines())


def counted() -> dict[str, dict[int, Line]]:
    """File of src -> number of a line -> what became of it.

    Added up here, and not by a tool: a line of a header is in many compiled files and, with
    other branches, in several builds, and no tool that reads gcov's text keeps these apart.
    """
    found: dict[str, dict[int, Line]] = {}
    for unit in read_gcov():
        for file in unit["files"]:
            path = Path(unit["current_working_directory"], file["file"]).resolve()
            if not path.is_relative_to(ROOT / "src"):
                continue
            lines = found.setdefault(str(path.relative_to(ROOT)), {})
            for counts in file["lines"]:
                line = lines.setdefault(counts["line_number"], Line())
                line.add(counts)
                line.function = counts.get("function_name", line.function)
    return {name: dict(sorted(found[name].items())) for name in sorted(found)}


def no_branches(file: str) -> set[int]:
    """The lines of calls that NOT_BRANCHES names."""
    lines, depth = set(), 0
    for number, text in enumerate((ROOT / file).read_text(encoding="utf-8").splitlines(), 1):
        begun = NOT_BRANCHES.search(text)
        if depth > 0 or begun:
            lines.add(number)
            rest = text[begun.start() :] if begun and depth == 0 else text
            depth += rest.count("(") - rest.count(")")
            depth = max(0, depth)
    return lines


def pictures(files: dict[str, dict[int, Line]]) -> None:
    """Every line, by gcovr, from what is added up here."""
    venv = ROOT / ".venv-gcovr"
    if not (venv / "bin" / "gcovr").exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "gcovr==8.4"]
        subprocess.run(pip, check=True)
    told = []
    for name, lines in files.items():
        out = no_branches(name)
        rows = [
            {
                "line_number": number,
                "count": line.count,
                "function_name": line.function,
                "branches": [
                    {"branchno": i, "count": count, "fallthrough": False, "throw": False}
                    for i, count in enumerate(line.all_branches() if number not in out else [])
                ],
            }
            for number, line in lines.items()
        ]
        told.append({"file": name, "lines": rows, "functions": []})
    data = BUILD / "coverage.json"
    data.write_text(json.dumps({"gcovr/format_version": "0.14", "files": told}))
    command = [str(venv / "bin" / "gcovr"), "--root", str(ROOT), "--add-tracefile", str(data)]
    command += ["--html-details", str(BUILD / "index.html")]
    subprocess.run(command, check=True, cwd=ROOT)


# ---- the report ----


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


def report() -> int:
    reasons, left = excused(), []
    all_lines, all_branches = Share(), Share()
    files = counted()
    pictures(files)
    for name, found in files.items():
        lines, branches, out = Share(), Share(), no_branches(name)
        missed: dict[str, list[str]] = {}
        for number, line in found.items():
            if (name, line.function) in reasons:
                continue
            lines.add(line.count > 0)
            taken = [count > 0 for count in line.all_branches() if number not in out]
            branches.add(sum(taken), len(taken))
            if not line.count:
                missed.setdefault(line.function, []).append(str(number))
            elif not all(taken):
                missed.setdefault(line.function, []).append(f"{number} ({taken.count(False)})")
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

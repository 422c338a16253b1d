"""Measures cases side by side: ours and what a user could pick instead, in one run.

    python benchmarks/suite.py                       the goal table's cases, with this interpreter
    python benchmarks/suite.py --all                 all cases
    python benchmarks/suite.py --cases read- mix-95  those with this in their names
    python benchmarks/suite.py --list                their names and titles, and who takes part

Each cell (case, contender, threads, size) has a fresh process a round; within a round they come
in turn. --python PATH[,NAME=VALUE...] (again and again) says which interpreters measure, with what
environment: --python .venv-bench-3.15t/bin/python,PYTHON_GIL=1. benchmarks/README.md explains the
figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import contenders
import goals
import harness
import report
from cases import CASES
from results import Cell, Results

from qsbrcontainers._demo_measure import fresh

HERE = str(Path(__file__).resolve().parent)
TRIES = 3  # of a measurement that is disturbed
FEWEST = 3  # rounds, whatever --minutes says


@dataclass
class Python:
    """An interpreter, with an environment."""

    path: str
    environment: dict[str, str] = field(default_factory=dict)
    label: str = ""
    about: dict = field(default_factory=dict)

    @classmethod
    def of(cls, given: str) -> Python:
        path, *assignments = given.split(",")
        return cls(path, dict(assignment.split("=", 1) for assignment in assignments))

    def run(self, module: str, case: dict) -> dict | None:
        if self.path == sys.executable:
            return fresh(module, case, environment=self.environment)
        return fresh(module, case, self.path, [HERE], self.environment)

    def introduce(self) -> None:
        about = self.run("harness", {})
        if about is None:
            sys.exit(f"{self.path} cannot measure: see above.")
        self.about = about
        self.label = about["interpreter"].removeprefix("CPython ")


class Run:
    """All rounds of the chosen cells with the chosen interpreters."""

    def __init__(self, pythons: list[Python], cells: dict[str, list[Cell]], options):
        self.pythons, self.cells, self.options = pythons, cells, options
        self.left_out: dict[str, dict[str, str]] = {python.label: {} for python in pythons}
        self.results = {
            python.label: Results(python.label, python.about, {cell: [] for cell in chosen})
            for python in pythons
            for chosen in [self.who_can(python)]
        }
        self.repeats = self.done = 0
        self.repeats_at_most = self.total() // 2
        self.began = time.monotonic()

    def rounds_of(self, cell: Cell) -> int:
        return min(self.options.rounds, CASES[cell.case].rounds_at_most)

    def total(self) -> int:
        """Measurements, without those that are repeated."""
        cells = [cell for results in self.results.values() for cell in results.rounds]
        return sum(map(self.rounds_of, cells))

    def who_can(self, python: Python) -> list[Cell]:
        """The cells for which this interpreter has what they need; says which it has not."""
        chosen = []
        for cell in self.cells[python.label]:
            if cell.contender not in python.about["contenders"]:
                self.say_left_out(python, cell.contender, "is not installed")
            elif not CASES[cell.case].can(contenders.BY_NAME[cell.contender]):
                self.say_left_out(python, f"{cell.contender} in {cell.case}", "cannot do it")
            else:
                chosen.append(cell)
        return chosen

    def say_left_out(self, python: Python, what: str, why: str) -> None:
        if what not in self.left_out[python.label]:
            self.left_out[python.label][what] = why
            print(f"!! {python.label}: left out: {what} {why}", file=sys.stderr, flush=True)

    def hurried(self) -> bool:
        """Whether all rounds, at the pace so far, take longer than --minutes."""
        if not self.options.minutes or not self.done:
            return False
        seconds = (time.monotonic() - self.began) * self.total() / self.done
        return seconds > self.options.minutes * 60

    def time_is_over(self, rounds: int) -> bool:
        """Whether another round as long as these `rounds` would end after --minutes."""
        if not self.options.minutes or rounds < FEWEST:
            return False
        spent = time.monotonic() - self.began
        return spent * (rounds + 1) / rounds > self.options.minutes * 60

    def all_rounds(self) -> None:
        with harness.progress("measuring", self.total(), "run") as progress:
            for number in range(self.options.rounds):
                if self.time_is_over(number):
                    print(f"\n{number} rounds, not {self.options.rounds}: the time is over.")
                    break
                for python in self.pythons:
                    for cell in list(self.results[python.label].rounds):
                        if number < self.rounds_of(cell):
                            self.one(python, cell)
                            self.done += 1
                            progress(self.done)

    def one(self, python: Python, cell: Cell) -> None:
        """Measured until it is not disturbed, at most so often."""
        results = self.results[python.label]
        if f"{cell}" in self.left_out[python.label]:
            return
        tries: list[dict] = []
        while True:
            fields = cell._asdict() | {"seconds": self.options.seconds}
            measured = python.run("cases", fields)
            if measured is None or "cannot" in measured:
                why = measured["cannot"] if measured else "failed: see above"
                self.say_left_out(python, f"{cell}", why)
                del results.rounds[cell]
                return
            tries.append(results.note(measured))
            if not results.why_disturbed(measured) or len(tries) == TRIES:
                break
            if self.repeats >= self.repeats_at_most or self.hurried():
                break
            self.repeats += 1
        results.rounds[cell].append(tries)


def cells_of(names: list[str], options) -> list[Cell]:
    """All cells of the cases with these names."""
    found = []
    for name in names:
        case = CASES[name]
        threads = case.threads
        if options.threads and len(case.threads) > 1:
            threads = tuple(options.threads)
        for size in [options.size] if options.size else case.sizes:
            for number in threads:
                for contender in case.contenders:
                    if not options.contenders or contender in options.contenders:
                        found.append(Cell(name, contender, number, size))
    return found


def chosen_cells(about: dict, options) -> list[Cell]:
    if options.all:
        return cells_of(list(CASES), options)
    if options.cases:
        names = [name for name in CASES if any(part in name for part in options.cases)]
        if not names:
            sys.exit(f"No case has any of {options.cases} in its name: see --list.")
        return cells_of(names, options)
    return goals.needed(about)


def list_cases() -> None:
    for case in CASES.values():
        taking_part = [n for n in case.contenders if case.can(contenders.BY_NAME[n])]
        print(f"{case.group:8} {case.name:22} {case.title}\n{'':9}{', '.join(taking_part)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--all", action="store_true", help="all cases")
    what.add_argument("--cases", nargs="+", metavar="PART", help="cases by parts of their names")
    what.add_argument("--list", action="store_true", help="show the cases and end")
    parser.add_argument("--python", action="append", default=[], metavar="PATH[,NAME=VALUE]")
    parser.add_argument("--rounds", type=int, default=5, help="5, if not given")
    parser.add_argument(
        "--seconds", type=float, default=0.2, help="about how long a cell is measured (0.2)"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        help="disturbed measurements are repeated, and rounds begun, only while that much is left",
    )
    parser.add_argument("--threads", type=int, nargs="+", help="instead of the cases' own")
    parser.add_argument("--size", type=int, help="instead of the cases' own")
    parser.add_argument("--contenders", nargs="+", choices=list(contenders.BY_NAME))
    parser.add_argument("--json", metavar="FILE", help="write everything to FILE")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables of a README to FILE")
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.list:
        list_cases()
        return
    began = time.time()
    pythons = [Python.of(given) for given in options.python] or [Python(sys.executable)]
    for python in pythons:
        python.introduce()
        print(f"{python.label}: {report.about(python.about)}")
    labels = [python.label for python in pythons]
    if len(set(labels)) < len(labels):
        sys.exit(f"Two of these interpreters are the same: {', '.join(labels)}")
    cells = {python.label: chosen_cells(python.about, options) for python in pythons}
    run = Run(pythons, cells, options)
    # A process starts, warms up and measures; cases over whole containers take longer.
    minutes = run.total() * (0.3 + 1.5 * options.seconds) / 60
    limit = f" in {options.minutes:g} minutes" if options.minutes else ""
    print(f"{run.total()} measurements{limit or f', {minutes:.0f} minutes or more'}")
    try:
        run.all_rounds()
    except KeyboardInterrupt:
        print("\nInterrupted: this is what was measured so far.")

    for results in run.results.values():
        print(report.everything(results))
    for label, left_out in run.left_out.items():
        for what, why in left_out.items():
            print(f"!! {label}: left out: {what} {why}")
    print(f"\n{time.time() - began:.0f} s; load before: {os.getloadavg()[2]:.1f} (15 minutes)")
    data = {
        "schema": 1,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "interpreters": [
            results.as_json()
            | {"goals": goals.as_json(results), "left_out": run.left_out[results.label]}
            for results in run.results.values()
        ],
    }
    if options.json:
        write(options.json, json.dumps(data, indent=1))
    if options.markdown:
        write(options.markdown, report.markdown(list(run.results.values())))


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

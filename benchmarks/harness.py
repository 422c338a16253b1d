"""What the benchmarks share: options, progress, goals, the JSON file.

The measuring itself (fresh processes in turn, threads that start together, medians) is in
``qsbrcontainers._demo_measure``, since the demo of an installed package needs it too.
"""

from __future__ import annotations

import argparse
import json
import platform
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import contenders

from qsbrcontainers import stats
from qsbrcontainers._demo_measure import Spread, cores, gil_enabled, interpreter, table
from qsbrcontainers._demo_report import progress

__all__ = [
    "Goal",
    "Spread",
    "gil_enabled",
    "header",
    "make_parser",
    "progress",
    "save",
    "show_goals",
    "table",
]


def make_parser(description: str, rounds: int = 5) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=rounds, help="times that every case is measured, in turn"
    )
    parser.add_argument("--json", metavar="FILE", help="write every single figure to FILE")
    return parser


def machine() -> dict:
    """Where the figures come from."""
    engine = stats()
    return {
        "interpreter": interpreter(),
        "gil": gil_enabled(),
        "cores": cores(),
        "machine": platform.machine(),
        "system": platform.system(),
        "barrier": engine["barrier"],
        "numbers": engine["numbers"],
    }


def measure(_: dict) -> dict:
    """What an interpreter says of itself and of who can be measured with it."""
    return machine() | {"contenders": contenders.installed(), "build": build()}


def build() -> str:
    """What the goals are for: "free-threaded" or "GIL"; none are for the former with a GIL."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "GIL"
    return "free-threaded, GIL on" if gil_enabled() else "free-threaded"


def header() -> str:
    """The same in a line."""
    here = machine()
    return (
        f"{here['interpreter']}, {here['cores']} cores, {here['system']} {here['machine']}, "
        f"barrier: {here['barrier']}, numbers: {here['numbers']}"
    )


@dataclass(frozen=True)
class Goal:
    """A ratio that has to reach a limit, or stay below one, in the median of the rounds."""

    name: str
    at_least: float | None = None
    measured: Spread | None = None
    at_most: float | None = None

    @property
    def reached(self) -> bool:
        if self.at_most is not None:
            return self.measured.median <= self.at_most
        return self.measured.median >= self.at_least

    @property
    def limit(self) -> str:
        if self.at_most is not None:
            return f"<= {self.at_most:g} x"
        return f">= {self.at_least:g} x"


def show_goals(goals: Iterable[Goal]) -> str:
    """A table of the goals and what became of them."""
    rows = [["goal", "", "measured (lowest to highest round)", ""]]
    for goal in goals:
        verdict = "reached" if goal.reached else "NOT REACHED"
        rows.append([goal.name, goal.limit, f"{goal.measured:.2f}", verdict])
    return table(rows)


def save(path: str, results: Sequence[dict], goals: Iterable[Goal] = ()) -> None:
    """Write everything to *path*."""
    goals = [asdict(goal) | {"reached": goal.reached} for goal in goals]
    with open(path, "w", encoding="utf-8") as file:
        json.dump(machine() | {"results": results, "goals": goals}, file, indent=2)

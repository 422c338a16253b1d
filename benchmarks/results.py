"""What came out: figures and ratios with their intervals, from the JSON of one or more runs.

A *cell* is a case, a contender, a number of threads and of keys, with one interpreter. It is
measured once a round; a measurement that the machine disturbed (noise.py) is repeated, and a round
that has nothing better is left out of every median, and counted.

A ratio is that of two cells in the same round, which are measured within seconds of each other: so
what changes slowly cancels out. Its interval is the narrowest pair of such ratios, the i-th lowest
and the i-th highest, between which the true median lies in at least 90 of 100 cases, whatever
their distribution (order statistics: for 5 rounds all of them, 94 %).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median
from typing import NamedTuple

import noise

CONFIDENCE = 0.9


class Cell(NamedTuple):
    case: str
    contender: str
    threads: int
    size: int


@dataclass(frozen=True)
class Measured:
    """The median of some rounds, and between what it lies."""

    median: float
    low: float
    high: float
    rounds: int
    confidence: float
    left_out: int  # rounds that were disturbed
    disturbed: bool  # whether all were, and so had to be taken

    @classmethod
    def of(cls, values: Sequence[float], left_out: int, disturbed: bool) -> Measured:
        ordered, n = sorted(values), len(values)
        outside = 0  # this many at each end
        while 2 * outside + 2 < n and _confidence(n, outside + 1) >= CONFIDENCE:
            outside += 1
        return cls(
            median(ordered),
            ordered[outside],
            ordered[n - 1 - outside],
            n,
            _confidence(n, outside),
            left_out,
            disturbed,
        )

    def __format__(self, spec: str) -> str:
        mark = " !" if self.disturbed else ""
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}}){mark}"


def _confidence(n: int, outside: int) -> float:
    """How probable it is that the median lies between these two of n ordered values."""
    return 1 - 2 * sum(comb(n, i) for i in range(outside + 1)) / 2**n


class Results:
    """Everything measured with one interpreter."""

    def __init__(self, label: str, about: dict, rounds: dict[Cell, list[list[dict]]]):
        self.label, self.about = label, about
        self.rounds = rounds  # of each cell; each round is a list of tries
        self.loops = [each["seen"]["loop"] for each in self._tries() if "seen" in each]

    def _tries(self) -> Iterable[dict]:
        return (each for rounds in self.rounds.values() for tries in rounds for each in tries)

    def note(self, measured: dict) -> dict:
        """To be called with what is measured from now on."""
        if "seen" in measured:
            self.loops.append(measured["seen"]["loop"])
        return measured

    def why_disturbed(self, measured: dict) -> list[str]:
        if "seen" not in measured:
            return []
        return noise.reasons(measured["seen"], noise.usual(self.loops))

    def _chosen(self, cell: Cell, what: str) -> list[tuple[float, bool]]:
        """A figure a round, and whether it was disturbed."""
        chosen = []
        for tries in self.rounds.get(cell, ()):
            quiet = [each for each in tries if not self.why_disturbed(each)]
            chosen.append(((quiet or tries)[-1][what], not quiet))
        return chosen

    def figure(self, cell: Cell, what: str = "figure") -> Measured | None:
        """None where it could not be measured."""
        return _measured(self._chosen(cell, what))

    def ratio(self, above: Cell, below: Cell) -> Measured | None:
        pairs = zip(self._chosen(above, "figure"), self._chosen(below, "figure"), strict=False)
        return _measured([(a / b, a_bad or b_bad) for (a, a_bad), (b, b_bad) in pairs if b])

    def gil_came_on(self, cell: Cell) -> bool:
        """Whether importing a contender turned the GIL on."""
        tries = [each for round_tries in self.rounds.get(cell, ()) for each in round_tries]
        return not self.about["gil"] and any(each.get("gil") for each in tries)

    def extras(self, cell: Cell) -> list[dict]:
        """All that the case returned, a round each."""
        return [tries[-1] for tries in self.rounds.get(cell, ())]

    def disturbed_rounds(self) -> tuple[int, int, int]:
        """How many rounds of cells are disturbed, how many there are, how many were repeated."""
        bad = total = again = 0
        for rounds in self.rounds.values():
            for tries in rounds:
                total += 1
                again += len(tries) - 1
                bad += all(self.why_disturbed(each) for each in tries)
        return bad, total, again

    def as_json(self) -> dict:
        return {
            "label": self.label,
            "about": self.about,
            "cells": [
                cell._asdict()
                | {
                    "rounds": [
                        [each | {"disturbed": self.why_disturbed(each)} for each in tries]
                        for tries in rounds
                    ]
                }
                for cell, rounds in self.rounds.items()
            ],
        }

    @classmethod
    def from_json(cls, data: dict) -> Results:
        cells = {}
        for each in data["cells"]:
            cell = Cell(each["case"], each["contender"], each["threads"], each["size"])
            cells[cell] = each["rounds"]
        return cls(data["label"], data["about"], cells)


def _measured(chosen: Sequence[tuple[float, bool]]) -> Measured | None:
    quiet = [figure for figure, disturbed in chosen if not disturbed]
    if quiet:
        return Measured.of(quiet, len(chosen) - len(quiet), False)
    if chosen:
        return Measured.of([figure for figure, _ in chosen], 0, True)
    return None


def load(paths: Iterable[str]) -> list[Results]:
    """All interpreters of these files."""
    found = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            found += [Results.from_json(each) for each in json.load(file)["interpreters"]]
    return found

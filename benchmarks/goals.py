"""Where it must be: ratios that a run either reaches or does not.

Each row is one of the table in the README; its parts are measured and shown one by one. The goals
are about medians; the interval says how sure that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import contenders as who
from results import Cell, Measured, Results

from qsbrcontainers._demo_measure import table

FREE, GIL = "free-threaded", "GIL"


@dataclass(frozen=True)
class Goal:
    """A part of a row: one cell, or its ratio to another, against a limit."""

    row: str
    part: str
    above: Cell
    below: Cell | None
    at_least: float | None = None
    at_most: float | None = None
    builds: tuple[str, ...] = (FREE,)
    cores: int = 2  # that the machine needs

    @property
    def limit(self) -> str:
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return f">= {self.at_least:g} x"

    def measured(self, results: Results) -> Measured | None:
        if self.below is None:
            return results.figure(self.above)
        return results.ratio(self.above, self.below)

    def verdict(self, measured: Measured | None) -> str:
        if measured is None:
            return "NOT MEASURED"
        if self.at_most is not None:
            reached, sure = measured.median <= self.at_most, measured.high <= self.at_most
            missed = measured.low > self.at_most
        else:
            reached, sure = measured.median >= self.at_least, measured.low >= self.at_least
            missed = measured.high < self.at_least
        said = "reached" if reached else "NOT REACHED"
        return said if sure or missed else f"{said}, not for sure"


def cell(case: str, contender: str = who.OURS, threads: int = 1, size: int = 1000) -> Cell:
    return Cell(case, contender, threads, size)


def scaling(row: str, case: str, at_least: float, ours: str = who.OURS) -> Goal:
    """Two threads against its own one."""
    return Goal(row, f"{case}, 2 : 1 threads", cell(case, ours, 2), cell(case, ours, 1), at_least)


def against(
    row: str,
    case: str,
    other: str,
    at_least: float,
    threads: int = 2,
    ours: str = who.OURS,
    builds: tuple[str, ...] = (FREE,),
    size: int = 1000,
) -> Goal:
    part = f"{case} : {other}, {threads} thread{'s' if threads > 1 else ''}"
    if size != 1000:
        part += f", of {size:,}"
    above, below = cell(case, ours, threads, size), cell(case, other, threads, size)
    return Goal(row, part, above, below, at_least, builds=builds)


def _reads() -> list[Goal]:
    own, interned = "read str -> int, own keys", "read, interned keys (literals)"
    return [
        against(own, "read-str-int", who.DICT, 1.7, threads=1),
        scaling(own, "read-str-int", 1.9),
        against(own, "read-str-int", who.DICT, 5),
        *(
            against(own, "read-str-int", peer, 6)
            for peer in (who.CEREGGII, who.HANDLES, who.FT_UTILS, who.WRAPPED)
        ),
        against(own, "read-str-int", who.PRIVATE, 1.5),
        against("read int -> int", "read-int-int", who.DICT, 6),
        against("read str -> object", "read-str-object", who.DICT, 2.5),
        scaling(interned, "read-interned-int", 1.9),
        against(interned, "read-interned-int", who.DICT, 12),
        against(interned, "read-interned-int-arg", who.DICT, 12),
        against("read, shared key objects", "read-shared-int", who.DICT, 5),
        against("read, shared key objects", "read-shared-int-arg", who.DICT, 5),
        Goal(
            "get_many(100), per key",
            "get-many : read-str-int, 1 thread",
            cell("get-many"),
            cell("read-str-int"),
            at_least=2,
        ),
        against("mix 95/5", "mix-95-5", who.DICT, 4),
        scaling("app.cache[k], app shared by share", "reached-shared", 1.9),
    ]


def _many_cores() -> list[Goal]:
    """Of every read that hands out nothing that threads share."""
    row = "reads, 16 threads on 16 cores"
    return [
        Goal(row, f"{case}, 16 : 1 threads", cell(case, threads=16), cell(case), 14, cores=16)
        for case in ("read-str-int", "read-interned-int", "read-int-int", "reached-shared")
    ]


def _writes() -> list[Goal]:
    block, churned, counted = (
        "assign in own blocks",
        "insert + delete of own keys",
        "incr over 1,000 keys",
    )
    return [
        scaling(block, "assign-block", 1.8),
        against(block, "assign-block", who.DICT, 3),
        against(churned, "insert-delete", who.DICT, 0.9, threads=1),
        against(churned, "insert-delete", who.DICT, 1.5),
        against(counted, "incr", who.LOCKED, 8),
        *(
            against(counted, "incr", peer, 3)
            for peer in (who.CEREGGII, who.HANDLES, who.CEREGGII_CELLS)
        ),
    ]


def _come_and_go() -> list[Goal]:
    """At most 1.2 x dict's time, whatever was inserted and deleted before."""
    row, how = "keys that come and go", {"threads": 1, "builds": (FREE, GIL)}
    return [
        against(row, case, who.DICT, 0.83, size=size, **how)
        for case in ("one-comes-and-goes", "oldest-to-the-end")
        for size in (10, 1000, 10_000, 1_000_000)
    ]


def _whole_containers() -> list[Goal]:
    ours, other = {"ours": who.OUR_LIST}, who.LIST
    iterated, listed = "iterate dict and list", "list read -> int"
    return [
        scaling(iterated, "iterate-dict", 1.8),
        against(iterated, "iterate-dict", who.DICT, 1.5),
        scaling(iterated, "list-iterate", 1.8, **ours),
        against(iterated, "list-iterate", other, 1.5, **ours),
        scaling(listed, "list-read", 1.9, **ours),
        against(listed, "list-read", other, 8, **ours),
        against(listed, "list-read-arg", other, 8, **ours),
        against("append/pop", "list-append-pop", other, 0.9, threads=1, **ours),
    ]


def _with_gil() -> list[Goal]:
    """One thread: more have no meaning there."""
    how = {"threads": 1, "builds": (GIL,)}
    reads = ("read-str-int", "read-int-int", "read-str-object", "get-str-int", "in-str")
    writes = ("assign-block", "insert-delete")
    ours = {"ours": who.OUR_LIST}
    return [
        *(against("GIL, reads", case, who.DICT, 0.9, **how) for case in reads),
        *(
            against("GIL, reads", case, who.LIST, 0.9, **how, **ours)
            for case in ("list-read", "list-iterate")
        ),
        against("GIL, reads", "iterate-dict", who.DICT, 0.9, **how),
        *(against("GIL, writes", case, who.DICT, 0.75, **how) for case in writes),
        *(
            against("GIL, writes", case, who.LIST, 0.75, **how, **ours)
            for case in ("list-assign", "list-append-pop")
        ),
    ]


def _memory() -> list[Goal]:
    million = 1_000_000

    def weight(case: str, ours: str, other: str, at_most: float, builds=(FREE,)) -> Goal:
        above, below = cell(case, ours, 1, million), cell(case, other, 1, million)
        return Goal("memory, 10^6", f"{case} : {other}", above, below, None, at_most, builds)

    def peak(case: str, ours: str, size: int, at_most: float) -> Goal:
        above = cell(case, ours, 1, size)
        return Goal("peak over live, churn", case, above, None, None, at_most)

    return [
        peak("churn-dict", who.OURS, 100_000, 1.5),
        peak("churn-list", who.OUR_LIST, 200_000, 2),
        weight("memory-str-int", who.OURS, who.DICT, 0.8),
        weight("memory-list-int", who.OUR_LIST, who.LIST, 0.25),
        weight("memory-str-object", who.OURS, who.DICT, 1.1, (FREE, GIL)),
    ]


TABLE = [
    *_reads(),
    *_many_cores(),
    *_writes(),
    *_come_and_go(),
    *_whole_containers(),
    *_with_gil(),
    *_memory(),
]


def needed(about: dict) -> list[Cell]:
    """The cells that must be measured with an interpreter, each once."""
    build = about["build"] if about["build"] in (FREE, GIL) else FREE
    cells = {}
    for goal in TABLE:
        if build in goal.builds and goal.cores <= about["cores"]:
            cells |= dict.fromkeys(each for each in (goal.above, goal.below) if each)
    return list(cells)


def applying(results: Results) -> Iterator[Goal]:
    """The goals for this interpreter, as far as the run was about them."""
    for goal in TABLE:
        measured = {goal.above, goal.below} & set(results.rounds)
        enough = goal.cores <= results.about["cores"]
        if results.about["build"] in goal.builds and enough and measured:
            yield goal


def show(results: Results) -> str:
    """The table, for an interpreter; empty if there are no goals for it."""
    rows = [["goal", "", "", "median (interval)", ""]]
    before = ""
    for goal in applying(results):
        measured = goal.measured(results)
        name = "" if goal.row == before else goal.row
        before = goal.row
        shown = f"{measured:.2f}" if measured else "-"
        rows.append([name, goal.part, goal.limit, shown, goal.verdict(measured)])
    return table(rows) if rows[1:] else ""


def as_json(results: Results) -> list[dict]:
    found = []
    for goal in applying(results):
        measured = goal.measured(results)
        said = {"row": goal.row, "part": goal.part, "limit": goal.limit}
        said["verdict"] = goal.verdict(measured)
        if measured:
            said |= asdict(measured)
        found.append(said)
    return found

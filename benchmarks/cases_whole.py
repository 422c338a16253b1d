"""What is no loop of operations: memory, the tail of growth, threads that come and go, import.

Three of them are programs of their own too (churn.py, memory.py, growth.py).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import contenders as who
from contenders import Contender
from noise import Watch

from qsbrcontainers._demo_measure import gil_enabled


@dataclass(frozen=True, kw_only=True)
class WholeCase:
    """A figure that a function finds out, given a cell; the lower the better, if not said."""

    name: str
    title: str
    unit: str
    find: Callable[[dict], dict]
    kind: str = "dict"
    contenders: tuple[str, ...] = (who.OURS, who.DICT)
    sizes: tuple[int, ...] = (1_000_000,)
    threads: tuple[int, ...] = (1,)
    group: str = ""
    lower_is_better: bool = True
    quiet: bool = True  # whether a disturbed machine changes the figure
    rounds_at_most: int = 1000

    def can(self, contender: Contender) -> bool:
        return True

    def measure(self, cell: dict) -> dict:
        began = time.perf_counter()
        with Watch(cell["threads"]) as watch:
            found = self.find(cell)
        found |= {"gil": gil_enabled(), "seconds": time.perf_counter() - began}
        return found | ({"seen": watch.seen} if self.quiet else {})


def churn(kind: str) -> Callable[[dict], dict]:
    def find(cell: dict) -> dict:
        case = {"kind": kind, "container": cell["contender"], "size": cell["size"]}
        found = import_module("churn").measure(case | {"seconds": 4 * cell["seconds"]})
        return found | {"figure": max(1, found["peak"]) / found["live"]}

    return find


def memory(entries: str) -> Callable[[dict], dict]:
    def find(cell: dict) -> dict:
        case = {"entries": entries, "container": cell["contender"], "size": cell["size"]}
        found = import_module("memory").measure(case)
        return found | {"figure": max(1, found["all"]) / cell["size"]}

    return find


def growth(reader: bool) -> Callable[[dict], dict]:
    """The figure is the longest insert, in seconds; with the percentiles and the histogram."""

    def find(cell: dict) -> dict:
        case = {"container": cell["contender"], "size": cell["size"], "reader": reader}
        found = import_module("growth").measure(case)
        return found | {"figure": found["insert"]["ns"][-1] / 1e9}

    return find


def turnover(cell: dict) -> dict:
    """Threads, two at a time, that assign and read ten times each and end: how many a second."""
    contender = who.BY_NAME[cell["contender"]]
    container = who.imported(contender.made_by)()
    around = who.imported(contender.helper)() if contender.around else None
    for n in range(100):
        container[n] = n

    def few_operations(first: int) -> None:
        for n in range(first, first + 10):
            if around is None:
                container[n % 100] = n
                container[n % 100]
            else:
                with around:
                    container[n % 100] = n
                with around:
                    container[n % 100]

    began = time.perf_counter()
    for number in range(0, cell["size"], 2):
        pair = [threading.Thread(target=few_operations, args=(number + i,)) for i in range(2)]
        for thread in pair:
            thread.start()
        for thread in pair:
            thread.join()
    return {"figure": cell["size"] / (time.perf_counter() - began)}


IMPORT = """
import sys, time
sys.path[:] = {path!r}
began = time.perf_counter()
import {package}
print(time.perf_counter() - began)
"""


def import_time(cell: dict) -> dict:
    """Seconds for `import` of a contender's package; the median of five processes."""
    package = who.BY_NAME[cell["contender"]].made_by.partition(":")[0]
    code = IMPORT.format(path=sys.path, package=package)
    command = [sys.executable, "-P", "-c", code]
    times = [float(subprocess.check_output(command)) for _ in range(5)]
    return {"figure": statistics.median(times)}


LISTS = (who.OUR_LIST, who.LIST)
CASES = [
    WholeCase(
        name="churn-dict",
        title="peak over live memory: a dict is filled and cleared while another thread reads",
        unit="peak : live",
        find=churn("dict"),
        sizes=(100_000,),
        quiet=False,
    ),
    WholeCase(
        name="churn-list",
        title="peak over live memory: a list is filled and cleared while another thread reads",
        unit="peak : live",
        find=churn("list"),
        kind="list",
        contenders=LISTS,
        sizes=(200_000,),
        quiet=False,
    ),
    *(
        WholeCase(
            name=f"memory-{name}",
            title=f"memory of a {kind} of {title}, with keys and values",
            unit="bytes an entry",
            find=memory(title),
            kind=kind,
            contenders=LISTS
            if kind == "list"
            else (who.OURS, who.DICT, who.CEREGGII, who.FT_UTILS),
            quiet=False,
            rounds_at_most=3,
        )
        for name, kind, title in (
            ("str-int", "dict", "str to int"),
            ("str-object", "dict", "str to object"),
            ("int-float", "dict", "int to float"),
            ("list-int", "list", "ints"),
            ("list-object", "list", "objects"),
        )
    ),
    *(
        WholeCase(
            name=f"growth{'-read' if beside else ''}",
            title=f"growth to 10^6: the longest insert{beside}",
            unit="s",
            find=growth(bool(beside)),
            contenders=(who.OURS, who.DICT, who.CEREGGII, who.FT_UTILS),
        )
        for beside in ("", ", beside a reader")
    ),
    WholeCase(
        name="turnover",
        title="10,000 short threads, ten assignments and reads each",
        unit="threads/s",
        find=turnover,
        contenders=(who.OURS, who.DICT, who.LOCKED, who.CEREGGII, who.FT_UTILS),
        sizes=(10_000,),
        threads=(2,),
        lower_is_better=False,
    ),
    WholeCase(
        name="import",
        title="import of the package",
        unit="s",
        find=import_time,
        contenders=(who.OURS, who.CEREGGII, who.FT_UTILS),
        sizes=(1,),
    ),
]

"""How much memory does a container hold that one thread keeps resizing while another reads?

The writer fills the container and clears it, again and again. What readers may still look at
cannot be freed at once; an interpreter that counts delayed frees by their number and not by their
size lets it pile up. Goals: the peak is at most 1.5 x the live memory for a dict and 2 x for a list
(of 200,000).

The peak is that of the process's resident set, without what it was before there was a container;
live is the filled container's own size, sys.getsizeof. The elements exist all along.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import contenders
import harness
from harness import Goal, Spread

from qsbrcontainers._demo_measure import in_turn

CONTAINERS = {"dict": ("dict", "ConcurrentDict"), "list": ("list", "ConcurrentList")}
SIZES = {"dict": 100_000, "list": 200_000}
LIMITS = {"dict": 1.5, "list": 2.0}


def resident(what: str) -> int:
    """Bytes of the process in memory: "VmRSS", now, or "VmHWM", at the most."""
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith(what))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    """VmHWM begins again from here."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


@dataclass
class Churn:
    """One writer and one reader of a container with *size* elements."""

    kind: str
    name: str
    size: int

    def __post_init__(self):
        self.container = contenders.imported(contenders.BY_NAME[self.name].made_by)()
        self.source = [str(i) for i in range(self.size)]
        self.over = threading.Event()
        self.rounds = self.reads = 0

    def fill(self) -> None:
        if self.kind == "list":
            self.container.extend(self.source)
        else:
            container = self.container
            for key in self.source:
                container[key] = None

    def write(self) -> None:
        while not self.over.is_set():
            self.container.clear()
            self.fill()
            self.rounds += 1

    def read(self) -> None:
        container, key = self.container, self.source[0]
        if self.kind == "list":
            while not self.over.is_set():
                for _ in range(100):
                    try:
                        container[0]
                    except IndexError:
                        pass
                self.reads += 100
        else:
            while not self.over.is_set():
                for _ in range(100):
                    container.get(key)
                self.reads += 100


def measure(case: dict) -> dict:
    """What one container needs, in a process of its own."""
    churn = Churn(case["kind"], case["container"], case["size"])
    threads = [threading.Thread(target=churn.write), threading.Thread(target=churn.read)]
    before = resident("VmRSS")
    churn.fill()
    live = sys.getsizeof(churn.container)
    # By this thread: references that another one drops wait in the interpreter's own queue, 8
    # bytes each, until this thread comes back to Python code.
    churn.container.clear()
    forget_peak()
    for thread in threads:
        thread.start()
    over_time = list(watched(case["seconds"], before))
    churn.over.set()
    for thread in threads:
        thread.join()
    peak = resident("VmHWM") - before
    return {
        "live": live,
        "peak": peak,
        "rounds": churn.rounds,
        "reads": churn.reads,
        "over_time": over_time,
    }


def watched(seconds: float, before: int) -> Iterator[tuple[float, int]]:
    """While the others go on: times, and the memory beyond what it was *before*."""
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        yield round(now, 3), resident("VmRSS") - before
        time.sleep(max(0.005, seconds / 200))


def goals_of(results: list[dict]) -> list[Goal]:
    goals = []
    for result in results:
        if result["container"].startswith("Concurrent") and result["measured"]:
            ratios = [each["peak"] / each["live"] for each in result["measured"]]
            name = f"{result['container']}: peak over live"
            goals.append(Goal(name, at_most=LIMITS[result["kind"]], measured=Spread.of(ratios)))
    return goals


def table_of(results: list[dict], seconds: float) -> str:
    rows = [["", "live MB", "peak MB", "peak : live", "fills/s", "million reads/s"]]
    for result in results:
        each = result["measured"]
        if not each:
            rows.append([result["container"], *["failed"] * 5])
            continue
        rows.append(
            [
                f"{result['container']} of {result['size']:,}",
                f"{Spread.of(m['live'] / 1e6 for m in each):.1f}",
                f"{Spread.of(m['peak'] / 1e6 for m in each):.1f}",
                f"{Spread.of(m['peak'] / m['live'] for m in each):.1f}",
                f"{Spread.of(m['rounds'] / seconds for m in each):.0f}",
                f"{Spread.of(m['reads'] / seconds / 1e6 for m in each):.1f}",
            ]
        )
    return harness.table(rows)


def main() -> None:
    parser = harness.make_parser(__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each case churns")
    parser.add_argument("--kinds", nargs="+", choices=CONTAINERS, default=list(CONTAINERS))
    options = parser.parse_args()

    print(harness.header())
    cases = [
        {"kind": kind, "container": name, "size": SIZES[kind], "seconds": options.seconds}
        for kind in options.kinds
        for name in CONTAINERS[kind]
    ]
    with harness.progress("churning", options.rounds * len(cases), "run") as progress:
        measured = in_turn("churn", cases, options.rounds, progress)
    results = [case | {"measured": each} for case, each in zip(cases, measured, strict=True)]
    print(f"\nmedian (lowest to highest) of {options.rounds} rounds\n")
    print(table_of(results, options.seconds))
    goals = goals_of(results)
    print(f"\n{harness.show_goals(goals)}")
    if options.json:
        harness.save(options.json, results, goals)


if __name__ == "__main__":
    main()

"""How long does an insert take while a dict grows to a million entries, and a read beside it?

One thread inserts new keys, and a second one reads a key that is there from the beginning; each
times every single operation. What counts is the tail: the inserts that have to replace the table,
and the reads that meet them. Goals: the longest insert takes no longer than dict's, nor does the
longest read. (Where more threads than CPUs run, the tail is the scheduler's.)
"""

from __future__ import annotations

import threading
from array import array
from time import perf_counter_ns

import contenders
import harness
from harness import Goal, Spread

from qsbrcontainers._demo_measure import in_turn

CONTAINERS = ("dict", "ConcurrentDict")
PERCENTILES = (50.0, 99.0, 99.9, 99.99, 100.0)
READS_KEPT = 4_000_000


def insert_all(container, keys, times: array) -> None:
    for i, key in enumerate(keys):
        began = perf_counter_ns()
        container[key] = None
        times[i] = perf_counter_ns() - began


def read_until(container, key, over: threading.Event, times: array) -> int:
    """The number of reads that were timed."""
    n = 0
    while not over.is_set():
        for i in range(n, min(n + 1000, len(times))):
            began = perf_counter_ns()
            container[key]
            times[i] = perf_counter_ns() - began
        n = min(n + 1000, len(times))
    return n


def summary(times: array, n: int) -> dict:
    """Nanoseconds at the percentiles, and how many lie between powers of two."""
    ordered = sorted(times[:n])
    histogram: dict[int, int] = {}
    for time in ordered:
        power = max(time, 1).bit_length()
        histogram[power] = histogram.get(power, 0) + 1
    at = [ordered[min(n - 1, int(n * percent / 100))] for percent in PERCENTILES]
    return {"n": n, "ns": at, "histogram": histogram}


def measure(case: dict) -> dict:
    container = contenders.imported(contenders.BY_NAME[case["container"]].made_by)()
    keys = [f"key number {i}" for i in range(case["size"])]
    container[keys[0]] = None
    inserts, reads = array("q", [0]) * len(keys), array("q", [0]) * READS_KEPT
    over, counted = threading.Event(), [0]

    def read():
        counted[0] = read_until(container, keys[0], over, reads)

    reader = threading.Thread(target=read)
    if case["reader"]:
        reader.start()
    insert_all(container, keys, inserts)
    over.set()
    if case["reader"]:
        reader.join()
    result = {"insert": summary(inserts, len(keys))}
    if counted[0]:
        result["read"] = summary(reads, counted[0])
    return result


def rows_of(results: list[dict]):
    yield ["microseconds", *(f"{percent:g} %" for percent in PERCENTILES[:-1]), "longest"]
    for result in results:
        for what in ("insert", "read"):
            each = [m[what]["ns"] for m in result["measured"] if what in m]
            if each:
                beside = " beside a reader" if result["reader"] and what == "insert" else ""
                cells = [f"{Spread.of(ns[i] / 1e3 for ns in each).median:.1f}" for i in range(5)]
                yield [f"{result['container']}: {what}{beside}", *cells]


def longest(results: list[dict], name: str, reader: bool, what: str) -> list[float]:
    case = next(r for r in results if (r["container"], r["reader"]) == (name, reader))
    return [m[what]["ns"][-1] for m in case["measured"]]


def main() -> None:
    parser = harness.make_parser(__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=1_000_000, help="number of entries")
    options = parser.parse_args()
    print(harness.header())
    cases = [
        {"container": name, "reader": reader, "size": options.size}
        for reader in (False, True)
        for name in CONTAINERS
    ]
    with harness.progress("growing", options.rounds * len(cases), "run") as progress:
        measured = in_turn("growth", cases, options.rounds, progress)
    results = [case | {"measured": each} for case, each in zip(cases, measured, strict=True)]
    print(f"\n{options.size:,} inserts, median of {options.rounds} rounds\n")
    print(harness.table(list(rows_of(results))))
    goals = [
        Goal(
            f"longest {what}, ConcurrentDict : dict" + (", two threads" if reader else ""),
            at_most=1.0,
            measured=Spread.of_ratios(
                longest(results, "ConcurrentDict", reader, what),
                longest(results, "dict", reader, what),
            ),
        )
        for reader, what in ((False, "insert"), (True, "insert"), (True, "read"))
    ]
    print(f"\n{harness.show_goals(goals)}")
    if options.json:
        harness.save(options.json, results, goals)


if __name__ == "__main__":
    main()

"""How much memory do a million entries take?

Goals (K9): at most 1.4 x what a dict of the same keys takes with values that are objects, and less
than it where numbers are kept by value.

`table` is sys.getsizeof, the container alone; `all` is what the process's resident memory grew by
while keys, values and container were made.
"""

from __future__ import annotations

import sys
from importlib import import_module

import harness
from churn import resident
from harness import Goal, Spread

from qsbrcontainers._demo_measure import in_turn

CONTAINERS = {"dict": "builtins", "ConcurrentDict": "qsbrcontainers"}
ENTRIES = {
    "str to int": lambda i: (f"key number {i}", 1_000_000 + i),
    "str to object": lambda i: (f"key number {i}", object()),
    "int to float": lambda i: (1_000_000 + i, i + 0.5),
}


def measure(case: dict) -> dict:
    """One container with that many entries, in a process of its own."""
    container = getattr(import_module(CONTAINERS[case["container"]]), case["container"])()
    entry = ENTRIES[case["entries"]]
    before = resident("VmRSS")
    for i in range(case["size"]):
        key, value = entry(i)
        container[key] = value
    return {"all": resident("VmRSS") - before, "table": sys.getsizeof(container)}


def ratios(results: list[dict], entries: str, what: str) -> Spread:
    ours, builtin = (
        next(r for r in results if (r["container"], r["entries"]) == (name, entries))["measured"]
        for name in ("ConcurrentDict", "dict")
    )
    return Spread.of_ratios([m[what] for m in ours], [m[what] for m in builtin])


def main() -> None:
    parser = harness.make_parser(__doc__.partition("\n")[0], rounds=3)
    parser.add_argument("--size", type=int, default=1_000_000, help="number of entries")
    options = parser.parse_args()
    print(harness.header())
    cases = [
        {"container": name, "entries": entries, "size": options.size}
        for entries in ENTRIES
        for name in CONTAINERS
    ]
    with harness.progress("filling", options.rounds * len(cases), "run") as progress:
        measured = in_turn("memory", cases, options.rounds, progress)
    results = [case | {"measured": each} for case, each in zip(cases, measured, strict=True)]

    rows = [["bytes an entry", "dict: table", "all", "ConcurrentDict: table", "all"]]
    for entries in ENTRIES:
        row = [entries]
        for name in CONTAINERS:
            each = next(r for r in results if (r["container"], r["entries"]) == (name, entries))[
                "measured"
            ]
            for what in ("table", "all"):
                row.append(f"{Spread.of(m[what] / options.size for m in each).median:.0f}")
        rows.append(row)
    print(f"\n{options.size:,} entries, median of {options.rounds} rounds\n")
    print(harness.table(rows))

    by_value = harness.machine()["numbers"] == "value"
    goals = [
        Goal(
            f"ConcurrentDict : dict, {entries}",
            at_most=1.0 if by_value and entries != "str to object" else 1.4,
            measured=ratios(results, entries, "all"),
        )
        for entries in ENTRIES
    ]
    print(f"\n{harness.show_goals(goals)}")
    if options.json:
        harness.save(options.json, results, goals)


if __name__ == "__main__":
    main()

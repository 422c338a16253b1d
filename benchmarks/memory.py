"""How much memory do a million entries take?

Goals: with values that are objects at most 1.1 x what a dict of the same keys takes (K9 promises
1.4), and where numbers are kept by value, 0.8 x with ints for values and 0.25 x for a list of ints.

`table` is sys.getsizeof, the container alone; `all` is what the process's resident memory grew by
while keys, values and container were made. The goals are about the latter.
"""

from __future__ import annotations

import sys

import contenders
import harness
from churn import resident
from harness import Goal, Spread

from qsbrcontainers._demo_measure import in_turn

CONTAINERS = {"dict": ("dict", "ConcurrentDict"), "list": ("list", "ConcurrentList")}
ENTRIES = {
    "str to int": lambda i: (f"key number {i}", 1_000_000 + i),
    "str to object": lambda i: (f"key number {i}", object()),
    "int to float": lambda i: (1_000_000 + i, i + 0.5),
}
ELEMENTS = {
    "ints": lambda i: 1_000_000 + i,
    "objects": lambda i: object(),
}
KINDS = dict.fromkeys(ENTRIES, "dict") | dict.fromkeys(ELEMENTS, "list")
LIMITS = dict.fromkeys(KINDS, 1.1)
LIMITS_BY_VALUE = LIMITS | {"str to int": 0.8, "int to float": 1.0, "ints": 0.25}


def measure(case: dict) -> dict:
    """One container with that many entries, in a process of its own."""
    container = contenders.imported(contenders.BY_NAME[case["container"]].made_by)()
    entries, size = case["entries"], case["size"]
    before = resident("VmRSS")
    if entries in ELEMENTS:
        element = ELEMENTS[entries]
        for i in range(size):
            container.append(element(i))
    else:
        entry = ENTRIES[entries]
        for i in range(size):
            key, value = entry(i)
            container[key] = value
    return {"all": resident("VmRSS") - before, "table": sys.getsizeof(container)}


def of(results: list[dict], entries: str, which: int) -> list[dict]:
    """The rounds of the builtin (0) or ours (1)."""
    name = CONTAINERS[KINDS[entries]][which]
    wanted = (name, entries)
    return next(r["measured"] for r in results if (r["container"], r["entries"]) == wanted)


def main() -> None:
    parser = harness.make_parser(__doc__.partition("\n")[0], rounds=3)
    parser.add_argument("--size", type=int, default=1_000_000, help="number of entries")
    options = parser.parse_args()
    print(harness.header())
    cases = [
        {"container": name, "entries": entries, "size": options.size}
        for entries, kind in KINDS.items()
        for name in CONTAINERS[kind]
    ]
    with harness.progress("filling", options.rounds * len(cases), "run") as progress:
        measured = in_turn("memory", cases, options.rounds, progress)
    results = [case | {"measured": each} for case, each in zip(cases, measured, strict=True)]

    rows = [["bytes an entry", "builtin: table", "all", "ours: table", "all"]]
    for entries, kind in KINDS.items():
        row = [f"{kind}, {entries}"]
        for which in (0, 1):
            for what in ("table", "all"):
                each = of(results, entries, which)
                row.append(f"{Spread.of(m[what] / options.size for m in each).median:.0f}")
        rows.append(row)
    print(f"\n{options.size:,} entries, median of {options.rounds} rounds\n")
    print(harness.table(rows))

    by_value = harness.machine()["numbers"] == "value"
    goals = [
        Goal(
            f"ours : builtin, {kind}, {entries}",
            at_most=(LIMITS_BY_VALUE if by_value else LIMITS)[entries],
            measured=Spread.of_ratios(
                [m["all"] for m in of(results, entries, 1)],
                [m["all"] for m in of(results, entries, 0)],
            ),
        )
        for entries, kind in KINDS.items()
    ]
    print(f"\n{harness.show_goals(goals)}")
    if options.json:
        harness.save(options.json, results, goals)


if __name__ == "__main__":
    main()

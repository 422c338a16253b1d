"""Do reads of one shared dict scale with threads?

Each thread reads all 1,000 keys of one dict again and again, in a container that another thread
made; see ``qsbrcontainers._demo_reads`` for the loop. Goals (with int values and keys of each
thread's own): free-threaded, 2 threads read at least 1.8 x what one does, and 4 x what 2 threads
read from dict; one thread reads 1.5 x what it does from dict. With GIL: 0.8 x dict.
"""

from __future__ import annotations

from collections.abc import Sequence

import harness
from harness import Goal, Spread

from qsbrcontainers._demo_reads import BUILTIN, OURS, cases, compare, installed
from qsbrcontainers._demo_report import save_picture

VARIANTS = {
    "int": ("int values, each thread with its own equal keys", {"values": "int", "keys": "own"}),
    "object": ("object() values, own keys", {"values": "object", "keys": "own"}),
    "shared": ("int values, the same key objects for all", {"values": "int", "keys": "shared"}),
    "shared-object": ("object() values, same key objects", {"values": "object", "keys": "shared"}),
}
"""What is read: its title, and the fields of Case that say so."""


def goals_of(results: Sequence[dict]) -> list[Goal]:
    """The goals, from the *results* for int values and own keys."""
    rates = {
        (result["container"], result["threads"]): result["reads_per_second"] for result in results
    }

    def goal(name, at_least, above, below):
        return Goal(name, at_least, Spread.of_ratios(rates[above], rates[below]))

    if harness.gil_enabled():
        return [
            goal(f"{OURS} : dict, {threads} thread(s)", 0.8, (OURS, threads), (BUILTIN, threads))
            for threads in (1, 2)
        ]
    return [
        goal(f"{OURS}, 2 threads : 1 thread", 1.8, (OURS, 2), (OURS, 1)),
        goal(f"{OURS} : dict, 2 threads", 4.0, (OURS, 2), (BUILTIN, 2)),
        goal(f"{OURS} : dict, 1 thread", 1.5, (OURS, 1), (BUILTIN, 1)),
    ]


def variant_table(results: Sequence[dict], threads: Sequence[int]) -> str:
    """Million reads per second of one variant, and how they scale."""
    rows = [["million reads/s", *(f"{number} thread(s)" for number in threads), "scaling"]]
    for name in dict.fromkeys(result["container"] for result in results):
        of_name = [result for result in results if result["container"] == name]
        rates = [[rate / 1e6 for rate in result["reads_per_second"]] for result in of_name]
        cells = [f"{Spread.of(each):.1f}" if each else "failed" for each in rates]
        scaling = f"{Spread.of_ratios(rates[-1], rates[0]):.2f} x" if all(rates) else "-"
        gil_on = not harness.gil_enabled() and any(result["gil"] for result in of_name)
        rows.append([name + (" (turns the GIL on)" if gil_on else ""), *cells, scaling])
    return harness.table(rows)


def main() -> None:
    parser = harness.make_parser(__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="about how long a case reads")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="what is read"
    )
    parser.add_argument(
        "--containers", nargs="+", choices=installed(), default=installed(), help="who is measured"
    )
    parser.add_argument(
        "--plot", metavar="FILE", help="draw the reads of int values with own keys (SVG; pygal)"
    )
    options = parser.parse_args()

    print(harness.header())
    chosen = [
        case
        for variant in options.variants
        for case in cases(
            options.containers, options.threads, seconds=options.seconds, **VARIANTS[variant][1]
        )
    ]
    with harness.progress("reading", options.rounds * len(chosen), "run") as progress:
        results = compare(chosen, options.rounds, progress)

    for variant in options.variants:
        title, fields = VARIANTS[variant]
        print(f"\n{title}: median (lowest to highest) of {options.rounds} rounds\n")
        of_variant = [result for result in results if fields.items() <= result.items()]
        print(variant_table(of_variant, options.threads))
    main_results = [result for result in results if VARIANTS["int"][1].items() <= result.items()]
    if options.plot and main_results:
        save_picture(main_results, options.plot)
    needed = {OURS, BUILTIN} <= set(options.containers) and {1, 2} <= set(options.threads)
    goals = goals_of(main_results) if needed and main_results else []
    if goals:
        print(f"\n{harness.show_goals(goals)}")
    if options.json:
        harness.save(options.json, results, goals)


if __name__ == "__main__":
    main()

"""What a run says: a table for each case, the goals, and the same in Markdown for a README.

python benchmarks/report.py FILE.json ...             the tables
python benchmarks/report.py --markdown FILE.json ...  the same for a README
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import goals
import results as measured_results
from cases import CASES
from results import Cell, Measured, Results

from qsbrcontainers._demo_measure import table

UNITS = {"operations/s": ("million/s", 1e-6), "s": ("ms", 1e3)}
"""How a case's unit is shown: its name, and the factor."""


def about(of: dict) -> str:
    return (
        f"{of['cores']} cores, {of['system']} {of['machine']}, barrier: {of['barrier']}, "
        f"numbers: {of['numbers']}"
    )


def blocks(results: Results) -> Iterable[tuple[str, int, list[Cell]]]:
    """The cells of each case and size."""
    keys = dict.fromkeys((cell.case, cell.size) for cell in results.rounds)
    for name, size in keys:
        yield (
            name,
            size,
            [cell for cell in results.rounds if (cell.case, cell.size) == (name, size)],
        )


def title(name: str, size: int) -> str:
    lower = "; lower is better" if CASES[name].lower_is_better else ""
    return f"{CASES[name].title} ({name}, {size:,}{lower})"


def rows_of(results: Results, name: str, cells: list[Cell]) -> list[list[str]]:
    """A row for each contender, a column for each number of threads, and ours : this one."""
    case = CASES[name]
    unit, factor = UNITS.get(case.unit, (case.unit, 1.0))
    threads = sorted({cell.threads for cell in cells})
    ours = cells[0].contender
    rows = [[unit, *(f"{n} thread{'s' if n > 1 else ''}" for n in threads)]]
    rows[0] += [f"{ours} : this, {n}" for n in threads] + (["scaling"] if threads[1:] else [])
    for contender in dict.fromkeys(cell.contender for cell in cells):
        figures, ratios = [], []
        for number in threads:
            cell = cells[0]._replace(contender=contender, threads=number)
            figures.append(_shown(results.figure(cell), factor))
            ratio = results.ratio(cell._replace(contender=ours), cell)
            ratios.append("" if contender == ours else _shown(ratio, 1.0, " x"))
        first, last = (
            cells[0]._replace(contender=contender, threads=n) for n in (threads[0], threads[-1])
        )
        scaling = [_shown(results.ratio(last, first), 1.0, " x")] if threads[1:] else []
        mark = " (turns the GIL on)" if results.gil_came_on(first) else ""
        rows.append([contender + mark, *figures, *ratios, *scaling])
    return rows


def _shown(measured: Measured | None, factor: float, unit: str = "") -> str:
    if measured is None:
        return "-"
    numbers = [value * factor for value in (measured.median, measured.low, measured.high)]
    middle, low, high = (
        f"{number:.3g}" if number < 100 else f"{number:,.0f}" for number in numbers
    )
    return f"{middle}{unit} ({low} to {high}){' !' if measured.disturbed else ''}"


def only(results: Results, parts: list[str]) -> Results:
    """As if nothing else had been measured."""
    kept = {
        cell: rounds
        for cell, rounds in results.rounds.items()
        if any(part in cell.case for part in parts)
    }
    return Results(results.label, results.about, kept)


def everything(results: Results, with_goals: bool = True) -> str:
    said = [f"\n==== {results.label}: {about(results.about)}"]
    for name, size, cells in blocks(results):
        said.append(f"\n{title(name, size)}\n")
        said.append(table(rows_of(results, name, cells)))
    bad, total, again = results.disturbed_rounds()
    said.append(
        f"\n{total} measurements; {again} repeated, since the machine disturbed them; "
        f"{bad} stayed disturbed and are left out of the medians"
        + (" (a ! says that a cell had no others)" if bad else "")
    )
    shown = goals.show(results) if with_goals else ""
    if shown:
        said.append(f"\nGoals, {results.label}\n\n{shown}")
    return "\n".join(said)


def markdown(all_results: list[Results], with_goals: bool = True) -> str:
    lines = []
    for results in all_results:
        lines += [f"### {results.label}", "", f"{about(results.about)}", ""]
        found = goals.as_json(results) if with_goals else []
        if found:
            lines += ["| goal | | | median (interval) | |", "| --- | --- | ---: | ---: | --- |"]
            before = ""
            for goal in found:
                value = "-"
                if "median" in goal:
                    value = f"{goal['median']:.2f} ({goal['low']:.2f} to {goal['high']:.2f})"
                name = "" if goal["row"] == before else goal["row"]
                before = goal["row"]
                lines.append(
                    f"| {name} | {goal['part']} | {goal['limit']} | {value} | {goal['verdict']} |"
                )
            lines.append("")
        for name, size, cells in blocks(results):
            head, *rows = rows_of(results, name, cells)
            lines += [title(name, size), ""]
            lines.append(f"| {' | '.join(head)} |")
            lines.append(f"| --- |{' ---: |' * (len(head) - 1)}")
            lines += [f"| {' | '.join(row)} |" for row in rows]
            lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", metavar="FILE.json")
    parser.add_argument("--markdown", action="store_true", help="for a README")
    parser.add_argument("--only", nargs="+", metavar="PART", help="cases by parts of their names")
    options = parser.parse_args()
    loaded = measured_results.load(options.files)
    if options.only:
        loaded = [only(results, options.only) for results in loaded]
    if options.markdown:
        print(markdown(loaded, with_goals=not options.only))
    else:
        shown = (everything(results, with_goals=not options.only) for results in loaded)
        print("\n".join(shown))


if __name__ == "__main__":
    main()

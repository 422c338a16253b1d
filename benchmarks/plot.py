"""Draws what benchmarks/suite.py wrote; needs matplotlib, with whatever interpreter has it.

    python benchmarks/plot.py build/bench.json [MORE.json ...] [--to docs/benchmarks]

One picture a case and interpreter for what there is to see: throughput by threads, ratios of ours
to each contender, memory over time (churn), latency histograms (growth); and one an interpreter of
all cases against the builtin. --only PART ... chooses by parts of the cases' names; --format svg or
png.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import contenders as who
import report
import results as measured_results
from cases import CASES
from results import Cell, Measured, Results

try:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
except ImportError as error:
    raise SystemExit(f"No pictures: {error}. Other interpreters can draw the same files.") from None

OURS = "#2563a8"
OTHERS = ("#c2410c", "#8a8a8a", "#15803d", "#7c3aed", "#a3a300", "#0e7490", "#be185d", "#4d4d4d")


def colors(names: list[str]) -> dict[str, str]:
    """Ours in one colour everywhere, the others in the order they come."""
    others = iter(OTHERS * 2)
    return {name: OURS if name.startswith("Concurrent") else next(others) for name in names}


def _finish(figure, axes, results: Results, name: str, size: int, path: Path) -> None:
    axes.set_title(f"{CASES[name].title}\n{results.label}, {size:,}", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def throughput(results: Results, name: str, cells: list[Cell], path: Path) -> bool:
    """A line for each contender over the number of threads, with the intervals."""
    threads = sorted({cell.threads for cell in cells})
    if len(threads) < 2 or CASES[name].lower_is_better:
        return False
    unit, factor = report.UNITS.get(CASES[name].unit, (CASES[name].unit, 1.0))
    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    names = list(dict.fromkeys(cell.contender for cell in cells))
    for contender, color in colors(names).items():
        found = {
            n: results.figure(cells[0]._replace(contender=contender, threads=n)) for n in threads
        }
        there = [n for n in threads if found[n]]
        middle = [found[n].median * factor for n in there]
        below = [(found[n].median - found[n].low) * factor for n in there]
        above = [(found[n].high - found[n].median) * factor for n in there]
        axes.errorbar(
            there,
            middle,
            [below, above],
            label=contender,
            color=color,
            marker="o",
            capsize=3,
            linewidth=2.4 if color == OURS else 1.3,
        )
    axes.set(xlabel="threads", ylabel=unit, xticks=threads, ylim=(0, None))
    axes.legend(fontsize=8, frameon=False)
    _finish(figure, axes, results, name, cells[0].size, path)
    return True


def ratios(results: Results, name: str, cells: list[Cell], path: Path) -> bool:
    """Bars: how many times ours is, with each number of threads, what a contender is."""
    ours, threads = cells[0].contender, sorted({cell.threads for cell in cells})
    names = [n for n in dict.fromkeys(cell.contender for cell in cells) if n != ours]
    if not names:
        return False
    figure, axes = pyplot.subplots(figsize=(7, 1.2 + 0.28 * len(names) * (len(threads) + 0.6)))
    shown, labels = 0.0, []
    for contender in reversed(names):
        first = shown
        for number in reversed(threads):
            above = cells[0]._replace(contender=ours, threads=number)
            found = results.ratio(above, above._replace(contender=contender))
            if found:
                errors = [[found.median - found.low], [found.high - found.median]]
                shade = 0.45 + 0.55 * (threads.index(number) + 1) / len(threads)
                axes.barh(shown, found.median, xerr=errors, color=OURS, alpha=shade, height=0.85)
                said = f" {found.median:.2f} x, {number} thread{'s' if number > 1 else ''}"
                axes.text(found.high, shown, said, va="center", fontsize=8)
            shown += 1
        labels.append(((first + shown - 1) / 2, contender))
        shown += 0.6
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks([y for y, _ in labels], [label for _, label in labels], fontsize=9)
    axes.set_xlabel(
        f"{ours} : the other" + (", lower is better" if CASES[name].lower_is_better else "")
    )
    axes.margins(x=0.25)
    _finish(figure, axes, results, name, cells[0].size, path)
    return True


def overview(results: Results, path: Path) -> bool:
    """All cases in one picture: ours with the most threads, over the builtin with as many."""
    bars: list[tuple[str, Measured]] = []
    for name, size, cells in report.blocks(results):
        ours, threads = cells[0].contender, max(cell.threads for cell in cells)
        builtin = who.DICT if CASES[name].kind == "dict" else who.LIST
        above = Cell(name, ours, threads, size)
        found = results.ratio(above, above._replace(contender=builtin))
        if found and not CASES[name].lower_is_better:
            plural = "s" if threads > 1 else ""
            bars.append((f"{CASES[name].title}, {threads} thread{plural}", found))
    if not bars:
        return False
    bars.sort(key=lambda bar: bar[1].median)
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.26 * len(bars)))
    for height, (_, found) in enumerate(bars):
        errors = [[found.median - found.low], [found.high - found.median]]
        color = OURS if found.median >= 1 else OTHERS[0]
        axes.barh(height, found.median - 1, left=1, xerr=errors, color=color, height=0.75)
        axes.text(
            max(found.high, 1) * 1.05, height, f"{found.median:.2g} x", va="center", fontsize=8
        )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(bars)), [title for title, _ in bars], fontsize=8)
    axes.set(xlabel="ours : the builtin", xscale="log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_title(results.label, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
    return True


def memory_over_time(results: Results, name: str, cells: list[Cell], path: Path) -> bool:
    """The first round of each contender: resident memory over its live size."""
    found = {cell: rounds[0] for cell in cells if (rounds := results.extras(cell))}
    found = {cell: each for cell, each in found.items() if "over_time" in each}
    if not found:
        return False
    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    shades = colors([cell.contender for cell in found])
    for cell, each in found.items():
        times, held = zip(*each["over_time"], strict=True)
        over_live = [max(bytes_, 1) / each["live"] for bytes_ in held]
        axes.plot(times, over_live, label=cell.contender, color=shades[cell.contender])
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(xlabel="seconds", ylabel="resident memory : live container", yscale="log")
    axes.legend(fontsize=8, frameon=False)
    _finish(figure, axes, results, name, cells[0].size, path)
    return True


def latencies(results: Results, name: str, cells: list[Cell], path: Path) -> bool:
    """How many inserts took how long, over all rounds; both axes logarithmic."""
    found = {cell: rounds for cell in cells if (rounds := results.extras(cell))}
    found = {cell: rounds for cell, rounds in found.items() if "insert" in rounds[0]}
    if not found:
        return False
    figure, axes = pyplot.subplots(figsize=(7, 4.2))
    shades = colors([cell.contender for cell in found])
    for cell, rounds in found.items():
        counts: dict[int, int] = {}
        for each in rounds:
            for power, count in each["insert"]["histogram"].items():
                counts[int(power)] = counts.get(int(power), 0) + count
        powers = sorted(counts)
        axes.step(
            [2**power / 1e3 for power in powers],
            [counts[power] for power in powers],
            where="pre",
            label=cell.contender,
            color=shades[cell.contender],
        )
    axes.set(xlabel="microseconds, at most", ylabel="inserts", xscale="log", yscale="log")
    axes.legend(fontsize=8, frameon=False)
    _finish(figure, axes, results, name, cells[0].size, path)
    return True


PICTURES: dict[str, Callable[[Results, str, list[Cell], Path], bool]] = {
    "threads": throughput,
    "ratios": ratios,
    "memory": memory_over_time,
    "latency": latencies,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE.json")
    parser.add_argument("--to", default="build/pictures", metavar="FOLDER")
    parser.add_argument("--only", nargs="+", metavar="PART", help="cases by parts of their names")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    options = parser.parse_args()
    matplotlib.rcParams["svg.hashsalt"] = "the same file each time"
    folder = Path(options.to)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = 0
    for results in measured_results.load(options.files):
        label = re.sub(r"\W+", "-", results.label).strip("-")
        drawn += overview(results, folder / f"overview-{label}.{options.format}")
        for name, size, cells in report.blocks(results):
            if options.only and not any(part in name for part in options.only):
                continue
            for kind, draw in PICTURES.items():
                path = folder / f"{name}-{size}-{kind}-{label}.{options.format}"
                drawn += draw(results, name, cells, path)
    print(f"{drawn} pictures in {folder}")


if __name__ == "__main__":
    main()

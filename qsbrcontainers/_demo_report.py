"""What the demo shows: progress, tables, the picture."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median

from ._demo_index import Job, Reference
from ._demo_measure import cores, gil_enabled, interpreter, table
from ._demo_reads import LOCKED

try:
    from tqdm import tqdm
except ImportError:
    tqdm = None
else:
    tqdm.monitor_interval = 0  # no thread of its own: the bars are updated often enough


@contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """A bar on stderr, or one plain line where that is no terminal or tqdm is missing."""
    if tqdm is None or not sys.stderr.isatty():
        print(f"{title}: {total:,} {unit}s ...", file=sys.stderr, flush=True)
        yield lambda done: None
    else:
        with tqdm(desc=title, total=total, unit=f" {unit}s", dynamic_ncols=True) as bar:
            yield lambda done: bar.update(done - bar.n)


def index_table(reference: Reference, ours: Job, locked: Job, peak: int) -> str:
    """The jobs below each other, and how many times faster ours was than dict + Lock."""
    files, words = f"{reference.files:,}", f"{reference.words:,}"
    alone = [f"{reference.seconds:.1f}", f"{reference.words / reference.seconds:,.0f}", "-", "-"]
    return table(
        [
            ["", "files", "words", "seconds", "words/s", "queries/s meanwhile", "freed late, peak"],
            ["1 thread, Counter", files, words, *alone],
            ["qsbrcontainers", files, *_figures(ours), f"{peak / 2**20:,.2f} MiB"],
            [LOCKED, files, *_figures(locked), "-"],
            [
                f"qsbrcontainers : {LOCKED}",
                *["", "", ""],
                f"{ours.words_per_second / locked.words_per_second:.2f} x",
                f"{ours.queries_per_second / locked.queries_per_second:.2f} x",
                "",
            ],
        ]
    )


def _figures(job: Job) -> list[str]:
    return [
        f"{job.words:,}",
        f"{job.seconds:.1f}",
        f"{job.words_per_second:,.0f}",
        f"{job.queries_per_second:,.0f}",
    ]


def reads_table(results: Sequence[dict]) -> str:
    """Million reads per second: a row for each container, a column for each number of threads."""
    threads, by_container = _by_container(results)
    rows = [["million reads/s", *map(_threads, threads), f"{_threads(threads[-1])} / 1 thread"]]
    for name, rates in by_container.items():
        shown = [f"{rate / 1e6:.1f}" if rate else "failed" for rate in rates]
        rows.append([name, *shown, f"{rates[-1] / rates[0]:.2f} x" if all(rates) else "-"])
    return table(rows)


def save_picture(results: Sequence[dict], path: str) -> None:
    """Draw the read comparison as grouped bars; ImportError where pygal is missing."""
    import pygal
    from pygal.style import Style

    threads, by_container = _by_container(results)
    chart = pygal.HorizontalBar(
        title=(
            "Reads of one dict that several threads share (longer is better)\n"
            f"{interpreter()}, 1,000 str keys, int values"
        ),
        x_title="million reads per second",
        width=900,
        height=520,
        explicit_size=True,
        margin_right=50,
        js=[],  # the picture stands alone: no script from elsewhere
        css=[*pygal.Config().css, "inline:text.value { text-anchor: start }"],  # beside the bars
        legend_at_bottom=True,
        truncate_legend=-1,
        truncate_label=-1,
        print_values=True,
        print_values_position="top",
        value_formatter=lambda rate: f"{rate:g}",
        style=Style(
            background="white",
            plot_background="white",
            font_family="Helvetica, Arial, sans-serif",
            guide_stroke_color="#ddd",
            major_guide_stroke_color="#ddd",
            opacity="1",
            colors=("#2563a8", "#a9c3e0", "#6f94bd", "#d4e1f0"),
            title_font_size=19,
            label_font_size=15,
            major_label_font_size=15,
            legend_font_size=15,
            value_font_size=14,
        ),
    )
    # This chart grows from the bottom: the last row and the last bar come first.
    chart.x_labels = list(reversed(by_container))
    for column in reversed(range(len(threads))):
        name = _threads(threads[column]) + (" (all cores)" if threads[column] == cores() else "")
        rates = [by_container[label][column] for label in chart.x_labels]
        chart.add(name, [round(rate / 1e6, 1) if rate else None for rate in rates])
    chart.render_to_file(path)


def _by_container(results: Sequence[dict]) -> tuple[list[int], dict[str, list[float | None]]]:
    """The numbers of threads; for each container its median rates with these (None: it failed)."""
    gil_here = gil_enabled()
    turns_gil_on = {result["container"] for result in results if result["gil"] and not gil_here}
    rates = {}
    for result in sorted(results, key=lambda result: result["threads"]):
        name = result["container"]
        if name in turns_gil_on:
            name += " (turns the GIL on)"
        rates.setdefault(name, []).append(
            median(result["reads_per_second"]) if result["reads_per_second"] else None
        )
    return sorted({result["threads"] for result in results}), rates


def _threads(number: int) -> str:
    return "1 thread" if number == 1 else f"{number} threads"

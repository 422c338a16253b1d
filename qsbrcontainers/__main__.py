"""The demo: threads index real text while others query it; then reads are compared."""

from __future__ import annotations

import argparse
import json
import os
import sys
import sysconfig
from collections.abc import Sequence

from qsbrcontainers import stats

from . import _demo_report as report
from ._demo_index import (
    ConcurrentIndex,
    LockedIndex,
    Reference,
    build,
    count_alone,
    differences,
    files_in,
    standard_library,
    words_to_ask,
)
from ._demo_measure import cores, gil_enabled, interpreter
from ._demo_reads import LOCKED, cases, compare, installed

DESCRIPTION = """\
Index the words of real files with several threads, while other threads query
the growing index; check every number against a single-threaded count; do the
same job with dict and one lock; then compare how reads of one dict scale.
"""

EPILOG = """\
what the figures mean:
  words/s             words read from the files, split and put into the index,
                      all writer threads together
  queries/s meanwhile look-ups in the growing index, all reader threads together
  freed late, peak    the most memory that waited at one time for readers that
                      might still look at it
  million reads/s     reads of one shared dict of 1,000 str keys, all threads
                      together; the median of several rounds, each container in
                      fresh processes, in turn
With a GIL one thread at a time runs Python code: there the figures compare what
the containers cost, not how they scale.

examples:
  python -m qsbrcontainers
  python -m qsbrcontainers ~/texts --threads 8 --json result.json
  python -m qsbrcontainers --no-compare

exit status: 0 the index is right, 1 a number in it is wrong (or a file could not
be written), 2 nothing to do (bad arguments, no such folder, no readable files),
130 stopped by Ctrl-C
"""

WITH_GIL = """\
This interpreter runs with a GIL: one thread at a time runs Python code. More
threads cannot be faster here; the figures only show what the containers cost
beside dict. For figures that scale use a free-threaded one (python3.14t or newer).\
"""

NOT_DEFERRED = """\
Python 3.13 cannot defer the reference counts of shared containers: threads that
read the same one still collide there. 3.14t and newer can.\
"""

ROUNDS = 3
SECONDS = 0.25
SHOWN = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; its exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    for path in filter(None, (options.json, options.plot)):
        if not os.path.isdir(os.path.dirname(path) or "."):
            parser.error(f"no such folder for {path!r}")
    if options.folder is None:
        files, folder = standard_library(), sysconfig.get_path("stdlib")
    elif os.path.isdir(options.folder):
        files, folder = files_in(options.folder), options.folder
    else:
        parser.error(f"no such folder: {options.folder!r}")
    if not files:
        parser.error(f"no files in {folder!r}")
    try:
        outcome = run(options, files, folder)
        if outcome is None:
            parser.error(f"no words to count in {folder!r}")
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump(outcome, file, indent=2)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except OSError as error:  # of the files that are written: unreadable ones are only counted
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0 if outcome["correct"] else 1


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    half = max(1, cores() // 2)
    parser = argparse.ArgumentParser(
        prog="python -m qsbrcontainers",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder",
        nargs="?",
        metavar="FOLDER",
        help="text files to index, subfolders included, hidden files left out, what is not UTF-8 "
        "skipped (default: the .py files of the running interpreter's standard library)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        default=max(2, half),
        metavar="N",
        help="threads that read files and fill the index (default here: %(default)s)",
    )
    parser.add_argument(
        "--readers",
        type=positive,
        default=half,
        metavar="N",
        help="threads that query the index meanwhile (default here: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE")
    parser.add_argument(
        "--plot",
        metavar="FILE",
        default="qsbrcontainers-read-scaling.svg",
        help="where the picture of the read comparison goes (default: %(default)s)",
    )
    parser.add_argument(
        "--no-compare", action="store_true", help="index only; no read comparison, no picture"
    )
    return parser


def positive(text: str) -> int:
    """An argument that is a number of threads."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def run(options: argparse.Namespace, files: Sequence[str], folder: str) -> dict | None:
    """Index, check, show and compare; all figures, or None where the files have no words."""
    with report.progress("counting alone", len(files), "file") as progress:
        reference = count_alone(files, progress)
    skipped = f"skipped: {reference.not_utf8} not UTF-8, {reference.unreadable} unreadable"
    print(f"\n{interpreter()}, {cores()} cores")
    print(f"{reference.files:,} files in {folder!r}; {skipped}")
    if not reference.words:
        return None
    print(f"writer threads: {options.threads}, reader threads: {options.readers}\n", flush=True)

    jobs = {}
    for name, index in (("qsbrcontainers", ConcurrentIndex()), (LOCKED, LockedIndex())):
        with report.progress(f"indexing, {name}", len(files), "file") as progress:
            asked = words_to_ask(reference.counts)
            jobs[name] = build(index, files, asked, options.threads, options.readers, progress)
        if name == "qsbrcontainers":
            statistics = stats()
    peak = statistics["bytes_held_peak"]
    print(f"\n{report.index_table(reference, *jobs.values(), peak)}\n")
    if gil_enabled():
        print(WITH_GIL)
    elif sys.version_info < (3, 14):
        print(NOT_DEFERRED)

    right = [checked(name, reference, job.index) for name, job in jobs.items()]
    outcome = {
        "interpreter": interpreter(),
        "gil": gil_enabled(),
        "cores": cores(),
        "folder": folder,
        "files": {
            "read": reference.files,
            "not_utf8": reference.not_utf8,
            "unreadable": reference.unreadable,
        },
        "words": reference.words,
        "distinct_words": len(reference.counts),
        "postings": sum(map(len, reference.postings.values())),
        "writers": options.threads,
        "readers": options.readers,
        "correct": all(right),
        "jobs": {
            "1 thread, Counter": {
                "seconds": reference.seconds,
                "words_per_second": reference.words / reference.seconds,
            }
        }
        | {name: job.figures() for name, job in jobs.items()},
        "stats": statistics,
    }
    if outcome["correct"]:
        print(
            f"Right: all {len(reference.counts):,} counts and {outcome['postings']:,} postings are "
            "those of the single-threaded count."
        )
        if not options.no_compare:
            del reference, jobs
            outcome["reads"] = compare_reads(options.plot)
    return outcome


def checked(name: str, reference: Reference, index: ConcurrentIndex | LockedIndex) -> bool:
    """Whether *index* is right; if not, says loudly what is wrong."""
    wrong = list(differences(reference, index))
    if wrong:
        print(
            f"\nWRONG RESULT of {name}: {len(wrong):,} differences from the single-threaded count",
            *wrong[:SHOWN],
            *(["..."] if len(wrong) > SHOWN else []),
            "(if files in the folder changed meanwhile, run it again)",
            sep="\n  ",
            file=sys.stderr,
        )
    return not wrong


def compare_reads(picture: str) -> list[dict]:
    """Measure and show how reads scale, and draw the picture."""
    print("\nReads of one dict shared by all threads:", flush=True)
    chosen = cases(installed(), [1, max(2, cores())], seconds=SECONDS)
    with report.progress("reading", ROUNDS * len(chosen), "run") as progress:
        results = compare(chosen, ROUNDS, progress)
    print(f"\n{report.reads_table(results)}\n")
    try:
        report.save_picture(results, picture)
    except ImportError:
        print("No picture: pygal is not installed (pip install pygal).")
    else:
        print(f"Picture: {picture}")
    return results


if __name__ == "__main__":
    sys.exit(main())

"""Measuring fairly: fresh processes, in turn, several rounds; and showing what came out."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass


def cores() -> int:
    """Number of CPUs this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def gil_enabled() -> bool:
    """Whether one lock lets only one thread run Python code at a time, right now."""
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def interpreter() -> str:
    """The running interpreter in a few words, e.g. ``CPython 3.14.0 free-threaded``."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        kind = "with GIL"
    elif gil_enabled():
        kind = "free-threaded build, GIL turned on"
    else:
        kind = "free-threaded"
    return f"{platform.python_implementation()} {platform.python_version()} {kind}"


def together(threads: int, prepare: Callable[[], object], work: Callable[[object], None]) -> float:
    """Seconds from the first start to the last end of *work* in *threads* threads.

    Each thread makes its own argument with *prepare*; all start *work* at one barrier.
    """
    barrier = threading.Barrier(threads)

    def run(_):
        try:
            argument = prepare()
        except BaseException:
            barrier.abort()  # or the others would wait for ever
            raise
        barrier.wait()
        start = time.perf_counter()
        work(argument)
        return start, time.perf_counter()

    with ThreadPoolExecutor(threads) as pool:
        starts, ends = zip(*pool.map(run, range(threads)), strict=True)
    return max(ends) - min(starts)


TIMEOUT = 300  # seconds; a case that works takes one or two
CHILD = """
import json, sys
path, module, case = json.loads(sys.argv[1])
sys.path[:] = path + [entry for entry in sys.path if entry not in path]
import importlib
print(json.dumps(importlib.import_module(module).measure(case)))
"""


def fresh(
    module: str,
    case: dict,
    python: str = sys.executable,
    path: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict | None:
    """What ``measure(case)`` of *module* returns in an interpreter of its own, through JSON.

    None where it fails or hangs: stderr tells. The child finds modules where this process
    does, or if it is another interpreter, *python*, in *path* and then where that does. It has
    a session of its own: Ctrl-C reaches only this process, which kills it then.
    """
    flags = [f"-X{k}" if v is True else f"-X{k}={v}" for k, v in sys._xoptions.items()]
    given = json.dumps([sys.path if path is None else list(path), module, case])
    command = [python, "-P", *flags, "-c", CHILD, given]
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | (environment or {}),
            timeout=TIMEOUT,
            check=True,
        )
    except subprocess.SubprocessError as error:
        print(f"{case}: {type(error).__name__}", file=sys.stderr)
        return None
    return json.loads(done.stdout)


def in_turn(
    module: str, cases: Sequence[dict], rounds: int, progress: Callable[[int], object]
) -> list[list[dict]]:
    """``measure`` all *cases* once in fresh processes, then all again, *rounds* times.

    The results case by case; a case that fails has none and is not tried again. *progress* gets
    the number of runs done so far.
    """
    results: list[list[dict]] = [[] for _ in cases]
    failed = set()
    for number in range(rounds):
        for i, case in enumerate(cases):
            if i not in failed:
                result = fresh(module, case)
                if result is None:
                    failed.add(i)
                    results[i].clear()
                else:
                    results[i].append(result)
            progress(number * len(cases) + i + 1)
    return results


@dataclass(frozen=True)
class Spread:
    """The median of some measurements with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        values = sorted(values)
        return cls(statistics.median(values), values[0], values[-1])

    @classmethod
    def of_ratios(cls, above: Iterable[float], below: Iterable[float]) -> Spread:
        """Ratios round by round: what disturbs a whole round cancels out."""
        return cls.of(a / b for a, b in zip(above, below, strict=True))

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right; the first row on top."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])

"""`make soak`: all torture tests in rotation for a given time; `make stress`: the larger models,
then the race tests, to the first failure.

    python tests/soak.py [MINUTES] [--seconds N] [--seed N] [--only WORD,WORD] [--list]
                         [--at-once N] [--first-failure] [--models] [--folder PATH]

The engine's torture programs and its simulation, with each barrier (Q12), in release and debug
builds and under the sanitizers; the race tests, linearizability, forks, the ends of interpreters,
models of one thread and the fuzz targets, with every interpreter found (every second time a
free-threaded one), in release and debug builds, where debug builds sleep at random at published
stores. Each run has a seed of its own, which is printed; what depends on the schedule is repeated
as far as the machine does.

Ends at the time, or at SIGTERM or Ctrl-C, with a report (build/soak/report.txt and .json): runs and
hours of each kind, and counters of near misses, such as how long after its unlinking memory was
reused at the earliest and was still seen at the latest. A failure leaves its output in build/soak,
with the command that repeats it; the others go on, and the exit status says so. rotation.py says
what happens when it is stopped.

--only chooses by words in what --list prints. QSBRCONTAINERS_BREAK and QC_BREAK build what is
broken on purpose, to see it found.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS), str(TESTS / "engine")]

import interpreters  # noqa: E402
import programs  # noqa: E402
import venvs  # noqa: E402
from rotation import Impossible, Item, Job, Rotation  # noqa: E402

YIELDS = ["0", "200", "20"]  # sleeps at one in N of the published stores, in debug builds
FUZZ_SECONDS = 20
LIMIT = 900  # seconds for a pytest run
Make = Callable[[int], Job]

# What runs with every interpreter: kind, tests, more arguments ({seed} stands for it).
IN_PYTHON = [
    ("state machines", "semantics/test_models.py", ["--hypothesis-seed={seed}"]),
    ("finalization", "faults/test_finalization.py", []),
    ("forks", "faults/test_fork_hammer.py", []),
    ("forks", "faults/test_fork_multiprocessing.py", []),
    ("subinterpreters", "faults/test_subinterpreters.py", []),
]
FUZZ = [("fuzz", path.name) for path in sorted((TESTS / "fuzz").glob("test_*.py"))]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=120)
    parser.add_argument("--seconds", type=float, help="instead of MINUTES")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--only", default="")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--at-once", type=int, default=max(1, (os.cpu_count() or 1) // 2))
    parser.add_argument("--first-failure", action="store_true")
    parser.add_argument("--models", action="store_true")
    parser.add_argument("--folder", type=Path, default=venvs.ROOT / "build" / "soak")
    options = parser.parse_args(arguments)
    options.folder = options.folder.resolve()
    words = options.only.replace(",", " ").split()
    items = [*engine(options.folder), *in_python()]
    items = [i for i in items if not words or any(w in f"{i.kind}: {i.name}" for w in words)]
    if options.list:
        for item in items:
            print(f"{item.kind}: {item.name} ({len(item.configurations)} configurations)")
        return 0
    if options.models and (status := larger_models()) != 0:
        print(f"The larger models failed: exit status {status}.")
        return 1
    rotation = Rotation(
        items,
        folder=options.folder,
        seconds=options.seconds if options.seconds is not None else options.minutes * 60,
        seed=options.seed,
        at_once=options.at_once,
        first_failure=options.first_failure,
        where=venvs.ROOT,
    )
    return rotation.run()


def larger_models() -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "tests/model"]
    settings = {**os.environ, "QC_MODELS": "large"}
    return subprocess.run(command, cwd=venvs.ROOT, env=settings).returncode


# The engine


def engine(folder: Path) -> list[Item]:
    """The torture programs, each flavour with each barrier."""
    breaks = [name for name in os.environ.get("QC_BREAK", "").split(",") if name]
    builders: list[programs.Builder] = []

    def builder() -> programs.Builder:
        if not builders:
            folder.mkdir(parents=True, exist_ok=True)
            builders.append(programs.Builder(folder / "engine", breaks))
        return builders[0]

    def make(program: Path, flavour: str, mode: str) -> Make:
        def job(seed: int) -> Job:
            try:
                command = builder().program(program, flavour)
            except programs.Impossible as reason:
                raise Impossible(str(reason)) from None
            settings = {**programs.RUNTIME, "QSBRCONTAINERS_BARRIER": mode, "QC_SEED": str(seed)}
            if flavour in programs.INJECTED:  # with QC_DEBUG
                settings["QSBRCONTAINERS_YIELD"] = YIELDS[seed % len(YIELDS)]
            return Job(command, settings, 300)

        return job

    items = []
    for program in programs.PROGRAMS:
        if "torture" not in program.stem and program.stem != "test_tso_model":
            continue
        flavours = programs.marked(program, "flavours") or list(programs.FLAVOURS)
        modes = programs.MODES[: 1 if programs.marked(program, "modes") == ["one"] else None]
        # Neighbours differ in both.
        pairs = [(f, m) for m in modes for f in flavours]
        found = [(f"{f}, {m}", make(program, f, m)) for f, m in pairs]
        kind = "forks" if "fork" in program.stem else "engine"
        items.append(Item(kind, program.stem[5:], found))
    return items


# The extension


def in_python() -> list[Item]:
    found = [i for i in interpreters.find_all() if not i.lacks]
    found = found or [i for i in [interpreters.probe(sys.executable)] if i and i.supported]
    wanted = [("races", f"races/{path.name}", []) for path in sorted(TESTS.glob("races/test_*.py"))]
    items = []
    for kind, name, arguments in [*wanted, *IN_PYTHON]:
        if "linearizability" in name:
            kind = "linearizability"
        items.append(Item(kind, name, configurations(found, name, arguments)))
    for kind, name in FUZZ:
        items.append(Item(kind, f"fuzz/{name}", fuzz_configurations(found, f"fuzz/{name}")))
    return items


def configurations(
    found: list[interpreters.Interpreter], name: str, arguments: list[str]
) -> list[tuple[str, Make]]:
    """Every interpreter, build and barrier; every second one is free-threaded."""

    def make(interpreter: interpreters.Interpreter, build: str, mode: str) -> Make:
        def job(seed: int) -> Job:
            settings = {"QSBRCONTAINERS_BARRIER": mode, "QC_SEED": str(seed)}
            switches = {}
            if build == "debug":
                switches["QSBRCONTAINERS_DEBUG"] = "1"
                settings["QSBRCONTAINERS_YIELD"] = YIELDS[seed % len(YIELDS)]
            # The one that `make test` uses, too.
            venv = venvs.ROOT / f".venv-{interpreter.name}{'-debug' * (build == 'debug')}"
            chosen = [argument.format(seed=seed) for argument in arguments]
            return pytest_job(
                venv, interpreter.path, [f"tests/{name}", *chosen], settings, **switches
            )

        return job

    def of(some: list[interpreters.Interpreter]) -> list[tuple[str, Make]]:
        return [
            (f"{i.name}, {build}, {mode}", make(i, build, mode))
            for build, mode in [
                ("release", "membarrier"),
                ("debug", "fence"),
                ("debug", "membarrier"),
                ("release", "fence"),
            ]
            for i in some
        ]

    free = of([i for i in found if i.free_threaded])
    with_gil = of([i for i in found if not i.free_threaded])
    if not free or not with_gil:
        return free or with_gil
    longest = range(max(len(free), len(with_gil)))
    return [pick[i % len(pick)] for i in longest for pick in (free, with_gil)]


def fuzz_configurations(found: list[interpreters.Interpreter], name: str) -> list[tuple[str, Make]]:
    def make(interpreter: interpreters.Interpreter) -> Make:
        def job(seed: int) -> Job:
            settings = {"QC_FUZZ_SECONDS": str(FUZZ_SECONDS), "QC_SEED": str(seed)}
            # What is built and what libFuzzer learns is there for the next time.
            settings["QC_FUZZ_KEEP"] = str(venvs.ROOT / "build" / f"fuzz-{interpreter.name}")
            venv = venvs.ROOT / f".venv-{interpreter.name}"
            return pytest_job(venv, interpreter.path, [f"tests/{name}"], settings)

        return job

    return [(i.name, make(i)) for i in found]


def pytest_job(
    venv: Path, python: str, arguments: list[str], settings: dict[str, str], **switches: str
) -> Job:
    executable = venvs.ensure(venv, "test,demo", python, **switches)
    command = [str(executable), "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
    return Job(command, {**settings, "QC_COUNTERS": "1"}, LIMIT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

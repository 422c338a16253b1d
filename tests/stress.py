"""`make stress`: the larger models; then tests/races, and the ends of interpreters in the middle
of everything (Q7), in a loop, with every free-threaded interpreter and the default one.

    python tests/stress.py MINUTES [PYTEST_ARGUMENT...]

The models take a few minutes more. Rounds alternate between the interpreters and between
the two barriers (Q12). Ends at the first failure, with its output, or when the time is over.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time

import interpreters
import venvs

TESTS = ["tests/races", "tests/faults/test_finalization.py"]


def main(minutes: float, arguments: list[str]) -> int:
    default = interpreters.probe(sys.executable)
    if default is None or not default.supported:
        sys.exit("make stress needs CPython 3.11 to 3.15: choose one with PYTHON=...")
    found = [i for i in interpreters.find_all() if i.free_threaded and not i.lacks]
    if default.name not in [i.name for i in found]:
        found.append(default)
    pythons = [
        (i.name, venvs.ensure(venvs.ROOT / f".venv-{i.name}", "test,demo", i.path)) for i in found
    ]

    models = [str(pythons[-1][1]), "-m", "pytest", "-q", "-x", "tests/model"]
    status = subprocess.run(
        models, cwd=venvs.ROOT, env=dict(os.environ, QC_MODELS="large")
    ).returncode
    if status != 0:
        print(f"The larger models failed: exit status {status}.")
        return 1
    end = time.monotonic() + minutes * 60
    barriers: list[dict[str, str]] = [{}, {"QSBRCONTAINERS_BARRIER": "fence"}]
    rounds = itertools.cycle(itertools.product(barriers, pythons))
    for number, (barrier, (name, python)) in enumerate(rounds, 1):
        if time.monotonic() >= end:
            print(f"{number - 1} rounds in {minutes:g} minutes, no failure.")
            return 0
        environment = {k: v for k, v in os.environ.items() if k != "PYTHON_GIL"} | barrier
        left = (end - time.monotonic()) / 60
        print(f"round {number}, {name}{', fences' * len(barrier)}: {left:.1f} min left", flush=True)
        command = [str(python), "-m", "pytest", "-q", "-x", *TESTS, *arguments]
        status = subprocess.run(command, cwd=venvs.ROOT, env=environment).returncode
        if status != 0:
            print(f"Round {number} failed with {name}: exit status {status}.")
            return 1
    raise AssertionError("unreachable: the rounds have no end")


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))

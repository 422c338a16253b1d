"""Reads of one dict by several threads at once: the loop, the contenders, the comparison."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec

from ._demo_measure import gil_enabled, in_turn, together

OURS, BUILTIN, LOCKED = "qsbrcontainers.ConcurrentDict", "dict", "dict + Lock"

CONTAINERS = {
    OURS: ("qsbrcontainers", "ConcurrentDict"),
    BUILTIN: ("builtins", "dict"),
    LOCKED: ("builtins", "dict"),
    "cereggii.AtomicDict": ("cereggii", "AtomicDict"),
    "ft_utils.ConcurrentDict": ("ft_utils.concurrency", "ConcurrentDict"),
}
SIZE = 1000


def installed() -> list[str]:
    """Names of the containers that can be measured here.

    Nothing is imported for that: importing a peer may turn the GIL on.
    """
    return [name for name, (module, _) in CONTAINERS.items() if find_spec(module.split(".")[0])]


@dataclass(frozen=True)
class Case:
    """*threads* threads read all 1,000 keys of one container, again and again."""

    container: str
    threads: int
    values: str = "int"  # or "object": something that is not a number
    keys: str = "own"  # each thread has equal strings of its own; or "shared": the dict's own
    seconds: float = 0.25  # about how long it reads


def cases(containers: Iterable[str], threads: Iterable[int], **how) -> list[Case]:
    """One case for each container with each number of threads."""
    return [Case(name, number, **how) for name in containers for number in threads]


def compare(
    chosen: Sequence[Case], rounds: int, progress: Callable[[int], object] = lambda done: None
) -> list[dict]:
    """Measure the *chosen* cases in turn; for each its fields, and what came out.

    ``reads_per_second``: one figure a round, none where the container failed; ``gil``: whether
    the GIL was on meanwhile.
    """
    results = in_turn(__name__, [asdict(case) for case in chosen], rounds, progress)
    return [
        asdict(case)
        | {
            "reads_per_second": [result["reads_per_second"] for result in result_rounds],
            "gil": any(result["gil"] for result in result_rounds),
        }
        for case, result_rounds in zip(chosen, results, strict=True)
    ]


def new_keys() -> list[str]:
    """Strings made now: equal each time, never the same objects, not interned."""
    return [f"session:{number}" for number in range(SIZE)]


def in_tens(keys: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Ten keys a step, so that the loop around the reads costs little beside them."""
    return tuple(tuple(keys[i : i + 10]) for i in range(0, len(keys), 10))


def read(d, tens, passes: int) -> None:
    """Read every key *passes* times: the loop that is measured."""
    for _ in range(passes):
        for k0, k1, k2, k3, k4, k5, k6, k7, k8, k9 in tens:
            d[k0]
            d[k1]
            d[k2]
            d[k3]
            d[k4]
            d[k5]
            d[k6]
            d[k7]
            d[k8]
            d[k9]


def read_locked(d, tens, passes: int, lock: threading.Lock) -> None:
    """The same with *lock* around every read."""
    for _ in range(passes):
        for k0, k1, k2, k3, k4, k5, k6, k7, k8, k9 in tens:
            with lock:
                d[k0]
            with lock:
                d[k1]
            with lock:
                d[k2]
            with lock:
                d[k3]
            with lock:
                d[k4]
            with lock:
                d[k5]
            with lock:
                d[k6]
            with lock:
                d[k7]
            with lock:
                d[k8]
            with lock:
                d[k9]


def measure(fields: dict) -> dict:
    """Reads per second of all threads together, in this process; *fields* are those of Case.

    This thread makes the container and never reads it. The number of passes is found by
    doubling, with the same number of threads: these runs are also the warm-up.
    """
    case = Case(**fields)
    module, name = CONTAINERS[case.container]
    container = getattr(import_module(module), name)()
    stored = new_keys()
    for number, key in enumerate(stored):
        container[key] = 1_000_000 + number if case.values == "int" else object()

    def prepare():
        return in_tens(stored if case.keys == "shared" else new_keys())

    def run(passes):
        if case.container == LOCKED:
            lock = threading.Lock()
            return together(
                case.threads, prepare, lambda tens: read_locked(container, tens, passes, lock)
            )
        return together(case.threads, prepare, lambda tens: read(container, tens, passes))

    passes = 1
    while (seconds := run(passes)) < case.seconds / 4:
        passes *= 2
    passes = max(1, round(passes * case.seconds / seconds))
    reads = case.threads * passes * SIZE
    return {"reads_per_second": reads / run(passes), "gil": gil_enabled()}

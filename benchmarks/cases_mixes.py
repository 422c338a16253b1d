"""Mixes as the literature has them: of concurrent hash tables, and YCSB's.

Each thread goes through its own list of keys, drawn before. Where keys are inserted, a thread
inserts keys that no other one does, and erases the oldest of its own.
"""

from __future__ import annotations

from collections import deque
from itertools import cycle, islice

import contenders as who
from cases_reads import ASSIGN, GET
from cases_writes import DELETE
from loops import LoopCase, Op, Place, zipf_numbers

INSERT, UPDATE, ERASE = Op("{c}[{k}] = {v}", name="insert"), ASSIGN, DELETE
READ_LATEST = Op("{c}.get({k})", name="latest")
_EACH = "list(map({c}.get, {k}))"
SCAN = Op(
    "{c}.get_many({k})", {"builtin": _EACH, "cereggii": _EACH, "ft_utils": _EACH}, name="scan"
)
CHANGE = Op(
    "{c}[{k}] = changed({c}[{k}])",
    {
        "ours": "{c}.compute({k}, changed)",
        "cereggii": "{c}.reduce((({k}, ''),), reduced)",
    },
)
LITERATURE = {
    "read-heavy": (98, 1, 1, 0),
    "exchange": (10, 40, 40, 10),
    "rapid-grow": (5, 80, 5, 10),
}
SCANNED = 10
SHARED = tuple(name for name in who.DICTS if name != who.PRIVATE)


def at_least_a_thousand(size: int) -> range:
    """So that each thread has keys of its own to erase."""
    return range(max(size, 1000))


def _operations(place: Place) -> islice:
    """As many as the loop does in its one pass."""
    wanted = max(1, min(10 * place.size, 100_000) // place.case.step) * place.case.step
    return islice(cycle(place.case.operations()), wanted)


def _own_new_numbers(place: Place):
    first = len(place.stored)
    return iter(range(first + place.thread, 10**12, place.threads))


def drawn_for_each(place: Place) -> list:
    """Keys that suit the operation: present ones, new ones, own ones."""
    rng, present = place.random, len(place.stored)
    own = deque(range(place.thread, present, place.threads))
    new, numbers = _own_new_numbers(place), []
    for op in _operations(place):
        if op is INSERT:
            number = next(new)
            own.append(number)
        elif op is ERASE:
            number = own.popleft()
        elif op is UPDATE:
            number = own[rng.randrange(len(own))]
        else:
            number = rng.randrange(present)
        numbers.append(number)
    return [place.key(number) for number in numbers]


def zipf(place: Place) -> list:
    wanted = min(max(place.size, 1000), 200_000)
    return [place.key(number) for number in zipf_numbers(place, wanted)]


def zipf_from_the_latest(place: Place) -> list:
    """Inserts; reads prefer what this thread inserted last."""
    present = list(range(len(place.stored)))
    new, numbers = _own_new_numbers(place), []
    operations = list(_operations(place))
    ranks = iter(zipf_numbers(place, len(operations), scattered=False))
    for op in operations:
        if op is INSERT:
            present.append(next(new))
            numbers.append(present[-1])
        else:
            numbers.append(present[-1 - next(ranks) % len(present)])
    return [place.key(number) for number in numbers]


def zipf_scans(place: Place) -> list:
    """Inserts; scans of a few keys that were inserted after each other."""
    new, keys = _own_new_numbers(place), []
    operations = list(_operations(place))
    starts = iter(zipf_numbers(place, len(operations)))
    for op in operations:
        if op is INSERT:
            keys.append(place.key(next(new)))
        else:
            start = next(starts)
            keys.append(tuple(place.key(n) for n in range(start, start + SCANNED)))
    return keys


def ycsb(letter: str, title: str, ops, **more) -> LoopCase:
    return LoopCase(
        name=f"ycsb-{letter}",
        title=f"YCSB {letter.upper()}: {title}",
        ops=ops,
        values="text",
        step=100,
        sizes=(100_000,),
        contenders=SHARED,
        **more,
    )


CASES = [
    *(
        LoopCase(
            name=name,
            title=f"{find} % get, {insert} % insert, {erase} % erase, {update} % update",
            ops={GET: find, INSERT: insert, ERASE: erase, UPDATE: update},
            draw=drawn_for_each,
            fill=at_least_a_thousand,
            once=True,
            step=100,
            sizes=(10_000,),
            contenders=SHARED,
        )
        for name, (find, insert, erase, update) in LITERATURE.items()
    ),
    ycsb("a", "50 % get, 50 % update", {GET: 50, UPDATE: 50}, draw=zipf),
    ycsb("b", "95 % get, 5 % update", {GET: 95, UPDATE: 5}, draw=zipf),
    ycsb("c", "get", {GET: 100}, draw=zipf),
    ycsb(
        "d",
        "95 % get of the latest, 5 % insert",
        {READ_LATEST: 95, INSERT: 5},
        draw=zipf_from_the_latest,
        once=True,
    ),
    ycsb(
        "e",
        f"95 % scans of {SCANNED} keys, 5 % insert",
        {SCAN: 95, INSERT: 5},
        draw=zipf_scans,
        once=True,
    ),
    ycsb(
        "f",
        "50 % get, 50 % read-modify-write (dict alone and ft_utils may lose some)",
        {GET: 50, CHANGE: 50},
        draw=zipf,
    ),
]

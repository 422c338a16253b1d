"""K1-K4, K10: thousands of short histories of three threads, under which a fourth makes the table
grow, shrink and move, are searched for an order that explains all results.

Caught on 3.15t: MOVED_BEFORE_COPY (a lost copy) in every run, INCR_NOT_CAS in few. (NO_RELOOK is no
matter of order: a factory runs again, and its result is dropped.)
"""

import random
import time

import pytest
from support import SameHash, rounds, run_threads
from support_linearizability import (
    Call,
    as_text,
    linearizable,
    overlapping,
    recorded,
    recorded_for_all,
)

from qsbrcontainers import DELETE, MISSING, ConcurrentDict

# The checker


def history(*calls):
    return [Call(start, end, name, tuple(args), r) for start, end, name, args, r in calls]


GOOD = {
    "nothing": history(),
    "one after the other": history(
        *[(0, 1, "set", [1], None), (2, 3, "get", [], 1), (4, 5, "incr", [5], 6)],
        *[(6, 7, "pop", [], 6), (8, 9, "delete", [], KeyError), (9, 10, "add", [1], True)],
    ),
    "seen before it came back": history((0, 10, "set", [1], None), (1, 2, "get", [], 1)),
    "not yet seen": history((0, 10, "set", [1], None), (1, 2, "get", [], MISSING)),
    "old, then new": history(
        (0, 9, "set", [1], None), (1, 2, "get", [], MISSING), (3, 4, "get", [], 1)
    ),
    "two at once, the later first": history(
        *[(0, 9, "set", [1], None), (0, 9, "set", [2], None)],
        *[(10, 11, "get", [], 1), (0, 9, "swap", [3], MISSING)],
    ),
    "both results of two": history((0, 9, "incr", [1], 2), (0, 9, "incr", [1], 1)),
    "the end of one is the start of the next": history(
        (0, 5, "get", [], 1), (5, 9, "set", [1], None)
    ),
    "there for a moment": history(
        *[(0, 9, "get_or_create", [1], 2), (0, 9, "add", [2], True), (3, 4, "get", [], MISSING)],
        (5, 6, "discard", [], True),
    ),
    "compared": history(
        *[(0, 1, "compare_and_set", [MISSING, 1], True), (2, 9, "compare_and_set", [1, 2], True)],
        *[(2, 9, "compare_and_set", [1, 3], False), (10, 11, "compare_and_delete", [2], True)],
        *[(12, 13, "compute", [5], (MISSING, 5)), (14, 15, "compute", [DELETE], (5, MISSING))],
        (16, 17, "contains", [], False),
    ),
}
BAD = {
    "never set": history((0, 1, "get", [], 1)),
    "stale": history((0, 1, "set", [1], None), (2, 3, "get", [], MISSING)),
    "new, then old": history(
        (0, 9, "set", [1], None), (1, 2, "get", [], 1), (3, 4, "get", [], MISSING)
    ),
    "an incr lost": history((0, 9, "incr", [1], 1), (0, 9, "incr", [1], 1)),
    "an assignment lost": history(
        *[(0, 1, "set", [1], None), (2, 3, "set", [2], None), (4, 5, "get", [], 1)]
    ),
    "two winners": history((0, 9, "add", [1], True), (0, 9, "add", [2], True)),
    "two poppers": history(
        (0, 1, "set", [1], None), (2, 9, "pop", [], 1), (2, 9, "discard", [], True)
    ),
    "two compared with one value": history(
        *[(0, 1, "set", [1], None), (2, 9, "compare_and_set", [1, 2], True)],
        (2, 9, "compare_and_set", [1, 3], True),
    ),
    "a value swapped out twice": history(
        *[(0, 1, "set", [1], None), (2, 9, "swap", [2], 1), (2, 9, "swap", [3], 1)]
    ),
    "compute given what was no more": history(
        *[(0, 1, "set", [1], None), (2, 3, "set", [2], None), (4, 5, "compute", [3], (1, 3))]
    ),
    "two made": history((0, 9, "get_or_create", [1], 1), (0, 9, "setdefault", [2], 2)),
    "deleted and back": history(
        *[(0, 1, "set", [1], None), (2, 3, "delete", [], None), (4, 5, "contains", [], True)]
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_checker_accepts(name):
    assert linearizable(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_the_checker_rejects(name):
    assert not linearizable(BAD[name])


def test_the_checker_finds_an_order_among_many():
    """Twelve calls at once, of which only few orders are possible."""
    calls = [(0, 9, "incr", [1], i) for i in range(1, 13)]
    assert linearizable(history(*calls))
    assert not linearizable(history(*calls, (0, 9, "incr", [1], 14)))


# The histories

PLAYERS, CALLS = 3, 6
WITH_NEW = ["set", "update", "add", "setdefault", "get_or_create", "swap", "compute"]
WITHOUT = ["get", "get", "contains", "delete", "pop", "discard"]
WITH_SEEN = ["compare_and_set", "compare_and_set", "compare_and_delete"]
OF_ALL = ["clear", "snapshot", "get_many"]


class Token:
    """A value that equals nothing else."""

    def __init__(self, number):
        self.number = number

    def __repr__(self):
        return f"Token({self.number})"


KINDS = {  # keys, values, whether they can be added to
    "ints": (lambda i: f"key{i}", lambda i: i, True),
    "objects": (lambda i: i, Token, False),
    "floats in keys with __eq__": (SameHash, float, True),
}


def play(calls, d, rng, values, numbers, new_value):
    """One thread's part of a history."""
    keys, seen = list(calls), dict.fromkeys(calls, MISSING)
    names = WITH_NEW * 2 + WITHOUT * 2 + WITH_SEEN * 2 + ["incr"] * 3 * numbers + OF_ALL
    for _ in range(CALLS):
        key, name = rng.choice(keys), rng.choice(names)
        if name in OF_ALL:
            recorded_for_all(calls, d, name)
            continue
        new = new_value(next(values))
        arguments = ()
        if name in WITH_NEW:
            arguments = (DELETE if name == "compute" and rng.random() < 0.2 else new,)
        elif name in WITH_SEEN:
            arguments = (seen[key], new)[: 2 if name == "compare_and_set" else 1]
        elif name == "incr":
            arguments = (1,)
        recorded(calls, d, key, name, *arguments)
        last = calls[key][-1]
        if name in ("compare_and_set", "set", "update") and last.result is not False:
            seen[key] = new
        elif name in ("get", "setdefault", "get_or_create", "incr"):
            seen[key] = last.result
        elif name == "swap":
            seen[key] = new


def move(d, rng, key):
    """The fourth thread's part: entries that come and go, so that tables do."""
    size = rng.randrange(3, 30)
    for i in range(size):
        d[key(100 + i)] = i
    for i in range(size):
        d.discard(key(100 + i))  # unless it is gone: somebody has cleared


@pytest.mark.parametrize("kind", KINDS)
def test_K1_histories_are_linearizable(kind):
    key, new_value, numbers = KINDS[kind]
    count = rounds(1200)
    seed = random.randrange(2**32)
    dicts = [ConcurrentDict() for _ in range(count)]
    arrived, finished = [[] for _ in range(count)], [[] for _ in range(count)]
    failed = []

    def part(me):
        """This thread's calls of each history, and all histories."""
        mine = []
        rng = random.Random(f"{seed} {me}")
        try:
            for number, d in enumerate(dicts):
                calls = {key(i): [] for i in range(1 + number % 3)}
                mine.append(calls)
                values = iter(range(1000 * (me + 1), 1000 * (me + 2)))
                for i in range(number % 5):
                    d.setdefault(key(200 + i), None)
                arrived[number].append(me)
                while len(arrived[number]) <= PLAYERS and not failed:
                    time.sleep(0)
                if me == PLAYERS:
                    move(d, rng, key)
                    while len(finished[number]) < PLAYERS and not failed:
                        move(d, rng, key)
                else:
                    play(calls, d, rng, values, numbers, new_value)
                    finished[number].append(me)
        except BaseException:
            failed.append(me)
            raise
        return mine

    met = 0
    for parts in zip(*run_threads(PLAYERS + 1, part), strict=True):
        for k in parts[0]:
            calls = [call for calls in parts for call in calls[k]]
            met += overlapping(calls)
            assert linearizable(calls), f"seed {seed}, key {k!r}:\n{as_text(calls)}"
    assert met > 0, "nothing happened at the same time"

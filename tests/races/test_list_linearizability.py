"""A1-A5: thousands of short histories of four threads and one list are searched for an order that
explains all results.

Caught on 3.15t, in every run: LIST_INSTALL_BLIND, LIST_DRAIN_IN_TWO, LIST_INDEX_EARLY,
LIST_SORT_BLIND, LIST_MOMENT_BY_ONE; of a debug build with QSBRCONTAINERS_YIELD=5 also
LIST_SHIFT_IN_PLACE and LIST_EXTEND_BY_ONE. (What LIST_NO_RECHECK needs is for test_list.)
"""

import random
import time

import pytest
from support import rounds, run_threads
from support_linearizability import (
    Call,
    as_text,
    linearizable,
    list_outcome,
    overlapping,
    recorded_on_list,
)

from qsbrcontainers import ConcurrentList

# The checker


def history(*calls):
    return [Call(start, end, name, tuple(args), r) for start, end, name, args, r in calls]


GOOD = {
    "one after the other": history(
        *[(0, 1, "append", [1], None), (2, 3, "get", [-1], 1), (4, 5, "incr", [0, 5], 6)],
        *[(6, 7, "append_index", [2], 1), (8, 9, "slice", [None, None, -1], [2, 6])],
        *[(10, 11, "pop", [0], 6), (12, 13, "drain", [], [2]), (14, 15, "pop", [], IndexError)],
        *[(16, 17, "len", [], 0), (18, 19, "remove", [1], ValueError)],
    ),
    "an extend that is seen and not seen": history(
        *[(0, 9, "extend", [[1, 2]], None), (1, 2, "len", [], 0), (3, 4, "snapshot", [], [1, 2])],
    ),
    "two inserts at once, the later first": history(
        *[(0, 9, "insert", [0, 1], None), (0, 9, "insert", [0, 2], None)],
        (10, 11, "snapshot", [], [1, 2]),
    ),
    "a sort that somebody disturbed": history(
        *[(0, 1, "extend", [[2, 1]], None), (2, 9, "disturbed sort", [None], ValueError)],
        *[(2, 9, "append", [0], None), (10, 11, "sort", [None], None)],
        (12, 13, "slice", [0, 2], [0, 1]),
    ),
    "computed again": history(
        *[(0, 1, "append", [1], None), (2, 9, "compute", [0, 3], (2, 3))],
        *[(2, 9, "swap", [0, 2], 1), (10, 11, "compare_and_set", [-1, 3, 4], True)],
    ),
}
BAD = {
    "half an extend": history(
        *[(0, 9, "extend", [[1, 2]], None), (1, 2, "len", [], 1)],
    ),
    "shifted one by one": history(
        *[(0, 1, "extend", [[1, 2, 3]], None), (2, 9, "insert", [0, 0], None)],
        (2, 9, "snapshot", [], [1, 1, 2, 3]),
    ),
    "an element lost under a shift": history(
        *[(0, 1, "extend", [[1, 2, 3]], None), (2, 9, "pop", [0], 1), (2, 9, "set", [0, 5], None)],
        (10, 11, "snapshot", [], [2, 3, 4]),
    ),
    "an index error that was not": history(
        *[(0, 1, "append", [1], None), (2, 3, "get", [0], IndexError), (4, 5, "pop", [], 1)],
    ),
    "two get one": history(
        *[(0, 1, "append", [1], None), (2, 9, "pop", [], 1), (2, 9, "drain", [], [1])],
    ),
    "one index twice": history(
        *[(0, 9, "append_index", [1], 0), (0, 9, "append_index", [2], 0)],
    ),
    "half of a reversal": history(
        *[(0, 1, "extend", [[1, 2, 3]], None), (2, 9, "reverse", [], None)],
        *[(3, 4, "get", [0], 3), (5, 6, "get", [2], 3)],
    ),
    "swapped out twice": history(
        *[(0, 1, "append", [1], None), (2, 9, "swap", [0, 2], 1), (2, 9, "swap", [0, 3], 1)],
    ),
    "a size from the one moment, an element from the other": history(
        *[(0, 1, "extend", [[1, 2]], None), (2, 9, "pop", [], 2), (2, 9, "append", [3], None)],
        (2, 9, "get", [-1], 0),
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_the_checker_accepts(name):
    assert linearizable(GOOD[name], (), list_outcome)


@pytest.mark.parametrize("name", BAD)
def test_the_checker_rejects(name):
    assert not linearizable(BAD[name], (), list_outcome)


# The histories

PLAYERS, CALLS = 4, 6


class Token:
    """A value that equals nothing else."""

    def __init__(self, number):
        self.number = number

    def __repr__(self):
        return f"{type(self).__name__}({self.number})"


class Slow(Token):
    """One that is compared by Python code, in the middle of which threads may change."""

    def __eq__(self, other):
        return self.number == other.number if isinstance(other, Slow) else NotImplemented

    def __hash__(self):
        return hash(self.number)


def number(token):
    return token.number


KINDS = {  # values, how they are sorted, whether they can be added to, how many histories
    "ints": (lambda i: i, None, True, 3000),
    "objects": (Token, number, False, 2000),
    "objects with __eq__": (Slow, number, False, 1500),
}


class Plan:
    """What is called in one history: made before, so that the threads do nothing else."""

    def __init__(self, rng, new, key, numbers, size):
        self.rng, self.new, self.key = rng, new, key
        self.values = []
        self.first = tuple(self.value() for _ in range(size))
        names = list(self.CHOICES) + self.OFTEN * 3
        if not numbers:
            names = [name for name in names if name != "incr"]
        self.calls = [[self.call(rng.choice(names)) for _ in range(CALLS)] for _ in range(PLAYERS)]

    def call(self, name):
        return name, tuple(self.CHOICES[name](self))

    def value(self):
        """One that nobody else has stored."""
        self.values.append(self.new(len(self.values)))
        return self.values[-1]

    def index(self):
        return self.rng.choice([0, 0, 1, 2, -1, -1, -2, 5])

    def old(self):
        """One that may be there."""
        return self.rng.choice(self.values) if self.values else None

    def some(self):
        return [self.value() for _ in range(self.rng.randrange(4))]

    def bounds(self, step=True):
        bound = [None, None, 0, 1, 2, -1, 4]
        step = self.rng.choice([None, None, 2, -1]) if step else None
        return [self.rng.choice(bound), self.rng.choice(bound), step]

    CHOICES = {
        "get": lambda p: [p.index()],
        "set": lambda p: [p.index(), p.value()],
        "len": lambda p: [],
        "append": lambda p: [p.value()],
        "append_index": lambda p: [p.value()],
        "extend": lambda p: [p.some()],
        "extend from": lambda p: [p.some()],
        "add": lambda p: [p.some()],
        "pop": lambda p: [] if p.rng.random() < 0.6 else [p.index()],
        "insert": lambda p: [p.index(), p.value()],
        "delete": lambda p: [p.index()],
        "slice": lambda p: p.bounds(),
        "set slice": lambda p: [p.some(), *p.bounds(step=False)],
        "delete slice": lambda p: p.bounds(),
        "swap": lambda p: [p.index(), p.value()],
        "compare_and_set": lambda p: [p.index(), p.old(), p.value()],
        "compute": lambda p: [p.index(), p.value()],
        "incr": lambda p: [p.index(), 1],
        "snapshot": lambda p: [],
        "copy": lambda p: [],
        "contains": lambda p: [p.old()],
        "index": lambda p: [p.old()],
        "count": lambda p: [p.old()],
        "remove": lambda p: [p.old()],
        "reverse": lambda p: [],
        "sort": lambda p: [p.key],
        "times": lambda p: [p.rng.choice([2, 2, 1, 0])],
        "drain": lambda p: [],
        "clear": lambda p: [],
    }
    OFTEN = ["get", "set", "append", "pop", "insert", "extend", "slice", "swap", "compare_and_set"]


@pytest.mark.parametrize("kind", KINDS)
def test_A4_histories_are_linearizable(kind):
    *how, count = KINDS[kind]
    count = rounds(count)
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    plans = [Plan(rng, *how, at % 7 + at % 3 // 2 * 5) for at in range(count)]
    lists = [ConcurrentList(plan.first) for plan in plans]
    arrived = [[] for _ in range(count)]
    failed = []

    def part(me):
        """This thread's calls of each history."""
        mine = []
        try:
            for at, plan in enumerate(plans):
                if me == 0 and at % 2:
                    # Made by one that plays: unshared until the others come.
                    lists[at] = ConcurrentList(plan.first)
                mine.append([])
                arrived[at].append(me)
                while len(arrived[at]) < PLAYERS and not failed:
                    time.sleep(0)
                if failed:
                    break
                for name, arguments in plan.calls[me]:
                    recorded_on_list(mine[-1], lists[at], name, *arguments)
        except BaseException:
            failed.append(me)
            raise
        return mine

    met = 0
    for at, parts in enumerate(zip(*run_threads(PLAYERS, part), strict=True)):
        calls = [call for mine in parts for call in mine]
        end = max(call.end for call in calls) + 1
        calls.append(Call(end, end, "snapshot", (), lists[at].snapshot()))
        met += overlapping(calls)
        assert linearizable(calls, plans[at].first, list_outcome), (
            f"seed {seed}, list {at}, {plans[at].first}:\n{as_text(calls)}"
        )
    assert met > 0, "nothing happened at the same time"

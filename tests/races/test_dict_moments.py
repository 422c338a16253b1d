"""K7: snapshot, copy, repr, clear and each side of == see one moment, although assignments take no
lock. A writer assigns the same number to "first", then to "last": at every moment last <= first."""

import ast

import pytest
from support import run_threads, scaled

from qsbrcontainers import ConcurrentDict

BALLAST = 500  # entries between the two, so that copying takes a while


class Spy:
    """Equal to everything, and remembers to what."""

    def __init__(self, seen, name):
        self.seen, self.name = seen, name

    def __eq__(self, other):
        self.seen[self.name] = other
        return True

    __hash__ = None


def compared(d, spies_first):
    seen = {}
    probe = {key: Spy(seen, key) if key in ("first", "last") else key for key in d.snapshot()}
    probe = probe if spies_first else ConcurrentDict(probe)
    assert probe == d if spies_first else d == probe
    return seen


MOMENTS = {
    "snapshot": lambda d: d.snapshot(),
    "copy": lambda d: d.copy(),
    "repr": lambda d: ast.literal_eval(repr(d)),
    "update from it": lambda d: ConcurrentDict(d.copy()),
    "== dict": lambda d: compared(d, True),
    "== ours": lambda d: compared(d, False),
}


def pair(number_of=lambda i: i):
    d = ConcurrentDict(first=number_of(0))
    d.update((i, i) for i in range(BALLAST))
    d["last"] = number_of(0)
    return d


@pytest.mark.parametrize("moment", MOMENTS)
def test_K7_one_moment_beside_assignments(moment):
    """Caught: NO_FREEZE (a first from before and a last from after)."""
    see, d = MOMENTS[moment], pair()
    written = [0]

    def write(_):
        for i in range(1, scaled(60_000)):
            d["first"] = i
            d["last"] = i
            written[0] = i

    def look():
        least = written[0]
        seen = see(d)
        first, last = seen["first"], seen["last"]
        assert last <= first <= last + 1, "not one moment"
        assert last >= least, "an earlier moment than the call's"

    run_threads(1, write, background=[look])


def test_K7_one_moment_of_objects_and_many_writers():
    d = ConcurrentDict()
    writers = 2
    for me in range(writers):
        d["first", me] = [0]
    d.update((i, i) for i in range(BALLAST))
    for me in range(writers):
        d["last", me] = [0]

    def write(me):
        for i in range(1, scaled(30_000)):
            d["first", me] = [i]
            d["last", me] = [i]

    def look():
        seen = d.snapshot()
        for me in range(writers):
            first, last = seen["first", me][0], seen["last", me][0]
            assert last <= first <= last + 1

    run_threads(writers, write, background=[look])


def test_K7_one_moment_beside_incr():
    d = pair()

    def write(_):
        for _ in range(scaled(60_000)):
            d.incr("first")
            d.incr("last")

    def look():
        seen = d.snapshot()
        assert seen["last"] <= seen["first"] <= seen["last"] + 1

    run_threads(1, write, background=[look])


def test_K7_one_moment_beside_insertions_and_deletions():
    d = ConcurrentDict((i, i) for i in range(BALLAST))
    d["at", 0] = 0

    def write(_):
        for i in range(1, scaled(20_000)):
            d["at", i] = i
            del d["at", i - 1]

    def look():
        seen = [key[1] for key in d.snapshot() if isinstance(key, tuple)]
        assert len(seen) in (1, 2) and seen[-1] - seen[0] == len(seen) - 1
        copy = d.copy()
        assert len(copy) == len(list(copy)) and len(copy) in (BALLAST + 1, BALLAST + 2)

    run_threads(1, write, background=[look, look])


def test_K7_one_moment_beside_clear():
    """Filled by one call of update per entry, emptied at once: a snapshot is a prefix."""
    d = ConcurrentDict()

    def write(_):
        for _ in range(scaled(600)):
            for i in range(100):
                d[i] = i
            d.clear()

    def look():
        seen = list(d.snapshot())
        assert seen == list(range(len(seen)))
        assert len(d) <= 100

    run_threads(1, write, background=[look, look])


def test_K7_clear_loses_no_later_write():
    """A write begun after the last clear has ended stays."""
    d = ConcurrentDict((i, 0) for i in range(BALLAST))
    begun, ended = [0], [0]

    def clear():
        len(d)  # a thread's first operation detaches: not in the middle of the first clear
        begun[0] += 1
        d.clear()
        ended[0] += 1
        for i in range(50):
            d["filler", i] = i

    def write(me):
        checked = 0
        for i in range(scaled(40_000)):
            finished = ended[0]
            d[me] = i
            d[me] = (i,) if i % 2 else i + 1
            value = d.get(me)
            if begun[0] == finished:  # no clear was under way, or began, meanwhile
                assert value == ((i,) if i % 2 else i + 1), "a write was lost"
                checked += 1
            if i % 50 == 0:
                d.incr("sum")
        return checked

    checked = run_threads(2, write, background=[clear])
    assert sum(checked) > 0


def test_K7_readers_and_writers_go_on_beside_many_snapshots():
    """Nobody starves: all of it ends."""
    d = pair()

    def look(_):
        for _ in range(scaled(150)):
            d.snapshot()
            d == d.copy()  # noqa: B015

    def write(_):
        for i in range(scaled(3000)):
            d["first"] = i
            d["last"] = i
            d[i % BALLAST] = i

    run_threads(2, look, 2, write)


def test_K7_comparing_with_each_other_from_both_sides():
    """a == b beside b == a, and snapshots of both: no deadlock."""
    a, b = pair(), pair()

    def compare(me):
        one, other = (a, b) if me % 2 else (b, a)
        for i in range(scaled(100)):
            assert (one == other) in (True, False)
            one.update(other)
            one["first"] = other["last"] = i

    run_threads(4, compare)

"""Nesting and sizes beyond what the C stack or memory can hold."""

import sys

import pytest
from support import Census, settle, touch

from qsbrcontainers import ConcurrentDict, ConcurrentList

DEPTH = 100_000


def nest_dicts(depth):
    d = ConcurrentDict()
    for _ in range(depth):
        d = ConcurrentDict(d=d)
    return d


def nest_lists(depth):
    values = ConcurrentList()
    for _ in range(depth):
        values = ConcurrentList([values])
    return values


def nest_both(depth):
    inner = None
    for i in range(depth):
        inner = (ConcurrentDict(d=inner), [inner], ConcurrentList([inner]), {"d": inner})[i % 4]
        if i % 4 in (1, 3):
            inner = ConcurrentDict([(i, inner)])
    return inner


NESTS = [nest_dicts, nest_lists, nest_both]


@pytest.mark.parametrize("nest", NESTS)
def test_deep_nesting_dies(nest):
    del_me = nest(DEPTH)
    assert del_me is not None
    del del_me
    settle()


@pytest.mark.parametrize("nest", NESTS)
def test_deep_nesting_dies_by_clear_and_by_collection(nest):
    d = ConcurrentDict(a=nest(DEPTH))
    touch(d)
    d.clear()
    settle()
    d["a"], d["self"] = nest(DEPTH), d
    del d
    settle()


@pytest.mark.parametrize("nest", [nest_dicts, nest_lists])
def test_deep_nesting_cannot_be_shown_or_compared(nest):
    a, b = nest(DEPTH), nest(DEPTH)
    with pytest.raises(RecursionError):
        repr(a)
    with pytest.raises(RecursionError):
        a == b  # noqa: B015
    del a, b
    settle()


def test_comparing_containers_that_contain_themselves():
    for make in (lambda: ConcurrentDict(a=1), lambda: ConcurrentList([1])):
        a, b = make(), make()
        a[0 if isinstance(a, ConcurrentList) else "a"] = b
        b[0 if isinstance(b, ConcurrentList) else "a"] = a
        with pytest.raises(RecursionError):
            a == b  # noqa: B015
        a.clear()
        b.clear()


def test_a_long_chain_of_values_dies_at_once():
    class Link:
        __slots__ = ("next",)

    link = None
    for _ in range(DEPTH):
        following = Link()
        following.next = link
        link = following
    d = ConcurrentDict(a=link)
    touch(d)
    del link, following
    d["a"] = None
    settle()


def test_sizes_beyond_memory():
    values = ConcurrentList([1, 2])

    class Huge:
        def __init__(self):
            self.left = 3

        def __iter__(self):
            return self

        def __next__(self):
            self.left -= 1
            if self.left < 0:
                raise StopIteration
            return self.left

        def __length_hint__(self):
            return sys.maxsize

    # list ignores such a hint, or has not the memory for it; both leave it as it was.
    try:
        values.extend(Huge())
    except MemoryError:
        assert values == [1, 2]
    else:
        assert values == [1, 2, 2, 1, 0]
    for wrong in (-1, sys.maxsize, -sys.maxsize - 1, 1 << 62):
        if wrong not in (-1,):
            with pytest.raises(IndexError):
                values[wrong]


def test_many_equal_hashes():
    """As slow as dict with as many, and right."""

    class Same:
        def __init__(self, value):
            self.value = value

        def __hash__(self):
            return 7

        def __eq__(self, other):
            return self.value == other.value

    count = 600
    d = ConcurrentDict((Same(i), i) for i in range(count))
    assert [d[Same(i)] for i in range(0, count, 50)] == list(range(0, count, 50))
    period = sys.hash_info.modulus
    d = ConcurrentDict((i * period, i) for i in range(3000))
    assert len(d) == 3000 and d[2999 * period] == 2999


def test_a_big_container_dies_with_everything_in_it():
    census = Census()
    d = ConcurrentDict((i, census.new(i)) for i in range(50_000))
    values = ConcurrentList(d.values())
    touch(d)
    touch(values)
    d.clear()
    del values
    settle()
    assert census.alive == 0

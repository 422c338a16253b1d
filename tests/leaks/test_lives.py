"""Objects made = objects finalized: long random sequences of operations, and what is alive in the
middle of them is what the container holds."""

import random

import pytest
from support import DICTS, LISTS, MANY_TOUCHES, Census, in_other_thread, settle, touch

from qsbrcontainers import ConcurrentDict, ConcurrentList

STEPS = 4000


def here(function, *arguments):
    return function(*arguments)


def in_turn(step):
    return in_other_thread if step % 2 else here


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threads", ["one", "turns", "deferred"])
@pytest.mark.parametrize("kind", DICTS)
def test_dict(kind, threads, seed):
    rng, census, keys = random.Random(seed), Census(), Census()
    d = DICTS[kind]()
    if threads == "deferred":
        touch(d, MANY_TOUCHES)
    names = [f"key{i}" for i in range(30)]
    for step in range(STEPS):
        call = in_turn(step) if threads == "turns" else here
        key = rng.choice(names) if rng.random() < 0.7 else rng.randrange(100)
        match rng.randrange(12):
            case 0 | 1 | 2:
                call(d.__setitem__, key, census.new())
            case 3:
                call(d.__setitem__, keys.new(), census.new())
            case 4:
                call(d.pop, key, None)
            case 5:
                call(d.setdefault, key, census.new())
            case 6:
                d and call(d.popitem)
            case 7:
                call(d.get, key)
            case 8:
                call(d.update, {key: census.new(), keys.new(): 1})
            case 9:
                call(list, d.items())
            case 10:
                call(d.__setitem__, key, step)
            case 11:
                rng.random() < 0.05 and call(d.clear)
        if step % 1000 == 0:
            if threads == "turns":
                settle()  # another thread may not have let go of its arguments yet
            assert census.alive == sum(not isinstance(value, int) for value in d.values())
            settle()  # keys wait
            assert keys.alive == sum(not isinstance(key, (str, int)) for key in d)
    d = None
    settle()
    assert census.alive == keys.alive == 0


def sort_backwards(values):
    values.sort(key=id, reverse=True)


def copies(values, where, more):
    return values[where], values.copy(), values + more, values * 2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threads", ["one", "turns", "deferred"])
@pytest.mark.parametrize("kind", LISTS)
def test_list(kind, threads, seed):
    rng, census = random.Random(seed), Census()
    values = LISTS[kind]()
    if threads == "deferred":
        touch(values, MANY_TOUCHES)
    for step in range(STEPS):
        call = in_turn(step) if threads == "turns" else here
        i = rng.randrange(-len(values) - 2, len(values) + 2)
        where = slice(i, i + rng.randrange(5), rng.choice([None, 1, 2, -1]))
        new = [census.new() for _ in range(rng.randrange(10))]
        match rng.randrange(17):
            case 0 | 1:
                call(values.append, census.new())
            case 2:
                values and call(values.pop)
            case 3 | 4:
                values and call(values.__setitem__, rng.randrange(len(values)), census.new())
            case 5:
                call(values.extend, new)
            case 6:
                values and call(values.__getitem__, -1)
            case 7:
                rng.random() < 0.05 and call(values.clear)
            case 8:
                call(values.insert, i, census.new())
            case 9:
                values and call(values.pop, rng.randrange(-len(values), len(values)))
            case 10:
                call(values.__delitem__, where)
            case 11:
                if where.step not in (None, 1):
                    new = [census.new() for _ in values[where]]
                call(values.__setitem__, where, new)
            case 12:
                values and call(values.remove, values[rng.randrange(len(values))])
            case 13:
                call(sort_backwards, values)
            case 14:
                call(values.reverse)
            case 15:
                call(copies, values, where, new)
            case 16:
                call(values.__imul__, rng.choice([0, 1, 1, 1, 1, 2]))
        if len(values) > 200:
            del values[20:]
        if step % 1000 == 0:
            del new
            if threads == "turns":
                settle()
            assert census.alive == len({id(counted) for counted in values})
    values = new = None
    settle()
    assert census.alive == 0


@pytest.mark.parametrize("constructor", [ConcurrentDict, ConcurrentList])
def test_dropped_by_another_thread(constructor):
    """The last reference goes away in a thread that did not make the container."""
    census = Census()
    for _ in range(200):
        holder = [constructor((i, census.new()) for i in range(20))]
        in_other_thread(holder.clear)
    settle()
    assert census.alive == 0


def test_iterators_left_in_the_middle():
    census = Census()
    iterators = []
    for make in (DICTS["ConcurrentDict"], DICTS["shared"]):
        d = make((i, census.new()) for i in range(100))
        for view in (d, d.values(), d.items()):
            iterator = iter(view)
            next(iterator)
            iterators.append(iterator)
        d.update((i, census.new()) for i in range(50, 1000))
        for iterator in iterators:
            next(iterator, None)
        d.clear()
    for make in LISTS.values():
        values = make(census.new() for _ in range(100))
        iterators.append(iter(values))
        next(iterators[-1])
        values.extend([census.new() for _ in range(1000)])
        values.clear()
    del d, view, iterator, values
    settle()
    # An iterator keeps its container, not what was in it.
    assert census.alive == 0
    iterators.clear()
    settle()

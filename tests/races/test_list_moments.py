"""A3, A5, A1: what changes several elements appears at once, and what reads several sees one
moment, while others shift, sort, reverse, cut and fill.

Caught (3.15t), in every run: LIST_MOMENT_BY_ONE by what compares whole looks, LIST_SHIFT_IN_PLACE
by single reads of long lists (whoever takes the lock sees no half of a shift), LIST_EXTEND_BY_ONE,
LIST_SORT_BLIND by what is lost.
"""

import copy
import pickle
import random
import time
from bisect import bisect
from itertools import pairwise

from support import Census, rounds, run_threads, scaled, settle

from qsbrcontainers import ConcurrentList

LOOKS = {  # what sees one moment, as a list
    "snapshot": lambda values: values.snapshot(),
    "slice": lambda values: list(values[:]),
    "backwards": lambda values: list(values[::-1])[::-1],
    "copy": lambda values: list(values.copy()),
    "copy.copy": lambda values: list(copy.copy(values)),
    "construct": lambda values: list(ConcurrentList(values)),
    "add": lambda values: list(values + []),
    "times": lambda values: list(values * 1),
    "pickle": lambda values: list(pickle.loads(pickle.dumps(values))),
}


def all_looks(values, check):
    """Something to do in the background: check what each of them sees."""

    def look():
        for name, each in LOOKS.items():
            seen = each(values)
            assert check(seen), (name, seen)

    return look


def test_A3_a_sorted_list_stays_sorted():
    """Under insertions and assignments of what belongs there, deletions, growth at both ends."""
    values, size = ConcurrentList(range(0, 400, 4)), 100

    def write(me):
        rng = random.Random(me)
        low = high = 0
        for i in range(scaled(4500)):
            mine = values.snapshot()
            at = rng.randrange(len(mine) - 10)
            match i % 8:
                case 0 | 1:
                    new = rng.randrange(mine[0], mine[-1])
                    values.insert(bisect(mine, new), new)
                case 2:
                    values[at : at + 5] = sorted(mine[at : at + 5] + [mine[at]] * 3)
                case 3:
                    low -= 3
                    values[:0] = [low, low + 1, low + 2]
                case 4:
                    high += 2
                    values.extend([mine[-1] + 1, mine[-1] + 2])
                case 5:
                    del values[at + 1 : at + 10 : 3]
                case 6:
                    values[at] = (mine[at] + mine[at + 1]) // 2
                case 7:
                    del values[: max(0, len(values) - size)]
                    values.pop(3)

    run_threads(1, write, background=[all_looks(values, lambda seen: seen == sorted(seen))] * 2)


def test_A3_a_permutation_stays_one():
    """Under reverse, sort, and assignments of slices in another order."""
    size = 60
    start = list(range(size))
    values = ConcurrentList(start)

    def write(_):
        for i in range(scaled(4500)):
            a, b = i % 20, 25 + i * 7 % 30
            match i % 7:
                case 0 | 1:
                    values.reverse()
                case 2:
                    values[a:b] = values[a:b][::-1]
                case 3:
                    values[a::3] = values[a::3][::-1]
                case 4:
                    values.sort(key=lambda v, i=i: v * i % 61)
                case 5:
                    values[::-2] = values[::-2][::-1]
                case 6:
                    values.sort(reverse=bool(i % 2))

    def look():
        assert values.count(i := random.randrange(size)) == 1
        assert 0 <= values.index(i) < size
        assert i in values and -1 not in values
        assert len(values) == size and values != start[1:]

    looks = all_looks(values, lambda seen: sorted(seen) == start)
    run_threads(1, write, background=[looks, looks, look])


def test_A3_rotations_stay_rotations():
    size = 50
    values = ConcurrentList(range(size))

    def write(_):
        for i in range(scaled(12_000)):
            k = 1 + i * 7 % (size - 1)
            values[:] = values[k:] + values[:k]

    def is_rotation(seen):
        return len(seen) == size and all((a + 1) % size == b for a, b in pairwise(seen))

    def look():
        part = list(values[10:40:2])
        assert len(part) == 15 and all((a + 2) % size == b for a, b in pairwise(part))
        part = list(values[-5:])
        assert all((a + 1) % size == b for a, b in pairwise(part))

    looks = all_looks(values, is_rotation)
    run_threads(1, write, background=[looks, looks, look])


def test_A3_sorted_or_reversed_nothing_between():
    """Only two orders are ever there, for what compares the whole list too."""
    forth = list(range(64))
    back = forth[::-1]
    values = ConcurrentList(forth)
    between = [back[:k] + forth[k : 64 - k] + back[64 - k :] for k in range(1, 32)]

    def write(_):
        for _ in range(scaled(7500)):
            values.reverse()
            values.sort()

    def look():
        for mixed in between:
            assert values != mixed
        assert values[0] in (0, 63) and values[-1] in (0, 63)
        assert (forth <= values) is True
        assert repr(values) in (repr(forth), repr(back))

    looks = all_looks(values, lambda seen: seen in (forth, back))
    run_threads(1, write, background=[looks, look])
    assert values == forth


def test_A5_sums_stay():
    """Amounts move from one element to another by an assignment to a slice."""
    size, total = 40, 40 * 100
    values = ConcurrentList([100] * size)

    def write(_):
        rng = random.Random(1)
        for _ in range(scaled(15_000)):
            i, x = rng.randrange(size - 1), rng.randrange(50)
            one, other = values[i : i + 2]
            if rng.random() < 0.7:
                values[i : i + 2] = [one - x, other + x]
            else:
                first = values[0]
                values[:: size - 1] = [first - x, values[-1] + x]

    looks = all_looks(values, lambda seen: sum(seen) == total)
    run_threads(1, write, background=[looks, looks])


def test_A3_blocks_come_and_go_whole():
    """Several writers, each with blocks of its own, which it puts in and takes out as a whole."""
    values, threads, width = ConcurrentList(), 3, 5

    def whole(seen):
        return len(seen) % width == 0 and all(
            seen[i : i + width] == [seen[i]] * width for i in range(0, len(seen), width)
        )

    def write(me):
        rng = random.Random(me)
        for i in range(scaled(2100)):
            block = [(me, i)] * width
            at = width * rng.randrange(4)
            match rng.randrange(9):
                case 0 | 1:
                    values[at:at] = block
                case 2:
                    values[len(values) :] = block  # a boundary or behind the end, later too
                    values.clear()
                case 3:
                    values.extend(block)
                case 4:
                    values[at : at + width] = iter(block)
                case 5:
                    del values[at : at + width]
                case 6:
                    values.__iadd__(block)
                case 7:
                    values.__imul__(1 + (len(values) < 50))
                case 8:
                    if len(values) > 100:
                        assert whole(values.drain())

    def look():
        assert len(values) % width == 0
        part = list(values[: 2 * width])
        assert whole(part) and values.count((0, 5)) % width == 0

    run_threads(threads, write, background=[all_looks(values, whole), look])
    assert whole(values.snapshot())


def test_A3_single_reads_never_go_back():
    """All elements are replaced at once by those of the next generation: who has seen one of it, by
    whatever index, finds none of an older one."""
    size = 3000
    values = ConcurrentList([0] * size)

    def write(_):
        for generation in range(1, scaled(500)):
            match generation % 3:
                case 0:
                    values[:] = [generation] * size
                case 1:
                    values[::-1] = [generation] * size
                case 2:
                    values[:] = [generation] * (size + generation % 5)

    def read():
        seen = 0
        for _ in range(500):
            at = random.randrange(-size, size)
            found = values[at]
            assert found >= seen, at
            seen = found

    run_threads(1, write, background=[read, read])


def test_A3_half_of_a_reversal_is_never_seen():
    """A middle element that stays as it was before and after a look at the first: unless it was
    reversed twice meanwhile, which the writer would have said before, the first was like it."""
    size = 6000
    values, begun = ConcurrentList(range(size)), [0]

    def write(_):
        for i in range(scaled(1000)):
            begun[0] += 1
            if i % 10 < 8:
                values.reverse()
            else:
                values[:] = range(size) if values[0] else range(size - 1, -1, -1)

    def read():
        for _ in range(300):
            before = begun[0]
            for one, other in ((size // 2, 0), (0, size - 1), (-1, size // 2 - 1)):
                first = values[one]
                found = values[other]
                again = values[one]
                if begun[0] == before and first == again:
                    forth = first == range(size)[one]
                    assert found == (range(size)[other] if forth else range(size)[-1 - other])

    run_threads(1, write, background=[read, read])


def test_A1_elements_that_are_always_there_under_shifts():
    """A window on the numbers that moves up, of 2,000 at least: reading within it never fails, and
    who has seen where it starts, or ends, finds it there or further on, by whatever index."""
    size = 2000
    values = ConcurrentList(range(size))

    def write(_):
        next_one = size
        for i in range(scaled(3000)):
            n = 1 if i % 6 < 4 else 3
            more = range(next_one, next_one + n)
            next_one += n
            match i % 6:
                case 0:
                    values.append(more[0])
                    values.pop(0)
                case 1:
                    values.insert(size, more[0])
                    del values[0]
                case 2:
                    values.append(more[0])
                    values.remove(values[0])
                case 3:
                    values[size:] = more
                    values[:1] = []
                case 4:
                    values.extend(more)
                    del values[:n]
                case 5:
                    values.__iadd__(more)
                    del values[2::-1]

    def read():
        start = end = 0
        for _ in range(500):
            at = random.randrange(size)
            found = values[at] - at
            assert found >= start, (at, found, start)
            start = found
            found = values[-1 - at] + at
            assert found >= end and found >= start + size - 1, (-1 - at, found, end, start)
            end = found
            length = len(values)
            assert size <= length <= size + 3

    run_threads(1, write, background=[read, read])
    assert values == list(range(values[0], values[0] + size))


def test_A2_a_long_extend_appears_at_once():
    """For who asks for the length or the last element too; so does what is cut off the end."""
    size = 1000
    block = list(range(size))
    values = ConcurrentList(block * 20)  # an eighth of that is room to extend in place

    def write(_):
        for i in range(scaled(500)):
            values.extend(block)
            if i % 4 < 2:
                values[len(values) :] = block
                del values[20 * size :]
            elif i % 4 == 2:
                values.__iadd__(tuple(block))
                del values[: 2 * size]
            else:
                values[-size:] = []

    def read():
        for _ in range(300):
            assert len(values) % size == 0
            assert values[-1] == size - 1 and values[-size] == 0

    run_threads(1, write, background=[read, read])


def test_A1_iteration_under_shifts_ends_and_meets_what_was_there():
    census = Census()
    values = ConcurrentList(census.new(i) for i in range(50))

    def write(me):
        rng = random.Random(me)
        for i in range(scaled(4500)):
            match i % 5:
                case 0:
                    values.insert(rng.randrange(60), census.new(i))
                case 1:
                    values[5:10] = [census.new(i) for _ in range(rng.randrange(8))]
                case 2:
                    values.reverse()
                case 3:
                    del values[rng.randrange(50) : 50]
                case 4:
                    values[:0] = [census.new(i) for _ in range(20)]
                    del values[60:]

    def read():
        met = [value.check() for value in values]
        assert len(met) < 10_000
        for value in reversed(values):
            value.check()
        for value in values[::3]:
            value.check()

    run_threads(2, write, background=[read, read])
    settle()
    assert census.alive == len(values)
    values.clear()
    settle()
    assert census.alive == 0


def computed(values, index, new):
    """What compute gave its function in the end."""
    given = []
    values.compute(index, lambda old: given.append(old) or new)
    return given[-1]


def test_A4_nothing_is_lost_under_shifts():
    """Whatever is put in comes out once or is still there: pops, removals and exchanges anywhere,
    beside others that reverse, sort, repeat nothing and lose nothing."""
    values = ConcurrentList()
    threads, count = 4, scaled(3000)

    def work(me):
        rng = random.Random(me)
        put, out = [], []
        for i in range(count):
            new = me * count + i
            try:
                match rng.randrange(9):
                    case 0 | 1:
                        values.insert(rng.randrange(-5, 10), new)
                    case 2:
                        values[3:3] = [new]
                    case 3:
                        values.append(new)
                    case 4:
                        out.append(values.swap(rng.randrange(-3, 10), new))
                    case 5:
                        out.append(values.pop(rng.randrange(-3, 5)))
                        continue
                    case 6:
                        gone = values[0]
                        values.remove(gone)
                        out.append(gone)
                        continue
                    case 7:
                        out.append(computed(values, -2, new))
                    case 8:
                        out.append(values.pop())
                        continue
            except (IndexError, ValueError):
                continue
            put.append(new)
        return put, out

    def turn():
        values.reverse()
        try:
            values.sort(key=lambda value: value % 101)
        except ValueError:  # somebody was there meanwhile
            pass

    results = run_threads(threads, work, background=[turn])
    put = [number for mine, _ in results for number in mine]
    out = [number for _, mine in results for number in mine]
    assert sorted(out + values.snapshot()) == sorted(put)


def test_A4_sort_undoes_nothing():
    """Of what is appended and assigned while a list is sorted nothing is lost; if anything was, the
    sort raises ValueError and leaves the list as it is."""
    values = ConcurrentList([[0]] * 4)
    size, threads, count = 4, 2, scaled(9000)

    def append(me):
        for i in range(count):
            values.append([me * count + i])
            if i % 100 == 99:
                while len(values) > 500:
                    taken[me].append(values.pop(size)[0])

    taken = [[] for _ in range(threads)]
    raised = []

    def sort():
        try:
            values.sort(reverse=True, key=lambda value: value[0] % 7)
        except ValueError as error:
            assert "modified during sort" in str(error)
            raised.append(1)

    run_threads(threads, append, background=[sort])
    everything = [value for mine in taken for value in mine] + [value[0] for value in values]
    assert sorted(everything) == sorted([0] * size + list(range(threads * count)))


def test_T1_readers_that_come_while_a_list_is_shifted_in_place():
    """Unshared lists are changed in place; from its first look on another thread sees moments."""
    for _ in range(rounds(25)):
        size, place = 300, []

        def write(_, size=size, place=place):
            values = ConcurrentList(range(size))
            for _ in range(30):
                values.reverse()
            place.append(values)
            for i in range(300):
                k = 1 + i * 7 % (size - 1)
                values[:] = values[k:] + values[:k]
                values[:] = values[-k:] + values[:-k]
                values.insert(0, values.pop())
                values.append(values.pop(0))
                values.reverse()
                values.reverse()

        def read(_, size=size, place=place):
            while not place:
                time.sleep(0)
            (values,) = place
            for _ in range(20):
                seen = values[:]
                assert len(seen) in (size, size - 1)
                steps = {(b - a) % size for a, b in pairwise(seen)}
                assert len(steps - {1}) == 0 or len(steps - {size - 1}) == 0

        run_threads(1, write, 1, read)

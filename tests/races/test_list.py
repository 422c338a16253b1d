"""A1-A6: the list read without a lock, beside appends, pops, extends, assignments and clears."""

import threading

import pytest
from support import Census, rounds, run_threads, scaled, settle

from qsbrcontainers import ConcurrentDict, ConcurrentList


def test_A1_indices_that_are_always_there():
    """The list never has fewer than 100 elements: reading those never fails, nor from the end."""
    base = 100
    values = ConcurrentList(range(base))

    def append_and_pop(me):
        for i in range(scaled(15_000)):
            values.append(base + i)
            values.pop()

    def grow_and_shrink(me):
        for _ in range(scaled(100)):
            values.extend(range(base, base + 300))
            for _ in range(300):
                values.pop()

    def read():
        for i in range(base):
            assert values[i] == i
        for i in range(1, base + 1):
            assert values[-i] >= base - i
        assert len(values) >= base

    run_threads(1, append_and_pop, 1, grow_and_shrink, background=[read, read])
    assert list(values) == list(range(base))


def test_A1_index_errors_are_true():
    """An index that was never there never reads, one that is there never fails; the writer says
    beforehand what it will do. Caught: LIST_NO_RECHECK (an element before its append has ended,
    in a slot that a pop had left)."""
    values = ConcurrentList(range(5))
    appending, popping = [-1], [-1]
    total = scaled(60_000)

    def write(_):
        for i in range(total):
            appending[0] = i
            values.append((i,))
            popping[0] = i
            values.pop()

    def read():
        for _ in range(200):
            first = popping[0]
            try:
                value = values[5][0]
            except IndexError:
                continue
            # It had been appended by then: either it is still there or its pop has begun.
            length = len(values)
            last = popping[0]
            assert first <= value <= appending[0]
            assert length == 6 or last >= value, "read before it was appended"
        with pytest.raises(IndexError):
            values[6]

    run_threads(1, write, background=[read, read])


def test_A1_negative_indices_see_one_length():
    """l[-1] is the last element of some moment: here each element equals its index."""
    values = ConcurrentList(range(50))

    def write(_):
        for i in range(scaled(1500)):
            for n in range(50, 60 + i % 40):
                values.append(n)
            while len(values) > 50:
                values.pop()

    def read():
        for back in (1, 2, 10, 50):
            before = popped_at_most = 50
            value = values[-back]
            assert before - back <= value < 100 - back + 1
            assert popped_at_most
        with pytest.raises(IndexError):
            values[-200]

    run_threads(1, write, background=[read, read])


def test_A1_values_never_go_back():
    """One writer counts up in every place while the array is replaced by longer ones."""
    places = 20

    for _ in range(rounds(40)):
        values = ConcurrentList([0] * places)

        def write(_, values=values):
            for n in range(150):
                for i in range(places):
                    values[i] = n if i % 2 else [n]

        def grow(_, values=values):
            for n in range(1500):
                values.append(n)

        def reader(values=values):
            seen = [0] * places

            def read():
                for i in range(places):
                    value = values[i]
                    value = value[0] if isinstance(value, list) else value
                    assert value >= seen[i]
                    seen[i] = value

            return read

        run_threads(1, write, 1, grow, background=[reader()])
        assert [v[0] if isinstance(v, list) else v for v in values][:places] == [149] * places


def test_A1_iteration_beside_growth_and_shrinking():
    base = list(range(200))
    values = ConcurrentList(base)

    def write(me):
        for _ in range(scaled(150)):
            values.extend(range(200, 400))
            for _ in range(200):
                values.pop()

    def iterate():
        met = list(values)
        assert met[:200] == base and len(met) <= 10_000
        assert all(200 <= v < 400 for v in met[200:])

    def contains():
        assert 199 in values and 0 in values and -1 not in values

    run_threads(2, write, background=[iterate, contains])
    assert values == base


def test_A1_iteration_ends_while_others_append():
    values = ConcurrentList([0])

    def append():
        for _ in range(500):
            values.append(0)
        while len(values) > 20_000:
            values.pop()

    def iterate(_):
        for _ in range(scaled(30)):
            for steps, value in enumerate(values):
                assert value == 0
                if steps > 30_000:
                    break

    run_threads(2, iterate, background=[append])


def test_A1_the_owner_of_an_iterator_and_a_second_thread_share_it():
    """The first to step does so by plain stores until another thread comes. Caught, on 3.15t with a
    debug build and QSBRCONTAINERS_YIELD=3: TURNS_NO_WAIT (elements twice)."""
    size = 200
    values = ConcurrentList(range(size))
    for _ in range(scaled(60)):
        handed, made = [], threading.Event()

        def make_and_step(_, handed=handed, made=made):
            iterator = iter(values)
            handed.append(iterator)
            first = [next(iterator) for _ in range(5)]
            made.set()
            return first + list(iterator)

        def step(_, handed=handed, made=made):
            made.wait()
            return list(handed[0])

        mine, theirs = run_threads(1, make_and_step, 1, step)
        assert mine == sorted(mine) and theirs == sorted(theirs)
        assert sorted(mine + theirs) == list(range(size))


def test_A1_an_iterator_shared_by_threads():
    for _ in range(rounds(30)):
        values = ConcurrentList(range(3000))
        iterator = iter(values)

        def consume(_, iterator=iterator):
            return list(iterator)

        def change(values=values):
            values.append("more")
            values.pop()

        met = [v for mine in run_threads(3, consume, background=[change]) for v in mine]
        assert sorted(v for v in met if v != "more") == list(range(3000))
        assert list(iterator) == []


def test_A2_nothing_appended_is_lost():
    values = ConcurrentList()
    threads, count = 4, scaled(8000)

    def append(me):
        for i in range(count):
            values.append((me, i))

    def read():
        met = values.snapshot()
        for me in range(threads):
            own = [i for owner, i in met if owner == me]
            assert own == list(range(len(own)))

    run_threads(threads, append, background=[read])
    assert len(values) == threads * count == len(set(values))
    for me in range(threads):
        assert [i for owner, i in values if owner == me] == list(range(count))


def test_A2_each_element_is_popped_once():
    values = ConcurrentList()
    threads, count = 2, scaled(10_000)

    def append(me):
        for i in range(count):
            values.append((me, i))

    def pop(_):
        taken = []
        while len(taken) < count:
            try:
                taken.append(values.pop())
            except IndexError:
                pass
        return taken

    results = run_threads(threads, append, threads, pop)
    taken = [v for mine in results[threads:] for v in mine]
    assert sorted(taken) == sorted((me, i) for me in range(threads) for i in range(count))
    assert len(values) == 0


def test_A2_extend_appears_at_once():
    """Blocks of ten, from lists, generators and ours: no reader ever sees a part of one."""
    values = ConcurrentList()
    threads = 3

    def extend(me):
        for i in range(scaled(600)):
            block = [(me, i)] * 10
            kinds = [block, tuple(block), (v for v in block), ConcurrentList(block)]
            values.extend(kinds[i % 4])
            if i % 100 == 99:
                values.clear()

    def read():
        assert len(values) % 10 == 0
        met = values.snapshot()
        assert len(met) % 10 == 0
        for start in range(0, len(met), 10):
            assert met[start : start + 10] == [met[start]] * 10

    run_threads(threads, extend, background=[read, read])


def test_A2_extend_with_a_list_that_changes():
    """What is appended is one moment of the other list."""
    source, target = ConcurrentList(), ConcurrentList()

    def write(_):
        for i in range(scaled(3000)):
            source.extend([i, i])
            if i % 20 == 0:
                source.clear()

    def extend(_):
        for _ in range(scaled(300)):
            target.extend(source)
            assert len(target) % 2 == 0
            target.extend(target)
            target.clear()

    run_threads(1, write, 1, extend)


def test_A4_assignments_are_never_lost():
    places = 40
    values = ConcurrentList([0] * places)

    def assign(me):
        for i in range(scaled(500)):
            for place in range(me, places, 2):
                values[place] = i if i % 2 else (i,)
                assert values[place] == (i if i % 2 else (i,))
        return True

    def grow():
        values.extend(range(200))
        for _ in range(200):
            values.pop()

    def grow_by_one():
        for _ in range(50):
            values.append(0)
            values.pop()

    assert all(run_threads(2, assign, background=[grow, grow_by_one]))


def test_A4_growth_loses_no_assignment():
    """Each array from the smallest on is replaced under assignments."""
    for _ in range(rounds(30)):
        values = ConcurrentList([0] * 8)
        growing = [True]

        def grow(_, values=values, growing=growing):
            for i in range(8000):
                values.append(i)
            growing[0] = False

        def assign(me, values=values, growing=growing):
            i = 0
            while growing[0]:
                i += 1
                for place in range(me, 8, 2):
                    values[place] = i
                    assert values[place] == i, "an assignment was lost"

        run_threads(1, grow, 2, assign)
        assert list(values)[8:] == list(range(8000))


def test_A5_snapshots_see_one_moment():
    """A writer sets the first, then the last element; at every moment last <= first."""
    size = 1000
    values = ConcurrentList([0] * size)

    def write(_):
        for i in range(1, scaled(40_000)):
            values[0] = i
            values[-1] = i

    def look():
        for met in (values.snapshot(), ConcurrentList(values)):
            first, last = met[0], met[size - 1]
            assert last <= first <= last + 1
        repr(values)
        assert (values == values) in (True, False)  # each side has a moment of its own

    run_threads(1, write, background=[look, look])


def test_A5_clear_is_one_moment():
    values = ConcurrentList()

    def write(_):
        for _ in range(scaled(500)):
            for i in range(50):
                values.append(i)
            values.clear()

    def look():
        met = values.snapshot()
        assert met == list(range(len(met))) and len(met) <= 50
        try:
            assert values[0] == 0
            assert values[-1] < 50
        except IndexError:
            pass

    run_threads(1, write, background=[look, look])


def test_A1_readers_get_live_values():
    """Elements are replaced, popped and cleared under readers; each is freed once.

    Caught: FREE_AT_ONCE (crash, or another object's number, on free-threaded builds)."""
    census, places = Census(), 16
    values = ConcurrentList(census.new(i) for i in range(places))

    def replace(me):
        for i in range(scaled(15_000)):
            place = i % places
            values[place] = census.new(i - place if i >= place else place)
            if i % 10 == 0:
                values.append(census.new(0))
            elif i % 10 == 5:
                values.pop()

    def read():
        for place in range(places):
            values[place].check()
        values[-1].check()
        for value in values:
            value.check()
        for value in values.snapshot():
            value.check()

    run_threads(2, replace, background=[read, read])
    settle()
    assert census.alive == len(values)
    values.clear()
    settle()
    assert census.alive == 0


def test_A1_cleared_values_live_as_long_as_readers_hold_them():
    census = Census()
    values = ConcurrentList()

    def fill_and_clear(_):
        for _ in range(scaled(400)):
            values.extend([census.new(i) for i in range(50)])
            values.clear()

    def read():
        for i in range(50):
            try:
                assert values[i].check() == i
            except IndexError:
                pass
        for value in values:
            value.check()

    run_threads(1, fill_and_clear, background=[read, read])
    settle()
    assert census.alive == 0


def test_all_writers_at_once_leave_a_consistent_list():
    values = ConcurrentList()

    def work(me):
        balance = 0
        for i in range(scaled(4000)):
            try:
                match (i * 7 + me) % 6:
                    case 0 | 1:
                        values.append(i)
                        balance += 1
                    case 2:
                        values.extend((i, i, i))
                        balance += 3
                    case 3 | 4:
                        values.pop()
                        balance -= 1
                    case 5:
                        values[i % 50] = i
            except IndexError:
                pass
        return balance

    expected = 0
    for _ in range(3):
        expected += sum(run_threads(4, work))
        assert len(values) == expected == len(list(values)) == len(values.snapshot())


@pytest.mark.parametrize("get", [lambda d: d.get_or_create("log", ConcurrentList), None])
def test_lists_in_a_dict(get):
    """As the demo does: postings in lists that get_or_create makes."""
    threads, count, words = 4, scaled(6000), 20
    d = ConcurrentDict()

    def work(me):
        for i in range(count):
            if get is None:
                d.get_or_create(i % words, ConcurrentList).append((me, i))
            else:
                get(d).append((me, i))
            d.incr("count")

    run_threads(threads, work)
    assert d["count"] == threads * count
    postings = [p for key, values in d.items() if key != "count" for p in values]
    assert sorted(postings) == sorted((me, i) for me in range(threads) for i in range(count))

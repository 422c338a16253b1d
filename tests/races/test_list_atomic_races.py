"""A2-A4: operations that depend on the element that is there are exact, with many threads and the
array changing under them; nothing that many threads append is lost, nor drained twice.

Caught (3.15t): LIST_INSTALL_BLIND by most of A4's in each run, and by each of them in some;
LIST_DRAIN_IN_TWO by all that drain while others append, LIST_INDEX_EARLY by the one of A2.
"""

import pytest
from support import Census, rounds, run_threads, scaled, settle

from qsbrcontainers import ConcurrentList


def come_and_go(values):
    """Elements behind those that a test looks at: in place, and by new arrays."""

    def change():
        for i in range(100):
            values.append(i)
        values.extend(range(300))
        for _ in range(400):
            values.pop()

    return change


def test_A4_incr_by_eight_beside_all_else():
    """The sums are exact: of ints, of one that outgrows 51 bits, of floats."""
    start = [0] * 5 + [0.0, 2**50 - 100]
    values = ConcurrentList(start)
    threads, count = 8, scaled(8000)

    def work(me):
        for i in range(count):
            values.incr(i % 5)
            values.incr(5, 0.5)
            values.incr(6, 3)

    def look():
        met = values.snapshot()
        assert all(values[i] >= met[i] for i in range(len(start)))

    run_threads(threads, work, background=[come_and_go(values), look])
    assert values.snapshot() == [
        *[threads * len(range(k, count, 5)) for k in range(5)],
        *[threads * count / 2, 2**50 - 100 + threads * count * 3],
    ]


def test_A4_incr_at_the_end_that_moves():
    """Threads count at l[-1] while elements are appended and popped: the sum of what was popped and
    of what is left is the number of calls."""
    values = ConcurrentList([0] * 5)
    threads, count = 3, scaled(25_000)
    popped = []

    def work(me):
        for _ in range(count):
            values.incr(-1)

    def pop():
        for n in range(1, 20):
            values.extend([0] * n)
            popped.extend(values.pop() for _ in range(n))

    run_threads(threads, work, background=[pop, pop])
    assert sum(popped) + sum(values) == threads * count


@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: (n,)], ids=["numbers", "objects"])
def test_A4_counters_by_compare(wrap):
    """Eight threads count by compute and by compare_and_set; each number is met once."""
    threads, count = 8, scaled(1500)
    values = ConcurrentList([wrap(0), wrap(0), wrap(0)])
    number = (lambda v: v[0]) if wrap(0) == (0,) else (lambda v: v)

    def more(old):
        return wrap(number(old) + 1)

    def work(me):
        met = []
        for i in range(count):
            met.append(number(values.compute(i % 2, more)))
            old = values[2]
            while not values.compare_and_set(2, old, more(old)):
                old = values[2]
        return met

    met = run_threads(threads, work, background=[come_and_go(values)])
    total = threads * count
    halves = [threads * len(range(k, count, 2)) for k in range(2)]
    assert [number(values[k]) for k in range(3)] == [*halves, total]
    assert sorted(n for mine in met for n in mine) == sorted(
        [*range(1, halves[0] + 1), *range(1, halves[1] + 1)]
    )


def computed(values, index, new):
    """What compute gave its function in the end."""
    given = []
    values.compute(index, lambda old: given.append(old) or new)
    return given[-1]


@pytest.mark.parametrize(
    "kind", [lambda me, i: (me, i), lambda me, i: me * 10**7 + i], ids=["objects", "numbers"]
)
def test_A4_each_element_leaves_once(kind):
    """What eight threads put in comes out once: by swap, compute or compare_and_set."""
    values = ConcurrentList([kind(9, i) for i in range(3)])
    threads, count = 8, scaled(5000)

    def work(me):
        out = []
        for i in range(count):
            index, value = i % 3, kind(me, i)
            match (i + me) % 4:
                case 0 | 1:
                    out.append(values.swap(index, value))
                case 2:
                    out.append(computed(values, index, value))
                case 3:
                    old = values[index]
                    while not values.compare_and_set(index, old, value):
                        old = values[index]
                    out.append(old)
        return out

    out = run_threads(threads, work, background=[come_and_go(values)])
    out = [value for mine in out for value in mine]
    put = [kind(9, i) for i in range(3)] + [
        kind(me, i) for me in range(threads) for i in range(count)
    ]
    assert sorted(out + values.snapshot()[:3]) == sorted(put)


def test_A4_compute_is_given_what_it_replaces():
    """A chain: each element names the one that it replaced; no link is missing or twice."""
    values = ConcurrentList([None])
    threads, count = 6, scaled(4000)

    def work(me):
        for i in range(count):
            values.compute(-1, lambda old, i=i: (me, i, old))

    run_threads(threads, work)
    (link,), met = values.snapshot(), []
    while link is not None:
        *who, link = link
        met.append(tuple(who))
    assert sorted(met) == [(me, i) for me in range(threads) for i in range(count)]
    for me in range(threads):
        assert [i for who, i in met if who == me] == list(range(count))[::-1]


def test_A2_append_index_is_where_it_is():
    values = ConcurrentList()
    threads, count = 6, scaled(15_000)

    def work(me):
        mine = []
        for i in range(count):
            index = values.append_index((me, i))
            assert values[index] == (me, i)
            mine.append(index)
            if i % 7 == 0:
                values.append(None)
        assert mine == sorted(mine)
        return mine

    def read():
        length = len(values)
        for i in range(0, length, 50):
            assert values[i] is None or len(values[i]) == 2

    results = run_threads(threads, work, background=[read])
    assert len({i for mine in results for i in mine}) == threads * count
    for me, mine in enumerate(results):
        assert [values[i] for i in mine] == [(me, i) for i in range(count)]
    assert len(values) == threads * (count + len(range(0, count, 7)))


@pytest.mark.parametrize("kind", ["numbers", "objects"])
def test_A2_many_producers_and_one_that_drains(kind):
    """Eight threads append while others read and one drains: nothing is lost, nothing twice, each
    thread's elements are in order. (10^5 each: QC_RACE_SCALE=10, or 2.5 on free-threaded builds.)
    """
    producers, count = 8, scaled(10_000)
    census = Census()
    values, drained, over = ConcurrentList(), [], []
    step = 10**7

    def make(number):
        return number if kind == "numbers" else census.new(number)

    def number(value):
        return value if kind == "numbers" else value.check()

    def produce(me):
        for i in range(count):
            values.append(make(me * step + i))
        over.append(me)

    def drain(_):
        while True:
            last = len(over) == producers
            drained.extend(number(value) for value in values.drain())
            if last:
                return

    def iterate():
        last = [-1] * producers
        for value in values.snapshot():
            me, i = divmod(number(value), step)
            assert i > last[me]
            last[me] = i

    def step_by_step():
        """The list is emptied under it, but what it meets is real."""
        for value in values:
            me, i = divmod(number(value), step)
            assert me < producers and i < count

    run_threads(producers, produce, 1, drain, background=[iterate, step_by_step])
    assert values.drain() == [] and len(values) == 0
    assert len(drained) == producers * count
    for me in range(producers):
        mine = [value - me * step for value in drained if value // step == me]
        assert mine == list(range(count))
    settle()
    assert census.alive == 0


def test_A3_several_that_drain():
    """Blocks appear at once, and each is in one result, whole."""
    values = ConcurrentList()
    threads, count = 3, scaled(6000)

    def extend(me):
        for i in range(count):
            values.extend([(me, i)] * 5)

    def drain():
        met = values.drain()
        assert len(met) % 5 == 0
        for start in range(0, len(met), 5):
            assert met[start : start + 5] == [met[start]] * 5
        drained.extend(met[::5])

    drained = []
    run_threads(threads, extend, background=[drain, drain])
    drain()
    assert sorted(drained) == [(me, i) for me in range(threads) for i in range(count)]


def test_A3_drain_is_one_moment():
    """A writer appends to one list before it appends to the other: whoever drains the second first
    finds all of it in what the first has had."""
    for _ in range(rounds(20)):
        first, second = ConcurrentList(), ConcurrentList()
        drained = [], []

        def write(_, first=first, second=second):
            for i in range(2000):
                first.append(i)
                second.append(i)

        def drain(first=first, second=second, drained=drained):
            drained[1].extend(second.drain())
            drained[0].extend(first.drain())
            assert len(drained[0]) >= len(drained[1])

        run_threads(1, write, background=[drain])
        drain()
        assert drained == (list(range(2000)), list(range(2000)))


def test_A4_all_at_once_on_elements_that_move():
    """Objects are exchanged at places that others shift, take out and drain: each object that went
    in comes out once, or is still there."""
    census = Census()
    values = ConcurrentList()
    threads, count = 4, scaled(10_000)

    def work(me):
        put, out = [], []
        for i in range(count):
            new = census.new(me * count + i)
            try:
                match (i * 5 + me) % 8:
                    case 0 | 1 | 2:
                        values.append(new)
                    case 3:
                        values.append_index(new)
                    case 4:
                        out.append(values.swap(i % 5, new))
                    case 5:
                        out.append(computed(values, -1 - i % 3, new))
                    case 6:
                        old = values[0]
                        if not values.compare_and_set(0, old, new):
                            continue
                        out.append(old)
                    case 7:
                        out.append(values.pop())
                        if i % 50 == 7:
                            out.extend(values.drain())
                        continue
            except IndexError:
                continue
            put.append(new.check())
        return put, [value.check() for value in out]

    def read():
        for value in values:
            value.check()

    results = run_threads(threads, work, background=[read])
    put = [number for mine, _ in results for number in mine]
    out = [number for _, mine in results for number in mine]
    assert sorted(out + [value.check() for value in values]) == sorted(put)
    settle()
    assert census.alive == len(values)
    values.drain()
    settle()
    assert census.alive == 0

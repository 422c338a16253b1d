"""K6: iteration never raises because of other threads, never repeats an entry, always ends, and
meets every key that is there from beginning to end."""

import pytest
from support import SameHash, rounds, run_threads, scaled

from qsbrcontainers import ConcurrentDict

VIEWS = {
    "dict": (lambda d: d, lambda entry: entry),
    "keys": (lambda d: d.keys(), lambda entry: entry),
    "items": (lambda d: d.items(), lambda entry: entry[0]),
    "reversed": (reversed, lambda entry: entry),
    "reversed items": (lambda d: reversed(d.items()), lambda entry: entry[0]),
}


@pytest.fixture(params=VIEWS)
def view(request):
    """A view, and the key of what it yields."""
    return VIEWS[request.param]


@pytest.mark.parametrize("key", [lambda i: i, lambda i: f"k{i}", SameHash])
def test_K6_everything_that_stays_is_met_once(view, key):
    entries, key_of = view
    few = key is SameHash
    stable = [key(i) for i in range(20 if few else 150)]
    d = ConcurrentDict()
    for k in stable:  # with gaps, and something to delete between them
        d[k], d[object()] = 0, 0

    def churn(me):
        own = [key(1000 * (me + 1) + i) for i in range(20 if few else 400)]
        for _ in range(scaled(25)):
            for k in own:
                d[k] = 0
            for k in own:
                d.pop(k)

    def assign():
        for k in stable:
            d[k] = 1

    def iterate():
        met = [key_of(entry) for entry in entries(d)]
        assert len({id(k) for k in met}) == len(met), "an entry was repeated"
        if key is not SameHash:
            assert len(set(met)) == len(met), "a key was repeated"
        present = {id(k) for k in met}
        assert all(id(k) in present for k in stable), "a key that stays was not met"

    run_threads(2, churn, background=[iterate, iterate, assign])


def test_K6_values_are_not_older_than_the_iteration():
    count, counters = scaled(4000), 30
    d = ConcurrentDict((i, 0) for i in range(counters))
    written = [0]

    def write(_):
        for n in range(1, count + 1):
            for i in range(counters):
                d[i] = n if n % 2 else [n]
            written[0] = n
            d["more", n] = 0
            if n > 500:
                del d["more", n - 500]

    def iterate():
        least = written[0]
        for key, value in d.items():
            if isinstance(key, int):
                assert (value[0] if isinstance(value, list) else value) >= least

    def iterate_values():
        least = written[0]
        met = [v[0] if isinstance(v, list) else v for v in d.values()]
        assert len([v for v in met if v >= least]) >= counters

    run_threads(1, write, background=[iterate, iterate_values])


def test_K6_iteration_ends_while_others_insert():
    """However fast keys are added, an iteration takes no more steps than there were entries."""
    d = ConcurrentDict((i, i) for i in range(100))
    stop = []

    def insert():
        for i in range(2000):
            if stop:
                return
            d[len(d), i] = i

    def iterate(_):
        for _ in range(scaled(100)):
            before = len(d)
            steps = sum(1 for _ in d)
            # Some may have been added before the iteration began, but they are few.
            assert 100 <= steps <= before + 4_000_000
            list(zip(d, range(50), strict=False))
            if len(d) > 200_000:
                d.clear()
                d.update((i, i) for i in range(100))
        stop.append(True)

    run_threads(1, iterate, background=[insert])


def test_K6_clear_and_refill_beside_iteration(view):
    entries, key_of = view
    d = ConcurrentDict()

    def refill(_):
        for _ in range(scaled(400)):
            d.update((i, i) for i in range(50))
            d.clear()

    def iterate():
        met = [key_of(entry) for entry in entries(d)]
        assert len(set(met)) == len(met) and set(met) <= set(range(50))

    run_threads(1, refill, background=[iterate, iterate])


@pytest.mark.parametrize("churn", [False, True])
def test_K6_an_iterator_shared_by_threads(view, churn):
    """Together they meet each entry once."""
    entries, key_of = view
    stable = list(range(3000))

    for _ in range(rounds(15)):
        d = ConcurrentDict((i, i) for i in stable)
        iterator = iter(entries(d))

        def consume(_, iterator=iterator):
            return [key_of(entry) for entry in iterator]

        def change(d=d):
            for i in range(5000, 6000):
                d[i] = i
            for i in range(5000, 6000):
                del d[i]

        met = run_threads(3, consume, background=[change] * churn)
        flat = [k for mine in met for k in mine]
        assert sorted(k for k in flat if k < 5000) == stable
        assert len(set(flat)) == len(flat)
        assert next(iterator, None) is None


def test_K6_views_beside_writers():
    d = ConcurrentDict((i, i) for i in range(100))
    keys, values, items = d.keys(), d.values(), d.items()

    def write(me):
        for i in range(scaled(5000)):
            d[1000 + me, i % 300] = i
            d.pop((1000 + me, (i * 7) % 300), None)

    def use():
        assert 5 in keys and 5 in values and (5, 5) in items
        assert (5, 6) not in items and -1 not in values
        assert 100 <= len(keys) <= 700 and 100 <= len(values) <= 700 and 100 <= len(items) <= 700
        assert repr(values).count("99") >= 1

    run_threads(2, write, background=[use, use])


def test_K6_iterators_dropped_while_tables_are_replaced():
    d = ConcurrentDict()

    def write(me):
        for i in range(scaled(1500)):
            d.update(((me, i, j), j) for j in range(20))
            if i % 10 == me:
                d.clear()

    iterators = [None] * 16

    def begin():
        for i in range(16):
            iterators[i] = iter(d.items())
            next(iterators[i], None)

    def advance():
        for i in range(16):
            iterator = iterators[i]
            if iterator is not None:
                for _ in range(3):
                    next(iterator, None)

    run_threads(2, write, background=[begin, advance])

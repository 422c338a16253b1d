"""K2, K4, K10: operations that depend on the value that is there are exact, with many threads and
the table changing under them.

Caught (3.15t) by all but the stampede and the flood: a build whose assignments and deletions do not
look whether the word is the expected one.
"""

import pytest
from support import SameHash, rounds, run_threads, scaled

from qsbrcontainers import DELETE, MISSING, ConcurrentDict


def test_K2_incr_by_eight_beside_all_else():
    """Others grow and shrink the dict, clear a twin and iterate: the sums are exact.

    Caught (3.15t): INCR_NOT_CAS in most runs, MOVED_BEFORE_COPY in some."""
    d, twin = ConcurrentDict(), ConcurrentDict()
    threads, count, keys = 8, scaled(2000), 5

    def work(me):
        for i in range(count):
            d.incr(i % keys)
            d.incr("halves", 0.5)
            twin.incr(i % keys)

    def grow():
        for i in range(300):
            d["more", i] = twin["more", i] = i

    def shrink():
        for i in range(300):
            d.pop(("more", i), None)

    def look():
        met = dict(d.items())
        assert all(met[k] <= d[k] for k in range(keys) if k in met)

    run_threads(threads, work, background=[grow, shrink, twin.clear, look])
    assert d["halves"] == threads * count / 2
    assert [d[k] for k in range(keys)] == [
        threads * len(range(k, count, keys)) for k in range(keys)
    ]


def test_K10_stampede_of_64():
    """1,000 cold keys: a factory runs exactly 1,000 times, everybody gets its result."""
    for _ in range(rounds(1)):
        d, made = ConcurrentDict(), []

        def work(me, d=d, made=made):
            keys = [(me * 5 + i) % 1000 for i in range(1000)]
            return [d.get_or_create(k, lambda k=k: made.append(k) or [k]) for k in keys]

        results = run_threads(64, work)
        assert sorted(made) == list(range(1000))
        for me, values in enumerate(results):
            assert all(v is d[(me * 5 + i) % 1000] for i, v in enumerate(values))


KEYS = {"str": lambda i: f"k{i}", "collides": SameHash}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: (n,)], ids=["numbers", "objects"])
def test_K2_counters_by_compare(kind, wrap):
    """Eight threads count by compute and by compare_and_set, from an absent key on."""
    d = ConcurrentDict()
    threads, count, keys = 8, scaled(300), [KEYS[kind](i) for i in range(3)]
    number = (lambda v: v[0]) if wrap(0) == (0,) else (lambda v: v)

    def more(old):
        return wrap(1 if old is MISSING else number(old) + 1)

    def work(me):
        met = []
        for i in range(count):
            met.append(number(d.compute(keys[i % 2], more)))
            old = d.get(keys[2], MISSING)
            while not d.compare_and_set(keys[2], old, more(old)):
                old = d.get(keys[2], MISSING)
            d["more", me, i % 20] = i  # makes it grow
            if i % 20 == 19:
                assert d.discard_if(lambda k, v: isinstance(k, tuple) and k[1] == me) == 20
        return met

    met = run_threads(threads, work)
    total = threads * count
    halves = [threads * len(range(k, count, 2)) for k in range(2)]
    assert [number(d[k]) for k in keys] == [*halves, total]
    assert sorted(n for mine in met for n in mine) == sorted(
        [*range(1, halves[0] + 1), *range(1, halves[1] + 1)]
    )


def computed(d, key, new):
    """What compute gave its function in the end."""
    given = []
    d.compute(key, lambda old: given.append(old) or new)
    return given[-1]


def test_K4_each_value_leaves_once():
    """What eight threads put in comes out once: by swap, pop, compute or compare_and_delete."""
    d, threads, count = ConcurrentDict(), 8, scaled(1000)

    def work(me):
        out = []
        for i in range(count):
            key, value = i % 3, (me, i)
            match (i + me) % 6:
                case 0 | 1:
                    out.append(d.swap(key, value, MISSING))
                case 2:
                    out += [d.pop(key, MISSING)]
                    value = MISSING
                case 3:
                    out.append(computed(d, key, value))
                case 4:
                    value = d.get(key, MISSING)
                    if value is not MISSING and d.compare_and_delete(key, value):
                        out.append(value)
                    value = MISSING
                case 5:
                    out.append(computed(d, key, DELETE))
                    value = MISSING
            if value is not MISSING:
                put.append(value)
        return [value for value in out if value is not MISSING]

    put = []

    def churn():
        for i in range(50):
            assert d.add(("more", i), i)
        for i in range(50):
            assert d.discard(("more", i)) and not d.discard(("more", i))

    out = [value for mine in run_threads(threads, work, background=[churn]) for value in mine]
    assert sorted(out + list(d.values())) == sorted(put)


def test_K4_discard_if_removes_only_what_was_seen():
    """Writers replace and take note of what they replaced; whatever else is gone was removed by
    discard_if, and it has to be what its pred has said yes to."""
    d, writers, count, keys = ConcurrentDict(), 3, scaled(4000), 20
    put = [set() for _ in range(writers)]
    approved, removed = set(), []

    def write(me):
        replaced = set()
        for i in range(count):
            value = (me, i)
            put[me].add(value)
            replaced.add(d.swap(i % keys, value, value))
            replaced.discard(value)  # nothing was there
        return replaced

    def remove():
        def pred(key, value):
            if sum(value) % 2:
                approved.add(value)
            return sum(value) % 2

        removed.append(d.discard_if(pred))

    replaced = set().union(*run_threads(writers, write, background=[remove]))
    gone = set().union(*put) - replaced - set(d.values())
    assert gone <= approved and len(gone) == sum(removed)


def test_K4_a_flood_of_collisions():
    """All keys have one hash, counters among keys that come and go."""
    d = ConcurrentDict()
    threads, count = 4, scaled(150)

    def work(me):
        for i in range(count):
            d.incr(SameHash(i % 5))
            own = SameHash((me, i))
            assert d.add(own, me) and not d.add(own, i)
            d.get_or_create(SameHash(-1 - i % 5), list)
            if i >= 5:
                assert d.discard(SameHash((me, i - 5)))

    run_threads(threads, work)
    assert [d[SameHash(i)] for i in range(5)] == [
        threads * len(range(i, count, 5)) for i in range(5)
    ]
    assert len(d) == 5 + 5 + 5 * threads and len(d) == len(set(d))

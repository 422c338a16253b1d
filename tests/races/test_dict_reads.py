"""K1: reading takes no lock and never misses a key that was there throughout."""

import pytest
from support import Number, SameHash, Text, run_threads, scaled

from qsbrcontainers import ConcurrentDict

# How keys are found: the exact types, and tuples of them, by comparing inside the section, the
# others by __eq__ outside it; SameHash also collides with everything.
KINDS = {
    "str": lambda i: f"key{i}",
    "int": lambda i: i,
    "equal hashes": lambda i: i * (2**61 - 1),
    "tuple": lambda i: (f"key{i % 7}", i),
    "tuple of tuples": lambda i: ((i,), "key"),
    "str subclass": lambda i: Text(i),
    "int subclass": lambda i: Number(i),
    "collides": SameHash,
}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def size(kind, count):
    """Colliding keys cost a comparison with each other one."""
    return max(5, count // 12) if kind in ("collides", "equal hashes") else count


def test_K1_present_keys_are_never_missed(kind):
    """While others insert, delete, insert again and popitem, and the table grows and is rebuilt."""
    key, stable, more = KINDS[kind], size(kind, 40), size(kind, 300)
    d = ConcurrentDict((key(i), i) for i in range(stable))

    def grow_and_shrink(me):
        own = [key(10_000 * (me + 1) + i) for i in range(more)]
        for _ in range(scaled(60)):
            for k in own:
                d[k] = 0
            for k in own:
                d.pop(k, None)

    def insert_and_popitem(_):
        for i in range(scaled(4000)):
            d[key(1_000_000 + i)] = i
            d.popitem()

    def read():
        for i in range(stable):
            k = key(i)
            assert d[k] == i
            assert d.get(k) == i
            assert k in d
            assert key(2_000_000 + i) not in d

    run_threads(1, grow_and_shrink, 1, insert_and_popitem, background=[read, read])
    for i in range(stable):
        assert d[key(i)] == i


def test_K1_through_growth_from_small(kind):
    """Fresh dicts, so that each growth from the smallest table on is met by readers."""
    key, most = KINDS[kind], size(kind, 400)
    keys = [key(i) for i in range(most)]
    current = [(ConcurrentDict(), [0])]

    def insert(_):
        for _ in range(scaled(60)):
            d, done = current[0] = ConcurrentDict(), [0]
            for i, k in enumerate(keys):
                d[k] = i
                done[0] = i + 1

    def read():
        d, done = current[0]
        for i in range(done[0]):
            assert d[keys[i]] == i
        last = done[0] - 1
        assert last < 0 or keys[last] in d

    run_threads(1, insert, background=[read, read])


def test_K1_values_never_go_back(kind):
    """One writer counts up; what a reader sees of it never falls, whichever table it reads."""
    key, more = KINDS[kind], size(kind, 150)
    counters = [key(i) for i in range(4)]
    d = ConcurrentDict((k, [0]) for k in counters)
    others = [key(1000 + i) for i in range(more)]

    def count(_):
        for i in range(scaled(3000)):
            for n, k in enumerate(counters):
                d[k] = i if n % 2 else [i]

    def churn(_):
        for _ in range(scaled(40)):
            for k in others:
                d[k] = 0
            for k in others:
                del d[k]

    def reader():
        seen = [0] * len(counters)

        def read():
            for n, k in enumerate(counters):
                value = d[k]
                value = value[0] if isinstance(value, list) else value
                assert value >= seen[n]
                seen[n] = value

        return read

    run_threads(1, count, 1, churn, background=[reader(), reader()])


def test_K1_deleted_keys_stay_deleted():
    d = ConcurrentDict()
    deleted, inserted = [-1], [-1]
    total = scaled(15_000)

    def write(_):
        for i in range(total):
            d[i] = i
            inserted[0] = i
            if i >= 50:
                del d[i - 50]
                deleted[0] = i - 50

    def read():
        first = deleted[0]
        assert first not in d and d.get(first) is None
        last = inserted[0]
        value = d.get(last)
        assert value == last or deleted[0] >= last - 60 or last < 0
        with pytest.raises(KeyError):
            d[first]

    run_threads(1, write, background=[read, read])


@pytest.mark.parametrize("kind", ["str", "int", "tuple", "collides"])
def test_K1_a_key_only_ever_has_its_own_values(kind):
    """Keys come and go all the time; a reader finds none or the right one."""
    keys = [KINDS[kind](i) for i in range(12)]
    d = ConcurrentDict()

    def write(me):
        for i in range(scaled(4000)):
            n = (i * 7 + me) % 12
            d[keys[n]] = (n, i)
            d.pop(keys[(n + 5) % 12], None)
            if i % 100 == 0:
                d.clear()

    def read():
        for n, k in enumerate(keys):
            value = d.get(k)
            assert value is None or value[0] == n
        for k, value in d.items():
            assert k is keys[value[0]] or k == keys[value[0]]

    run_threads(2, write, background=[read, read])


def test_K1_eq_in_python_while_the_table_changes():
    """Comparing leaves the section: the lookup starts over when the table or the slot changed."""
    d = ConcurrentDict((SameHash(i), i) for i in range(8))

    def write(me):
        for i in range(scaled(400)):
            for n in range(me, 8, 2):
                del d[SameHash(n)]
                d[SameHash(n)] = n
            d[me, i] = 0  # another hash: the table grows, and is rebuilt without the dummies
            if i % 50 == 49:
                for j in range(i - 49, i + 1):
                    del d[me, j]

    def read():
        for n in range(8):
            assert d.get(SameHash(n)) in (n, None)
            assert SameHash(n + 100) not in d

    run_threads(2, write, background=[read, read])
    left = {k.value: v for k, v in d.items() if isinstance(k, SameHash)}
    assert left == {i: i for i in range(8)}

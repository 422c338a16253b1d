"""K2-K5: assignments are never lost, growth or not; inserting and deleting are atomic; order."""

import pytest
from support import SameHash, rounds, run_threads, scaled

from qsbrcontainers import ConcurrentDict


def grower(d, size=300):
    """A background step that makes `d` grow, and be rebuilt."""

    def churn():
        for i in range(size):
            d["more", i] = i
        for i in range(size):
            del d["more", i]

    return churn


@pytest.mark.parametrize("background", [0, 1])
def test_K2_incr_is_applied_exactly_once(background):
    """Caught: INCR_NOT_CAS (two threads end with less than the sum)."""
    d = ConcurrentDict()
    threads, count, keys = 3, scaled(15_000), 5

    def work(me):
        return [(i % keys, d.incr(i % keys)) for i in range(count)]

    returned = run_threads(threads, work, background=[grower(d)] * background)
    for key in range(keys):
        per_thread = count // keys + (key < count % keys)
        assert d[key] == threads * per_thread
        results = sorted(value for pairs in returned for k, value in pairs if k == key)
        assert results == list(range(1, threads * per_thread + 1)), "a result twice, or never"


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("edge", [2**50, 2**51, 2**63])
def test_K2_incr_across_the_edge_of_a_word(edge, sign):
    d = ConcurrentDict()
    threads, count = 3, scaled(2000)

    def work(me):
        for i in range(count):
            d.incr("up", sign)
            d.incr("there and back", sign if i % 2 else -sign)

    for _ in range(3):
        d["up"] = d["there and back"] = sign * (edge - threads * count // 2)
        run_threads(threads, work, background=[grower(d, size=50)])
        assert d["up"] == sign * (edge - threads * count // 2 + threads * count)
        assert d["there and back"] == sign * (edge - threads * count // 2) - sign * threads * (
            count % 2
        )


def test_K2_incr_and_pop_lose_nothing():
    d = ConcurrentDict()
    threads, count = 2, scaled(15_000)
    taken = []

    def work(me):
        for i in range(count):
            d.incr(i % 3, 2)

    def take():
        for key in range(3):
            value = d.pop(key, None)
            if value is not None:
                taken.append(value)

    run_threads(threads, work, background=[take, grower(d)])
    assert sum(taken) + sum(d.values()) == 2 * threads * count


def test_K2_incr_of_new_keys_has_one_first():
    """The default counts once, however many threads are first."""
    d = ConcurrentDict()
    threads, count = 4, scaled(4000)

    def work(me):
        return [d.incr(i, 1, 100) for i in range(count)]

    returned = run_threads(threads, work)
    for i, results in enumerate(zip(*returned, strict=True)):
        assert sorted(results) == list(range(101, 101 + threads)) and d[i] == 100 + threads


@pytest.mark.parametrize("value", [lambda i: i, lambda i: [i], lambda i: float(i)])
def test_K2_own_assignments_are_read_back(value):
    """Two threads assign to keys of their own beside each other, a third makes the table grow."""
    d = ConcurrentDict((i, value(0)) for i in range(64))
    count = scaled(300)

    def work(me):
        own = range(me, 64, 2)
        for i in range(count):
            for key in own:
                new = value(i)
                d[key] = new
                assert d[key] == new
        return True

    assert all(run_threads(2, work, background=[grower(d)]))
    assert all(d[key] == value(count - 1) for key in range(64))


@pytest.mark.parametrize("value", [lambda i: i, lambda i: (i,)])
def test_K3_growth_loses_no_assignment(value):
    """One thread makes a fresh dict grow, others assign to keys that are there and read back.

    Caught: MOVED_BEFORE_COPY (the assignment to the old table is not in the new one)."""
    keys = 2000
    for _ in range(rounds(24)):
        d = ConcurrentDict((i, value(0)) for i in range(keys))
        last = [None, None]
        growing = [True]

        def grow(_, d=d, growing=growing):
            for i in range(6 * keys):
                d[-1 - i] = value(0)
            growing[0] = False

        def assign(me, d=d, last=last, growing=growing):
            i = 0
            while growing[0]:
                i += 1
                for key in range(me, keys, 37):
                    d[key] = value(i)
                    assert d[key] == value(i), "an assignment was lost"
            last[me] = i

        run_threads(1, grow, 2, assign)
        # 0 and 1 were assigned to by both in turn only where 37 divides: compare own ones.
        assert d[0] == value(last[0]) and d[1] == value(last[1])
        assert len(d) == 7 * keys


def test_K3_growth_loses_no_incr():
    for _ in range(rounds(30)):
        d = ConcurrentDict((i, 0) for i in range(500))
        growing = [True]

        def grow(_, d=d, growing=growing):
            for i in range(5000):
                d[-1 - i] = 0
            growing[0] = False

        def count(_, d=d, growing=growing):
            done = 0
            while growing[0]:
                for key in range(0, 500, 7):
                    d.incr(key)
                    done += 1
            return done

        counted = run_threads(1, grow, 2, count)
        assert sum(d.values()) == sum(counted[1:])


@pytest.mark.parametrize("key", [lambda i: i, lambda i: f"k{i}", lambda i: SameHash(i)])
def test_K4_setdefault_has_one_winner(key):
    threads, count = 4, scaled(3000) if key(0) == 0 else scaled(300)
    d = ConcurrentDict()

    def work(me):
        return [d.setdefault(key(i), (me, i)) for i in range(count)]

    for i, results in enumerate(zip(*run_threads(threads, work), strict=True)):
        assert all(r is results[0] for r in results) and results[0][1] == i
        assert d[key(i)] is results[0]
    assert len(d) == count


@pytest.mark.parametrize("key", [int, str, lambda i: (i,), lambda i: SameHash(i % 50)])
def test_K4_a_new_key_goes_in_once(key):
    """All insert the same keys in the same order: who is behind only assigns, which is faster, and
    so catches up again and again. Another one inserts keys of its own, which want the same slots
    and make the table grow. Caught on 3.15t: PLACE_BLIND."""
    size = scaled(500)
    keys, others = [key(i) for i in range(size)], [2**61 + i for i in range(size)]
    for _ in range(rounds(20)):
        d = ConcurrentDict()

        def work(me, d=d):
            for mine in others if me == 2 else keys:
                d[mine] = me

        run_threads(3, work)
        expected = dict.fromkeys(keys)
        assert len(d) == len(expected) + size
        assert [k for k in d if k not in expected] == others
        assert [k for k in d if k in expected] == list(expected)
        for k in [*expected, *others]:
            del d[k]
        assert not d and not list(d)


@pytest.mark.parametrize("key", [lambda i: i, lambda i: f"k{i}", lambda i: SameHash(i)])
def test_K4_a_few_keys_come_and_go(key):
    """A few keys are inserted and deleted among others that stay, in slots that are used again. No
    key is ever there twice. Caught on 3.15t: PLACE_BLIND."""
    few, count = 2, scaled(40_000) if key(0) == 0 else scaled(10_000)
    stay, hot = [key(few + i) for i in range(5)], [key(i) for i in range(few)]
    d = ConcurrentDict.fromkeys(stay, 0)

    def work(me):
        for i in range(count):
            k = hot[i % few]
            if i // few % 2:
                d[k] = me
            else:
                d.discard(k)
            assert len(stay) <= len(d) <= len(stay) + few

    def read():
        assert all(k in d for k in stay)

    run_threads(3, work, background=[read])
    assert list(d)[: len(stay)] == stay and len(set(d)) == len(list(d)) == len(d)


@pytest.mark.parametrize("key", [lambda i: i, lambda i: f"k{i}", lambda i: SameHash(i)])
def test_K4_insertions_less_deletions(key):
    """Of each key, every insertion has its deletion, but for the last if the key is there."""
    few, count = 3, scaled(10_000)
    d = ConcurrentDict()

    def work(me):
        balance = [0] * few
        for i in range(count):
            n = (i * 7 + me) % few
            if (i // 2 + me) % 2:
                balance[n] += d.add(key(n), me)
            else:
                balance[n] -= d.discard(key(n))
        return balance

    for n, sums in enumerate(zip(*run_threads(3, work), strict=True)):
        assert sum(sums) == (key(n) in d)


@pytest.mark.parametrize("key", [lambda i: i, lambda i: f"k{i}", lambda i: SameHash(i)])
def test_K4_each_key_is_deleted_once(key):
    threads, count = 3, scaled(3000) if key(0) == 0 else scaled(200)
    d = ConcurrentDict((key(i), i) for i in range(count))

    def pop(me):
        return [i for i in range(count) if d.pop(key(i), None) is not None]

    def delete(me):
        deleted = []
        for i in range(count):
            try:
                del d[key(i)]
                deleted.append(i)
            except KeyError as error:
                assert error.args == (key(i),)
        return deleted

    won = run_threads(threads, pop, 1, delete)
    assert sorted(i for mine in won for i in mine) == list(range(count))
    assert len(d) == 0 and list(d) == []


def test_K4_of_those_who_find_a_key_one_deletes_it():
    """All delete the same keys in the same order: who is behind only misses, which is faster, and
    so catches up again and again. Caught on 3.15t, in most runs: DELETE_BLIND (a crash)."""
    count = scaled(2000)
    for _ in range(rounds(20)):
        d = ConcurrentDict((f"k{i}", i) for i in range(count))

        def delete(me, d=d):
            deleted = 0
            for i in range(count):
                try:
                    del d[f"k{i}"]
                except KeyError:
                    continue
                deleted += 1
            return deleted

        assert sum(run_threads(3, delete)) == count
        assert len(d) == 0 and not list(d)


def test_K4_popitem_takes_each_entry_once():
    d = ConcurrentDict()
    threads, count = 2, scaled(6000)

    def insert(me):
        for i in range(count):
            d[me, i] = (me, i)

    def take(me):
        taken = []
        while len(taken) < count:
            try:
                key, value = d.popitem()
            except KeyError:
                continue
            assert key == value
            taken.append(key)
        return taken

    taken = run_threads(threads, insert, threads, take)[threads:]
    assert sorted(k for mine in taken for k in mine) == sorted(
        (me, i) for me in range(threads) for i in range(count)
    )
    assert len(d) == 0


def test_K4_len_is_exact():
    """Whoever has seen an insertion or a deletion counts it. One writer inserts key after key and
    deletes each; it says beforehand what it is about to do, so a reader knows which lengths were
    possible while it looked. Caught: LEN_NO_LOCK."""
    base = 10
    d = ConcurrentDict(((-1 - i), i) for i in range(base))
    inserting, deleting = [-1], [-1]
    total = scaled(40_000)

    def write(_):
        for i in range(total):
            inserting[0] = i
            d[i] = i
            deleting[0] = i
            del d[i]

    def read():
        for _ in range(100):
            key = inserting[0]
            if key in d:
                length = len(d)
                if deleting[0] < key:  # it was there all along
                    assert length == base + 1
            key = deleting[0]
            if key not in d and inserting[0] == key:
                length = len(d)
                if inserting[0] == key:  # nothing new was begun, the deletion was seen
                    assert length == base
            assert base <= len(d) <= base + 1

    run_threads(1, write, background=[read, read])
    assert len(d) == base


def test_K4_len_after_own_changes():
    """Each thread's completed insertions are in every later len()."""
    d = ConcurrentDict()
    threads, count = 3, scaled(5000)

    def work(me):
        for i in range(count):
            d[me, i] = i
            assert len(d) >= i + 1

    run_threads(threads, work)
    assert len(d) == threads * count == len(list(d)) == len(d.snapshot())


def test_K4_all_writers_at_once_leave_a_consistent_dict():
    d = ConcurrentDict()
    keys = [f"k{i}" for i in range(50)] + [SameHash(i) for i in range(5)]

    def work(me):
        for i in range(scaled(3000)):
            key = keys[(i * 31 + me * 17) % len(keys)]
            match (i + me) % 7:
                case 0 | 1:
                    d[key] = i
                case 2:
                    d.pop(key, None)
                case 3:
                    d.setdefault(key, i)
                case 4:
                    d.update({key: i, (me, i % 100): i})
                case 5:
                    d.get_or_create(key, list)
                case 6:
                    try:
                        d.popitem()
                    except KeyError:
                        pass

    for _ in range(3):
        run_threads(4, work)
        content = list(d.items())
        assert len(d) == len(content) == len({k for k, _ in content})
        assert d.snapshot() == dict(content) and d == dict(content)
        assert all(d[k] is v or d[k] == v for k, v in content)
        for k, _ in content:
            del d[k]
        assert len(d) == 0 and not list(d)


def test_K5_order_of_each_thread():
    """Entries stand in the order of insertion: the keys of one inserter rise, others deleting."""
    d = ConcurrentDict()
    threads, count = 2, scaled(6000)

    def insert(me):
        for i in range(count):
            d[me, i] = i

    def delete():
        for key in list(d)[::3]:
            d.pop(key, None)

    def rising(keys):
        for me in range(threads):
            own = [i for owner, i in keys if owner == me]
            assert own == sorted(own) and len(own) == len(set(own))

    def read():
        rising(d)
        rising(d.snapshot())

    run_threads(threads, insert, background=[delete, read])
    rising(d)

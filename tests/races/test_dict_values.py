"""K8: references are dropped when no reader can hold them, each exactly once."""

import gc

import pytest
from support import FREE_THREADED, Census, rounds, run_threads, scaled, settle

from qsbrcontainers import ConcurrentDict, stats

KEYS = 16


@pytest.mark.parametrize("how", ["get", "items", "values", "snapshot", "pop"])
def test_K8_readers_get_live_values_while_they_are_replaced(how):
    """A value's number says to which key it belongs. Caught: FREE_AT_ONCE (crash, or the number of
    another object, on free-threaded builds)."""
    census = Census()
    d = ConcurrentDict((k, census.new(k)) for k in range(KEYS))

    def replace(me):
        for i in range(scaled(20_000)):
            k = i % KEYS
            d[k] = census.new(i * KEYS + k)

    def read_get():
        for k in range(KEYS):
            value = d.get(k)
            assert value is None or value.check() % KEYS == k

    def read_items():
        for k, value in d.items():
            assert value.check() % KEYS == k

    def read_values():
        for value in d.values():
            value.check()

    def read_snapshot():
        for k, value in d.snapshot().items():
            assert value.check() % KEYS == k

    def read_pop():
        for k in range(KEYS):
            value = d.pop(k, None)
            assert value is None or value.check() % KEYS == k
            value = d.setdefault(k, census.new(k))
            assert value.check() % KEYS == k

    ways = {
        "get": read_get,
        "items": read_items,
        "values": read_values,
        "snapshot": read_snapshot,
        "pop": read_pop,
    }
    run_threads(2, replace, background=[ways[how]] * 2)
    settle()
    assert census.alive == len(d)
    d = None
    settle()
    assert census.alive == 0


def test_K8_keys_live_as_long_as_readers_hold_them():
    census = Census()
    d = ConcurrentDict()

    def write(me):
        for i in range(scaled(6000)):
            key = census.new(i)
            d[key] = census.new(i)
            if i % 3 == 0:
                try:
                    d.popitem()
                except KeyError:  # the other one has cleared it
                    pass
            elif i % 3 == 1:
                d.pop(key, None)
            if i % 500 == 0:
                d.clear()

    def read():
        for key, value in d.items():
            assert key.check() == value.check()
        for key in d.snapshot():
            key.check()

    run_threads(2, write, background=[read, read])
    settle()
    assert census.alive == 2 * len(d)
    d.clear()
    settle()
    assert census.alive == 0


def test_K8_cleared_values_live_as_long_as_readers_hold_them():
    census = Census()
    d = ConcurrentDict()

    def fill_and_clear(_):
        for _ in range(scaled(400)):
            d.update((i, census.new(i)) for i in range(50))
            d.clear()

    def read():
        for i in range(50):
            value = d.get(i)
            assert value is None or value.check() == i

    run_threads(1, fill_and_clear, background=[read, read])
    settle()
    assert census.alive == 0


def test_K8_tables_are_retired_under_readers():
    """Growth and shrinking replace tables all the time; readers still read in the old ones."""
    census = Census()
    d = ConcurrentDict((k, census.new(k)) for k in range(KEYS))

    def grow(me):
        for _ in range(scaled(50)):
            for i in range(300):
                d[me, i] = census.new(i)
            for i in range(300):
                del d[me, i]

    def read():
        for k in range(KEYS):
            assert d[k].check() == k
        for key, value in d.items():
            assert value.check() == (key if isinstance(key, int) else key[1])

    run_threads(2, grow, background=[read, read])
    settle()
    assert census.alive == KEYS


def test_K8_values_die_in_any_thread_and_may_come_back_into_the_dict():
    finalized = []
    d = ConcurrentDict((k, None) for k in range(KEYS))

    class ComesBack:
        def __del__(self):
            finalized.append(len(d))
            d.get(3)
            d["from a finalizer"] = None

    def replace(me):
        for i in range(scaled(3000)):
            d[i % KEYS] = ComesBack()

    def read():
        list(d.values())

    run_threads(3, replace, background=[read])
    d.clear()
    settle()
    assert len(finalized) == 3 * scaled(3000)


def test_K8_the_collector_runs_all_along():
    census = Census()
    d = ConcurrentDict((k, census.new(k)) for k in range(KEYS))

    class Node:
        pass

    def write(me):
        for i in range(scaled(1500)):
            node = Node()
            node.me, node.counted, node.container = node, census.new(i), d
            d[i % KEYS, me] = node
            d.pop(((i + 3) % KEYS, me), None)

    def read():
        for k in range(KEYS):
            assert d[k].check() == k
        for value in d.values():
            value.check() if not isinstance(value, Node) else value.counted.check()

    def collect_garbage():
        gc.collect()

    def look_around():
        if not FREE_THREADED:  # there it may hand out objects that are being freed
            assert any(o is d for o in gc.get_objects())
        gc.get_referrers(d)
        gc.get_referents(d)

    run_threads(2, write, background=[read, collect_garbage, look_around])
    settle()
    assert census.alive == len(d)
    d.clear()
    settle()
    assert census.alive == 0


def test_K8_containers_that_many_threads_used_are_freed():
    census = Census()

    def work(me):
        for i in range(300):
            d[i % 10] = census.new(i)
            d.get(i % 7)

    for _ in range(rounds(20)):
        d = ConcurrentDict()
        d["me"] = d
        run_threads(3, work)
    d = None
    settle()
    assert census.alive == 0


def test_everything_deferred_is_freed_by_collect():
    d = ConcurrentDict()

    def work(me):
        for i in range(scaled(2000)):
            d[i % 50] = [i]
            d[me, i] = [i]
            d.pop((me, i - 100), None)

    run_threads(3, work)
    settle()
    after = stats()
    assert after["items_held"] == 0 and after["bytes_held"] == 0

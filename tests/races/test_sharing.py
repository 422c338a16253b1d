"""T1, T5, T6 and Q4: containers that become shared, threads that end with frees pending."""

import gc
import threading

import pytest
from support import Census, rounds, run_threads, scaled, settle

from qsbrcontainers import ConcurrentDict, ConcurrentList, collect, share, stats


def owned(make, own, foreign, count):
    """A thread makes containers and changes each of them all along, while another comes and uses
    it. Only what the first of these accesses does may tell the owner that it is not alone."""
    containers, left = [], [-1]

    def owner(_):
        try:
            for n in range(count):
                container = make()
                containers.append(container)
                own(container)
                while left[0] < n:
                    own(container)
        except BaseException:
            containers.extend([None] * count)  # nobody is to wait for this thread
            raise

    def comer(_):
        try:
            for n in range(count):
                while len(containers) <= n:
                    pass
                for _ in range(150):
                    foreign(containers[n])
                left[0] = n
        finally:
            left[0] = count

    run_threads(1, owner, 1, comer)
    return containers


HOT = 4  # keys, or indices, of which each value says to which it belongs


def check_entries(entries):
    for key, value in entries:
        assert not isinstance(key, int) or value.check() == key


FOREIGN_TO_DICTS = {
    "get": lambda d: d.get(3).check() == 3,
    "[]": lambda d: d[3].check() == 3,
    "in": lambda d: 3 in d,
    "len": lambda d: len(d) >= HOT,
    "iterate": lambda d: set(range(HOT)) <= set(d),
    "items": lambda d: check_entries(d.items()) is None,
    "assign": lambda d: d.__setitem__(3, d[3]) is None,
    "snapshot": lambda d: check_entries(d.snapshot().items()) is None,
    "setdefault": lambda d: d.setdefault(3).check() == 3,
    "delete": lambda d: d.pop("more", None) or True,
    "==": lambda d: d != {},
    "copy": lambda d: check_entries(d.copy().items()) is None,
    "get_or_create": lambda d: d.get_or_create(3, list).check() == 3,
}


@pytest.mark.parametrize("access", FOREIGN_TO_DICTS)
def test_T1_the_first_foreign_access_of_a_dict(access):
    """Caught: reads that do not mark the dict as shared."""
    census = Census()

    def make():
        return ConcurrentDict((i, census.new(i)) for i in range(HOT))

    def own(d):
        for _ in range(20):
            for i in range(HOT):
                d[i] = census.new(i)
        for i in range(20):
            d["more", i] = d["more"] = census.new(i)
        for i in range(20):
            del d["more", i]

    def foreign(d):
        assert FOREIGN_TO_DICTS[access](d)

    dicts = owned(make, own, foreign, scaled(60))
    settle()
    assert census.alive == len({id(v) for d in dicts for v in d.values()})
    dicts.clear()
    settle()
    assert census.alive == 0


FOREIGN_TO_LISTS = {
    "[]": lambda x: x[3].check() == 3,
    "from the end": lambda x: x[-1].check() >= 3,
    "iterate": lambda x: [v.check() for v in x][:HOT] == list(range(HOT)),
    "snapshot": lambda x: [v.check() for v in x.snapshot()][:HOT] == list(range(HOT)),
    "append and pop": lambda x: x.append(x[3]) is None and x.pop().check() >= 0,
    "assign": lambda x: x.__setitem__(3, x[3]) is None,
    "len": lambda x: len(x) >= HOT,
}


@pytest.mark.parametrize("access", FOREIGN_TO_LISTS)
def test_T1_the_first_foreign_access_of_a_list(access):
    """Caught: reads that do not mark the list as shared."""
    census = Census()

    def make():
        return ConcurrentList(census.new(i) for i in range(HOT))

    def own(values):
        for _ in range(20):
            for i in range(HOT):
                values[i] = census.new(i)
        for i in range(20):
            values.append(census.new(HOT + i))
        for _ in range(20):
            values.pop()

    def foreign(values):
        assert FOREIGN_TO_LISTS[access](values)

    lists = owned(make, own, foreign, scaled(60))
    settle()
    assert census.alive == len({id(v) for values in lists for v in values})
    lists.clear()
    settle()
    assert census.alive == 0


@pytest.mark.parametrize("kind", ["values", "items", "list iterator"])
def test_T1_a_step_of_an_iterator_is_an_access(kind):
    """Made by the owner, stepped by another thread: the only foreign access there is. Each value
    says where it belongs. Caught: a step that does not mark the container as shared."""
    census, count, size = Census(), scaled(60), 4

    def make():
        if kind == "list iterator":
            return ConcurrentList(census.new(i) for i in range(size))
        return ConcurrentDict((i, census.new(i)) for i in range(size))

    view = {"values": lambda d: d.values(), "items": lambda d: d.items()}.get(kind, lambda x: x)
    iterators, stepping, stepped = [], [-1], [-1]

    def own(_):
        for n in range(count):
            source = make()
            iterators.append([iter(view(source)) for _ in range(200)])
            while stepping[0] < n:
                pass
            while stepped[0] < n:
                for i in range(size):
                    source[i] = census.new(i)
            if kind == "list iterator":
                source.extend([census.new(size + i) for i in range(200)])
            else:
                source.update((size + i, census.new(size + i)) for i in range(200))
            source.clear()

    def step(_):
        for n in range(count):
            while len(iterators) <= n:
                pass
            stepping[0] = n
            try:
                for k, iterator in enumerate(iterators[n]):
                    if k == 150:
                        stepped[0] = n  # the rest beside what replaces the table
                    for i, entry in enumerate(iterator):
                        assert (entry[1] if kind == "items" else entry).check() == i
            except BaseException:
                stepping[0] = stepped[0] = count  # nobody is to wait for this thread
                raise

    run_threads(1, own, 1, step)
    iterators.clear()
    settle()
    assert census.alive == 0


def test_T1_made_in_one_thread_used_in_the_next():
    """Containers passed on and dropped elsewhere, as in a pool of workers."""
    census, boxes = Census(), [[] for _ in range(3)]
    count = scaled(1500)

    def work(me):
        for i in range(count):
            d, values = ConcurrentDict(a=census.new(i)), ConcurrentList([census.new(i)])
            boxes[(me + 1) % 3].append((d, values))
            try:
                d, values = boxes[me].pop()
            except IndexError:
                continue
            assert d["a"].check() == values[0].check()
            d["a"] = values[0] = census.new(i)
            d["b"] = d

    run_threads(3, work)
    boxes.clear()
    settle()
    assert census.alive == 0


def test_T6_threads_that_end_with_frees_pending():
    """Short threads, one after the other and some together, each leaving replaced objects."""
    census = Census()
    d, values = ConcurrentDict(), ConcurrentList([None] * 10)
    together = 4

    def work(me):
        for i in range(10):
            d[i] = census.new(i)
            values[i] = census.new(i)
            d[me, i] = census.new(i)
        for i in range(10):
            d.pop((me, i), None)

    for _ in range(rounds(200)):
        threads = [threading.Thread(target=work, args=(me,)) for me in range(together)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    settle()
    assert census.alive == 20
    after = stats()
    assert after["items_held"] == 0 and after["bytes_held"] == 0
    # Records are used again: there are as many as threads at a time, not as there ever were.
    assert after["records"] <= 200
    d.clear()
    values.clear()
    settle()
    assert census.alive == 0


def test_T6_what_a_quiet_thread_left_is_freed_by_others():
    """A thread retires and then waits for ever: collect() in another frees its objects."""
    census, d = Census(), ConcurrentDict(a=None)
    retired, leave = threading.Event(), threading.Event()

    def retire():
        for i in range(50):
            d["a"] = census.new(i)
        retired.set()
        leave.wait()

    thread = threading.Thread(target=retire, daemon=True)
    thread.start()
    retired.wait()
    settle()
    alive = census.alive
    leave.set()
    thread.join()
    assert alive == 1


def test_T5_collect_by_many_threads():
    census, d = Census(), ConcurrentDict()

    def churn(me):
        for i in range(scaled(4000)):
            d[i % 20] = census.new(i)
            if i % 50 == 0:
                assert collect() >= 0

    def look():
        seen = stats()
        assert seen["items_held"] >= 0 and seen["bytes_held"] >= 0 and seen["records"] > 0

    run_threads(3, churn, background=[collect, look])
    settle()
    assert census.alive == 20 and stats()["items_held"] == 0


def test_T5_finalizers_that_retire_more():
    """Dropping what is deferred runs Python code that uses containers, which defers more."""
    d, ended = ConcurrentDict(), []

    class Retires:
        def __init__(self, depth):
            self.depth = depth

        def __del__(self):
            ended.append(None)
            if self.depth:
                d["deep", self.depth] = Retires(self.depth - 1)
                d["deep", self.depth] = None
                collect()

    def work(me):
        for i in range(scaled(300)):
            d[i % 10] = Retires(3)

    run_threads(3, work, background=[lambda: list(d.items())])
    d.clear()
    settle()
    assert len(ended) == 3 * scaled(300) * 4


def test_share_while_others_use_the_object():
    class App:
        def __init__(self):
            self.cache = ConcurrentDict(a=1)

    app = App()

    def use(_):
        for _ in range(scaled(5000)):
            assert app.cache["a"] == 1

    run_threads(3, use, background=[lambda: share(app), gc.collect])
    assert share(app) is app


def test_the_collector_meets_containers_in_the_middle_of_everything():
    """Cycles are made and dropped by all threads while collections run."""
    census = Census()

    def work(me):
        for i in range(scaled(150)):
            d, values = ConcurrentDict(), ConcurrentList()
            d["list"], d["me"], d["counted"] = values, d, census.new(i)
            values.extend([d, values, census.new(i), iter(d), iter(values)])
            d.update((j, values) for j in range(20))
            if i % 3 == 0:
                d.clear()
            elif i % 3 == 1:
                values.clear()

    run_threads(3, work, background=[gc.collect])
    settle()
    assert census.alive == 0

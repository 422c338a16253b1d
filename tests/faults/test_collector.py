"""The cyclic collector at every opportunity: at each allocation (3.11), as soon as one has asked
for it (3.12 on), or all the time (free-threaded builds, which wait for hundreds of allocations:
another thread calls it); from what allocating calls call, and inside `__eq__`; and others who look
into the containers by it (`gc.get_objects`, `gc.get_referrers`) while these change.
"""

import gc
import sys
import threading

import pytest
from operations import DICT_OPERATIONS, LIST_OPERATIONS, Things, dict_items, list_items
from support import (
    FREE_THREADED,
    CallsOnEq,
    Census,
    SameHash,
    rounds,
    run_threads,
    scaled,
    settle,
    touch,
)

from qsbrcontainers import ConcurrentDict, ConcurrentList, collect, share

CASES = [
    *((ConcurrentDict, dict, dict_items, operation) for operation in DICT_OPERATIONS),
    *((ConcurrentList, list, list_items, operation) for operation in LIST_OPERATIONS),
]


class Cycle:
    """Only the collector frees it. Its finalizer comes back into the container."""

    def __init__(self, container, census):
        self.itself, self.container, self.counted = self, container, census.new()

    def __del__(self):
        for _ in self.container:
            break
        len(self.container)


class Always:
    """The collector runs whenever it can, and what it calls uses a dict and a list, and retires."""

    def __init__(self):
        self.used, self.others = ConcurrentDict(calls=0), ConcurrentList([0])
        touch(self.used)
        self.before, self.over = gc.get_threshold(), threading.Event()
        self.thread = threading.Thread(target=self.collect_all_along, daemon=True)
        gc.callbacks.append(self.callback)
        if FREE_THREADED:
            self.thread.start()
        else:
            gc.set_threshold(1, 1, 1)

    @property
    def calls(self):
        return self.used["calls"]

    def callback(self, phase, info):
        self.used.incr("calls")
        self.used["object"] = [phase]
        self.others.append(phase)
        self.others.pop()

    def collect_all_along(self):
        while not self.over.is_set():
            gc.collect()

    def end(self):
        self.over.set()
        gc.set_threshold(*self.before)
        if FREE_THREADED:
            self.thread.join()
        if self.callback in gc.callbacks:
            gc.callbacks.remove(self.callback)


@pytest.fixture
def always():
    found = Always()
    yield found
    found.end()


def contents(container):
    if isinstance(container, dict | ConcurrentDict):
        return list(container.items())
    return list(container)


@pytest.mark.parametrize("shared", [False, True], ids=["unshared", "shared"])
def test_T2_the_collector_at_every_allocation_of_every_operation(always, shared):
    """Each operation comes to what it comes to with a dict or a list, and nobody is lost."""
    census, wrong, enough = Census(), [], 20 if FREE_THREADED else len(CASES)

    def run(kind, builtin, items, operation):
        given, x = items(census.new, operation.beside), Things(census.new)
        model, ours = builtin(given), kind(given)
        if shared:
            touch(ours)
        expected = operation.model(model, x)
        for _ in range(3):
            Cycle(ours, census)
        got = operation.ours(ours, x)
        if got != expected or contents(ours) != contents(model) or len(ours) != len(model):
            wrong.append(operation.name)
        x.value.check()
        x.other.check()

    while not wrong and always.calls < enough:
        for case in CASES:
            run(*case)
    assert not wrong
    always.end()
    settle()
    assert census.alive == 0


def test_T2_the_collector_at_every_allocation_beside_threads(always):
    """Counters are right, values whole; cycles through the container die meanwhile."""
    d, values, census = ConcurrentDict(count=0), ConcurrentList([0]), Census()
    d["object"] = census.new()
    times, enough = scaled(150), 20
    most = 100 * times

    def change(me):
        done = 0
        while done < times or (always.calls < enough and done < most):
            done += 1
            d.incr("count")
            d["object"] = census.new(done)
            inner = ConcurrentDict(outer=d, cycle=Cycle(values, census))
            inner["self"] = inner
            d["inner", me] = inner
            values.append(ConcurrentList([values]))
            values.pop()
        return done

    def read():
        d["object"].check()
        list(d.items()), d.snapshot(), list(values), len(values)

    done = run_threads(3, change, background=[read])
    assert d["count"] == sum(done) and len(values) == 1 and len(d) == 5
    assert always.calls >= enough
    always.end()
    d.clear()
    settle()
    assert census.alive == 0


@pytest.mark.parametrize("what", [gc.collect, collect], ids=["gc.collect", "collect"])
def test_a_collection_inside_eq_and_whatever_is_called_meanwhile(what):
    """`__eq__`, factories, callbacks, sort keys, iterators: each collects, in the middle of
    operations of which others are under way too."""
    d, values, census = ConcurrentDict(count=0), ConcurrentList(range(20)), Census()
    times = rounds(8 if FREE_THREADED else 25)  # a collection stops the others there

    def collecting(*ignored):
        what()
        return [None]

    def zero(*ignored):
        what()
        return 0

    def yielding():
        for i in range(3):
            what()
            yield i

    def use(me):
        for i in range(times):
            key = CallsOnEq((me, i % 5), what)
            cycle = Cycle(d, census)
            d[key] = cycle
            assert d[key] is not None and key in d and SameHash((me, i % 5)) in d
            d.incr("count")
            d.get_or_create(CallsOnEq((me, "made"), what), collecting)
            d.compute(("computed", me), collecting)
            d.update((i, i) for i in yielding())
            d.discard_if(zero)
            del d[key]
            own = ConcurrentList(values[:5])
            own.sort(key=zero)
            own.extend(yielding())
            assert len(own) == 8
            values.index(CallsOnIndex(19, what))

    def read():
        assert len(d.snapshot()) >= 1 and list(values) == list(range(20))
        list(d.items())

    run_threads(3, use, background=[read])
    assert d["count"] == 3 * times
    d.clear()
    settle()
    assert census.alive == 0


class CallsOnIndex:
    def __init__(self, value, on_eq):
        self.value, self.on_eq = value, on_eq

    def __eq__(self, other):
        if other == self.value - 10:
            self.on_eq()
        return other == self.value


def test_objects_and_referrers_are_looked_up_all_along():
    """Those who look see containers in which things come and go: what stays has its container as a
    referrer, each time, and nothing that they got is a dead object. Caught: a tp_traverse that
    leaves an element out."""
    d, values, census = ConcurrentDict(count=0), ConcurrentList(), Census()
    stays = [census.new(i) for i in range(5)]
    for i, each in enumerate(stays):
        d["stays", i] = each
        values.append(each)
    touch(d)
    times, looks = scaled(1500), []
    iterators = []

    def change(me):
        for i in range(times):
            d["object", i % 30] = [census.new(i)]
            d.pop(("object", (i * 7) % 30), None)
            d.incr("count")
            values.append([i])
            values.pop()
            if i % 50 == 0:
                iterators[:] = [iter(d.items()), iter(values)]
                for each in iterators:
                    next(each, None)
                d["nested", me] = ConcurrentDict(d=d, v=ConcurrentList([d, values]))

    def ids(objects):
        return {id(each) for each in objects}

    def look():
        gc.get_objects()
        for each in stays:
            found = ids(gc.get_referrers(each))
            assert id(d) in found and id(values) in found
        inside = ids(gc.get_referents(d)) | ids(gc.get_referents(values))
        assert ids(stays) <= inside
        for each in gc.get_referents(values):
            assert sys.getrefcount(each) > 0
        looks.append(None)

    run_threads(3, change, background=[look])
    assert looks and d["count"] == 3 * times and len(values) >= 5
    iterators.clear()
    d.clear()
    values.clear()
    stays.clear()
    del each
    settle()
    assert census.alive == 0


@pytest.mark.parametrize("kind", [ConcurrentDict, ConcurrentList])
def test_what_a_thread_makes_first_is_never_found_half_made(kind):
    """A thread's first operation lets others run. Caught (on 3.11): registering between making
    a dict and giving it its table, as `gc.get_objects()` finds the dict there."""
    used = []

    def look():
        for each in gc.get_objects():
            if type(each) is kind:
                used.append(len(each) + sum(1 for _ in each) + (5 in each))

    def make(me):
        for _ in range(rounds(10 if FREE_THREADED else 150)):  # stops the world each time there
            thread = threading.Thread(target=kind)
            thread.start()
            thread.join()

    stays = kind()
    run_threads(1, make, background=[look])
    assert used and not any(used)
    del stays


def used_by_threads(container):
    """As often as it takes for deferred reference counting."""
    for _ in range(200):
        len(container)


def shared_object(holder):
    share(holder)


@pytest.mark.parametrize("use", [used_by_threads, shared_object])
@pytest.mark.parametrize("kind", [ConcurrentDict, ConcurrentList])
def test_a_finalizer_that_makes_garbage_deferred_frees_it_all_the_same(kind, use):
    """The collector frees what its finalizers have used a lot, or shared. Caught: deferred
    counting for what the collector has already found to be garbage (it took it for immortal)."""
    census, ended = Census(), []

    class Element:
        def __init__(self):
            self.counted = census.new()

    class Holder:
        def __init__(self):
            self.itself, self.container = self, kind([(0, Element()), (1, Element())])

        def __del__(self):
            ended.append(None)
            use(self.container if use is used_by_threads else self)

    gc.disable()
    try:
        for _ in range(10):
            Holder()
        thread = threading.Thread(target=gc.collect)
        thread.start()
        thread.join()
    finally:
        gc.enable()
    settle()
    assert len(ended) == 10 and census.alive == 0
    left = [type(each) for each in gc.get_objects() if type(each) in (Holder, Element)]
    assert not left, "finalized, and not freed"

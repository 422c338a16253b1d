"""The containers as Python objects: subclassing, weak references, garbage collection."""

import copy
import ctypes
import gc
import operator
import sys
import weakref

import pytest
from support import (
    FREE_THREADED,
    MANY_TOUCHES,
    OUR_DICTS,
    OUR_LISTS,
    Boom,
    Census,
    settle,
    touch,
)

from qsbrcontainers import ConcurrentDict, ConcurrentList

OURS = {
    f"{kind}-{name}": make
    for kind, table in (("dict", OUR_DICTS), ("list", OUR_LISTS))
    for name, make in table.items()
}
TYPES = [dict, ConcurrentDict, list, ConcurrentList]
OUR_TYPES = [ConcurrentDict, ConcurrentList]


@pytest.fixture(params=OURS)
def make(request):
    return OURS[request.param]


@pytest.fixture(params=TYPES)
def base(request):
    return request.param


def put(container, value):
    if hasattr(container, "append"):
        container.append(value)
    else:
        container[len(container)] = value


def test_subclasses_with_attributes(base):
    class Sub(base):
        """A doc."""

        default = 5

        def __init__(self, *arguments, tag=None):
            super().__init__(*arguments)
            self.tag = tag

        def twice(self):
            return 2 * len(self)

    sub = Sub([(1, 2)], tag="x")
    assert sub.tag == "x" and sub.twice() == 2 and sub.default == 5 and len(sub) == 1
    sub.other = [sub]
    assert sub.__dict__ == {"tag": "x", "other": [sub]}
    assert isinstance(sub, base) and type(sub) is Sub and Sub.__mro__[1] is base
    reference = weakref.ref(sub)
    del sub
    settle()
    assert reference() is None


def test_subclasses_with_slots(base):
    class Sub(base):
        __slots__ = ("tag",)

    sub = Sub()
    sub.tag = 1
    put(sub, 5)
    assert sub.tag == 1 and 5 in list(sub.values() if hasattr(sub, "values") else sub)
    with pytest.raises(AttributeError):
        sub.other = 1


def test_subclasses_that_override(base):
    class Sub(base):
        def __setitem__(self, key, value):
            super().__setitem__(key, ("set", value))

        def __getitem__(self, key):
            return super().__getitem__(key)[1]

        def __len__(self):
            return 1000

        def __repr__(self):
            return "Sub"

    sub = Sub()
    put(sub, ("plain", 0)) if issubclass(base, (list, ConcurrentList)) else None
    sub[0] = 5
    assert sub[0] == 5 and len(sub) == 1000 and repr(sub) == "Sub"


def test_subclasses_with_other_arguments(base):
    class Sub(base):
        def __new__(cls, name):
            return super().__new__(cls)

        def __init__(self, name):
            super().__init__()
            self.name = name

    assert Sub("n").name == "n" and len(Sub(name="n")) == 0


def test_base_types_have_no_attributes(base):
    container = base()
    with pytest.raises(AttributeError):
        container.attribute = 1


@pytest.mark.parametrize("base", OUR_TYPES)
def test_finalizer_of_a_subclass(base):
    ended = []

    class Sub(base):
        def __del__(self):
            ended.append(list(self))

    sub = Sub([(1, 2)])
    expected = [list(sub)]
    touch(sub)
    del sub
    settle()
    assert ended == expected


@pytest.mark.parametrize("base", OUR_TYPES)
def test_names(base):
    assert base.__module__ == "qsbrcontainers" and base.__doc__
    assert base.__name__ == base.__qualname__ and base.__name__.startswith("Concurrent")


def test_weak_references(make):
    container, called = make(), []
    reference = weakref.ref(container, called.append)
    assert reference() is container and not called
    del container
    settle()
    assert reference() is None and called == [reference]


def test_weak_keys_to_ours(make):
    container = make()
    proxy = weakref.proxy(container)
    put(proxy, 5)
    assert len(proxy) == 1 and len(container) == 1


def test_tracked(make):
    container = make()
    assert gc.is_tracked(container)
    value = object()
    put(container, value)
    assert value in gc.get_referents(container)


def test_keys_are_visited():
    key = (object(),)
    assert any(o is key for o in gc.get_referents(ConcurrentDict([(key, 1)])))


class Node:
    pass


def test_cycles_are_collected(make):
    census = Census()
    container = make()
    put(container, container)
    put(container, census.new())
    node = Node()
    node.container = container
    put(container, node)
    put(container, (container, [container]))
    del container, node
    settle()
    assert census.alive == 0


def test_cycles_through_keys_are_collected(make):
    if not isinstance(make(), ConcurrentDict):
        pytest.skip("a list has no keys")
    census = Census()
    container = make()
    node = Node()
    node.container, node.counted = container, census.new()
    container[node] = 1
    container[(node, "in a tuple")] = census.new()
    del container, node
    settle()
    assert census.alive == 0


def test_cycles_through_views_and_iterators_are_collected(make):
    census = Census()
    container = make()
    put(container, census.new())
    iterator = iter(container)
    put(container, iterator)
    if hasattr(container, "items"):
        put(container, container.items())
        put(container, iter(container.values()))
        next(container[3])
    next(iterator)
    del container, iterator
    settle()
    assert census.alive == 0


def test_cycles_through_replaced_and_removed_values(make):
    census = Census()
    container = make()
    for _ in range(50):
        node = Node()
        node.container, node.counted = container, census.new()
        put(container, node)
        container[0] = node
    del node
    settle()
    assert census.alive == 49  # the first was replaced
    container.clear()
    settle()
    assert census.alive == 0


def test_cycles_through_attributes_of_a_subclass():
    for base in OUR_TYPES:
        census = Census()

        class Sub(base):
            pass

        sub = Sub()
        sub.me, sub.counted = sub, census.new()
        del sub
        settle()
        assert census.alive == 0


def test_containers_in_containers(make):
    census = Census()
    outer = make()
    for _ in range(100):
        inner = make()
        put(inner, census.new())
        put(outer, inner)
    del inner
    assert census.alive == 100
    del outer
    settle()
    assert census.alive == 0


def test_live_values_survive_the_collector(make):
    census = Census()
    container = make()
    for i in range(1000):
        put(container, census.new(i))
    settle()
    values = container.values() if hasattr(container, "values") else container
    assert [v.check() for v in values] == list(range(1000))


def test_often_used_by_others_and_then_dropped(make):
    """Deferred reference counting (3.14+, free-threaded): then the collector frees it."""
    census = Census()
    container = make()
    put(container, census.new())
    touch(container, MANY_TOUCHES)
    reference = weakref.ref(container)
    del container
    settle()
    assert reference() is None and census.alive == 0


def test_finalizer_during_collection_uses_the_container(make):
    class UsesIt:
        def __init__(self, container):
            self.container = container

        def __del__(self):
            used.append(len(self.container))
            put(self.container, "resurrected")

    used = []
    container = make()
    put(container, UsesIt(container))
    del container
    settle()
    assert used == [1]


@pytest.mark.skipif(not FREE_THREADED, reason="there is a GIL on this build")
def test_the_gil_stays_off():
    assert not sys._is_gil_enabled()


def test_an_error_while_constructing_frees_what_was_made(make):
    census = Census()

    def entries():
        for i in range(50):
            yield (i, census.new())
        raise Boom

    with pytest.raises(Boom):
        make(entries())
    settle()
    assert census.alive == 0


CLEAR = 51  # Py_tp_clear of the stable ABI


def clear_as_the_collector_does(op):
    get_slot = ctypes.pythonapi.PyType_GetSlot
    get_slot.restype, get_slot.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_int]
    slot = get_slot(type(op), CLEAR)
    if slot is not None:
        assert ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object)(slot)(op) == 0


@pytest.mark.parametrize("times", [1, 2])
def test_what_the_collector_has_cleared_is_empty(times):
    """Others of the same garbage may come to it afterwards, when they are dropped."""
    d, x = ConcurrentDict({"a": [1], 2: 3.5, ("t", 1): "c"}), ConcurrentList([[1], 2.5, "c"])
    iterators = [iter(x), reversed(x), iter(x), reversed(x), iter(d), iter(d.items()), iter([])]
    for iterator in iterators[2:6]:
        next(iterator)
    for _ in range(times):
        for op in (*iterators[:-1], d, x):
            clear_as_the_collector_does(op)
    for iterator in iterators:
        assert operator.length_hint(iterator) == 0 and list(copy.copy(iterator)) == []
        if hasattr(iterator, "__setstate__"):
            iterator.__setstate__(0)
        assert list(iterator) == [] and next(iterator, None) is None
    assert d == {} and "a" not in d and len(d) == 0 and list(d.items()) == []
    assert x == [] and list(x) == []
    d["a"], d["b"] = x, 5
    x.append(d)
    assert d["a"][0] is d and d.pop("b") == 5 and len(d) == len(x) == 1
    clear_as_the_collector_does(d)
    assert d == {} and len(x) == 1
    x.clear()

"""Every operation, its error paths too, leaves the reference counts of keys and values as they
were, once the container is cleared and what is deferred is freed. On dict and list as on ours."""

import copy
import pickle
import sys

import pytest
from support import DICTS, LISTS, MANY_TOUCHES, Boom, RaisesOnEq, SameHash, settle, touch

from qsbrcontainers import DELETE, MISSING, ConcurrentDict, ConcurrentList


def deferred(constructor):
    """Like `shared`, and used often enough by the other thread for deferred counting."""

    def construct(*arguments):
        container = constructor(*arguments)
        touch(container, MANY_TOUCHES)
        return container

    return construct


def fails(error, function, *arguments, **keywords):
    try:
        function(*arguments, **keywords)
    except error:
        return
    pytest.fail(f"no {error}")


def raising(*entries):
    yield from entries
    raise Boom


def raise_boom():
    raise Boom


class NoEq:
    __hash__ = None

    def __eq__(self, other):
        raise Boom


def fill(d, k, v):
    d[k] = v
    for i in range(40):
        d["fill", i] = v


DICT_OPERATIONS = {
    "set": lambda d, k, v: d.__setitem__(k, v),
    "replace": lambda d, k, v: (d.__setitem__(k, v), d.__setitem__(k, [v]), d.__setitem__(k, v)),
    "replace by a number": lambda d, k, v: (d.__setitem__(k, v), d.__setitem__(k, 1)),
    "delete": lambda d, k, v: (d.__setitem__(k, v), d.__delitem__(k)),
    "delete a missing key": lambda d, k, v: fails(KeyError, d.__delitem__, k),
    "read": lambda d, k, v: (d.__setitem__(k, v), d[k], d.get(k), d.get(k, v), k in d),
    "read a missing key": lambda d, k, v: (fails(KeyError, lambda: d[k]), d.get(k, v), k in d),
    "setdefault": lambda d, k, v: (d.setdefault(k, v), d.setdefault(k, [v]), d.setdefault(k)),
    "pop": lambda d, k, v: (d.__setitem__(k, v), d.pop(k), d.pop(k, v), d.pop(k, None)),
    "pop a missing key": lambda d, k, v: fails(KeyError, d.pop, k),
    "popitem": lambda d, k, v: (d.__setitem__(k, v), d.popitem()),
    "popitem when empty": lambda d, k, v: fails(KeyError, d.popitem),
    "update": lambda d, k, v: (d.update({k: v}), d.update([(k, v)]), d.update(a=v), d.update(d)),
    "update from ours": lambda d, k, v: d.update(ConcurrentDict([(k, v)])),
    "update with wrong pairs": lambda d, k, v: (
        fails(ValueError, d.update, [(k, v), (k,)]),
        fails(TypeError, d.update, [(k, v), (v, v)]),
        fails(TypeError, d.update, [(k, v), 5]),
        fails(Boom, d.update, raising((k, v), (1, v))),
    ),
    "construct": lambda d, k, v: (type(d)({k: v}), type(d)([(k, v)], a=v), type(d)(d)),
    "construct wrongly": lambda d, k, v: (
        fails(ValueError, type(d), [(k, v), (k,)]),
        fails(Boom, type(d), raising((k, v), (1, v))),
    ),
    "init again": lambda d, k, v: (d.__init__({k: v}), d.__init__([(k, v)]), d.__init__(a=v)),
    "clear": lambda d, k, v: (fill(d, k, v), d.clear()),
    "copy": lambda d, k, v: (fill(d, k, v), d.copy(), d.copy().clear()),
    "iterate": lambda d, k, v: (
        fill(d, k, v),
        list(d),
        list(d.keys()),
        list(d.values()),
        list(d.items()),
    ),
    "begin to iterate": lambda d, k, v: (
        fill(d, k, v),
        next(iter(d)),
        next(iter(d.values())),
        next(iter(d.items())),
        iter(d.items()),
    ),
    "membership in views": lambda d, k, v: (
        fill(d, k, v),
        k in d.keys(),
        v in d.values(),
        (k, v) in d.items(),
        (k, k) in d.items(),
        (v, k) == d.items(),
    ),
    "compare": lambda d, k, v: (fill(d, k, v), d == {k: v}, d == d.copy(), d != {}, d == 5),
    "compare and raise": lambda d, k, v: (
        d.__setitem__(k, NoEq()),
        fails(Boom, d.__eq__, {k: v}),
        fails(Boom, d.__eq__, type(d)({k: v})),
    ),
    "repr": lambda d, k, v: (fill(d, k, v), repr(d), repr(d.items())),
    "grow and shrink": lambda d, k, v: (
        [d.__setitem__((k, i), v) for i in range(300)],
        [d.__delitem__((k, i)) for i in range(300)],
    ),
    "unhashable key": lambda d, k, v: (
        fails(TypeError, lambda: d[v]),
        fails(TypeError, d.__setitem__, v, k),
        fails(TypeError, d.__delitem__, v),
        fails(TypeError, d.setdefault, v, k),
        fails(TypeError, d.get, v, k),
        fails(TypeError, d.__contains__, v),
    ),
    "key that raises in eq": lambda d, k, v: (
        d.__setitem__(SameHash("in the way"), v),
        fails(Boom, lambda: d[RaisesOnEq(k)]),
        fails(Boom, d.__setitem__, RaisesOnEq(k), v),
        fails(Boom, d.__delitem__, RaisesOnEq(k)),
        fails(Boom, d.setdefault, RaisesOnEq(k), v),
        fails(Boom, d.get, RaisesOnEq(k), v),
        fails(Boom, d.pop, RaisesOnEq(k), v),
        fails(Boom, d.update, [(k, v), (RaisesOnEq(k), v)]),
    ),
    "wrong arguments": lambda d, k, v: (
        fails(TypeError, d.get),
        fails(TypeError, d.get, k, v, v),
        fails(TypeError, d.pop, k, v, v),
        fails(TypeError, d.setdefault, k, v, v),
        fails(TypeError, d.update, {k: v}, {k: v}),
        fails(TypeError, type(d), {k: v}, {k: v}),
    ),
}
OUR_DICT_OPERATIONS = {
    "snapshot": lambda d, k, v: (fill(d, k, v), d.snapshot()),
    "incr": lambda d, k, v: (d.incr(k), d.incr(k, 2**60), d.incr(k, 2**70), d.incr(k, default=2)),
    "incr what is no number": lambda d, k, v: (
        d.__setitem__(k, v),
        fails(TypeError, d.incr, k),
        fails(TypeError, d.incr, "missing", v),
        fails(TypeError, d.incr, "missing", 1, v),
        fails(TypeError, d.incr, v),
    ),
    "get_or_create": lambda d, k, v: (
        d.get_or_create(k, lambda: v),
        d.get_or_create(k, lambda: v),
        fails(Boom, d.get_or_create, (k, 1), raise_boom),
        fails(TypeError, d.get_or_create, (k, 2), v),
        fails(RuntimeError, d.get_or_create, (k, 3), lambda: d.get_or_create((k, 3), list)),
    ),
    "delete while iterating": lambda d, k, v: (
        fill(d, k, v),
        [d.__delitem__(key) for key in d],
    ),
    "grow while iterating": lambda d, k, v: (
        fill(d, k, v),
        [d.__setitem__((k, i), v) for i, _ in enumerate(d.items())],
    ),
}
LIST_OPERATIONS = {
    "append": lambda x, v: x.append(v),
    "append and pop": lambda x, v: (x.append(v), x.pop()),
    "pop when empty": lambda x, v: fails(IndexError, x.pop),
    "set": lambda x, v: (x.append(v), x.__setitem__(0, [v]), x.__setitem__(-1, v)),
    "set out of range": lambda x, v: fails(IndexError, x.__setitem__, 5, v),
    "set a wrong index": lambda x, v: fails(TypeError, x.__setitem__, v, v),
    "read": lambda x, v: (x.append(v), x[0], x[-1], fails(IndexError, lambda: x[5])),
    "extend": lambda x, v: (x.extend([v] * 50), x.extend((v, v)), x.extend(iter([v])), x.extend(x)),
    "extend wrongly": lambda x, v: (
        fails(TypeError, x.extend, 5),
        fails(Boom, x.extend, raising(v)),
    ),
    "construct": lambda x, v: (type(x)([v]), type(x)(iter([v])), type(x)(x)),
    "construct wrongly": lambda x, v: (
        fails(TypeError, type(x), 5),
        fails(Boom, type(x), raising(v)),
    ),
    "init again": lambda x, v: (x.extend([v] * 50), x.__init__([v]), x.__init__()),
    "clear": lambda x, v: (x.extend([v] * 50), x.clear()),
    "iterate": lambda x, v: (x.extend([v] * 50), list(x), next(iter(x)), iter(x)),
    "contains": lambda x, v: (x.append(v), v in x, 5 in x, [v] in x),
    "contains and raises": lambda x, v: (
        x.append(NoEq()),
        x.append(v),
        fails(Boom, x.__contains__, 5),
    ),
    "compare": lambda x, v: (x.append(v), x == [v], x != x, x == 5, x == type(x)([v])),
    "compare and raise": lambda x, v: (x.append(NoEq()), fails(Boom, x.__eq__, [v])),
    "repr": lambda x, v: (x.append(v), repr(x)),
    "grow and shrink": lambda x, v: (
        [x.append(v) for _ in range(500)],
        [x.pop() for _ in range(500)],
    ),
    "wrong arguments": lambda x, v: (
        fails(TypeError, x.append, v, v),
        fails(TypeError, x.append),
        fails(TypeError, x.insert, v, v),
        fails(TypeError, x.pop, v),
        fails(TypeError, x.remove, v, v),
        fails(TypeError, x.index, v, v),
        fails(TypeError, x.sort, v),
        fails(TypeError, x.__delitem__, v),
        fails(TypeError, x.__add__, 5),
        fails(TypeError, x.__mul__, v),
    ),
    "insert": lambda x, v: (x.insert(0, v), x.insert(0, [v]), x.insert(-5, v), x.insert(9, v)),
    "insert into many": lambda x, v: (x.extend([v] * 50), [x.insert(i, v) for i in range(90)]),
    "pop at an index": lambda x, v: (
        x.extend([v] * 5),
        x.pop(0),
        x.pop(-2),
        fails(IndexError, x.pop, 5),
    ),
    "delete": lambda x, v: (
        x.extend([v] * 5),
        x.__delitem__(0),
        x.__delitem__(-1),
        fails(IndexError, x.__delitem__, 5),
    ),
    "delete slices": lambda x, v: (
        x.extend([v] * 50),
        x.__delitem__(slice(2, 5)),
        x.__delitem__(slice(None, None, 3)),
        x.__delitem__(slice(None, None, -2)),
        x.__delitem__(slice(5, 2)),
        x.__delitem__(slice(None)),
    ),
    "read slices": lambda x, v: (x.extend([v] * 50), x[2:5], x[::-3], x[5:2], x[:], x[::7]),
    "set slices": lambda x, v: (
        x.extend([v] * 50),
        x.__setitem__(slice(2, 5), [v, [v]]),
        x.__setitem__(slice(2, 2), (v,) * 100),
        x.__setitem__(slice(2, 90), iter([v])),
        x.__setitem__(slice(None, None, -2), [[v]] * len(x[::2])),
        x.__setitem__(slice(1, 3), x),
        x.__setitem__(slice(None), []),
    ),
    "set slices wrongly": lambda x, v: (
        x.extend([v] * 9),
        fails(ValueError, x.__setitem__, slice(None, None, 2), [v]),
        fails(TypeError, x.__setitem__, slice(None), 5),
        fails(TypeError, x.__setitem__, slice(None, None, 2), 5),
        fails(ValueError, x.__setitem__, slice(0, 5, 0), [v]),
        fails(TypeError, x.__setitem__, slice(v, 5), [v]),
        fails(Boom, x.__setitem__, slice(2, 5), raising(v)),
        fails(Boom, x.__setitem__, slice(None, None, 2), raising(v)),
    ),
    "remove": lambda x, v: (x.extend([5, v, v, 1]), x.remove(v), fails(ValueError, x.remove, [v])),
    "search": lambda x, v: (
        x.extend([5, v]),
        x.index(v),
        x.count(v),
        fails(ValueError, x.index, 7),
    ),
    "search and raise": lambda x, v: (
        x.extend([v, NoEq(), v]),
        fails(Boom, x.index, 5),
        fails(Boom, x.count, 5),
        fails(Boom, x.remove, 5),
    ),
    "add and multiply": lambda x, v: (
        x.extend([v, [v]]),
        x + [v],
        x + x,
        x * 3,
        2 * x,
        x * 0,
        x.__iadd__([v]),
        x.__iadd__(x),
        x.__imul__(3),
        x.__imul__(1),
        x.__imul__(0),
        fails((MemoryError, OverflowError), (x + [v, v]).__mul__, sys.maxsize),
    ),
    "order": lambda x, v: (
        x.append(v),
        x < [v, v],
        x >= type(x)([v]),
        fails(TypeError, x.__lt__, [object()]) if x[0] is not v else None,
    ),
    "sort": lambda x, v: (
        x.extend([[3], v, [1]]),
        x.sort(key=id),
        x.sort(key=id, reverse=True),
        x.sort(key=lambda e: e is v),
    ),
    "sort wrongly": lambda x, v: (
        x.extend([v, 1, v]),
        fails(TypeError, x.sort),
        fails(Boom, x.sort, key=lambda e: raise_boom()),
        fails(ValueError, x.sort, key=lambda e: x.append(v) or 0),
    ),
    "reverse": lambda x, v: (x.extend([v, 1, [v]]), x.reverse(), list(reversed(x)), reversed(x)),
    "copy": lambda x, v: (x.extend([v] * 5), x.copy(), copy.copy(x), copy.deepcopy(x)),
    "pickle": lambda x, v: (
        x.extend([[5], 5]),
        pickle.loads(pickle.dumps(x)),
        pickle.loads(pickle.dumps((iter(x), reversed(x)))),
        x.append(v),
        fails(TypeError, pickle.dumps, type(x)([v, (n for n in [])])),
        iter(x).__reduce__(),
        reversed(x).__reduce__(),
        x.__reduce_ex__(2),
    ),
    "use up iterators": lambda x, v: (x.append(v), [*iter(x)], [*reversed(x)]),
}
OUR_LIST_OPERATIONS = {
    "snapshot": lambda x, v: (x.append(v), x.snapshot()),
    "swap": lambda x, v: (x.append(v), x.swap(0, [v]), fails(IndexError, x.swap, 5, v)),
    "compare_and_set": lambda x, v: (
        x.append(v),
        x.compare_and_set(0, v, [v]),
        x.compare_and_set(0, v, v),
        x.compare_and_set(0, [v], 5),
        fails(IndexError, x.compare_and_set, 5, v, v),
        x.append(NoEq()),
        fails(Boom, x.compare_and_set, 1, v, v),
    ),
    "compute": lambda x, v: (
        x.append(v),
        x.compute(0, lambda old: [old]),
        fails(Boom, x.compute, 0, lambda old: raise_boom()),
        fails(TypeError, x.compute, 0, v),
        fails(IndexError, x.compute, 5, v),
    ),
    "incr": lambda x, v: (
        x.extend([1, v]),
        x.incr(0),
        x.incr(0, 2**60),
        x.incr(0, 2**70),
        x.incr(0, 0.5),
        fails(TypeError, x.incr, 1),
        fails(TypeError, x.incr, 0, v),
        fails(IndexError, x.incr, 5),
    ),
    "append_index": lambda x, v: (x.append_index(v), x.append_index([v])),
    "drain": lambda x, v: (x.drain(), x.extend([v] * 50), x.drain(), x.append(v), x.drain()),
    "sentinels": lambda x, v: (
        x.append(v),
        fails(ValueError, x.append, MISSING),
        fails(ValueError, x.extend, [v, MISSING]),
        fails(ValueError, x.__setitem__, slice(None), [v, MISSING]),
        fails(ValueError, x.insert, 0, DELETE),
        fails(ValueError, x.__setitem__, 0, DELETE),
        fails(ValueError, x.__add__, [v, DELETE]),
        fails(ValueError, x.__iadd__, [v, DELETE]),
        fails(ValueError, type(x), [v, DELETE]),
        fails(ValueError, x.compute, 0, lambda old: DELETE),
    ),
}

KEYS = [
    lambda: "".join(["a key", " of ours"]),
    lambda: int("123456789012345678901"),
    lambda: SameHash("key"),
    lambda: (object(), "key"),
]

REPEAT = 10


def counts(objects):
    return [sys.getrefcount(o) for o in objects]


@pytest.mark.parametrize("name", [*DICT_OPERATIONS, *OUR_DICT_OPERATIONS])
@pytest.mark.parametrize("kind", [*DICTS, "deferred"])
def test_dict(kind, name):
    if kind == "dict" and name in OUR_DICT_OPERATIONS:
        pytest.skip("dict has no such method")
    operation = {**DICT_OPERATIONS, **OUR_DICT_OPERATIONS}[name]
    make = deferred(ConcurrentDict) if kind == "deferred" else DICTS[kind]
    v = [object()]
    objects = [v, v[0], *(new() for new in KEYS)]
    before = counts(objects)
    d = make()
    for k in objects[2:]:
        for _ in range(REPEAT):
            d.clear()
            operation(d, k, v)
    del d, k
    settle()
    after = counts(objects)
    assert after == before


@pytest.mark.parametrize("name", [*LIST_OPERATIONS, *OUR_LIST_OPERATIONS])
@pytest.mark.parametrize("kind", [*LISTS, "deferred"])
def test_list(kind, name):
    if kind == "list" and name in OUR_LIST_OPERATIONS:
        pytest.skip("list has no such method")
    operation = {**LIST_OPERATIONS, **OUR_LIST_OPERATIONS}[name]
    make = deferred(ConcurrentList) if kind == "deferred" else LISTS[kind]
    v = [object()]
    before = counts([v, v[0]])
    x = make()
    for _ in range(REPEAT):
        x.clear()
        operation(x, v)
    del x
    settle()
    after = counts([v, v[0]])
    assert after == before


def test_the_check_sees_a_leak():
    """The method of this file, tried on a dict that keeps a reference too many."""
    leaked = []
    with pytest.raises(AssertionError):
        v = [object()]
        before = counts([v])
        leaked.append(v)
        settle()
        after = counts([v])
        assert after == before

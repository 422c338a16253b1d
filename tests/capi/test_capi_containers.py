"""ConcurrentDict and ConcurrentList through the C API: the same results, references and errors
as the methods have."""

import pytest
from support import Boom, DictSubclass, ListSubclass, RaisesOnEq, SameHash, run_threads, scaled

from qsbrcontainers import ConcurrentDict, ConcurrentList


class Overrides(ConcurrentDict):
    """The C API must not call these, as PyDict_GetItem does not."""

    def _never(self, *args):
        raise AssertionError("an overridden method was called")

    __getitem__ = __setitem__ = __delitem__ = __contains__ = __len__ = get = pop = incr = _never
    setdefault = clear = snapshot = _never


class OverridesList(ConcurrentList):
    def _never(self, *args):
        raise AssertionError("an overridden method was called")

    __getitem__ = __setitem__ = __len__ = append = extend = pop = clear = snapshot = _never


@pytest.fixture(params=[ConcurrentDict, DictSubclass, Overrides])
def d(request):
    return request.param()


@pytest.fixture(params=[ConcurrentList, ListSubclass, OverridesList])
def x(request):
    return request.param()


def test_types_and_checks(probe):
    assert probe.dict_type() is ConcurrentDict and probe.list_type() is ConcurrentList
    assert type(probe.dict_new()) is ConcurrentDict and type(probe.list_new()) is ConcurrentList
    for value, of_dict, of_list in [
        (ConcurrentDict(), (1, 1), (0, 0)),
        (DictSubclass(), (1, 0), (0, 0)),
        (ConcurrentList(), (0, 0), (1, 1)),
        (ListSubclass(), (0, 0), (1, 0)),
        ({}, (0, 0), (0, 0)),
        ([], (0, 0), (0, 0)),
        (ConcurrentDict, (0, 0), (0, 0)),
        (None, (0, 0), (0, 0)),
    ]:
        assert (probe.dict_check(value), probe.dict_check_exact(value)) == of_dict
        assert (probe.list_check(value), probe.list_check_exact(value)) == of_list


def test_dict(probe, d):
    v, w = [1], [2]
    assert probe.dict_size(d) == 0 and probe.dict_get_ref(d, "a") == (0, None)
    assert probe.dict_set(d, "a", v) == 0 and probe.dict_contains(d, "a") == 1
    status, value = probe.dict_get_ref(d, "a")
    assert status == 1 and value is v
    assert probe.dict_set_default_ref(d, "a", w) == (1, v)
    assert probe.dict_set_default_ref(d, "b", w) == (0, w)
    assert probe.dict_set_default(d, "b", v) == 1 and probe.dict_set_default(d, "c", 3) == 0
    assert probe.dict_incr(d, "c", 2, 0) == 5 and probe.dict_incr(d, "n", 2.5, 1) == 3.5
    assert probe.dict_snapshot(d) == {"a": v, "b": w, "c": 5, "n": 3.5}
    assert probe.dict_size(d) == 4
    assert probe.dict_pop(d, "a") == (1, v) and probe.dict_pop(d, "a") == (0, None)
    assert probe.dict_discard(d, "b") == 1 and probe.dict_discard(d, "b") == 0
    assert probe.dict_del(d, "c") == 0
    with pytest.raises(KeyError, match="c"):
        probe.dict_del(d, "c")
    assert probe.dict_clear(d) == 0 and probe.dict_size(d) == 0


def test_list(probe, x):
    v = [1]
    assert probe.list_size(x) == 0 and probe.list_get_ref(x, 0) == (0, None)
    assert probe.list_pop(x) == (0, None)
    assert probe.list_append(x, v) == 0 and probe.list_extend(x, (2, 3)) == 0
    assert probe.list_get_ref(x, 0) == (1, v) and probe.list_get_ref(x, 0)[1] is v
    assert probe.list_get_ref(x, -1) == (1, 3) and probe.list_get_ref(x, 3) == (0, None)
    assert probe.list_get_ref(x, -4) == (0, None)
    assert probe.list_set(x, 1, "two") == 0 and probe.list_set(x, -1, "three") == 0
    assert probe.list_snapshot(x) == [v, "two", "three"] and probe.list_size(x) == 3
    with pytest.raises(IndexError):
        probe.list_set(x, 3, 0)
    assert probe.list_pop(x) == (1, "three")
    assert probe.list_clear(x) == 0 and probe.list_size(x) == 0


DICT_CALLS = {
    "dict_size": (),
    "dict_contains": ("k",),
    "dict_get_ref": ("k",),
    "dict_set": ("k", 1),
    "dict_set_default_ref": ("k", 1),
    "dict_set_default": ("k", 1),
    "dict_del": ("k",),
    "dict_pop": ("k",),
    "dict_discard": ("k",),
    "dict_incr": ("k", 1, 0),
    "dict_clear": (),
    "dict_snapshot": (),
}
LIST_CALLS = {
    "list_size": (),
    "list_get_ref": (0,),
    "list_set": (0, 1),
    "list_append": (1,),
    "list_extend": ((),),
    "list_pop": (),
    "list_clear": (),
    "list_snapshot": (),
}


@pytest.mark.parametrize("name", DICT_CALLS | LIST_CALLS)
def test_anything_else_is_a_type_error(probe, name):
    arguments = (DICT_CALLS | LIST_CALLS)[name]
    wrong = [{}, [], None, 5, ConcurrentList() if name in DICT_CALLS else ConcurrentDict()]
    for op in wrong:
        with pytest.raises(TypeError, match="expected a Concurrent"):
            getattr(probe, name)(op, *arguments)


@pytest.mark.parametrize("name", [n for n, arguments in DICT_CALLS.items() if arguments])
def test_keys_that_raise(probe, name):
    d = ConcurrentDict({SameHash(0): 0})
    rest = DICT_CALLS[name][1:]
    with pytest.raises(TypeError, match="unhashable"):
        getattr(probe, name)(d, [], *rest)
    with pytest.raises(Boom):
        getattr(probe, name)(d, RaisesOnEq(1), *rest)
    assert d == {SameHash(0): 0}


def test_other_errors(probe):
    d = ConcurrentDict(a="text")
    with pytest.raises(TypeError):
        probe.dict_incr(d, "a", 1, 0)
    with pytest.raises(TypeError):
        probe.list_extend(ConcurrentList(), 5)


@pytest.mark.parametrize("name", DICT_CALLS | LIST_CALLS)
def test_null_in_place_of_an_object_is_refused(probe, name):
    """By every function, for every argument; and is no way to delete."""
    arguments = (DICT_CALLS | LIST_CALLS)[name]
    for op in (ConcurrentDict(k=1), ConcurrentDict()) if name in DICT_CALLS else ([1], []):
        op = op if name in DICT_CALLS else ConcurrentList(op)
        before, function = op.snapshot(), getattr(probe, name)
        least = 1 if name in ("list_get_ref", "list_set") else 0  # an index is no object
        for given in range(least, len(arguments)):
            with pytest.raises(TypeError, match="not NULL"):
                function(op, *arguments[:given])
        with pytest.raises(TypeError, match="not NULL"):
            function() if least == 0 else function(..., *arguments)
        assert op.snapshot() == before


def test_the_checks_answer_no_for_null(probe):
    for name in ("dict_check", "dict_check_exact", "list_check", "list_check_exact"):
        assert getattr(probe, name)() == 0


def test_the_exception_that_null_came_with_is_kept(probe):
    with pytest.raises(ZeroDivisionError):
        probe.dict_set_after_error(ConcurrentDict(), "k")


def test_a_value_that_is_not_wanted(probe):
    d, x = ConcurrentDict(k=[1]), ConcurrentList([[1], [2]])
    assert probe.dict_find(d, "k") == 1 and probe.dict_find(d, "l") == 0
    assert probe.list_find(x, 1) == 1 and probe.list_find(x, 2) == 0
    assert probe.list_drop(x) == 1 and x == [[1]]
    assert probe.list_drop(x) == 1 and probe.list_drop(x) == 0


def test_no_references_are_kept_or_lost(probe):
    from sys import getrefcount

    k, v = "".join(["a key", " of ours"]), [object()]
    d, x = ConcurrentDict(), ConcurrentList()
    counts = [getrefcount(o) for o in (k, v, d, x)]
    for _ in range(20):
        test_dict(probe, d)
        probe.dict_set(d, k, v), probe.dict_get_ref(d, k), probe.dict_set_default_ref(d, k, v)
        probe.dict_set_default(d, k, v), probe.dict_pop(d, k), probe.dict_set_default_ref(d, k, v)
        probe.dict_discard(d, k), probe.dict_get_ref(d, k)
        probe.list_append(x, v), probe.list_get_ref(x, 0), probe.list_set(x, 0, v)
        probe.list_snapshot(x), probe.list_extend(x, [v, v])
        probe.list_pop(x), probe.list_clear(x)
        probe.dict_type(), probe.list_type()
    assert [getrefcount(o) for o in (k, v, d, x)] == counts


def test_threads(probe):
    """K1, A2, A4: what the methods promise to other threads holds for these functions."""
    d, x, n = ConcurrentDict(), ConcurrentList(), scaled(2000)

    def work(me):
        for i in range(n):
            probe.dict_incr(d, i % 7, 1, 0)
            probe.list_append(x, (me, i))
            probe.dict_set_default_ref(d, ("made", i % 50), object())

    made = []

    def read():
        for i in range(50):
            found, value = probe.dict_get_ref(d, ("made", i))
            if found:
                made.append((i, value))

    run_threads(3, work, background=[read])
    assert sum(d[k] for k in range(7)) == 3 * n
    assert sorted(probe.list_snapshot(x)) == sorted((t, i) for t in range(3) for i in range(n))
    assert all(d["made", i] is value for i, value in made)

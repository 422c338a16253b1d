"""Construction, items, methods and iteration, on list and on ours alike."""

import ctypes
import itertools
import operator
import sys

import pytest
from support import Boom, settle

from qsbrcontainers import ConcurrentDict, ConcurrentList


class Index:
    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


def raising():
    yield 1
    yield 2
    raise Boom


@pytest.mark.parametrize(
    "source",
    [
        list,
        lambda: [1, "a", None],
        lambda: (1, 2),
        lambda: "abc",
        lambda: range(1000),
        lambda: iter([1, 2]),
        lambda: (i * i for i in range(10)),
        lambda: {"a": 1, "b": 2},
        lambda: ConcurrentDict(a=1),
        lambda: ConcurrentList([1, 2]),
        lambda: map(str, range(100)),
    ],
)
def test_construct_and_extend(make_list, source):
    expected = list(source())
    values = make_list(source())
    assert list(values) == expected and len(values) == len(expected)
    assert values.extend(source()) is None
    assert list(values) == expected * 2 and len(values) == 2 * len(expected)
    empty = make_list()
    assert len(empty) == 0 and not empty and list(empty) == []


@pytest.mark.parametrize("wrong", [5, None, object(), 1.5])
def test_construct_and_extend_errors(make_list, wrong):
    with pytest.raises(TypeError):
        make_list(wrong)
    values = make_list([1])
    with pytest.raises(TypeError):
        values.extend(wrong)
    assert values == make_list([1])


def test_wrong_arguments(make_list):
    with pytest.raises(TypeError):
        make_list(1, 2)
    values = make_list([1, 2])
    calls = [
        lambda: values.append(),
        lambda: values.append(1, 2),
        lambda: values.extend(),
        lambda: values.extend([], []),
        lambda: values.clear(1),
        lambda: values.pop(1, 2),
        lambda: values.pop("a"),
        lambda: values["a"],
        lambda: values[1.0],
        lambda: values[None],
        lambda: values[()],
        lambda: values.__setitem__("a", 1),
        lambda: values.__setitem__(0.0, 1),
        lambda: values.__setitem__(None, 1),
        lambda: hash(values),
        lambda: values + 5,
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    assert list(values) == [1, 2]


def test_no_hash(make_list):
    assert type(make_list()).__hash__ is None


def test_raising_iterators(make_list):
    with pytest.raises(Boom):
        make_list(raising())
    values = make_list(["old"])
    with pytest.raises(Boom):
        values.extend(raising())
    # What came before the error may be there, nothing else.
    assert list(values) in (["old"], ["old", 1, 2])


def test_extend_with_itself(make_list):
    values = make_list(range(5))
    for _ in range(3):
        before = list(values)
        values.extend(values)
        assert list(values) == before * 2


def test_extend_with_an_iterator_that_changes_the_list(make_list):
    def clears():
        for i in range(10):
            values.clear()
            yield i

    def appends():
        for i in range(10):
            values.append("appended")
            yield i

    values = make_list(range(100))
    values.extend(clears())
    assert [v for v in values if v not in range(10)] == [] and values[len(values) - 1] == 9
    values = make_list([])
    values.extend(appends())
    assert sorted(map(str, values)) == sorted([*map(str, range(10)), *["appended"] * 10])


def test_extend_with_a_wrong_length_hint(make_list):
    class Hint:
        def __init__(self, hint):
            self.hint = hint
            self.left = 5

        def __iter__(self):
            return self

        def __next__(self):
            self.left -= 1
            if self.left < 0:
                raise StopIteration
            return self.left

        def __length_hint__(self):
            return self.hint

    for hint in (0, 3, 5, 1000, NotImplemented):
        values = make_list()
        values.extend(Hint(hint))
        assert list(values) == [4, 3, 2, 1, 0]


def test_indices(make_list):
    values = make_list(range(10))
    for i in range(10):
        assert values[i] == i and values[i - 10] == i
        assert values[Index(i)] == i and values[Index(i - 10)] == i
    assert values[True] == 1 and values[-0] == 0
    for i in (10, 11, -11, -12, 10**6, sys.maxsize, -sys.maxsize - 1):
        with pytest.raises(IndexError):
            values[i]
        with pytest.raises(IndexError):
            values[i] = 0
    for i in (2**63, -(2**63) - 1, 2**100, -(2**100), Index(2**100)):
        with pytest.raises(IndexError):
            values[i]
        with pytest.raises(IndexError):
            values[i] = 0
    assert list(values) == list(range(10))


def test_indices_of_an_empty_list(make_list):
    values = make_list()
    for i in (0, -1, 1):
        with pytest.raises(IndexError):
            values[i]
        with pytest.raises(IndexError):
            values[i] = 0
    with pytest.raises(IndexError):
        values.pop()


def test_index_objects_that_raise_or_change_the_list(make_list):
    class Raises:
        def __index__(self):
            raise Boom

    class Clears:
        def __index__(self):
            values.clear()
            return 0

    values = make_list([1, 2])
    with pytest.raises(Boom):
        values[Raises()]
    with pytest.raises(Boom):
        values[Raises()] = 5
    assert list(values) == [1, 2]
    with pytest.raises(IndexError):
        values[Clears()]
    values.append(1)
    with pytest.raises(IndexError):
        values[Clears()] = 5
    assert len(values) == 0


def test_set(make_list):
    values = make_list(range(10))
    for i in range(10):
        values[i] = str(i)
        values[i - 10] += "!"
    assert list(values) == [f"{i}!" for i in range(10)]
    values[Index(-1)] = None
    assert values[9] is None


def test_append_and_pop(make_list):
    values, model = make_list(), []
    for i in range(3000):
        assert values.append(i) is None
        model.append(i)
        if i % 3 == 0:
            assert values.pop() == model.pop()
        if i % 500 == 0:
            assert list(values) == model
    while model:
        assert values.pop() == model.pop() and len(values) == len(model)
    for _ in range(2):
        with pytest.raises(IndexError):
            values.pop()
    values.append("again")
    assert values.pop() == "again" and list(values) == []


def test_many(make_list):
    values = make_list()
    for i in range(50_000):
        values.append(i)
    assert len(values) == 50_000 and sum(values) == sum(range(50_000)) and values[49_999] == 49_999
    assert values.clear() is None
    assert len(values) == 0 and list(values) == []
    values.clear()
    values.append(1)
    assert list(values) == [1]


def test_objects_come_back_as_themselves(make_list):
    objects = [object(), [], "x" * 50, None, True, len]
    values = make_list(objects)
    assert all(values[i] is o for i, o in enumerate(objects))
    assert all(a is b for a, b in zip(values, objects, strict=True))
    assert all(values.pop() is o for o in reversed(objects))


def test_contains(make_list):
    nan = float("nan")
    values = make_list([1, "a", None, nan, 2.5, 2**70])
    for present in (1, 1.0, True, "a", None, nan, 2.5, 2**70):
        assert present in values
    for absent in (0, "b", float("nan"), [], object(), 2**70 + 1):
        assert absent not in values
    assert None not in make_list()


def test_contains_with_hostile_eq(make_list):
    class Raises:
        def __eq__(self, other):
            raise Boom

    class Clears:
        def __eq__(self, other):
            values.clear()
            return False

    class Appends:
        def __eq__(self, other):
            if len(values) < 100:
                values.extend(range(10))
            return False

    values = make_list([1, 2])
    with pytest.raises(Boom):
        Raises() in values  # noqa: B015
    values.append(Raises())
    assert 2 in values
    with pytest.raises(Boom):
        5 in values  # noqa: B015
    values = make_list(range(10))
    assert Clears() not in values and len(values) == 0
    values = make_list(range(10))
    assert Appends() not in values and len(values) >= 20
    values = make_list([Clears(), 1, 2])
    assert 2 not in values or len(values) == 0


def test_iteration(make_list):
    values = make_list(range(5))
    iterator = iter(values)
    assert iter(iterator) is iterator and list(iterator) == list(range(5))
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(iterator)
    assert list(zip(values, values, strict=True)) == [(i, i) for i in range(5)]
    with pytest.raises(TypeError):
        type(iterator)()


def test_iteration_is_live_and_ends_for_good(make_list):
    values = make_list([0, 1])
    iterator = iter(values)
    assert next(iterator) == 0
    values.append(2)
    values[1] = "new"
    assert list(iterator) == ["new", 2]
    values.append(3)
    assert list(iterator) == []
    iterator = iter(values)
    next(iterator)
    values.clear()
    assert list(iterator) == []
    values.extend(range(10))
    assert list(iterator) == []


def test_iterators_keep_the_list_alive(make_list):
    iterator = iter(make_list(["a", "b"]))
    assert list(iterator) == ["a", "b"]


def test_unpacking_and_sequence_protocol(make_list):
    values = make_list([3, 1, 2])
    a, b, c = values
    assert (a, b, c) == (3, 1, 2) and [*values] == [3, 1, 2] and tuple(values) == (3, 1, 2)
    assert sorted(values) == [1, 2, 3] and max(values) == 3 and sum(values) == 6
    assert [*map(str, values)] == ["3", "1", "2"] and all(values) and any(values)


def test_repr(make_list):
    assert repr(make_list()) == "[]"
    assert repr(make_list([1, "a", None, 2.5])) == "[1, 'a', None, 2.5]"
    values = make_list([1])
    values.append(values)
    values.append({"self": values})
    assert repr(values) == "[1, [...], {'self': [...]}]" == str(values)
    values.clear()


def test_repr_errors_come_through(make_list):
    class NoRepr:
        def __repr__(self):
            raise Boom

    values = make_list([1, NoRepr()])
    for _ in range(2):
        with pytest.raises(Boom):
            repr(values)
    values.pop()
    assert repr(values) == "[1]"


def test_equality(make_list):
    values = make_list([1, "a", [2]])
    same = [1.0, "a", [2]]
    for other in (same, ConcurrentList(same), make_list(same), values):
        assert values == other and other == values and not values != other
    for other in ([], [1], [1, "a", [3]], [1, "a", [2], 4], ["a", 1, [2]]):
        assert values != other and other != values and not values == other
        assert values != ConcurrentList(other) and ConcurrentList(other) != values
    for other in (5, None, (1, "a", [2]), "1a2", {1, "a"}, object()):
        assert values != other and not values == other
        assert values.__eq__(other) is NotImplemented and values.__ne__(other) is NotImplemented


ORDERS = [operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge]


@pytest.mark.parametrize("order", ORDERS)
def test_order(make_list, order):
    """By the first elements that differ; where there are none, by length."""
    several = [[], [1], [1, 2.5], [1, 2.5, "a"], [1, 2.5, "b"], [2], [0, 9, 9], [1.0, 3]]
    for a, b in itertools.product(several, repeat=2):
        assert order(make_list(a), make_list(b)) is order(a, b)
        assert order(make_list(a), b) is order(a, b) is order(a, make_list(b))
    for a, b in [([1], ["a"]), ([1, None], [1, 2]), ([1], 5), ([1], (1,))]:
        if order not in (operator.eq, operator.ne):
            with pytest.raises(TypeError):
                order(make_list(a), make_list(b) if type(b) is list else b)


# What C calls without an object for the index.
SEQUENCE = {
    name: getattr(ctypes.pythonapi, f"PySequence_{name}")
    for name in ("GetItem", "SetItem", "DelItem")
}
SEQUENCE["GetItem"].restype = ctypes.py_object
for _name, _more in [("GetItem", []), ("SetItem", [ctypes.py_object]), ("DelItem", [])]:
    SEQUENCE[_name].argtypes = [ctypes.py_object, ctypes.c_ssize_t, *_more]


def test_sequence_functions_of_c(make_list):
    new, values = object(), make_list([1, 2.5, "c", None])
    get, assign, delete = SEQUENCE.values()
    assert [get(values, i) for i in range(-4, 4)] == [1, 2.5, "c", None] * 2
    for index in (4, -9, sys.maxsize, -sys.maxsize - 1):
        for call in (get, delete, lambda v, i: assign(v, i, new)):
            with pytest.raises(IndexError):
                call(values, index)
    assert [*values] == [1, 2.5, "c", None]
    assert assign(values, 0, new) == assign(values, -1, 5) == 0 and [*values] == [new, 2.5, "c", 5]
    assert delete(values, 1) == delete(values, -1) == 0 and [*values] == [new, "c"]


def test_equality_by_identity_first(make_list):
    nan = float("nan")
    assert make_list([nan]) == [nan] and make_list([nan]) != [float("nan")]
    values = make_list([nan])
    assert values == values and nan in values

    class NoEq:
        def __eq__(self, other):
            raise Boom

    odd = NoEq()
    assert make_list([odd]) == make_list([odd])
    for other in ([5], make_list([5])):
        with pytest.raises(Boom):
            make_list([odd]) == other  # noqa: B015


def test_equality_that_changes_the_list(make_list):
    class Clears:
        def __eq__(self, other):
            values.clear()
            return True

    values = make_list([Clears() for _ in range(20)])
    assert (values == list(range(20))) in (True, False)
    assert len(values) == 0


def test_repr_that_changes_the_list(make_list):
    class Clears:
        def __repr__(self):
            values.clear()
            return "x"

    values = make_list([Clears() for _ in range(3)])
    assert repr(values) in ("[x]", "[x, x, x]") and len(values) == 0


def test_init_again_replaces(make_list):
    values = make_list([1, 2, 3])
    values.__init__([4])
    assert list(values) == [4]
    values.__init__()
    assert list(values) == []
    cls = type(values)
    fresh = cls.__new__(cls)
    assert list(fresh) == [] and len(fresh) == 0
    fresh.append(1)
    assert list(fresh) == [1]


def test_snapshot(make_our_list):
    for content in ([], [1, "a", None, 2.5, 2**70], list(range(1000))):
        values = make_our_list(content)
        snapshot = values.snapshot()
        assert type(snapshot) is list and snapshot == content
        snapshot.append("new")
        values.append("other")
        assert snapshot[-1] == "new" and list(values) == [*content, "other"]
    with pytest.raises(TypeError):
        values.snapshot(1)


def test_finalizers_that_come_back_into_the_list(make_list):
    class ComesBack:
        def __del__(self):
            finalized.append(len(values))
            values.append("finalized")

    finalized = []
    values = make_list([None])
    for _ in range(100):
        values[0] = ComesBack()
    values[0] = None
    settle()
    assert list(values) == [None] + ["finalized"] * 100 and len(finalized) == 100
    values[0] = ComesBack()
    values.clear()
    settle()
    assert list(values) in (["finalized"], [])

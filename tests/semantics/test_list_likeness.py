"""What list does around its methods, on list and on ours alike: pickling, copying, abstract
classes, `match`, generics, sizes, subclasses, depth."""

import collections
import copy
import json
import pickle
import sys
from collections.abc import MutableSequence, Sequence

import pytest
from support import Boom, ListSubclass, run_threads, scaled

from qsbrcontainers import ConcurrentList

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
VALUES = ["a", 1, 2.5, None, 2**70, -0.0, (1, 2), [3]]
BASES = pytest.mark.parametrize("base", [list, ConcurrentList])


# ---- pickling, copying ----


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickle(make_list, protocol):
    values = make_list(VALUES)
    again = pickle.loads(pickle.dumps(values, protocol))
    assert type(again) is type(values) and repr(list(again)) == repr(VALUES)
    again.append("new")
    assert "new" not in values
    assert pickle.loads(pickle.dumps(make_list(), protocol)) == []
    assert pickle.loads(pickle.dumps(make_list([[]]), protocol)) == [[]]
    many = make_list(range(5000))  # more than one batch of pickle's
    assert pickle.loads(pickle.dumps(many, protocol)) == many


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickle_of_a_list_that_contains_itself(make_list, protocol):
    values = make_list([1])
    values.append(values)
    values.append({"self": values})
    again = pickle.loads(pickle.dumps(values, protocol))
    assert again[1] is again and again[2]["self"] is again and len(again) == 3
    for each in (values, again):
        each.clear()


def test_pickles_keep_what_is_the_same_object(make_list):
    inner = [1]
    again = pickle.loads(pickle.dumps(make_list([inner, inner])))
    assert again[0] is again[1] and again[0] is not inner


class WithState(ConcurrentList):
    __slots__ = ("slot", "__private", "__dict__")


class PlainWithState(list):
    __slots__ = ("slot", "__private", "__dict__")


class WithArguments(ListSubclass):
    def __new__(cls, name):
        self = super().__new__(cls)
        self.name = name
        return self

    def __init__(self, name):
        super().__init__()

    def __getnewargs__(self):
        return (self.name,)


class WithReduce(ListSubclass):
    def __reduce__(self):
        return WithReduce, (["reduced"],)


class WithGetState(ListSubclass):
    def __getstate__(self):
        return {"state": len(self)}


def copies(values):
    yield copy.copy(values)
    yield copy.deepcopy(values)
    for protocol in PROTOCOLS[2:] if isinstance(values, list) else PROTOCOLS:
        yield pickle.loads(pickle.dumps(values, protocol))


@pytest.mark.parametrize("cls", [PlainWithState, WithState])
def test_copies_keep_attributes(cls):
    values = cls([[1]])
    values.slot, values.attribute = "s", "t"
    setattr(values, f"_{cls.__name__}__private", "p")
    for again in copies(values):
        assert type(again) is cls and again == [[1]] and again.slot == "s"
        assert vars(again) == {"attribute": "t"}
        assert getattr(again, f"_{cls.__name__}__private") == "p"


@pytest.mark.parametrize("cls", [PlainWithState, WithState])
def test_copies_of_what_has_no_attributes_yet(cls):
    for again in copies(cls("ab")):
        assert type(again) is cls and again == ["a", "b"] and vars(again) == {}
        assert not hasattr(again, "slot")


def test_copies_of_subclasses_with_their_own_ways():
    values = WithArguments("name")
    values.append(1)
    for again in copies(values):
        assert type(again) is WithArguments and again.name == "name" and again == [1]
    for again in copies(WithReduce("abc")):
        assert type(again) is WithReduce and again == ["reduced"]
    for again in copies(WithGetState("abc")):
        assert again == ["a", "b", "c"] and again.state == 3


def test_copies_ask_a_subclass_for_its_iterator_and_nothing_else(make_list):
    class Odd(type(make_list())):
        def __iter__(self):
            return iter("xyz")

        def snapshot(self):
            raise Boom

        def __len__(self):
            raise Boom

    reduced = Odd("ab").__reduce_ex__(2)
    assert list(reduced[3]) == ["x", "y", "z"] and reduced[4] is None
    assert repr(Odd("ab")) == "['a', 'b']"


def test_copy_and_deepcopy(make_list):
    value = [1]
    values = make_list([value])
    values.append(values)
    shallow, deep = copy.copy(values), copy.deepcopy(values)
    assert type(shallow) is type(deep) is type(values)
    assert shallow[0] is value and shallow[1] is values
    assert deep[0] == value and deep[0] is not value and deep[1] is deep
    for each in (values, shallow, deep):
        each.clear()


def test_errors_while_pickling_and_copying_come_through(make_list):
    class NoCopy:
        def __reduce_ex__(self, protocol):
            raise Boom

    values = make_list([1, NoCopy()])
    for protocol in PROTOCOLS:
        with pytest.raises(Boom):
            pickle.dumps(values, protocol)
    with pytest.raises(Boom):
        copy.deepcopy(values)
    assert len(copy.copy(values)) == 2


def test_a_list_that_changes_while_it_is_pickled():
    """What comes out is what was there when the list's turn came (A5)."""

    class Clears:
        def __reduce__(self):
            values.clear()
            return str, ("cleared",)

    for protocol in PROTOCOLS:
        values = ConcurrentList([1, Clears(), 2])
        assert pickle.loads(pickle.dumps(values, protocol)) == [1, "cleared", 2] and values == []
    values = ConcurrentList([1, Clears(), 2])
    assert copy.deepcopy(values) == [1, "cleared", 2] and values == []


def test_A5_pickles_are_of_one_moment():
    values = ConcurrentList([0] * 300)
    rounds = iter(range(1, 10**9))

    def write():
        n = next(rounds)
        for i in range(300):
            values[i] = n

    def check(seen):
        assert seen == sorted(seen, reverse=True) and seen[0] - seen[-1] <= 1

    def dump(_):
        for _ in range(scaled(2000)):
            check(list(values.__reduce_ex__(2)[3]))
        for _ in range(20):
            check(list(pickle.loads(pickle.dumps(values))))
            check(list(copy.copy(values)))

    run_threads(1, dump, background=[write])


def test_json_goes_through_snapshot(make_our_list):
    values = make_our_list([1, "a", [2.5, None]])
    assert json.loads(json.dumps(values.snapshot())) == values
    with pytest.raises(TypeError):
        json.dumps(values)


# ---- what it is ----


def test_abstract_classes(make_list):
    values = make_list([1])
    assert isinstance(values, MutableSequence) and isinstance(values, Sequence)
    assert not isinstance(values, collections.abc.Hashable)
    assert issubclass(type(values), MutableSequence)


def test_match(make_list):
    match make_list(["point", 1, 2, 3]):
        case ["circle", *_] | ["point"] | {}:
            raise AssertionError
        case ["point", 1, *rest]:
            assert rest == [2, 3] and type(rest) is list
        case _:
            raise AssertionError
    match make_list():
        case [_, *_]:
            raise AssertionError
        case []:
            pass
        case _:
            raise AssertionError
    match make_list([[1, 2], 3]):
        case [[a, b], c]:
            assert (a, b, c) == (1, 2, 3)
        case _:
            raise AssertionError


def test_generic_alias(make_list):
    cls = type(make_list())
    alias = cls[int]
    assert alias.__origin__ is cls and alias.__args__ == (int,)
    assert alias([1]) == [1] and type(alias([1])) is cls
    assert (alias | None).__args__ == (alias, type(None))


def test_sizeof(make_list):
    values = make_list()
    empty = sys.getsizeof(values)
    values.extend(range(10_000))
    full = sys.getsizeof(values)
    assert empty + 10_000 * 8 <= full < empty + 10_000 * 12
    values.clear()
    assert sys.getsizeof(values) < full


def test_unpacking_into_calls(make_list):
    def given(*arguments):
        return arguments

    values = make_list([1, 2])
    assert given(*values) == (1, 2) and given(*values, *values) == (1, 2, 1, 2)
    first, *others = values
    assert first == 1 and others == [2] and type(others) is list
    with pytest.raises(ValueError):
        (only,) = values
    with pytest.raises(ValueError):
        a, b, c = values


# ---- subclasses ----


@BASES
def test_keywords_in_subclasses(base):
    class Sub(base):
        pass

    class WithInit(base):
        def __init__(self, values, more=None):
            super().__init__(values)
            self.more = more

    class WithNew(base):
        def __new__(cls, values, more=None):
            self = super().__new__(cls, values)
            self.more = more
            return self

    with pytest.raises(TypeError, match="keyword argument"):
        base(sequence=[])
    with pytest.raises(TypeError):
        Sub(sequence=())
    for cls in (WithInit, WithNew):
        values = cls([1, 2], more=3)
        assert type(values) is cls and values == [1, 2] and values.more == 3


@BASES
def test_overridden_methods_are_not_asked_by_others(base):
    class Odd(base):
        def __getitem__(self, index):
            raise Boom

        def __len__(self):
            return 100

        def append(self, value):
            raise Boom

    values = Odd([1, 2])
    assert list(iter(values)) == [1, 2] and base.__len__(values) == 2 and 2 in values
    assert base(Odd([1, 2])) == [1, 2] and values == [1, 2] and repr(values) == "[1, 2]"
    values.extend([3])
    assert base.__getitem__(values, -1) == 3


@BASES
def test_overridden_iter_is_asked_by_those_who_iterate(base):
    class Doubled(base):
        def __iter__(self):
            return iter([1, 1])

    values = base()
    values.extend(Doubled([1]))
    assert base(Doubled([1])) == [1, 1] == values and Doubled([1]) == [1]
    assert sum(Doubled([1])) == 2 and 5 in Doubled([5])


@BASES
def test_attributes_and_weak_references_of_subclasses(base):
    import weakref

    class Sub(base):
        pass

    class Slots(base):
        __slots__ = ("a",)

    values = Sub([1])
    values.attribute = 5
    gone = []
    reference = weakref.ref(values, gone.append)
    assert reference() is values and vars(values) == {"attribute": 5}
    with pytest.raises(AttributeError):
        Slots().b = 1
    with pytest.raises(AttributeError):
        base().attribute = 1
    with pytest.raises(TypeError):
        base().__class__ = Sub


def test_several_bases():
    class Mixin:
        __slots__ = ()

        def first(self):
            return self[0]

    class Both(Mixin, ConcurrentList):
        pass

    assert Both([5]).first() == 5 and isinstance(Both(), ConcurrentList)
    with pytest.raises(TypeError):
        type("Wrong", (ConcurrentList, dict), {})


# ---- depth ----

DEEP = 100_000


def nested(make, depth):
    values = make()
    for _ in range(depth):
        values = make([values])
    return values


@BASES
def test_deep_recursion(base):
    a, b = nested(base, DEEP), nested(base, DEEP)
    for call in (
        lambda: repr(a),
        lambda: a == b,
        lambda: a < b,
        lambda: a in [b],
        lambda: pickle.dumps(a),
        lambda: copy.deepcopy(a),
    ):
        with pytest.raises(RecursionError):
            call()


@BASES
def test_lists_that_contain_themselves(base):
    a, b = base(), base()
    a.append(a)
    b.append(b)
    assert repr(a) == "[[...]]" and a == a and a in a
    with pytest.raises(RecursionError):
        a == b  # noqa: B015
    with pytest.raises(RecursionError):
        b in a  # noqa: B015
    a.append(b)
    assert repr(a) == "[[...], [[...]]]"
    a.clear()
    b.clear()

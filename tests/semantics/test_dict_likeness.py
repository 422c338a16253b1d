"""What dict does around its methods, on dict and on ours alike: operators, pickling and copying,
fromkeys, reversed, __missing__, `match`, unpacking, the views' set algebra, depth, iterators."""

import collections
import copy
import json
import operator
import pickle
import sys
import types
from collections.abc import ItemsView, KeysView, Mapping, MutableMapping, ValuesView

import pytest
from support import Boom, Census, DictSubclass, SameHash, Text, run_threads, settle

from qsbrcontainers import MISSING, ConcurrentDict, ConcurrentList

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
PAIRS = {"a": 1, "b": 2.5, "c": None, (1, 2): [3]}
BASES = pytest.mark.parametrize("base", [dict, ConcurrentDict])
OPERANDS = {
    "dict": lambda pairs: dict(pairs),
    "ours": lambda pairs: ConcurrentDict(pairs),
    "subclass": lambda pairs: DictSubclass(pairs),
    "ordered": lambda pairs: collections.OrderedDict(pairs),
    "list": lambda pairs: list(dict(pairs).items()),
    "iterator": lambda pairs: iter(dict(pairs).items()),
    "proxy": lambda pairs: types.MappingProxyType(dict(pairs)),
    "user dict": lambda pairs: collections.UserDict(pairs),
    "None": lambda pairs: None,
    "number": lambda pairs: 5,
    "text": lambda pairs: "ab",
    "numbers": lambda pairs: [1, 2],
    "set": lambda pairs: {("b", 3)},
}


def result(function, *arguments):
    """What comes of a call, comparable: pairs, or the exception's type."""
    try:
        made = function(*arguments)
    except (TypeError, ValueError, RecursionError) as error:
        return type(error)
    return list(made.items())


# ---- operators ----


@pytest.mark.parametrize("operand", OPERANDS)
def test_or(make_our_dict, operand):
    left, right = {"a": 1, "b": 2}, {"c": 4, "b": 3}
    for function in (operator.or_, operator.ior):
        expected = result(function, dict(left), OPERANDS[operand](right))
        if (function, operand) == (operator.or_, "user dict"):
            expected = TypeError  # it asks on its own side for a real dict
        assert result(function, make_our_dict(left), OPERANDS[operand](right)) == expected
    d = make_our_dict(left)
    assert result(operator.ior, OPERANDS["dict"](right), d) == [*{**right, **left}.items()]
    if operand in ("dict", "ours", "subclass", "ordered"):
        other = OPERANDS[operand](right)
        assert list((other | d).items()) == list((right | left).items())
        assert d | other == left | right and other == right
    assert d == left


@BASES
def test_or_makes_a_plain_one_of_subclasses(base):
    class Sub(base):
        def __init__(self, name):
            super().__init__(a=name)

        def update(self, *arguments):
            raise Boom

    sub = Sub(1)
    assert type(sub | {}) is base and sub | {"b": 2} == {"a": 1, "b": 2}
    same = sub
    same |= {"b": 2}
    assert same is sub and sub == {"a": 1, "b": 2}


@pytest.mark.parametrize("other", [5, None, [], {}, "a", {"a"}])
@pytest.mark.parametrize("name", ["lt", "le", "gt", "ge", "add", "and_", "sub", "mul", "xor"])
def test_operators_that_dict_lacks(make_dict, name, other):
    with pytest.raises(TypeError):
        getattr(operator, name)(make_dict(a=1), other)


def test_or_with_an_error_changes_nothing(make_our_dict):
    d = make_our_dict(a=1)
    for broken in ([("b", 2), 5], [("b", 2), ([], 3)], 5):
        with pytest.raises(TypeError):
            d |= broken
        assert d == {"a": 1}


# ---- pickling, copying ----


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickle(make_dict, protocol):
    d = make_dict(PAIRS)
    again = pickle.loads(pickle.dumps(d, protocol))
    assert type(again) is type(d) and list(again.items()) == list(PAIRS.items())
    again["new"] = 1
    assert "new" not in d
    assert pickle.loads(pickle.dumps(make_dict(), protocol)) == {}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pickle_of_a_dict_that_contains_itself(make_dict, protocol):
    d = make_dict(a=1)
    d["self"], d["list"] = d, [d]
    again = pickle.loads(pickle.dumps(d, protocol))
    assert again["self"] is again and again["list"][0] is again and len(again) == 3
    for each in (d, again):
        each.clear()


class WithState(ConcurrentDict):
    __slots__ = ("slot", "__private", "__dict__")


class PlainWithState(dict):
    __slots__ = ("slot", "__private", "__dict__")


class WithArguments(DictSubclass):
    def __new__(cls, name):
        self = super().__new__(cls)
        self.name = name
        return self

    def __init__(self, name):
        super().__init__()

    def __getnewargs__(self):
        return (self.name,)


class WithReduce(DictSubclass):
    def __reduce__(self):
        return WithReduce, ({"reduced": 1},)


def copies(d):
    yield copy.copy(d)
    yield copy.deepcopy(d)
    for protocol in PROTOCOLS[2:] if isinstance(d, dict) else PROTOCOLS:
        yield pickle.loads(pickle.dumps(d, protocol))


@pytest.mark.parametrize("cls", [PlainWithState, WithState])
def test_copies_keep_attributes(cls):
    d = cls(a=[1])
    d.slot, d.attribute = "s", "t"
    setattr(d, f"_{cls.__name__}__private", "p")
    for again in copies(d):
        assert type(again) is cls and again == {"a": [1]} and again.slot == "s"
        assert vars(again) == {"attribute": "t"}
        assert getattr(again, f"_{cls.__name__}__private") == "p"


def test_copies_of_subclasses_with_their_own_ways():
    d = WithArguments("name")
    d["a"] = 1
    for again in copies(d):
        assert type(again) is WithArguments and again.name == "name" and again == {"a": 1}
    for again in copies(WithReduce(a=1)):
        assert type(again) is WithReduce and again == {"reduced": 1}


def test_copy_and_deepcopy(make_dict):
    value = [1]
    d = make_dict(a=value)
    d["self"] = d
    shallow, deep = copy.copy(d), copy.deepcopy(d)
    assert type(shallow) is type(deep) is type(d)
    assert shallow["a"] is value and shallow["self"] is d
    assert deep["a"] == value and deep["a"] is not value and deep["self"] is deep
    for each in (d, shallow, deep):
        each.clear()


def test_K7_pickles_are_of_one_moment():
    d = ConcurrentDict((i, 0) for i in range(50))
    rounds = iter(range(1, 10**9))

    def write():
        n = next(rounds)
        for key in range(50):
            d[key] = n

    def dump(_):
        for _ in range(50):
            values = list(pickle.loads(pickle.dumps(d)).values())
            assert values == sorted(values, reverse=True) and values[0] - values[-1] <= 1

    run_threads(1, dump, background=[write])


# ---- construction ----


def test_fromkeys(make_dict):
    cls = type(make_dict())
    for made in (cls.fromkeys("abca", 5), make_dict().fromkeys(iter("abc"), 5)):
        assert type(made) is cls and list(made.items()) == [("a", 5), ("b", 5), ("c", 5)]
    assert cls.fromkeys([]) == {} and cls.fromkeys({1: 2}) == {1: None}
    assert cls.fromkeys(ConcurrentDict(a=1), []) == {"a": []}
    for wrong in ((), (5,), (None,), ([[]],), ("a", 1, 2)):
        with pytest.raises(TypeError):
            cls.fromkeys(*wrong)
    with pytest.raises(TypeError):
        cls.fromkeys(iterable="a")
    with pytest.raises(Boom):
        cls.fromkeys(raising())


def raising():
    yield "a"
    raise Boom


@BASES
def test_fromkeys_of_subclasses(base):
    class Other(base):
        def __new__(cls):
            return collections.UserDict()

    class Prefilled(base):
        def __init__(self):
            super().__init__(old=0)

    class NoSet(base):
        def __setitem__(self, key, value):
            raise Boom

    class NoInit(base):
        def __init__(self):
            raise Boom

    made = Other.fromkeys("ab", 1)
    assert type(made) is collections.UserDict and made == {"a": 1, "b": 1}
    assert Prefilled.fromkeys("a") == {"old": 0, "a": None}
    for cls in (NoSet, NoInit):
        with pytest.raises(Boom):
            cls.fromkeys("a")


def test_unpacking(make_dict):
    d = make_dict(a=1, b=2)
    assert {**d} == dict(d) == dict(**d) == {"a": 1, "b": 2} and [*d] == ["a", "b"]
    assert (lambda **given: given)(**d) == {"a": 1, "b": 2}
    d[5] = 6
    with pytest.raises(TypeError):
        dict(**d)
    assert {**d}[5] == 6


def test_dict_of_ours_may_raise_and_snapshot_does_not():
    """dict(d) takes the keys and then asks for each. (In a call, the interpreter takes the KeyError
    for that of a keyword given twice.)"""

    class Vanishing(ConcurrentDict):
        def __getitem__(self, key):
            self.clear()
            return super().__getitem__(key)

    for function in (lambda d: dict(d), lambda d: {**d}):
        with pytest.raises(KeyError):
            function(Vanishing(a=1))
    with pytest.raises((KeyError, TypeError)):
        dict(**Vanishing(a=1))
    assert Vanishing(a=1).snapshot() == {"a": 1}


def test_json_goes_through_snapshot(make_our_dict):
    d = make_our_dict({"a": 1, "b": [2.5, None]})
    assert json.loads(json.dumps(d.snapshot())) == d
    with pytest.raises(TypeError):
        json.dumps(d)


def test_str_format(make_dict):
    d = make_dict(name="value")
    assert "{name}".format_map(d) == "%(name)s".__mod__(d) == "value"


# ---- what it is ----


def test_abstract_classes(make_dict):
    d = make_dict(a=1)
    assert isinstance(d, Mapping) and isinstance(d, MutableMapping)
    assert isinstance(d.keys(), KeysView) and isinstance(d.values(), ValuesView)
    assert isinstance(d.items(), ItemsView)


def test_match(make_dict):
    match make_dict(kind="point", x=1, y=2):
        case {"kind": "circle"}:
            raise AssertionError
        case {"kind": "point", "x": 1, **rest}:
            assert rest == {"y": 2}
        case _:
            raise AssertionError
    match make_dict():
        case {"a": _} | []:
            raise AssertionError
        case {}:
            pass


def test_generic_alias(make_dict):
    cls = type(make_dict())
    alias = cls[str, int]
    assert alias.__origin__ is cls and alias.__args__ == (str, int)
    assert alias(a=1) == {"a": 1}


def test_sizeof(make_dict):
    d = make_dict()
    empty = sys.getsizeof(d)
    d.update((i, i) for i in range(10_000))
    full = sys.getsizeof(d)
    assert full > empty + 10_000 * 16
    d.clear()
    assert sys.getsizeof(d) < full


# ---- __missing__ ----


@BASES
def test_missing(base):
    class Sub(base):
        def __missing__(self, key):
            if key == "raise":
                raise Boom
            return (key, len(self))

    class Static(base):
        __missing__ = staticmethod(lambda key: key)

    class Class(base):
        @classmethod
        def __missing__(cls, key):
            return cls

    class Wrong(base):
        __missing__ = None

    class Instance(base):
        def __init__(self):
            self.__missing__ = lambda key: key

    d = Sub(a=1)
    assert d["a"] == 1 and d["b"] == ("b", 1) and d[1, 2] == ((1, 2), 1) and d == {"a": 1}
    assert "b" not in d and d.get("b") is None and d.pop("b", 5) == 5
    with pytest.raises(Boom):
        d["raise"]
    with pytest.raises(KeyError):
        del d["b"]
    with pytest.raises(TypeError):
        d[[]]
    assert Static()["a"] == "a" and Class()["a"] is Class
    with pytest.raises(TypeError):
        Wrong()["a"]
    with pytest.raises(KeyError):
        Instance()["a"]


@BASES
def test_missing_is_looked_up_as_special_methods_are(base):
    """On the classes only, and bound as methods are."""

    class Meta(type):
        def __missing__(cls, key):
            return "metaclass"

    class Plain(base, metaclass=Meta):
        pass

    class Sub(Plain):
        def __missing__(self, key):
            return self, key

    class Property(base):
        @property
        def __missing__(self):
            if "raise" in self:
                raise Boom
            return lambda key: (self, key)

    class NoMethod(base):
        def __getattribute__(self, name):
            raise AssertionError(name)

    d = Sub()
    d.__missing__ = lambda key: "instance"
    assert d["a"] == (d, "a")
    d.__class__ = Plain
    with pytest.raises(KeyError):
        d["a"]
    p = Property()
    assert p[1] == (p, 1)
    p["raise"] = 0
    with pytest.raises(Boom):
        p[1]
    with pytest.raises(KeyError):
        NoMethod()["a"]


@pytest.mark.parametrize("order", [5, (), (5, None)])
def test_missing_where_a_metaclass_lies(order):
    class Meta(type):
        __mro__ = order

    class Sub(ConcurrentDict, metaclass=Meta):
        pass

    with pytest.raises(KeyError):
        Sub()["a"]


def test_attributes_of_the_small_types_cannot_be_set():
    d, values = ConcurrentDict(), ConcurrentList()
    views = [d.keys(), d.values(), d.items()]
    for each in [MISSING, *views, *map(iter, views), iter(values), reversed(values)]:
        with pytest.raises(TypeError, match="immutable type"):
            type(each).mine = None


@pytest.mark.parametrize("ours", [ConcurrentDict, ConcurrentList])
def test_attributes_of_the_types_cannot_be_set(ours):
    for name in ("__missing__", "copy", "__len__"):
        with pytest.raises(TypeError, match="immutable type"):
            setattr(ours, name, None)
    with pytest.raises(TypeError, match="immutable type"):
        del ours.copy
    assert not hasattr(ours, "__missing__")

    class Sub(ours):
        pass

    Sub.says = 1
    assert Sub().says == 1


# ---- views ----

OTHERS = [
    lambda d: set(d),
    lambda d: {"b", "z", ("b", 2)},
    lambda d: frozenset(),
    lambda d: ["b", "b", ("b", 2)],
    lambda d: iter(["b", ("b", 2)]),
    lambda d: {"b": 2, "z": 3}.keys(),
    lambda d: {"b": 2, "z": 3}.items(),
    lambda d: d.keys(),
    lambda d: d.items(),
    lambda d: ConcurrentDict(b=2).keys(),
    lambda d: ConcurrentDict(b=2).items(),
    lambda d: 5,
    lambda d: None,
    lambda d: [[]],
]


def algebra(function, *arguments):
    try:
        return function(*arguments)
    except TypeError:
        return TypeError


@pytest.mark.parametrize("name", ["and_", "or_", "sub", "xor", "le", "lt", "ge", "gt", "eq", "ne"])
@pytest.mark.parametrize("kind", ["keys", "items"])
@pytest.mark.parametrize("other", OTHERS)
def test_set_algebra_of_views(make_our_dict, name, kind, other):
    function, plain, ours = getattr(operator, name), {"a": 1, "b": 2}, make_our_dict(a=1, b=2)
    expected = algebra(function, getattr(plain, kind)(), other(plain))
    made = algebra(function, getattr(ours, kind)(), other(ours))
    assert made == expected and type(made) is type(expected)
    expected = algebra(function, other(plain), getattr(plain, kind)())
    made = algebra(function, other(ours), getattr(ours, kind)())
    assert made == expected and type(made) is type(expected)


CONTENTS = [{}, {"a": []}, {"a": 1}, {"a": [], "b": 2, "c": 3}]
UNHASHABLE = [
    lambda d: [[]],
    lambda d: [([], 1)],
    lambda d: [("a", [])],
    lambda d: iter([("a", 1), "a", []]),
    lambda d: {"a"},
    lambda d: set("abcde"),
    lambda d: frozenset("abcde"),
    lambda d: {"a": []}.items(),
    lambda d: {"a": [], "b": 2, "z": 0, "y": []}.items(),
    lambda d: {"a": [], "b": 2, "z": 0, "y": 1}.keys(),
    lambda d: d.items(),
    lambda d: d.copy().items(),
    lambda d: d.values(),
    lambda d: 5,
    lambda d: "ab",
]


@pytest.mark.parametrize("name", ["and_", "or_", "sub", "xor", "le", "lt", "eq", "isdisjoint"])
@pytest.mark.parametrize("kind", ["keys", "items"])
@pytest.mark.parametrize("content", CONTENTS)
def test_set_algebra_of_what_cannot_be_hashed(make_our_dict, name, kind, content):
    """As dict's. (Not with one of dict's views on the left: then dict decides.)"""
    function = getattr(operator, name, lambda view, other: view.isdisjoint(other))
    dicts_own = type({}.keys()), type({}.items())
    for other in UNHASHABLE:
        for reflected in (False, True):
            if reflected and (name == "isdisjoint" or isinstance(other(content), dicts_own)):
                continue
            made = []
            for d in (dict(content), make_our_dict(content)):
                operands = getattr(d, kind)(), other(d)
                made.append(algebra(function, *(reversed(operands) if reflected else operands)))
            assert made[0] == made[1], (other(content), reflected)


def test_more_of_views(make_dict):
    d = make_dict(a=1, b=2)
    assert d.keys().isdisjoint("xy") and not d.keys().isdisjoint(["a"])
    assert d.items().isdisjoint({"a": 2}.items()) and not d.items().isdisjoint([("a", 1)])
    assert (
        d.values() != d.values() and d.keys() == d.keys() and d.items() == {"b": 2, "a": 1}.items()
    )
    for view in (d.keys(), d.values(), d.items()):
        assert type(view.mapping) is types.MappingProxyType and view.mapping == d
        with pytest.raises(TypeError):
            view.mapping["a"] = 5
    d["c"] = []
    with pytest.raises(TypeError):
        d.items() | set()
    assert d.items() >= {("a", 1)} and ("c", []) in d.items()


def test_reversed(make_dict):
    d = make_dict({"a": 1, "b": 2, "c": 3})
    del d["b"]
    d["b"] = 4
    assert list(reversed(d)) == list(reversed(d.keys())) == ["b", "c", "a"]
    assert list(reversed(d.values())) == [4, 3, 1]
    assert list(reversed(d.items())) == [("b", 4), ("c", 3), ("a", 1)]
    iterator = reversed(d)
    assert operator.length_hint(iterator) == 3 and next(iterator) == "b"
    assert operator.length_hint(iterator) == 2 and [*iterator, *iterator] == ["c", "a"]
    assert list(reversed(make_dict())) == []


# ---- iterators ----


def test_length_hints(make_dict):
    d = make_dict((i, i) for i in range(10))
    for view in (d, d.keys(), d.values(), d.items()):
        iterator = iter(view)
        for left in range(10, 0, -1):
            assert operator.length_hint(iterator) == left
            next(iterator)
        assert operator.length_hint(iterator) == 0 and list(iterator) == []
        assert operator.length_hint(iterator) == 0


@pytest.mark.parametrize("view", ["keys", "values", "items"])
def test_iterators_are_pickled_and_copied(make_dict, view):
    """What is left of them; they themselves go on."""
    d = make_dict((i, i) for i in range(10))
    iterator = iter(getattr(d, view)())
    next(iterator)
    expected = list(getattr(d, view)())[1:]
    for again in copies(iterator):
        assert list(again) == expected and operator.length_hint(iterator) == 9
    assert list(iterator) == expected
    for again in copies(iterator):
        assert list(again) == []
    with pytest.raises(TypeError):
        pickle.dumps(getattr(d, view)())


def test_an_iterator_is_copied_though_its_table_was_replaced(make_our_dict):
    d = make_our_dict((i, i) for i in range(10))
    iterator = iter(d)
    next(iterator)
    d.update((i, i) for i in range(10, 1000))
    del d[3]
    again = copy.copy(iterator)
    d.clear()
    assert list(again) == [1, 2, *range(4, 10)] and list(copy.copy(iterator)) == []
    del iterator
    settle()


def test_order_after_deleting_and_inserting_again(make_dict):
    d = make_dict((i, i) for i in range(8))
    for i in range(1000):
        d[i % 8] = d.pop(i % 8) + 1
        assert next(reversed(d)) == i % 8 and next(iter(d)) == (i + 1) % 8 and len(d) == 8


# ---- depth and size ----

DEEP = 100_000


def nested(make, depth):
    d = make()
    for _ in range(depth):
        d = make(a=d)
    return d


@pytest.fixture(params=["dict", "ours"])
def make_plain(request):
    return dict if request.param == "dict" else ConcurrentDict


def test_deep_recursion(make_plain):
    d, e = nested(make_plain, DEEP), nested(make_plain, DEEP)
    for call in (
        lambda: repr(d),
        lambda: d == e,
        lambda: pickle.dumps(d),
        lambda: copy.deepcopy(d),
    ):
        with pytest.raises(RecursionError):
            call()


def test_equality_of_dicts_that_contain_themselves(make_plain):
    d, e = make_plain(), make_plain()
    d["self"], e["self"] = d, e
    assert d == d
    with pytest.raises(RecursionError):
        d == e  # noqa: B015
    d.clear()
    e.clear()


def test_huge_updates(make_dict):
    big = {str(i): i for i in range(50_000)}
    d = make_dict(x=1)
    d.update(big)
    d.update(d)
    assert len(d) == 50_001 and d["49999"] == 49_999 and d.pop("x") == 1 and d == big
    d |= {SameHash(i): i for i in range(100)}
    assert len(d) == 50_100 and d[SameHash(99)] == 99


# ---- finalizers ----


def test_finalizers_that_resurrect_keys_and_values(make_dict):
    saved = []

    class Lazarus:
        def __del__(self):
            saved.append(self)

    d = make_dict()
    d[Lazarus()] = Lazarus()
    d["a"] = Lazarus()
    d["a"] = 1
    settle()
    assert len(saved) == 1
    d[saved.pop()] = 2
    d.clear()
    settle()
    assert len(saved) == 2 and d == {}  # each is finalized once
    census = Census()
    d[census.new()] = saved
    del d
    settle()
    assert census.alive == 0


def test_keys_that_are_text_subclasses(make_dict):
    class Loud(str):
        __slots__ = ()
        hashed = 0

        def __hash__(self):
            Loud.hashed += 1
            return str.__hash__(self)

    d = make_dict({Loud("a"): 1, Text("b"): 2})
    assert d["a"] == 1 == d[Loud("a")] and d["b"] == 2 and Loud.hashed >= 2
    assert [type(k) for k in d] == [Loud, Text] and dict(**d) == {"a": 1, "b": 2}
    d["a"] = 3
    assert d.popitem() == ("b", 2) and type(d.popitem()[0]) is Loud

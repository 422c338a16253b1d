"""The same programs run on the builtin and on ours, and their outcomes are compared: subclasses
that override methods, errors with their messages, the views' operators on equal elements, random
steps."""

import copy
import operator
import pickle
import random
import sys

import pytest
from support import Boom, scaled

from qsbrcontainers import ConcurrentDict, ConcurrentList

NAMES = [
    *(("qsbrcontainers._native.", ""), ("qsbrcontainers.", ""), ("ConcurrentDict", "dict")),
    *(("ConcurrentList", "list"), ("DictKeys", "dict_keys"), ("DictValues", "dict_values")),
    ("DictItems", "dict_items"),
]


def plain(value):
    """A comparable form, the same for the builtin and ours, with order and with the type of every
    number (1, 1.0 and True are different elements)."""
    if isinstance(value, dict | ConcurrentDict):
        return "dict", [(plain(k), plain(v)) for k, v in dict(value).items()]
    if isinstance(value, list | ConcurrentList):
        return "list", [plain(v) for v in value]
    if isinstance(value, tuple):
        return tuple(plain(v) for v in value)
    if isinstance(value, set | frozenset):
        return "set", sorted(repr(plain(v)) for v in value)
    if isinstance(value, str):
        for ours, builtin in NAMES:
            value = value.replace(ours, builtin)
        return value
    if value is NotImplemented or value is None or isinstance(value, int | float | complex):
        return type(value).__name__, repr(value)
    return plain(type(value).__name__)


def outcome(function, *arguments):
    try:
        return plain(function(*arguments))
    except Exception as error:
        return type(error).__name__, plain(str(error)), getattr(error, "__notes__", None)


# ---- subclasses ----


def subclasses(base):
    class Same(base):
        pass

    class Reversed(base):
        def keys(self):
            return reversed(list(base.keys(self)))

        __iter__ = keys

    class OnlyIter(base):
        def __iter__(self):
            return reversed(list(base.keys(self)))

    class OnlyKeys(base):
        def keys(self):
            return ["a"]

    class OnlyItem(base):
        def __getitem__(self, key):
            return "got"

    class Folded(base):
        def keys(self):
            return ["A", "B"]

        def __iter__(self):
            return iter(self.keys())

        def __getitem__(self, key):
            return base.__getitem__(self, key.lower())

    class OnlyItems(base):
        def items(self):
            return [("z", 1)]

    class Raises(base):
        def __iter__(self):
            raise Boom

        def keys(self):
            raise Boom("keys")

    class Length(base):
        def __len__(self):
            return 1

    class Missing(base):
        def __missing__(self, key):
            return "missing"

        def __iter__(self):
            return iter("abc")

        def keys(self):
            return "abc"

    class NoKeys(base):
        keys = None

        def __iter__(self):
            return iter([("c", 3)])

    class Equal(base):
        def __eq__(self, other):
            return "equal"

    return [
        *(Same, Reversed, OnlyIter, OnlyKeys, OnlyItem, Folded, OnlyItems, Raises, Length),
        *(Missing, NoKeys, Equal),
    ]


def updated(target, *arguments, **keywords):
    target.update(*arguments, **keywords)
    return target


def exact(base, value):
    """Only the pairs of a copy, read without its overridden methods: for an instance of a subclass,
    dict's copy is a dict and ours is of the subclass."""
    return base.copy(value) if type(value) is base else list(base.items(value))


WITH_A_SUBCLASS = {
    "construction": lambda base, s: base(s),
    "construction with keywords": lambda base, s: base(s, z=1),
    "update": lambda base, s: updated(base(q=1), s),
    "update of an empty one": lambda base, s: updated(base(), s),
    "update with keywords": lambda base, s: updated(base(q=1), s, z=1),
    "|=": lambda base, s: operator.ior(base(q=1), s),
    "|": lambda base, s: base(q=1) | s,
    "| on the left": lambda base, s: s | base(q=1),
    "| with dict": lambda base, s: s | {"q": 1},
    "| to dict": lambda base, s: operator.ior({"q": 1}, s),
    "==": lambda base, s: (base(a=1, b=2) == s, s == base(a=1, b=2), s != base(a=1)),
    "copy.copy": lambda base, s: exact(base, copy.copy(s)),
    "deepcopy": lambda base, s: exact(base, copy.deepcopy(s)),
    "reduce": lambda base, s: [list(p) for p in [s.__reduce_ex__(2)[4]]],
    "repr": lambda base, s: repr(s),
    "reversed": lambda base, s: list(reversed(s)),
    "unpacking": lambda base, s: {**s},
    "call": lambda base, s: (lambda **given: given)(**s),
    "fromkeys": lambda base, s: base.fromkeys(s),
    "list": lambda base, s: list(s),
    "views": lambda base, s: [list(base.keys(s)), list(base.items(s)), repr(base.values(s))],
    "format": lambda base, s: f"{s}|{s!r:>50}",
}


# When dict is filled from ours it treats ours as any mapping, and uses keys() and [].
DICT_IS_FILLED = {"unpacking", "call", "| to dict"}
ONLY_DICTS = {"OnlyKeys", "OnlyItem"}


@pytest.mark.parametrize("name", WITH_A_SUBCLASS)
@pytest.mark.parametrize("which", range(len(subclasses(dict))))
def test_subclasses_with_ways_of_their_own(name, which):
    if name in DICT_IS_FILLED and subclasses(dict)[which].__name__ in ONLY_DICTS:
        return
    results = []
    for base in (dict, ConcurrentDict):
        instance = subclasses(base)[which]()
        base.update(instance, a=1, b=2)
        results.append(outcome(WITH_A_SUBCLASS[name], base, instance))
    assert results[0] == results[1]


@pytest.mark.parametrize("which", range(len(subclasses(dict))))
def test_a_copy_goes_the_way_of_dicts(which):
    """The copy has the pairs of dict's copy, and is made by calling the subclass."""
    results = []
    for base in (dict, ConcurrentDict):
        instance = subclasses(base)[which]()
        base.update(instance, a=1, b=2)
        results.append(outcome(lambda d, b=base: list(b.items(b.copy(d))), instance))
    assert results[0] == results[1]


def list_subclasses(base):
    class Reversed(base):
        def __iter__(self):
            return reversed([base.__getitem__(self, i) for i in range(3)])

    class Raises(base):
        def __iter__(self):
            raise Boom

    class OnlyItem(base):
        def __getitem__(self, index):
            return "got"

    class Length(base):
        def __len__(self):
            return 1

    return [Reversed, Raises, OnlyItem, Length]


def sliced(base, s):
    target = base("xyz")
    target[1:2] = s
    return target


WITH_A_LIST_SUBCLASS = {
    "construction": lambda base, s: base(s),
    "extend": lambda base, s: [target := base("x"), target.extend(s)],
    "+=": lambda base, s: operator.iadd(base("x"), s),
    "+= itself": lambda base, s: list(base.__iter__(operator.iadd(s, s))),
    "+": lambda base, s: base("x") + s,
    "+ on the left": lambda base, s: s + base("x"),
    "*": lambda base, s: s * 2,
    "slice assignment": sliced,
    "==": lambda base, s: (base("abc") == s, s == base("abc"), s < base("abd")),
    "copy": lambda base, s: s.copy(),
    "copy.copy": lambda base, s: list(base.__iter__(copy.copy(s))),
    "reduce": lambda base, s: list(s.__reduce_ex__(2)[3]),
    "sorted": lambda base, s: sorted(s),
    "repr": lambda base, s: repr(s),
    "in": lambda base, s: ("c" in s, s.index("c"), s.count("c")),
    "__init__ with itself": lambda base, s: [s.__init__(s), base.__len__(s)],
}


@pytest.mark.parametrize("name", WITH_A_LIST_SUBCLASS)
@pytest.mark.parametrize("which", range(len(list_subclasses(list))))
def test_list_subclasses_with_ways_of_their_own(name, which):
    if "itself" in name and sys.version_info < (3, 13):
        return  # before 3.13 list uses a subclass's __iter__ even for itself
    results = [
        outcome(WITH_A_LIST_SUBCLASS[name], base, list_subclasses(base)[which]("abc"))
        for base in (list, ConcurrentList)
    ]
    assert results[0] == results[1]


def comparing(base):
    class Comparing(base):
        __hash__ = None
        __eq__ = lambda self, other: ("==", type(other) is Comparing)  # noqa: E731
        __ne__ = lambda self, other: ("!=", type(other) is Comparing)  # noqa: E731

    class Ordered(base):
        __lt__ = lambda self, other: "<"  # noqa: E731
        __gt__ = lambda self, other: ">"  # noqa: E731

    class Refusing(base):
        __hash__ = None

        def __eq__(self, other):
            raise Boom

    return [Comparing, Ordered, Refusing]


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("builtin, ours", [(list, ConcurrentList), (dict, ConcurrentDict)])
def test_the_comparison_of_a_builtins_subclass_decides(builtin, ours, which):
    """The same beside ours as beside a builtin, on both sides and for equal and unequal lengths."""
    for content in ([], [("a", 1)], [("b", 2)]):
        other = comparing(builtin)[which](content)
        for name in ["eq", "ne", *(["lt", "gt", "le"] if builtin is list else [])]:
            compared = getattr(operator, name)
            plain, its = builtin([("a", 1)]), ours([("a", 1)])
            assert outcome(compared, its, other) == outcome(compared, plain, other)
            assert outcome(compared, other, its) == outcome(compared, other, plain)


class __(ConcurrentDict):
    __slots__ = ("__private",)


class ___(ConcurrentList):
    __slots__ = ("__private",)


@pytest.mark.parametrize("cls", [__, ___])
def test_slots_of_a_class_whose_name_is_underscores(cls):
    """Their names are not mangled."""
    original = cls()
    original.__private = "p"
    for again in [
        copy.copy(original),
        copy.deepcopy(original),
        *(pickle.loads(pickle.dumps(original, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)),
    ]:
        assert type(again) is cls and again.__private == "p"


# ---- errors ----

U = []


class NoIterable:
    def keys(self):
        return 5


class NoItem:
    def keys(self):
        return ["a"]


class UnhashableKey(NoItem):
    def keys(self):
        return [U]

    def __getitem__(self, key):
        return 1


class WrongHash:
    def __hash__(self):
        raise TypeError("mine")


class KeysRaise:
    @property
    def keys(self):
        raise Boom


ERRORS = {
    **{
        f"{op} of what has no hash": f
        for op, f in {
            "[]": lambda d: d[U],
            "[] of its own TypeError": lambda d: d[WrongHash()],
            "[]=": lambda d: operator.setitem(d, U, 1),
            "del": lambda d: operator.delitem(d, U),
            "in": lambda d: U in d,
            "get": lambda d: d.get(U),
            "pop": lambda d: d.pop(U),
            "pop of an empty one": lambda d: type(d)().pop(U),
            "pop with a default": lambda d: type(d)().pop(U, 5),
            "setdefault": lambda d: d.setdefault(U),
            "update": lambda d: d.update([(U, 1)]),
            "|=": lambda d: d.__ior__([(U, 1)]),
            "construction": lambda d: type(d)([(U, 1)]),
            "construction from a mapping": lambda d: type(d)(UnhashableKey()),
            "fromkeys": lambda d: type(d).fromkeys([U]),
            "in keys": lambda d: U in d.keys(),
            "in items": lambda d: (U, 1) in d.items(),
            "[] of a tuple": lambda d: d[(U,)],
            "isdisjoint": lambda d: d.keys().isdisjoint([U]),
            "&": lambda d: d.keys() & [U],
            "- ": lambda d: d.keys() - [U],
            "|": lambda d: d.keys() | [U],
            "^": lambda d: d.keys() ^ [U],
            "items |": lambda d: type(d)(a=U).items() | set(),
        }.items()
    },
    "not a sequence": lambda d: d.update([(1, 2), 5]),
    "a sequence of three": lambda d: d.update([(1, 2), (1, 2, 3)]),
    "not iterable": lambda d: d.update(5),
    "None": lambda d: type(d)(None),
    "two sources": lambda d: d.update(1, 2),
    "two sources of construction": lambda d: type(d)(1, 2),
    "keywords that are no str": lambda d: d.update(**{1: 2}),
    "keys() that is not iterable": lambda d: d.update(NoIterable()),
    "keys() without []": lambda d: d.update(NoItem()),
    "keys that raises": lambda d: d.update(KeysRaise()),
    "a str for a pair": lambda d: d.update(["abc"]),
    "self as a keyword": lambda d: type(d)(self=1, other=2),
    **{
        f"keys {name} 5": lambda d, f=f: f(d.keys(), 5)
        for name, f in {
            "|": operator.or_,
            "&": operator.and_,
            "-": operator.sub,
            "^": operator.xor,
            "<": operator.lt,
            "==": operator.eq,
            "+": operator.add,
        }.items()
    },
    **{
        f"5 {name} keys": lambda d, f=f: f(5, d.keys())
        for name, f in {
            "|": operator.or_,
            "&": operator.and_,
            "-": operator.sub,
            "^": operator.xor,
            "<": operator.lt,
            "==": operator.eq,
            "+": operator.add,
        }.items()
    },
    **{
        f"d {name} {other!r}": lambda d, f=f, other=other: f(d, other)
        for name, f in {
            "|": operator.or_,
            "|=": operator.ior,
            "<": operator.lt,
            "==": operator.eq,
            "+": operator.add,
            "in": operator.contains,
        }.items()
        for other in (5, None, "ab", [], [("a", 5)])
    },
    "values of an operator": lambda d: d.values() | set(),
    "values ==": lambda d: d.values() == d.values(),
    "get()": lambda d: d.get(),
    "get(key=)": lambda d: d.get(key=1),
    "get of three": lambda d: d.get(1, 2, 3),
    "pop()": lambda d: d.pop(),
    "pop of an absent one": lambda d: d.pop("zz"),
    "setdefault()": lambda d: d.setdefault(),
    "popitem of an empty one": lambda d: type(d)().popitem(),
    "popitem(1)": lambda d: d.popitem(1),
    "clear(1)": lambda d: d.clear(1),
    "copy(1)": lambda d: d.copy(1),
    "keys(1)": lambda d: d.keys(1),
    "fromkeys()": lambda d: type(d).fromkeys(),
    "fromkeys of four": lambda d: type(d).fromkeys(1, 2, 3),
    "fromkeys(iterable=)": lambda d: type(d).fromkeys(iterable=1),
    "fromkeys of 5": lambda d: type(d).fromkeys(5),
    "hash": lambda d: hash(d),
    "hash of keys": lambda d: hash(d.keys()),
    "hash of items": lambda d: hash(d.items()),
    "[] of an absent one": lambda d: d["zz"],
    "del of an absent one": lambda d: operator.delitem(d, "zz"),
    "[] of an absent tuple": lambda d: d[1, 2],
    "an attribute": lambda d: setattr(d, "x", 1),
    "an attribute of keys": lambda d: setattr(d.keys(), "x", 1),
    "mapping of keys": lambda d: setattr(d.keys(), "mapping", 1),
    "__reversed__(1)": lambda d: d.__reversed__(1),
    "call": lambda d: d(),
    "keys()()": lambda d: d.keys()(),
    "next(d)": lambda d: next(d),
    "d[0:1]": lambda d: d[0:1],
    "len()": lambda d: d.__len__(1),
    "a pickle of keys": lambda d: pickle.dumps(d.keys()),
    "a pickle of values": lambda d: pickle.dumps(d.values(), 0),
    "a pickle of items": lambda d: pickle.dumps(d.items(), 1),
    "a copy of keys": lambda d: copy.copy(d.keys()),
    "a deep copy of items": lambda d: copy.deepcopy(d.items()),
    "reduce of keys": lambda d: d.keys().__reduce__(),
    "reduce_ex of keys": lambda d: d.keys().__reduce_ex__(4),
    "an instance of keys": lambda d: type(d.keys())(),
    "match of two": lambda d: matched(type(d), d),
}


def matched(cls, value):
    match value:
        case cls(a, b):
            return a, b


def matched_list(cls, value):
    match value:
        case cls(a):
            return [a is value, type(a)(a)]


@pytest.mark.parametrize("name", ERRORS)
def test_errors_and_their_messages(name):
    results = []
    for base in (dict, ConcurrentDict):
        d = base(a=1)
        # From a source with an error dict has assigned the pairs before the error, ours none.
        after = None if name in ("not a sequence", "a sequence of three") else plain(d)
        results.append((outcome(ERRORS[name], d), after))
    assert results[0] == results[1]


# ---- the views' operators ----

ELEMENTS = [1, 1.0, True, 1 + 0j]
OTHER_KINDS = {
    "set": lambda e, base: {e, 5},
    "frozenset": lambda e, base: frozenset({e, 5}),
    "list": lambda e, base: [5, e, e],
    "tuple": lambda e, base: (e,),
    "iterator": lambda e, base: iter([e, 5, 1.0]),
    "dict": lambda e, base: {e: 1, 5: 2},
    "keys": lambda e, base: base.fromkeys([e, 5]).keys(),
    "fewer keys": lambda e, base: base.fromkeys([e]).keys(),
    "more keys": lambda e, base: base.fromkeys([5, 6, 7, e]).keys(),
    "dict's keys": lambda e, base: {e: 0, 8: 8, 9: 9}.keys(),
    "values": lambda e, base: base({0: e}).values(),
    "a pair": lambda e, base: {(e, e)},
    "items": lambda e, base: base({e: e, 5: 5}).items(),
    "more items": lambda e, base: base({5: 5, 6: 6, 7: 7, e: e}).items(),
    "dict's items": lambda e, base: {e: e, 8: 8}.items(),
}


@pytest.mark.parametrize("name", ["or_", "and_", "sub", "xor", "le", "lt", "ge", "gt", "eq", "ne"])
@pytest.mark.parametrize("kind", OTHER_KINDS)
@pytest.mark.parametrize("view", ["keys", "items"])
def test_the_views_operators_keep_the_elements_that_dicts_keep(name, kind, view):
    function = getattr(operator, name)
    for element in ELEMENTS:
        for mine in ELEMENTS:
            results = []
            for base in (dict, ConcurrentDict):
                d = base({mine: mine, 2: 2})
                for reflected in (False, True):
                    operands = [getattr(d, view)(), OTHER_KINDS[kind](element, base)]
                    results.append(outcome(function, *(operands[::-1] if reflected else operands)))
                results.append(outcome(getattr(d, view)().isdisjoint, operands[1]))
            assert results[:3] == results[3:], (element, mine)


def test_class_patterns():
    for base, cls in ((dict, dict), (ConcurrentDict, ConcurrentDict)):
        d = base(a=1)
        sub = type("Sub", (base,), {})(a=1)
        own = type("Own", (base,), {"__match_args__": ("x",), "x": 5})()
        assert matched_one(cls, d) is d and matched_one(cls, sub) is sub
        assert matched_one(type(sub), sub) is sub and matched_one(type(sub), d) is None
        assert matched_one(type(own), own) == 5
    for base in (list, ConcurrentList):
        values = base("ab")
        assert matched_list(base, values) == [True, values]
        assert matched_one(base, base()) == []


def matched_one(cls, value):
    match value:
        case cls(z):
            return z
    return None


# ---- random programs ----

KEYS = [0, 1, True, 1.0, 2, "a", "b", (1, "a"), None, -1, -2, 2**70, float(2**70), 0.0, -0.0]


def programs(seed):
    """The steps of a random program, each a function of a state of two containers."""
    chance = random.Random(seed)
    for _ in range(60):
        yield chance.choice(STEPS), chance.randrange(10**9)


def pairs(r):
    return [(r.choice(KEYS), r.choice(KEYS)) for _ in range(r.randrange(6))]


STEPS = [
    lambda a, b, r: operator.setitem(a, r.choice(KEYS), r.choice(KEYS)),
    lambda a, b, r: operator.delitem(a, r.choice(KEYS)),
    lambda a, b, r: a.pop(r.choice(KEYS)),
    lambda a, b, r: a.pop(r.choice(KEYS), "none"),
    lambda a, b, r: a.setdefault(r.choice(KEYS), r.choice(KEYS)),
    lambda a, b, r: a.popitem(),
    lambda a, b, r: a.update(b),
    lambda a, b, r: a.update(pairs(r)),
    lambda a, b, r: a.update(pairs(r), x=1),
    lambda a, b, r: operator.ior(a, r.choice([b, pairs(r), dict(pairs(r))])),
    lambda a, b, r: a | b,
    lambda a, b, r: a | dict(pairs(r)),
    lambda a, b, r: dict(pairs(r)) | a,
    lambda a, b, r: a.copy(),
    lambda a, b, r: copy.copy(a),
    lambda a, b, r: copy.deepcopy(a),
    lambda a, b, r: pickle.loads(pickle.dumps(a, r.randrange(5))),
    lambda a, b, r: (a == b, a != b, b == a, a == a.copy(), a == dict(b), dict(a) == a),
    lambda a, b, r: repr(a),
    lambda a, b, r: list(reversed(a)),
    lambda a, b, r: list(reversed(a.items())),
    lambda a, b, r: [list(a), list(a.values()), len(a), bool(a)],
    lambda a, b, r: a.clear() if r.random() < 0.2 else None,
    lambda a, b, r: type(a)(a, y=5),
    lambda a, b, r: type(a).fromkeys(r.choice([b, list(b), KEYS[3:6]]), r.choice(KEYS)),
    lambda a, b, r: r.choice([operator.or_, operator.and_, operator.sub, operator.xor])(
        a.keys(), r.choice([b.keys(), set(b), list(b), b.items()])
    ),
    lambda a, b, r: r.choice([operator.or_, operator.and_, operator.sub, operator.xor])(
        a.items(), r.choice([b.items(), set(b.items()), b.keys(), pairs(r)])
    ),
    lambda a, b, r: (a.keys() <= b.keys(), a.items() < b.items(), a.keys() == b.keys()),
    lambda a, b, r: (r.choice(KEYS) in a, a.get(r.choice(KEYS)), r.choice(KEYS) in a.values()),
    lambda a, b, r: "{a}".format_map(a),
    lambda a, b, r: (lambda **given: given)(**a),
    lambda a, b, r: a.__init__(r.choice([b, pairs(r), dict(pairs(r)), 5, [5]])),
]


@pytest.mark.parametrize("seed", range(scaled(300)))
def test_random_programs(seed):
    states = [({}, {}), (ConcurrentDict(), ConcurrentDict())]
    for step, (function, chance) in enumerate(programs(seed)):
        results = []
        for a, b in states:
            if chance % 3 == 0:
                a, b = b, a
            results.append((outcome(function, a, b, random.Random(chance)), plain(a), plain(b)))
        assert results[0] == results[1], step


def bounds(r):
    begin, end = (r.choice([None, *range(-4, 8)]) for _ in range(2))
    return slice(begin, end, r.choice([None, 1, 2, -1, 0]))


def items(r):
    return [r.choice(KEYS) for _ in range(r.randrange(5))]


LIST_STEPS = [
    lambda a, b, r: a.append(r.choice(KEYS)),
    lambda a, b, r: a.extend(r.choice([b, items(r), iter(items(r)), a, 5, "xy", dict.fromkeys(b)])),
    lambda a, b, r: a.insert(r.randrange(-5, 8), r.choice(KEYS)),
    lambda a, b, r: a.pop(*r.choice([(), (r.randrange(-4, 5),), ("x",), (1, 2)])),
    lambda a, b, r: a.remove(r.choice(KEYS)),
    lambda a, b, r: a.index(r.choice(KEYS), *r.choice([(), (1,), (-3, 5), ("a",)])),
    lambda a, b, r: a.count(r.choice(KEYS)),
    lambda a, b, r: a[r.choice([r.randrange(-5, 8), bounds(r), "x", None, True, 1.5])],
    lambda a, b, r: operator.setitem(a, r.randrange(-5, 8), r.choice(KEYS)),
    lambda a, b, r: operator.setitem(a, bounds(r), r.choice([b, a, items(r), iter(items(r)), 5])),
    lambda a, b, r: operator.delitem(a, r.choice([r.randrange(-5, 8), bounds(r), "x"])),
    lambda a, b, r: operator.iadd(a, r.choice([b, items(r), "xy", 5])),
    lambda a, b, r: operator.imul(a, r.choice([0, 1, 2, -1, "x", 1.5])) if len(a) < 40 else None,
    lambda a, b, r: (a + b, a * 2, 3 * a),
    lambda a, b, r: a + r.choice([5, (), "x", None]),
    lambda a, b, r: (a == b, a != b, b == a, a == a.copy(), a == list(b), list(a) == a),
    lambda a, b, r: r.choice([operator.lt, operator.le, operator.gt, operator.ge])(a, b),
    lambda a, b, r: r.choice([operator.lt, operator.eq, operator.ge])(a, r.choice([5, (), None])),
    lambda a, b, r: a.reverse(),
    lambda a, b, r: a.sort(key=repr, reverse=r.random() < 0.5),
    lambda a, b, r: a.copy().sort(),
    lambda a, b, r: a.clear() if r.random() < 0.2 else None,
    lambda a, b, r: [a.copy(), copy.copy(a), copy.deepcopy(a), repr(a), list(reversed(a))],
    lambda a, b, r: pickle.loads(pickle.dumps(a, r.randrange(5))),
    lambda a, b, r: (r.choice(KEYS) in a, len(a), bool(a)),
    lambda a, b, r: a.__init__(r.choice([b, items(r), iter(items(r)), a])),
    lambda a, b, r: hash(a),
    lambda a, b, r: type(a)(*r.choice([(), (b,), (5,), (1, 2), ("xy",)])),
    lambda a, b, r: [*a, *b][:5],
]


def list_programs(seed):
    chance = random.Random(seed)
    for _ in range(60):
        yield chance.choice(LIST_STEPS), chance.randrange(10**9)


@pytest.mark.parametrize("seed", range(scaled(300)))
def test_random_list_programs(seed):
    states = [([], []), (ConcurrentList(), ConcurrentList())]
    for step, (function, chance) in enumerate(list_programs(seed)):
        results = []
        for a, b in states:
            if chance % 3 == 0:
                a, b = b, a
            results.append((outcome(function, a, b, random.Random(chance)), plain(a), plain(b)))
        assert results[0] == results[1], step

"""Construction, items, methods and order, on dict and on ours alike."""

from collections import namedtuple
from itertools import product

import pytest
from support import Boom, Number, RaisesOnEq, SameHash, Text

from qsbrcontainers import ConcurrentDict

PAIRS = [("a", 1), ("b", 2), ("c", 3)]


class Mapping:
    """What update() takes for a mapping: keys() and []."""

    def __init__(self, pairs):
        self.pairs = dict(pairs)

    def keys(self):
        return iter(self.pairs)

    def __getitem__(self, key):
        return self.pairs[key]


@pytest.mark.parametrize(
    "source, keywords, expected",
    [
        (lambda: (), {}, []),
        (lambda: (PAIRS,), {}, PAIRS),
        (lambda: (dict(PAIRS),), {}, PAIRS),
        (lambda: (Mapping(PAIRS),), {}, PAIRS),
        (lambda: (iter(PAIRS),), {}, PAIRS),
        (lambda: ([["a", 1], ("b", 2), "c3"],), {}, [("a", 1), ("b", 2), ("c", "3")]),
        (lambda: (), dict(PAIRS), PAIRS),
        (lambda: (PAIRS,), {"b": 5, "d": 6}, [("a", 1), ("b", 5), ("c", 3), ("d", 6)]),
        (lambda: ([("a", 1), ("a", 2)],), {}, [("a", 2)]),
        (lambda: (), {"self": 1, "iterable": 2}, [("self", 1), ("iterable", 2)]),
        (lambda: ([],), {}, []),
        (lambda: ({},), {}, []),
    ],
)
def test_construct_and_update(make_dict, source, keywords, expected):
    d = make_dict(*source(), **keywords)
    assert list(d.items()) == expected and len(d) == len(expected)
    d = make_dict()
    assert d.update(*source(), **keywords) is None
    assert list(d.items()) == expected and len(d) == len(expected)


def test_construct_from_ours_and_copy(make_dict):
    source = ConcurrentDict(PAIRS)
    d = make_dict(source)
    assert list(d.items()) == PAIRS
    copy = d.copy()
    assert list(copy.items()) == PAIRS and copy == d and copy is not d
    copy["a"] = 0
    del copy["b"]
    copy["new"] = 1
    assert list(d.items()) == PAIRS
    d.update(d)
    assert list(d.items()) == PAIRS


def test_copy_has_the_same_type(make_our_dict):
    """Of a subclass too, which the interpreter's own tests of mappings ask for."""
    d = make_our_dict(a=1)
    assert type(d.copy()) is type(d)


@pytest.mark.parametrize(
    "arguments, error",
    [
        ((5,), TypeError),
        ((None,), TypeError),
        (([1],), TypeError),
        (([None],), TypeError),
        (([()],), ValueError),
        ((["a"],), ValueError),
        (([("a", 1), ("b",)],), ValueError),
        (([("a", 1, 2)],), ValueError),
        (([([], 1)],), TypeError),
        (([({}, 1)],), TypeError),
        (({}, {}), TypeError),
        (("ab",), ValueError),
    ],
)
def test_construct_and_update_errors(make_dict, arguments, error):
    with pytest.raises(error):
        make_dict(*arguments)
    d = make_dict(old=0)
    with pytest.raises(error):
        d.update(*arguments)
    # What came before the broken pair may be there, nothing else.
    assert d in ({"old": 0}, {"old": 0, "a": 1})


def test_keywords_must_be_strings(make_dict):
    with pytest.raises(TypeError):
        make_dict(**{1: 2})
    d = make_dict()
    with pytest.raises(TypeError):
        d.update(**{1: 2})
    assert len(d) == 0


def test_errors_inside_a_source_come_through(make_dict):
    class Broken(Exception):
        pass

    class NoKeys:
        def keys(self):
            raise Broken

    class BrokenKeys:
        def keys(self):
            yield "a"
            raise Broken

        def __getitem__(self, key):
            return 1

    class NoItems:
        def keys(self):
            return ["a"]

        def __getitem__(self, key):
            raise Broken

    def pairs():
        yield ("a", 1)
        raise Broken

    for source in (NoKeys(), BrokenKeys(), NoItems(), pairs()):
        d = make_dict(old=0)
        with pytest.raises(Broken):
            d.update(source)
        assert d in ({"old": 0}, {"old": 0, "a": 1})


def test_a_source_without_items(make_dict):
    class KeysOfNumber:
        def keys(self):
            return 5

    with pytest.raises(TypeError):
        make_dict(KeysOfNumber())


def test_items(make_dict):
    d = make_dict()
    assert "a" not in d and not d and len(d) == 0
    d["a"] = 1
    assert d["a"] == 1 and "a" in d and d and len(d) == 1
    d["a"] = None
    assert d["a"] is None and "a" in d and len(d) == 1
    del d["a"]
    assert "a" not in d and len(d) == 0


@pytest.mark.parametrize("key", ["a", 1, None, ("x", 1), 2.5, SameHash(1), Text("z"), b"", -1])
def test_missing_keys(make_dict, key):
    d = make_dict(other=0)
    for operation in (d.__getitem__, d.__delitem__, d.pop):
        with pytest.raises(KeyError) as caught:
            operation(key)
        assert len(caught.value.args) == 1 and caught.value.args[0] is key
    assert d.get(key) is None and d.get(key, 5) == 5 and d.pop(key, 6) == 6
    assert key not in d and d == {"other": 0}


def test_a_missing_tuple_is_one_argument_of_its_error(make_dict):
    with pytest.raises(KeyError) as caught:
        make_dict()[(1, 2)]
    assert caught.value.args == ((1, 2),)


@pytest.mark.parametrize("key", [[], {}, set(), ([],)])
def test_unhashable_keys(make_dict, key):
    d = make_dict(a=1)
    operations = (
        lambda: d[key],
        lambda: d.__setitem__(key, 1),
        lambda: d.__delitem__(key),
        lambda: key in d,
        lambda: d.get(key),
        lambda: d.get(key, 5),
        lambda: d.setdefault(key, 1),
        lambda: d.pop(key),
        lambda: d.pop(key, 1),
        lambda: d.update([(key, 1)]),
    )
    for operation in operations:
        with pytest.raises(TypeError, match="unhashable"):
            operation()
    assert list(d.items()) == [("a", 1)]


def test_pop_of_what_cannot_be_hashed(make_dict):
    """An empty dict has not even to look: KeyError, or the default."""
    for key in ([], ([],)):
        with pytest.raises(KeyError):
            make_dict().pop(key)
        assert make_dict().pop(key, 5) == 5
        with pytest.raises(TypeError):
            make_dict(a=1).pop(key)
        with pytest.raises(TypeError):
            make_dict(a=1).pop(key, 5)


def test_get_setdefault_pop(make_dict):
    d = make_dict(a=1)
    assert d.get("a") == 1 and d.get("a", 5) == 1
    assert d.setdefault("a", 5) == 1
    assert d.setdefault("b", 6) == 6 and d["b"] == 6
    assert d.setdefault("c") is None and d["c"] is None
    assert d.setdefault("c", 7) is None
    assert d.pop("b") == 6 and d.pop("c", 9) is None and d.pop("c", 9) == 9
    assert d.pop("c", None) is None
    assert list(d.items()) == [("a", 1)]


def test_popitem_is_last_in_first_out(make_dict):
    d = make_dict((i, str(i)) for i in range(100))
    d[5] = "again"
    del d[99], d[50]
    d[50] = "late"
    expected = [50, *(i for i in reversed(range(99)) if i != 50)]
    popped = [d.popitem() for _ in range(len(d))]
    assert [key for key, _ in popped] == expected
    assert popped[0] == (50, "late") and popped[-6] == (5, "again")
    assert type(popped[0]) is tuple
    for _ in range(2):
        with pytest.raises(KeyError):
            d.popitem()
    d["x"] = 1
    assert d.popitem() == ("x", 1) and len(d) == 0


def test_popitem_and_insert_in_turn(make_dict):
    d = make_dict()
    for i in range(1000):
        d["stays"] = i
        d[i] = i
        assert d.popitem() == (i, i)
        assert list(d) == ["stays"]


def test_clear(make_dict):
    d = make_dict((i, i) for i in range(1000))
    assert d.clear() is None
    assert len(d) == 0 and list(d) == [] and 5 not in d
    d.clear()
    d[5] = 6
    assert list(d.items()) == [(5, 6)]


def test_order_is_that_of_insertion(make_dict):
    d, expected = make_dict(), []
    for i in range(300):
        d[f"k{i * 7919 % 300}"] = i
        expected.append(f"k{i * 7919 % 300}")
    assert list(d) == expected
    for key in expected[::3]:
        del d[key]
    for key in expected[::3]:
        d[key] = 0
    for key in expected[1::3]:
        d[key] = "assigned"  # keeps its place
    expected = [k for i, k in enumerate(expected) if i % 3] + expected[::3]
    assert list(d) == expected
    assert list(d.keys()) == expected and [k for k, _ in d.items()] == expected


def test_equal_keys_are_one_key_and_the_first_stays(make_dict):
    d = make_dict()
    d[1] = "int"
    d[1.0] = "float"
    d[True] = "bool"
    assert len(d) == 1 and d[1] == d[1.0] == d[True] == "bool"
    assert type(next(iter(d))) is int
    d[Number(1)] = "number"
    assert d[1] == "number" and type(next(iter(d))) is int
    d["a"] = 1
    d[Text("a")] = 2
    assert d["a"] == 2 and [type(k) for k in d] == [int, str]
    e = make_dict()
    e[Text("a")] = 1
    e["a"] = 2
    assert e["a"] == e[Text("a")] == 2 and type(next(iter(e))) is Text
    e[0.0] = 1
    assert e[-0.0] == e[0] == e[False] == 1


def test_minus_one_and_minus_two_share_a_hash(make_dict):
    assert hash(-1) == hash(-2)
    d = make_dict()
    d[-1], d[-2], d[-1.0] = "a", "b", "c"
    assert d == {-1: "c", -2: "b"} and d[-2] == "b"
    del d[-1]
    assert d[-2] == "b" and -1 not in d


def test_ints_of_equal_hash(make_dict):
    period = 2**61 - 1
    keys = [1 + i * period for i in range(20)]
    assert len({hash(k) for k in keys}) == 1
    d = make_dict((k, i) for i, k in enumerate(keys))
    assert [d[k] for k in keys] == list(range(20)) and 1 + 20 * period not in d
    for k in keys[::2]:
        del d[k]
    assert [d.get(k) for k in keys] == [i if i % 2 else None for i in range(20)]


@pytest.mark.parametrize("more", [(), (7, "x", 0.5, 2**80), ((-1,), None), tuple(range(40))])
def test_tuples_of_equal_hash(make_dict, more):
    """-1 and -2 have one hash, and so have all tuples that differ only in these."""
    keys = [(*key, *more) for key in product((-1, -2), repeat=6)]
    assert len({hash(k) for k in keys}) == 1
    d = make_dict((k, i) for i, k in enumerate(keys))
    same = [(*k,) for k in keys]
    assert [d[k] for k in same] == list(range(64))
    for k in same[::2]:
        del d[k]
    d[same[1]] = "new"
    assert [d.get(k) for k in keys[:5]] == [None, "new", None, 3, None]
    assert list(d) == keys[1::2] and all(a is b for a, b in zip(d, keys[1::2], strict=True))


def test_tuples_are_compared_item_by_item(make_dict):
    nan = float("nan")
    d = make_dict({(1, 2.0, "x"): 1, (0.0, nan): 2, (-1, -2): 3, (): 4, (7, SameHash(0)): 5})
    assert d[True, 2, Text("x")] == 1 and d[1.0, Number(2), "x"] == 1
    assert d[-0.0, nan] == 2 and (0.0, float("nan")) not in d
    assert (-2, -1) not in d and d[-1.0, -2] == 3 and d[()] == 4
    assert d[7, SameHash(0)] == 5 and (7, SameHash(1)) not in d
    with pytest.raises(Boom):
        d[7, RaisesOnEq(0)]


def test_subclasses_compare_as_they_say(make_dict):
    """Without Python code where they inherit what compares, with it where they do not."""
    Point = namedtuple("Point", "x y")

    class Unlike(tuple):
        __slots__ = ()
        __hash__ = tuple.__hash__

        def __eq__(self, other):
            return False

    class Ordered(int):
        def __lt__(self, other):
            raise Boom

    class Late(str):
        pass

    unlike, late = Unlike((1, "b")), Late("late")
    d = make_dict({Point(1, "a"): 1, unlike: 2, Number(2**70): 3, Text("x"): 4, late: 5})
    assert d[1, "a"] == d[Point(True, Text("a"))] == 1 and Point(1, "b") not in d
    assert d[unlike] == 2 and (1, "b") not in d and d[Unlike((1, "a"))] == 1  # as Point says
    assert d[2**70] == d[Ordered(2**70)] == d[2.0**70] == 3 and d["x"] == 4
    assert Number(2**70 + 1) not in d and Ordered(2**70 + 2**61 - 1) not in d
    assert d["late"] == d[Late("late")] == 5
    Late.__eq__, Late.__hash__ = lambda self, other: False, str.__hash__
    assert "late" not in d and Late("late") not in d and d[late] == 5


def test_collisions(make_dict):
    keys = [SameHash(i) for i in range(50)]
    d = make_dict((k, k.value) for k in keys)
    assert all(d[SameHash(i)] == i for i in range(50))
    for i in range(0, 50, 2):
        del d[SameHash(i)]
    assert [k.value for k in d] == list(range(1, 50, 2))
    assert all((SameHash(i) in d) == bool(i % 2) for i in range(50))
    for i in range(0, 50, 2):
        d[SameHash(i)] = -i
    assert [k.value for k in d] == [*range(1, 50, 2), *range(0, 50, 2)]


def test_nan_keys_are_found_by_identity(make_dict):
    nan, other = float("nan"), float("nan")
    d = make_dict()
    d[nan] = 1
    d[other] = 2
    assert len(d) == 2 and d[nan] == 1 and d[other] == 2 and float("nan") not in d
    assert [k is n for k, n in zip(d, (nan, other), strict=True)] == [True, True]
    del d[nan]
    assert nan not in d and other in d


@pytest.mark.parametrize(
    "keys",
    [
        [(), (1,), (1, 2), ((1, 2), 3), ("a", None)],
        [None, Ellipsis, NotImplemented, int, len],
        [b"a", "a", b"", "", frozenset(), frozenset([1])],
        ["é", "ü" * 100, "\U0001f600", "a" * 1000, "\ud800"],
        [2**100, -(2**100), 2**63, 2**64, 2**61 - 1, 0, 1 << 200],
        [0.5, -0.5, 1e300, float("inf"), float("-inf"), 1j],
    ],
)
def test_keys_of_many_types(make_dict, keys):
    d = make_dict((k, i) for i, k in enumerate(keys))
    assert [d[k] for k in keys] == list(range(len(keys)))
    assert all(a is b for a, b in zip(d, keys, strict=True))
    for k in keys:
        del d[k]
    assert len(d) == 0


def test_str_keys_equal_but_not_identical(make_dict):
    d = make_dict((f"key{i}", i) for i in range(100))
    assert all(d["".join(["key", str(i)])] == i for i in range(100))
    assert "".join(["ke", "y"]) not in d


def test_many_keys(make_dict):
    d = make_dict()
    for i in range(20_000):
        d[i] = i
    assert len(d) == 20_000 and all(d[i] == i for i in range(20_000))
    for i in range(0, 20_000, 2):
        del d[i]
    assert len(d) == 10_000 and list(d) == list(range(1, 20_000, 2))
    for i in range(0, 20_000, 2):
        assert i not in d
    for i in range(20_000):
        d[i] = -i
    assert len(d) == 20_000 and sum(d.values()) == -sum(range(20_000))


def test_the_same_keys_set_and_deleted_for_long(make_dict):
    d = make_dict()
    for i in range(30_000):
        d[i % 7] = i
        if i >= 3:
            assert d.pop((i - 3) % 7) == i - 3
    assert list(d.values()) == [29_997, 29_998, 29_999]


def test_init_again_updates(make_dict):
    d = make_dict(a=1)
    d.__init__({"b": 2}, c=3)
    assert d == {"a": 1, "b": 2, "c": 3}
    d.__init__()
    assert len(d) == 3
    with pytest.raises(TypeError):
        d.__init__(5)
    assert len(d) == 3


def test_new_without_init(make_dict):
    cls = type(make_dict())
    d = cls.__new__(cls)
    assert len(d) == 0 and list(d) == [] and "a" not in d and d == {}
    d["a"] = 1
    assert d == {"a": 1}


def test_wrong_arguments(make_dict):
    d = make_dict(a=1)
    calls = [
        lambda: d.get(),
        lambda: d.get(1, 2, 3),
        lambda: d.get(key=1),
        lambda: d.get("a", default=1),
        lambda: d.setdefault(),
        lambda: d.setdefault(1, 2, 3),
        lambda: d.pop(),
        lambda: d.pop(1, 2, 3),
        lambda: d.popitem(1),
        lambda: d.clear(1),
        lambda: d.copy(1),
        lambda: d.keys(1),
        lambda: d.values(1),
        lambda: d.items(1),
        lambda: d.update(1, 2),
        lambda: d.__getitem__(),
        lambda: d.__contains__(1, 2),
        lambda: hash(d),
        lambda: d < d,
        lambda: d + d,
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    assert d == {"a": 1}


def test_no_hash(make_dict):
    assert type(make_dict()).__hash__ is None


def test_repr(make_dict):
    assert repr(make_dict()) == "{}"
    assert repr(make_dict([("a", 1), (2, "b"), ((), None)])) == "{'a': 1, 2: 'b', (): None}"
    d = make_dict(a=1)
    d["self"] = d
    d["list"] = [d]
    assert repr(d) == "{'a': 1, 'self': {...}, 'list': [{...}]}"
    assert str(d) == repr(d)
    d.clear()


def test_repr_errors_come_through(make_dict):
    class NoRepr:
        def __repr__(self):
            raise ZeroDivisionError

    d = make_dict(a=NoRepr())
    for _ in range(2):  # the second time, too: nothing was left marked as under way
        with pytest.raises(ZeroDivisionError):
            repr(d)
    d["a"] = 1
    assert repr(d) == "{'a': 1}"


def test_repr_of_deep_nesting(make_dict):
    d = make_dict()
    for _ in range(100):
        d = make_dict(a=d)
    assert repr(d) == "{'a': " * 100 + "{}" + "}" * 100


def test_equality(make_dict):
    d = make_dict(a=1, b=2)
    for other in ({"a": 1, "b": 2}, {"b": 2, "a": 1.0}, ConcurrentDict(b=2, a=1), d, d.copy()):
        assert d == other and other == d and not d != other and not other != d
    for other in ({}, {"a": 1}, {"a": 1, "b": 3}, {"a": 1, "c": 2}, {"a": 1, "b": 2, "c": 3}):
        assert d != other and other != d and not d == other
        assert d != ConcurrentDict(other) and ConcurrentDict(other) != d
    for other in (5, None, "ab", [("a", 1), ("b", 2)], {"a", "b"}, object()):
        assert d != other and not d == other
        assert d.__eq__(other) is NotImplemented and d.__ne__(other) is NotImplemented


def test_equality_asks_the_other_side(make_dict):
    class Anything:
        def __eq__(self, other):
            return True

    assert make_dict(a=1) == Anything() and Anything() == make_dict()
    assert make_dict(a=1) == {"a": Anything()}


def test_equality_of_values_by_identity_first(make_dict):
    nan = float("nan")
    assert make_dict(a=nan) == {"a": nan} and make_dict(a=nan) == make_dict(a=nan)
    assert make_dict(a=nan) != {"a": float("nan")}
    d = make_dict(a=nan)
    assert d == d


def test_equality_errors_come_through(make_dict):
    class NoEq:
        def __eq__(self, other):
            raise ZeroDivisionError

    d = make_dict(a=NoEq())
    for other in (make_dict(a=1), {"a": 1}, ConcurrentDict(a=1)):
        with pytest.raises(ZeroDivisionError):
            d == other  # noqa: B015
        with pytest.raises(ZeroDivisionError):
            other != d  # noqa: B015
    assert d == d  # identical values are not asked


def test_update_with_itself_and_its_views(make_dict):
    d = make_dict(PAIRS)
    d.update(d)
    d.update(list(d.items()))
    d.update(zip(list(d), d.values(), strict=True))
    assert list(d.items()) == PAIRS

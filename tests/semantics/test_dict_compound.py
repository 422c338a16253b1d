"""What ours does beyond dict, one thread at a time: operations that depend on the value that is
there (add, swap, compare_and_set, compare_and_delete, compute, discard, discard_if), get_many, and
the sentinels MISSING and DELETE."""

import copy
import gc
import pickle
import sys
from typing import get_type_hints

import pytest
from support import (
    Boom,
    CallsOnEq,
    DictSubclass,
    Equal,
    NoEq,
    Number,
    RaisesOnEq,
    RaisesOnHash,
    SameHash,
    Text,
    in_other_thread,
    run_script,
    settle,
)

from qsbrcontainers import DELETE, MISSING, ConcurrentDict, Sentinel, stats

BY_VALUE = stats()["numbers"] == "value"
NAN = float("nan")
# Each kind of word: an int by value, one that has to be an object, a float, objects.
VALUES = [0, -1, 2**50 - 1, 2**50, -(2**51), 2**63, 0.5, -0.0, float("inf"), None, "text", (1,), []]


def fail(*arguments):
    raise Boom


# ---- add, swap, discard ----


@pytest.mark.parametrize("value", VALUES)
def test_add(make_our_dict, value):
    d = make_our_dict()
    assert d.add("a", value) is True
    assert d.add("a", "other") is False and d.add(key="a", value=1) is False
    assert d == {"a": value} and (BY_VALUE or d["a"] is value)


@pytest.mark.parametrize("value", VALUES)
def test_swap(make_our_dict, value):
    d = make_our_dict()
    assert d.swap("a", value) is None
    assert d.swap("a", "second", default=5) == value
    assert d.swap("a", value, 5) == "second"
    assert d.swap("b", 1, 5) == 5 and d.swap("c", 1, MISSING) is MISSING
    assert list(d.items()) == [("a", value), ("b", 1), ("c", 1)]


def test_swap_keeps_key_and_place(make_our_dict):
    first = Text("a")
    d = make_our_dict([(first, 1), ("b", 2)])
    assert d.swap("a", 3) == 1
    assert next(iter(d)) is first and list(d.values()) == [3, 2]


def test_discard(make_our_dict):
    d = make_our_dict({"a": 1, None: 2, 3: None, SameHash(1): "x"})
    assert d.discard("a") is True and d.discard("a") is False
    assert d.discard(None) and d.discard(3.0) and d.discard(SameHash(1))
    assert not d.discard(SameHash(1)) and d == {}


# ---- compare_and_set, compare_and_delete ----


@pytest.mark.parametrize("value", VALUES)
def test_compare_and_set(make_our_dict, value):
    d = make_our_dict(a=value)
    assert d.compare_and_set("a", "other", 1) is False
    assert d.compare_and_set("a", MISSING, 1) is False
    assert d.compare_and_set("b", value, 1) is False
    assert d == {"a": value}
    assert d.compare_and_set("a", value, "new") is True and d["a"] == "new"
    assert d.compare_and_set("a", copy.copy("new"), value) is True and d["a"] == value
    assert d.compare_and_set(new=2, expected=MISSING, key="b") is True and d["b"] == 2
    assert list(d) == ["a", "b"]


@pytest.mark.parametrize("value", VALUES)
def test_compare_and_delete(make_our_dict, value):
    d = make_our_dict(a=value, b=1)
    assert d.compare_and_delete("a", "other") is False
    assert d.compare_and_delete("a", MISSING) is False
    assert d.compare_and_delete("c", value) is False
    assert d == {"a": value, "b": 1}
    assert d.compare_and_delete("a", value) is True and d == {"b": 1}
    assert d.compare_and_delete("a", value) is False
    assert d.compare_and_delete(key="a", expected=MISSING) is True and d == {"b": 1}


def test_expected_is_compared_by_equality(make_our_dict):
    d = make_our_dict(a=1, b=[1, 2], c="text")
    assert d.compare_and_set("a", 1.0, 2) and d.compare_and_set("a", Number(2), 1)
    assert d.compare_and_set("a", True, 0.0) and d.compare_and_set("a", -0.0, 2**70)
    assert d.compare_and_set("a", 2**70, 1) and not d.compare_and_set("a", 2**70, 1)
    assert d.compare_and_set("b", [1, 2], ()) and d.compare_and_delete("c", Text("text"))
    assert d == {"a": 1, "b": ()}


def test_expected_is_compared_by_identity_first(make_our_dict):
    no_eq = NoEq()
    d = make_our_dict(nan=NAN, no_eq=no_eq)
    assert d.compare_and_set("nan", NAN, 1) and d.compare_and_set("nan", 1, NAN)
    assert not d.compare_and_set("nan", float("nan"), 1)
    assert not d.compare_and_delete("nan", float("nan")) and d.compare_and_delete("nan", NAN)
    assert d.compare_and_set("no_eq", no_eq, no_eq) and d.compare_and_delete("no_eq", no_eq)
    assert d == {}


def test_none_is_a_value_like_others(make_our_dict):
    d = make_our_dict(a=None)
    assert not d.compare_and_set("b", None, 1) and not d.compare_and_delete("b", None)
    assert d.compare_and_set("a", None, None) and d.compare_and_delete("a", None) and d == {}


def test_eq_that_raises_changes_nothing(make_our_dict):
    value = NoEq()
    d = make_our_dict(a=value, b=1)
    for expected, key in ((1, "a"), (NoEq(), "a"), (NoEq(), "b")):
        with pytest.raises(Boom):
            d.compare_and_set(key, expected, 2)
        with pytest.raises(Boom):
            d.compare_and_delete(key, expected)
    assert d["a"] is value and d["b"] == 1 and len(d) == 2
    assert not d.compare_and_set("c", NoEq(), 2)  # nothing there to compare with


def test_eq_without_a_truth_value(make_our_dict):
    class NoTruth:
        def __bool__(self):
            raise Boom

        def __eq__(self, other):
            return self

    d = make_our_dict(a=NoTruth())
    with pytest.raises(Boom):
        d.compare_and_set("a", 1, 2)
    assert type(d["a"]) is NoTruth


# What __eq__ does to the key it is asked for, and what compare_and_set and compare_and_delete must
# make of it: (did it, what is there afterwards). It is asked again for each value it finds.
MEDDLING = {
    "replace": (lambda d: d.__setitem__("a", "theirs"), "set"),
    "replace by an equal one": (lambda d: d.__setitem__("a", [1]), "set"),
    "delete": (lambda d: d.__delitem__("a"), "gone"),
    "clear": (lambda d: d.clear(), "gone"),
    "delete and insert": (lambda d: (d.pop("a"), d.__setitem__("a", "theirs")), "set"),
    "grow": (lambda d: d.update({i: i for i in range(1000)}), "set"),
    "collect": (lambda d: gc.collect(), "set"),
    "nested": (lambda d: d.compare_and_set("a", MISSING, 0), "set"),
}


@pytest.mark.parametrize("meddling", MEDDLING)
@pytest.mark.parametrize("method", ["compare_and_set", "compare_and_delete"])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_eq_that_changes_the_dict(make_our_dict, meddling, method, elsewhere):
    change, outcome = MEDDLING[meddling]
    d = make_our_dict(a=[1])

    def meddle():
        if expected.asked == 1:
            in_other_thread(change, d) if elsewhere else change(d)

    expected = Equal(meddle)
    arguments = ("a", expected) if method == "compare_and_delete" else ("a", expected, "new")
    done = getattr(d, method)(*arguments)
    assert done is (outcome == "set")
    assert d.get("a", "gone") == ("new" if done and method == "compare_and_set" else "gone")
    replaced = meddling not in ("grow", "collect", "nested", "delete", "clear")
    assert expected.asked == (2 if replaced else 1)


def test_a_changed_value_is_compared_anew(make_our_dict):
    class EqualOnce(Equal):
        def __eq__(self, other):
            super().__eq__(other)
            return other == [1]

    d = make_our_dict(a=[1])
    expected = EqualOnce(lambda: d.__setitem__("a", "theirs"))
    assert d.compare_and_set("a", expected, "new") is False
    assert d["a"] == "theirs" and expected.asked == 2


def test_a_value_that_comes_back_is_the_same_value(make_our_dict):
    """The very word that was compared is there: nobody can tell that it was away."""
    first = [1]
    d = make_our_dict(a=first)

    def away_and_back():
        d["a"] = "theirs"
        d["a"] = first

    expected = Equal(away_and_back)
    assert d.compare_and_set("a", expected, "new") and expected.asked == 1 and d["a"] == "new"


# ---- compute ----


@pytest.mark.parametrize("value", VALUES)
def test_compute(make_our_dict, value):
    seen = []

    def func(old):
        seen.append(old)
        return value

    d = make_our_dict()
    assert d.compute("a", func) == value and d["a"] == value
    assert d.compute("a", func) == value and d == {"a": value}
    assert d.compute("b", func, 5) == value and d.compute(key="c", func=func, default=None) == value
    assert d.compute("b", func, default=6) == value
    assert seen == [MISSING, value, 5, None, value] and seen[0] is MISSING
    assert list(d) == ["a", "b", "c"]


def test_compute_that_deletes(make_our_dict):
    d = make_our_dict(a=1, b=2)
    assert d.compute("a", lambda old: DELETE) is MISSING and d == {"b": 2}
    assert d.compute("a", lambda old: DELETE) is MISSING
    assert d.compute("a", lambda old: DELETE, 5) is MISSING and d == {"b": 2}
    countdown = lambda old: old - 1 if old > 1 else DELETE  # noqa: E731
    assert [d.compute("b", countdown) for _ in range(2)] == [1, MISSING] and d == {}


def test_compute_that_returns_its_argument(make_our_dict):
    value = [1]
    d = make_our_dict(a=value, n=2**70)
    assert d.compute("a", lambda old: old) is value is d["a"]
    assert d.compute("n", lambda old: old) == 2**70 == d["n"]
    with pytest.raises(ValueError, match="MISSING"):
        d.compute("b", lambda old: old)
    assert len(d) == 2


@pytest.mark.parametrize("key", ["a", "b"])
def test_compute_that_raises_changes_nothing(make_our_dict, key):
    d = make_our_dict(a=1)
    for error in (Boom, KeyError, SystemExit, KeyboardInterrupt):

        def func(old, error=error):
            raise error("reason")

        with pytest.raises(error, match="reason"):
            d.compute(key, func)
        assert d == {"a": 1}


def test_compute_is_called_again_where_the_value_changed(make_our_dict):
    d, seen = make_our_dict(a=0), []

    def func(old):
        seen.append(old)
        if len(seen) < 4:
            d["a"] = 10 * len(seen)
        return (old, "new")

    assert d.compute("a", func) == (30, "new") == d["a"] and seen == [0, 10, 20, 30]


def test_compute_of_a_key_that_comes_and_goes(make_our_dict):
    d, seen = make_our_dict(), []

    def func(old):
        seen.append(old)
        if len(seen) == 1:
            d["a"] = 1
        if len(seen) == 2:
            del d["a"]
        return "new"

    assert d.compute("a", func, "none") == "new" and seen == ["none", 1, "none"]
    assert d == {"a": "new"}


def test_compute_that_deletes_what_changed_meanwhile(make_our_dict):
    d, seen = make_our_dict(a=1), []

    def func(old):
        seen.append(old)
        if len(seen) == 1:
            d["a"] = 2
        return DELETE

    assert d.compute("a", func) is MISSING and seen == [1, 2] and d == {}


def test_compute_inside_compute(make_our_dict):
    d = make_our_dict(a=1, b=2)
    assert d.compute("a", lambda old: old + d.compute("b", lambda old: old + 10)) == 13
    assert d == {"a": 13, "b": 12}
    # Of the same key: the inner one changes the value, so the outer one is called again, once.
    calls = []

    def outer(old):
        calls.append(old)
        if len(calls) == 1:
            d.compute("a", lambda old: old * 2)
        return old + 1

    assert d.compute("a", outer) == 27 and calls == [13, 26]


def test_compute_that_changes_other_keys(make_our_dict):
    for change in (d_grow, d_shrink):
        d, calls = make_our_dict({i: i for i in range(100)}), []

        def func(old, d=d, calls=calls, change=change):
            calls.append(old)
            change(d)
            return "new"

        assert d.compute(0, func) == "new" and d[0] == "new" and calls == [0]


def d_grow(d):
    d.update({i: i for i in range(100, 3000)})


def d_shrink(d):
    for i in range(1, 100):
        d.discard(i)


# ---- discard_if ----


def test_discard_if(make_our_dict):
    d = make_our_dict((i, i * i) for i in range(100))
    assert d.discard_if(lambda key, value: key % 2) == 50
    assert list(d) == list(range(0, 100, 2))
    seen = []
    assert d.discard_if(lambda *pair: seen.append(pair)) == 0
    assert seen == [(i, i * i) for i in range(0, 100, 2)] and len(d) == 50
    assert d.discard_if(lambda key, value: [key]) == 50 and d == {}
    assert d.discard_if(fail) == 0


@pytest.mark.parametrize("value", [*VALUES, NAN])
def test_discard_if_of_each_kind_of_value(make_our_dict, value):
    d = make_our_dict(a=value, b="other")
    assert d.discard_if(lambda key, seen: seen is value or seen == value) == 1
    assert d == {"b": "other"}


def test_discard_if_that_raises_keeps_what_was_done(make_our_dict):
    d = make_our_dict((i, i) for i in range(10))

    def pred(key, value):
        if key == 5:
            raise Boom
        return key % 2

    with pytest.raises(Boom):
        d.discard_if(pred)
    assert list(d) == [0, 2, 4, 5, 6, 7, 8, 9]


def test_discard_if_without_a_truth_value(make_our_dict):
    class NoTruth:
        def __bool__(self):
            raise Boom

    d = make_our_dict(a=1)
    with pytest.raises(Boom):
        d.discard_if(lambda key, value: NoTruth())
    assert d == {"a": 1}


def test_discard_if_spares_what_changed_since_pred_saw_it(make_our_dict):
    d = make_our_dict((i, [i]) for i in range(10))

    def pred(key, value):
        if key == 3:
            d[3] = [3]  # an equal one is another one
        if key == 4:
            del d[4]
        if key == 5:
            d["late"] = value
        return True

    assert d.discard_if(pred) == 8
    assert d[3] == [3] and list(d) == [3, "late"]  # an iteration ends with what was there (K6)


def test_discard_if_that_clears_or_grows_the_dict(make_our_dict):
    d = make_our_dict((i, i) for i in range(50))
    assert d.discard_if(lambda key, value: d.clear() or True) == 0 and d == {}
    d.update((i, i) for i in range(50))

    def grow(key, value):
        d.update((i, i) for i in range(50, 500))
        return key < 50

    assert d.discard_if(grow) == 50 and list(d) == list(range(50, 500))


def test_discard_if_with_keys_that_collide(make_our_dict):
    d = make_our_dict((SameHash(i), i) for i in range(30))
    assert d.discard_if(lambda key, value: value % 3) == 20
    assert [k.value for k in d] == list(range(0, 30, 3))


# ---- get_many ----


def test_get_many(make_our_dict):
    d = make_our_dict({i: str(i) for i in range(100)} | {str(i): -i for i in range(100)})
    keys = [k for i in range(0, 130, 7) for k in (i, str(i), float(i), Number(i), Text(i))]
    for several in (keys, tuple(keys), iter(keys), dict.fromkeys(keys), keys * 10, [], ["5"]):
        expected = list(several) if not hasattr(several, "__next__") else keys
        assert d.get_many(several) == [d.get(k) for k in expected]
    assert d.get_many(["0", "x", SameHash(1)], 7) == [0, 7, 7]
    assert d.get_many(keys=["x"], default=MISSING) == [MISSING]
    assert d.get_many("12") == [-1, -2] and type(d.get_many(())) is list
    assert make_our_dict().get_many(["a"] * 100) == [None] * 100


def test_get_many_of_all_kinds_at_once(make_our_dict):
    """A section's results are made in it where that takes no call, and after it where it does: ints
    of which the thread keeps no object (there is one for each residue), floats, absent keys, those
    that __eq__ or a hash of another kind is needed for. Each way in each place of a section."""
    values = [5, 10**6, 10**6 + 1024, -(2**40), 2**70, 1.5, "x", None, [1]]
    keys = [
        "plain",
        "absent",
        "\u20ac",
        7,
        (1, "a"),
        Text("of a subclass"),
        SameHash(3),
        -1,
        "" * 3,
    ]
    d = make_our_dict()
    several = []
    for turn in range(7):
        for n, key in enumerate(keys):
            several.append(f"{key}{turn}" if type(key) is str else key)
            if key != "absent":
                d[several[-1]] = values[(turn + n) % len(values)]
    for _ in range(3):
        result = d.get_many(several, MISSING)
        assert result == [d.get(key, MISSING) for key in several]
        assert [type(value) for value in result] == [type(d.get(k, MISSING)) for k in several]
        several = several[1:] + several[:1]


@pytest.mark.parametrize("at", [0, 1, 31, 32, 33, 99])
def test_get_many_that_fails_changes_nothing(make_our_dict, at):
    d = make_our_dict({str(i): [i] for i in range(100)}, **{"": SameHash})
    d[SameHash("there")] = 1
    for bad, error in (([], TypeError), (RaisesOnHash(), Boom), (RaisesOnEq(1), Boom)):
        keys = [str(i) for i in range(100)]
        keys[at] = bad
        with pytest.raises(error):
            d.get_many(keys)
    assert len(d) == 102
    with pytest.raises(Boom):
        d.get_many(str(i) if i != at else fail() for i in range(100))


def test_get_many_with_keys_that_change_dict_and_list(make_our_dict):
    d = make_our_dict({str(i): i for i in range(40)})
    d[SameHash(1)] = "one"
    seen = []

    def change():
        d.clear()
        keys.clear()
        for each in gc.get_objects():
            if type(each) is list and len(each) == 41:
                seen.append(repr(each))

    keys = [str(i) for i in range(40)]
    keys.insert(10, CallsOnEq(1, change))
    result = d.get_many(keys)
    assert len(result) == 41 and result[:10] == list(range(10)) and set(result[33:]) == {None}
    assert gc.is_tracked(result) and d == {} and keys == []
    assert not any("NULL" in text for text in seen), "the results were seen half filled"


# ---- what holds for all of them ----

ALL = {
    "add": lambda d, k: d.add(k, 1),
    "swap": lambda d, k: d.swap(k, 1),
    "discard": lambda d, k: d.discard(k),
    "compare_and_set": lambda d, k: d.compare_and_set(k, 0, 1),
    "compare_and_set MISSING": lambda d, k: d.compare_and_set(k, MISSING, 1),
    "compare_and_delete": lambda d, k: d.compare_and_delete(k, 0),
    "compute": lambda d, k: d.compute(k, lambda old: 1),
    "compute DELETE": lambda d, k: d.compute(k, lambda old: DELETE),
    "get_many": lambda d, k: d.get_many([k]),
}


@pytest.mark.parametrize("operation", ALL)
def test_keys_that_raise(make_our_dict, operation):
    d = make_our_dict((SameHash(i), 0) for i in range(5))
    for key, error in ((RaisesOnHash(), Boom), (RaisesOnEq(0), Boom), ([], TypeError)):
        with pytest.raises(error):
            ALL[operation](d, key)
        assert list(d.values()) == [0] * 5 and d[SameHash(3)] == 0


@pytest.mark.parametrize("operation", ALL)
@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize(
    "change", [dict.clear, d_grow, lambda d: d.update((k, "other") for k in list(d))]
)
def test_keys_that_change_the_dict(make_our_dict, operation, present, change):
    changes = [change if change is not dict.clear else lambda d: d.clear()]
    d = make_our_dict((SameHash(i), 0) for i in range(5))
    ALL[operation](d, CallsOnEq(2 if present else 99, lambda: changes and changes.pop()(d)))
    assert not changes, "__eq__ was not called"
    keys = list(d)
    assert len(keys) == len(d) and all(k in d for k in keys)
    d.clear()
    d["a"] = 1
    assert d == {"a": 1}


@pytest.mark.parametrize("method", ["swap", "compare_and_set", "compute", "incr"])
def test_long_numbers_change_as_short_ones_do(make_our_dict, method):
    """Across the edge between numbers by value and objects, and back."""
    d, numbers = make_our_dict(n=0), [2**50, 1, 2**64, -(2**51) - 1, 0.25, 2**100, NAN, 5]
    for old, new in zip([0, *numbers], numbers, strict=False):
        if method == "swap":
            assert d.swap("n", new) == old or old is NAN
        elif method == "compare_and_set":
            assert d.compare_and_set("n", old, new)
        elif method == "compute":
            assert d.compute("n", lambda _, new=new: new) is new
        else:
            d["n"] = 0
            assert d.incr("n", new) == new or new is NAN
        assert d["n"] == new or new is NAN


WRONG = [
    lambda d: d.add(),
    lambda d: d.add("a"),
    lambda d: d.add("b", 1, 2),
    lambda d: d.add("b", val=1),
    lambda d: d.add("b", 1, key="b"),
    lambda d: d.swap("a"),
    lambda d: d.swap("a", 2, 3, 4),
    lambda d: d.swap("a", value=2),
    lambda d: d.discard(),
    lambda d: d.discard("a", 1),
    lambda d: d.discard(key="a"),
    lambda d: d.compare_and_set("a", 1),
    lambda d: d.compare_and_set("a", 1, 2, 3),
    lambda d: d.compare_and_set("a", 1, value=2),
    lambda d: d.compare_and_delete("a"),
    lambda d: d.compare_and_delete("a", 1, 2),
    lambda d: d.compute("a"),
    lambda d: d.compute("a", 5),
    lambda d: d.compute("b", None),
    lambda d: d.compute("a", lambda: 1),
    lambda d: d.compute("a", lambda old: 1, 2, 3),
    lambda d: d.compute("a", lambda old: 1, missing=2),
    lambda d: d.discard_if(),
    lambda d: d.discard_if(None),
    lambda d: d.discard_if(lambda key: True),
    lambda d: d.discard_if(lambda key, value: True, 1),
    lambda d: d.get_many(),
    lambda d: d.get_many(5),
    lambda d: d.get_many(["a"], 1, 2),
    lambda d: d.get_many(["a"], value=2),
]


@pytest.mark.parametrize("call", WRONG)
def test_wrong_arguments(make_our_dict, call):
    d = make_our_dict(a=1)
    with pytest.raises(TypeError):
        call(d)
    assert d == {"a": 1}


def test_subclass_that_overrides_items():
    """As with dict's methods: they act on the table, not through what a subclass overrides."""

    class Sub(ConcurrentDict):
        def __getitem__(self, key):
            raise Boom

        __setitem__ = __delitem__ = __contains__ = get = __iter__ = items = __len__ = __getitem__

    d = Sub()
    assert d.add("a", 1) and d.swap("a", 2) == 1 and d.compare_and_set("a", 2, 3)
    assert d.compute("a", lambda old: old + 1) == 4 and d.get_many(["a", "b"]) == [4, None]
    assert d.add("b", 1) and d.discard_if(lambda key, value: key == "b") == 1
    assert d.compare_and_delete("a", 4) and not d.discard("a")


def test_missing_is_not_asked_for(make_our_dict):
    class Sub(DictSubclass):
        def __missing__(self, key):
            raise Boom

    d = Sub()
    assert d.swap("a", 1) is None and d.discard("a") and d.get_many(["a"]) == [None]
    assert d.compute("b", lambda old: old is MISSING) is True


# ---- the sentinels ----

STORES = {
    "set": lambda d, k, v: d.__setitem__(k, v),
    "setdefault": lambda d, k, v: d.setdefault(k, v),
    "update": lambda d, k, v: d.update({k: v}),
    "|=": lambda d, k, v: d.__ior__({k: v}),
    "|": lambda d, k, v: d | {k: v},
    "dict |": lambda d, k, v: {k: v} | d,
    "construct": lambda d, k, v: type(d)({k: v}),
    "fromkeys": lambda d, k, v: type(d).fromkeys([k], v),
    "add": lambda d, k, v: d.add(k, v),
    "swap": lambda d, k, v: d.swap(k, v),
    "compare_and_set": lambda d, k, v: d.compare_and_set(k, d.get(k, MISSING), v),
    "get_or_create": lambda d, k, v: d.get_or_create(k, lambda: v),
}


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("sentinel", [MISSING, DELETE])
@pytest.mark.parametrize("key", ["there", "new"])
def test_sentinels_cannot_be_stored(make_our_dict, store, sentinel, key):
    d = make_our_dict(there=1)
    if store == "get_or_create":
        key = "new"  # for one that is there the factory is not called
    with pytest.raises(ValueError, match=sentinel.__reduce__()):
        STORES[store](d, key, sentinel)
    with pytest.raises(ValueError, match=sentinel.__reduce__()):
        STORES[store](d, sentinel, "value")
    assert d == {"there": 1}
    # They can be asked for, and are not there.
    assert sentinel not in d and d.get(sentinel) is None and not d.discard(sentinel)
    with pytest.raises(KeyError):
        d[sentinel]
    d[key] = [sentinel]  # what is inside a value is the value's
    assert d[key] == [sentinel]


@pytest.mark.parametrize("sentinel", [MISSING, DELETE])
def test_compute_cannot_store_sentinels(make_our_dict, sentinel):
    d = make_our_dict(a=1)
    with pytest.raises(ValueError):
        d.compute("a", lambda old: MISSING)
    with pytest.raises(ValueError):
        d.compute(sentinel, lambda old: 1)
    assert d.compute("b", lambda old: DELETE, sentinel) is MISSING and d == {"a": 1}


@pytest.mark.parametrize("sentinel, name", [(MISSING, "MISSING"), (DELETE, "DELETE")])
def test_sentinels(sentinel, name):
    assert repr(sentinel) == str(sentinel) == f"qsbrcontainers.{name}"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(sentinel, protocol)) is sentinel
        assert pickle.loads(pickle.dumps([sentinel], protocol))[0] is sentinel
    assert copy.copy(sentinel) is sentinel and copy.deepcopy([sentinel])[0] is sentinel
    assert sentinel == sentinel and sentinel != (DELETE if sentinel is MISSING else MISSING)
    assert sentinel in {sentinel} and sentinel and type(sentinel) is Sentinel
    with pytest.raises(TypeError):
        type(sentinel)()
    with pytest.raises(TypeError):
        type("Sub", (type(sentinel),), {})
    with pytest.raises(AttributeError):
        sentinel.attribute = 1


@pytest.mark.parametrize("pair", [("b", MISSING), (DELETE, 2)])
def test_an_update_with_a_sentinel_assigns_nothing(make_our_dict, pair):
    d = make_our_dict(a=1)
    for source in ([("a", 5), ("c", 6), pair], {"a": 5, pair[0]: pair[1]}):
        with pytest.raises(ValueError):
            d.update(source, d=7)
        with pytest.raises(ValueError):
            d |= source
        assert d == {"a": 1}


def test_the_type_of_sentinels_can_be_named():
    def count(old: int | Sentinel) -> int | Sentinel:
        return DELETE if isinstance(old, Sentinel) else old

    assert get_type_hints(count) == {"old": int | Sentinel, "return": int | Sentinel}
    assert repr(Sentinel) == "<class 'qsbrcontainers.Sentinel'>"
    assert pickle.loads(pickle.dumps(Sentinel)) is Sentinel


def test_sentinels_of_another_process():
    script = (
        "import pickle, sys; from qsbrcontainers import MISSING, DELETE\n"
        "print(pickle.loads(bytes.fromhex(sys.argv[1])) == [MISSING, DELETE])"
    )
    assert run_script(script, pickle.dumps([MISSING, DELETE]).hex()) == "True"


# ---- references ----

REFERENCES = {
    "add": lambda d, k, v: (d.add(k, v), d.add(k, [v])),
    "swap": lambda d, k, v: (d.swap(k, v), d.swap(k, v), d.swap(k, 1, v), d.swap(k, v)),
    "discard": lambda d, k, v: (d.add(k, v), d.discard(k), d.discard(k)),
    "discard_if": lambda d, k, v: (
        d.add(k, v),
        d.discard_if(lambda key, value: False),
        d.discard_if(lambda key, value: d.update({k: [v]}) or True),
        d.discard_if(lambda key, value: value == [v]),
        d.add(k, v),
        fails(Boom, d.discard_if, fail),
    ),
    "compare_and_set": lambda d, k, v: (
        d.compare_and_set(k, v, v),
        d.compare_and_set(k, MISSING, v),
        d.compare_and_set(k, MISSING, v),
        d.compare_and_set(k, [], v),
        d.compare_and_set(k, list(v), 2**70),
        d.compare_and_set(k, 2**70, v),
        fails(Boom, d.compare_and_set, k, NoEq(), v),
        fails(ValueError, d.compare_and_set, k, v, MISSING),
        d.compare_and_set(k, Equal(lambda: d[k] is v and d.update({k: (v,)})), v),
    ),
    "compare_and_delete": lambda d, k, v: (
        d.compare_and_delete(k, v),
        d.compare_and_delete(k, MISSING),
        d.add(k, v),
        d.compare_and_delete(k, MISSING),
        fails(Boom, d.compare_and_delete, k, NoEq()),
        d.compare_and_delete(k, list(v)),
    ),
    "compute": lambda d, k, v: (
        d.compute(k, lambda old: v),
        d.compute(k, lambda old: [old]),
        d.compute(k, lambda old: d.discard(k) and [old] or v, v),
        d.compute(k, lambda old: DELETE if d.swap(k, 1) == 1 else v, v),
        fails(Boom, d.compute, k, fail, v),
        fails(ValueError, d.compute, k, lambda old: MISSING, v),
        d.compute(k, lambda old: DELETE, v),
    ),
    "get_many": lambda d, k, v: (
        d.update({k: v, "b": v}),
        d.get_many([k, "b", "c"] * 30, v),
        fails(TypeError, d.get_many, [k, "b"] * 30 + [v] + [k, "b"] * 30, v),
    ),
    "wrong keys": lambda d, k, v: [fails(TypeError, ALL[each], d, v) for each in ALL],
    "colliding keys that raise": lambda d, k, v: (
        d.update({SameHash("in the way"): v}),
        [fails(Boom, ALL[each], d, RaisesOnEq(k)) for each in ALL],
    ),
    "sentinels": lambda d, k, v: (
        [fails(ValueError, STORES[each], d, k, MISSING) for each in STORES],
        [fails(ValueError, STORES[each], d, DELETE, v) for each in STORES],
    ),
}


def fails(error, function, *arguments):
    with pytest.raises(error):
        function(*arguments)


@pytest.mark.parametrize("name", REFERENCES)
def test_no_reference_is_lost_or_kept(make_our_dict, name):
    value = ["value"]
    keys = [
        "".join(["a key", " of ours"]),
        int("123456789012345678901"),
        SameHash("k"),
        (value[0],),
    ]
    objects = [MISSING, DELETE, value, *keys]

    def counts():
        settle()
        return [sys.getrefcount(each) for each in objects]

    make_our_dict()  # what the first one makes stays
    before = counts()
    d = make_our_dict()
    for _ in range(10):
        for key in keys:
            REFERENCES[name](d, key, value)
            d.clear()
    del d, key
    assert counts() == before

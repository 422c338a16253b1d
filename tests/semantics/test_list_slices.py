"""Slices: reading, assigning and deleting, by all bounds and steps, by huge and odd ones, from all
kinds of sources; everything that list says, ours says too."""

import itertools
import sys

import pytest
from support import Boom, ListSubclass, outcome_of_both

from qsbrcontainers import ConcurrentList

BOUNDS = [None, *range(-6, 7)]
STEPS = [None, -7, -3, -2, -1, 0, 1, 2, 3, 7]
FEW_BOUNDS = [None, -9, -3, -1, 0, 2, 3, 9]
FEW_STEPS = [None, -2, -1, 1, 2, 3]
HUGE = [sys.maxsize, -sys.maxsize, -sys.maxsize - 1, 2**63, -(2**63), 2**64, 2**100, -(2**100)]


def every_slice(bounds=BOUNDS, steps=STEPS):
    return itertools.starmap(slice, itertools.product(bounds, bounds, steps))


class Index:
    def __init__(self, value, then=lambda: None):
        self.value, self.then = value, then

    def __index__(self):
        self.then()
        return self.value


def boom():
    raise Boom


# ---- every slice there is ----


@pytest.mark.parametrize("size", range(5))
def test_read(make_our_list, size):
    values = make_our_list(range(size))
    for each in every_slice():
        outcome_of_both(lambda x: x[each], list(range(size)), values)  # noqa: B023


@pytest.mark.parametrize("size", range(5))
@pytest.mark.parametrize("more", range(4))
def test_assign(make_our_list, size, more):
    new = ["a", "b", "c"][:more]
    values = make_our_list()
    for each in every_slice(FEW_BOUNDS, FEW_STEPS):
        model = list(range(size))
        values[:] = model
        outcome_of_both(lambda x: x.__setitem__(each, new), model, values)  # noqa: B023


@pytest.mark.parametrize("size", range(6))
def test_delete(make_our_list, size):
    values = make_our_list()
    for each in every_slice(FEW_BOUNDS, STEPS):
        model = list(range(size))
        values[:] = model
        outcome_of_both(lambda x: x.__delitem__(each), model, values)  # noqa: B023


def test_huge_bounds_and_steps(make_our_list):
    values = make_our_list()
    for start, stop, step in itertools.product([None, 1, *HUGE], repeat=3):
        each, model = slice(start, stop, step), list(range(5))
        values[:] = model
        outcome_of_both(lambda x: x[each], model, values)  # noqa: B023
        outcome_of_both(lambda x: x.__setitem__(each, "z"), model, values)  # noqa: B023
        outcome_of_both(lambda x: x.__delitem__(each), model, values)  # noqa: B023


def test_slices_of_many(make_our_list):
    model = list(range(10_000))
    values = make_our_list(model)
    for each in (
        slice(None),
        slice(100, -100),
        slice(None, None, -1),
        slice(5, 9000, 7),
        slice(9000, 5, -13),
        slice(-1, None, -9999),
    ):
        outcome_of_both(lambda x: x[each], model, values)  # noqa: B023
        same = model[each]
        outcome_of_both(lambda x: x.__setitem__(each, same[::-1]), model, values)  # noqa: B023
    outcome_of_both(lambda x: x.__delitem__(slice(3, 9000, 5)), model, values)
    outcome_of_both(lambda x: x.__setitem__(slice(50, 60), range(5000)), model, values)
    outcome_of_both(lambda x: x.__delitem__(slice(20, 12_000)), model, values)


# ---- what comes out ----


@pytest.mark.parametrize("cls", [ConcurrentList, ListSubclass])
def test_a_slice_is_a_list_of_ours_and_a_new_one(cls):
    values = cls([[1], 2])
    for part in (values[:], values[0:2], values[::1], values[::-1][::-1]):
        assert type(part) is ConcurrentList and part == values and part is not values
        assert part[0] is values[0]
        part.append(3)
    assert len(values) == 2 and type(values[5:]) is ConcurrentList


def test_plain_slices_of_subclasses():
    """What the test above says of ours holds for list."""

    class Sub(list):
        pass

    assert type(Sub([1])[:]) is list


def test_slices_keep_numbers_and_objects(make_list):
    nan, objects = float("nan"), [object(), [], "x" * 50]
    numbers = [0, -0.0, 2**50, 2**51, -(2**63), 2**64, 1.5, float("inf"), True]
    values = make_list([nan, *objects, *numbers])
    assert repr(list(values[:])) == repr([nan, *objects, *numbers])
    assert values[:][0] is nan and all(a is b for a, b in zip(values[1:4], objects, strict=True))
    values[1:4] = values[3:0:-1]
    assert all(a is b for a, b in zip(values[1:4], objects[::-1], strict=True))


# ---- what goes in ----

SOURCES = {
    "list": lambda x: ["a", "b"],
    "tuple": lambda x: ("a", "b"),
    "text": lambda x: "ab",
    "generator": lambda x: (c for c in "ab"),
    "dict": lambda x: {"a": 1, "b": 2},
    "set": lambda x: {"a"},
    "ours": lambda x: ConcurrentList("ab"),
    "range": lambda x: range(2),
    "nothing": lambda x: [],
    "itself": lambda x: x,
    "its iterator": lambda x: iter(x),
    "its copy": lambda x: x[:],
    "reversed": lambda x: reversed(x),
    "map over itself": lambda x: map(str, x),
    "number": lambda x: 5,
    "None": lambda x: None,
    "object": lambda x: object,
}


@pytest.mark.parametrize("source", SOURCES)
def test_sources(make_our_list, source):
    for each in (
        slice(None),
        slice(1, 3),
        slice(2, 2),
        slice(3, 1),
        slice(None, None, 2),
        slice(None, None, -1),
        slice(4, 0, -2),
        slice(7, 7, 2),
    ):
        for size in (0, 2, 4):
            model = list(range(size))
            values = make_our_list(model)
            outcome_of_both(
                lambda x: x.__setitem__(each, SOURCES[source](x)),  # noqa: B023
                model,
                values,
            )


def test_a_source_that_raises_changes_nothing(make_list):
    def raising():
        yield 1
        raise Boom

    values = make_list("abc")
    for each in (slice(None), slice(1, 1), slice(0, 2), slice(None, None, 2)):
        with pytest.raises(Boom):
            values[each] = raising()
        assert values == ["a", "b", "c"]


def test_a_slice_of_wrong_length_changes_nothing(make_list):
    values = make_list(range(6))
    for more in (0, 2, 4, 100):
        with pytest.raises(
            ValueError,
            match=f"^attempt to assign sequence of size {more} to extended slice of size 3$",
        ):
            values[::2] = [None] * more
    assert values == [*range(6)]


class Changes:
    """A source that changes the list when it is asked."""

    def __init__(self, items, change):
        self.items, self.change = items, change

    def __iter__(self):
        for item in self.items:
            self.change()
            yield item


def test_sources_that_change_the_list(make_list):
    """The bounds are of the list that is there when the source has been used up."""
    values = make_list(range(10))
    values[2:5] = Changes("ab", values.clear)
    assert values == ["a", "b"]
    values = make_list(range(3))
    values[1:1] = Changes("ab", lambda: values.append("new"))
    assert values == [0, "a", "b", 1, 2, "new", "new"]
    values = make_list(range(3))
    values[:] = Changes("ab", lambda: values.extend(range(100)))
    assert len(values) in (2, 2 + 200)  # list takes the bounds before


def test_sources_of_extended_slices_that_change_the_list(make_our_list):
    """Of ours only: list takes its size before the source, and 3.11 to 3.13.0 may crash."""
    values = make_our_list(range(10))
    with pytest.raises(ValueError):
        values[::2] = Changes("abcde", lambda: values.pop())
    assert values == [0, 1, 2, 3, 4]
    values = make_our_list(range(10))
    values[::2] = Changes("abcde", lambda: values.__setitem__(1, "set"))
    assert values == ["a", "set", "b", 3, "c", 5, "d", 7, "e", 9]


# ---- indices that are objects ----


def test_objects_as_bounds(make_our_list):
    values, model = make_our_list(range(10)), list(range(10))
    for start, stop, step in itertools.product([None, 2, 2**70], repeat=3):
        bounds = [b if b is None else Index(b) for b in (start, stop, step)]
        outcome_of_both(lambda x: x[slice(*bounds)], model, values)  # noqa: B023
    outcome_of_both(lambda x: x.__setitem__(slice(Index(2), Index(4)), "abc"), model, values)
    outcome_of_both(lambda x: x.__delitem__(slice(Index(-3), None, Index(2))), model, values)
    outcome_of_both(lambda x: x[True:False:True], model, values)


@pytest.mark.parametrize("wrong", ["a", 1.0, [], object()])
def test_wrong_bounds(make_our_list, wrong):
    values, model = make_our_list(range(10)), list(range(10))
    for each in (slice(wrong), slice(wrong, 2), slice(0, 1, wrong)):
        outcome_of_both(lambda x: x[each], model, values)  # noqa: B023
        outcome_of_both(lambda x: x.__setitem__(each, "a"), model, values)  # noqa: B023
        outcome_of_both(lambda x: x.__delitem__(each), model, values)  # noqa: B023


def test_bounds_that_raise(make_list):
    values = make_list(range(5))
    for each in (slice(Index(0, boom)), slice(Index(0, boom), 2), slice(0, 1, Index(0, boom))):
        for call in (
            lambda: values[each],  # noqa: B023
            lambda: values.__setitem__(each, "a"),  # noqa: B023
            lambda: values.__delitem__(each),  # noqa: B023
        ):
            with pytest.raises(Boom):
                call()
    assert values == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("step", [1, 2, -1, -2])
def test_bounds_that_change_the_list(make_list, step):
    def change(how):
        values.__init__(range(10))
        return Index(8, how)

    values = make_list()
    assert values[change(values.clear) :: step] == []
    assert (
        values[0 : change(lambda: values.__init__("abc")) : abs(step)]
        == ["a", "b", "c"][:: abs(step)]
    )
    del values[change(values.clear) :: step]
    assert values == []
    values[change(values.clear) : 9] = "new"
    assert values == ["n", "e", "w"]
    values[2 : change(lambda: values.__init__("abc"))] = "new"
    assert values == ["a", "b", "n", "e", "w"]
    try:
        values[change(values.clear) :: step] = "x"
    except ValueError:
        assert abs(step) > 1 or step < 0
    assert values in ([], ["x"])

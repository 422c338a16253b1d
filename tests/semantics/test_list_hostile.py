"""Elements, keys, indices and sources that raise, or change the list in the middle of things: on
list and on ours alike. What ours compares or sorts is a copy of one moment, so it may give what was
right then where list looks at what is left; neither crashes, loses or invents anything."""

import gc

import pytest
from support import Boom, Census, in_other_thread, outcome_of_both, settle

from qsbrcontainers import DELETE, MISSING, ConcurrentList, collect

CHANGES = {
    "clear": lambda x: x.clear(),
    "pop": lambda x: x.pop() if len(x) else None,
    "pop the first": lambda x: x.pop(0) if len(x) else None,
    "append": lambda x: x.append("appended"),
    "grow": lambda x: x.extend(range(1000)),
    "insert": lambda x: x.insert(0, "inserted"),
    "replace": lambda x: x.__setitem__(slice(None), ["other"] * len(x)),
    "reverse": lambda x: x.reverse(),
    "delete a slice": lambda x: x.__delitem__(slice(1, None, 2)),
    "sort": lambda x: x.sort(key=id),
    "collect": lambda x: gc.collect(),
    "init": lambda x: x.__init__("abc"),
    "empty and refill": lambda x: (x.clear(), x.extend("abcdefghij")),
}
SEARCHES = {
    "in": lambda x, v: v in x,
    "index": lambda x, v: x.index(v),
    "count": lambda x, v: x.count(v),
    "remove": lambda x, v: x.remove(v),
    "==": lambda x, v: x == [v] * len(x),
    "< with equal ones": lambda x, v: x < [v] * len(x),
}


class Once:
    """Runs a change of `container` at the first call only."""

    def __init__(self, change):
        self.change, self.container = change, None

    def __call__(self):
        container, self.container = self.container, None
        if container is not None:
            self.change(container)


class Calls:
    """Calls `then` in every comparison, and says `result`."""

    def __init__(self, then, result=False):
        self.then, self.result = then, result

    def __eq__(self, other):
        self.then()
        return self.result

    __lt__ = __gt__ = __eq__


def boom():
    raise Boom


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except (ValueError, IndexError) as error:
        return type(error)


def usable(values):
    """Nothing is broken: what the list says of itself agrees, and it can be used."""
    elements = list(values)
    assert len(elements) == len(values) == len(values[:])
    assert all(a is b or a == b for a, b in zip(elements, values[:], strict=True))
    values[:] = "xyz"
    assert values == ["x", "y", "z"] and values.pop(0) == "x"
    values.clear()


# ---- comparisons ----


@pytest.mark.parametrize("search", SEARCHES)
def test_eq_that_raises(make_list, search):
    hostile = Calls(boom)
    for content, wanted in (([hostile, 1, 2], 5), ([1, 2, 3], hostile)):
        values = make_list(content)
        with pytest.raises(Boom):
            SEARCHES[search](values, wanted)
        assert all(a is b for a, b in zip(values, content, strict=True))
    values = make_list([hostile, 1])
    assert values.index(hostile) == 0 and hostile in values  # identity comes first
    with pytest.raises(Boom):
        values.count(1)
    values.remove(hostile)
    assert values == [1]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("found", [True, False])
def test_eq_of_what_is_searched_that_changes_the_list(make_list, search, change, found):
    once = Once(CHANGES[change])
    values = make_list(range(20))
    once.container = values
    outcome(SEARCHES[search], values, Calls(once, found))
    assert once.container is None, "__eq__ was not called"
    usable(values)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("found", [True, False])
def test_eq_of_an_element_that_changes_the_list(make_list, search, change, found):
    once = Once(CHANGES[change])
    values = make_list([1, Calls(once, found), 2, 3, Calls(once, found)])
    once.container = values
    outcome(SEARCHES[search], values, 2)
    if search in ("==", "< with equal ones"):  # may be through at the first
        once.container = None
    assert once.container is None, "__eq__ was not called"
    usable(values)


@pytest.mark.parametrize("search", SEARCHES)
def test_eq_that_lets_go_of_the_element(make_list, search):
    """The list's reference was the only one."""

    def lets_go():
        values.clear()
        settle()

    values = make_list([Calls(lets_go)])
    outcome(SEARCHES[search], values, 5)
    values[:] = [[1], [2], [3]]
    outcome(SEARCHES[search], values, Calls(lets_go))
    assert len(values) == 0


@pytest.mark.parametrize("search", ["in", "index", "count", "remove"])
def test_eq_that_always_changes_the_list_comes_to_an_end(make_list, search):
    def grow():
        if len(values) < 1000:
            values.append(len(values))

    for result in (False, True):
        values = make_list([1, 2])
        outcome(SEARCHES[search], values, Calls(grow, result))
        assert 2 <= len(values) <= 1000


def test_remove_takes_what_was_found(make_our_list):
    """Not what stands there by now, and not for ever: the element that was equal goes, if it is
    still there."""

    class Finds(Calls):
        def __eq__(self, other):
            if other == "wanted":
                self.then()
                return True
            return False

    for change, left in (
        (lambda x: x.append("new"), ["a", "b", "new"]),
        (lambda x: x.insert(0, "new"), ["new", "a", "b"]),
        (lambda x: x.pop(0), ["b"]),
        (lambda x: x.reverse(), ["b", "a"]),
        (lambda x: None, ["a", "b"]),
    ):
        once = Once(change)
        values = make_our_list(["a", "wanted", "b"])
        once.container = values
        values.remove(Finds(once))
        assert values == left
    values = make_our_list(["a", "wanted", "b"])
    with pytest.raises(ValueError):
        values.remove(Finds(values.clear))
    assert values == []


def test_remove_with_an_eq_that_finds_and_changes_the_list_each_time(make_list):
    """It comes to an end, and takes out what was equal, or nothing else."""
    values = make_list([1])
    values.remove(Calls(lambda: values.append("new"), True))
    assert 1 not in values and "new" in values and len(values) <= 20


def test_remove_with_an_eq_that_puts_others_in_its_place_each_time(make_our_list):
    """list removes what stands there then."""
    kept = object()
    values = make_our_list([[1]])
    replaces = Calls(lambda: values.__setitem__(slice(None), [[1], kept]), True)
    with pytest.raises(ValueError, match="^list modified during remove$"):
        values.remove(replaces)
    assert len(values) == 2 and values[1] is kept


def test_one_moment_for_ours(make_our_list):
    """A5: what is compared is what was there at the beginning."""
    values = make_our_list([0, 1, 2, 3])
    assert values.count(Calls(values.clear, True)) == 4 and values == []
    values = make_our_list([Calls(lambda: values.clear()), 1, 2])
    assert values.index(2) == 2 and values == []
    values = make_our_list([Calls(lambda: values.clear(), True), 1, 2])
    assert values == [0, 1, 2] and values == []
    values = make_our_list([Calls(lambda: values.clear(), True), 1, 2])
    assert (values < [0, 1, 3]) is True and values == []


def test_comparison_with_a_list_that_its_elements_clear(make_list):
    class X:
        def __eq__(self, other):
            second.clear()
            return NotImplemented

    class Y:
        def __eq__(self, other):
            first.clear()
            return NotImplemented

    for make_second in (make_list, list, ConcurrentList):
        first, second = make_list([X()]), make_second([Y()])
        assert (first == second) in (True, False)
        first, second = make_list([X()]), make_second([1])
        assert (first == second) is False


def test_eq_with_odd_results(make_list):
    class NoTruth:
        def __bool__(self):
            raise Boom

    values = make_list([1, 2])
    assert Calls(lambda: None, "yes") in values and Calls(lambda: None, []) not in values
    for operation in (values.index, values.count, values.remove, values.__contains__):
        with pytest.raises(Boom):
            operation(Calls(lambda: None, NoTruth()))
    assert values == [1, 2]


# ---- sort ----


class Key:
    """Ordered by `value`; calls `then` when it is compared."""

    def __init__(self, value, then):
        self.value, self.then = value, then

    def __lt__(self, other):
        self.then()
        return self.value < other.value


SORT_CHANGES = {name: change for name, change in CHANGES.items() if name != "collect"}


@pytest.mark.parametrize("change", SORT_CHANGES)
@pytest.mark.parametrize("by", ["lt", "key"])
def test_sort_of_a_list_that_changes_meanwhile(make_our_list, change, by):
    """ValueError, and the change stays: what was sorted is not published over it. (list is empty
    meanwhile, and throws the change away.)"""
    once = Once(CHANGES[change])
    content = [3, 1, 2] * 5
    elements = [Key(n, once) for n in content]
    values, model = make_our_list(elements), list(elements)
    once.container = values
    with pytest.raises(ValueError, match="^list modified during sort$"):
        values.sort() if by == "lt" else values.sort(key=lambda e: once() or e.value)
    assert once.container is None
    if change not in ("sort", "reverse"):
        CHANGES[change](model)
        assert len(values) == len(model)
        assert all(a is b or a == b for a, b in zip(values, model, strict=True))
    usable(values)


@pytest.mark.parametrize("change", ["append", "grow", "replace by one", "insert"])
@pytest.mark.parametrize("by", ["lt", "key"])
def test_sort_notices_changes(make_list, change, by):
    once = Once(CHANGES.get(change, lambda x: x.__setitem__(slice(None), [1])))
    values = make_list(Key(n, once) for n in [3, 1, 2] * 5)
    once.container = values
    with pytest.raises(ValueError):
        values.sort() if by == "lt" else values.sort(key=lambda e: once() or e.value)
    usable(values)


def test_sort_of_a_list_that_is_assigned_to_meanwhile(make_our_list):
    once = Once(lambda x: x.__setitem__(0, "new"))
    values = make_our_list(Key(n, once) for n in range(5))
    once.container = values
    with pytest.raises(ValueError):
        values.sort()
    assert values[0] == "new" and len(values) == 5


def test_readers_in_a_sort_see_the_list_as_it_was(make_our_list):
    """Never empty, never half sorted: here from inside, by key and comparison."""
    content = [3, 1, 2, 0]
    seen = []
    values = make_our_list(content)
    values.sort(key=lambda v: seen.append(values.snapshot()) or v)
    assert seen == [content] * 4 and values == [0, 1, 2, 3]
    elements = [Key(n, lambda: seen.append(values[:])) for n in content]
    values[:], seen[:] = elements, []
    values.sort(reverse=True)
    assert seen and all(each == elements for each in seen)
    assert [e.value for e in values] == [3, 2, 1, 0]


def test_sort_that_raises_leaves_ours_as_it_was(make_our_list):
    content = [3, 1, 2, None, 5]
    values = make_our_list(content)
    with pytest.raises(TypeError):
        values.sort()
    assert values == content
    once = Once(lambda x: x.append("new"))
    once.container = values
    with pytest.raises(Boom):  # not ValueError: the first error counts
        values.sort(key=lambda v: once() or boom())
    assert values == [*content, "new"]


def test_sort_in_a_sort(make_our_list):
    def key(v):
        if v == 1:
            values.sort()
        return -v

    values = make_our_list([1, 3, 2])
    with pytest.raises(ValueError):
        values.sort(key=key)
    assert values == [1, 2, 3]


# ---- indices and sources ----


class Index:
    def __init__(self, value, then):
        self.value, self.then = value, then

    def __index__(self):
        self.then()
        return self.value


@pytest.mark.parametrize(
    "operation",
    [
        lambda x, i: x[i],
        lambda x, i: x.__setitem__(i, "new"),
        lambda x, i: x.__delitem__(i),
        lambda x, i: x.pop(i),
        lambda x, i: x.insert(i, "new"),
        lambda x, i: x[i:],
        lambda x, i: x.__delitem__(slice(i, None)),
        lambda x, i: x.__delitem__(slice(None, None, i)),
        lambda x, i: x.index(5, i),
        lambda x, i: x * i,
        lambda x, i: x.__imul__(i),
    ],
)
def test_index_objects_that_raise_or_change_the_list(make_list, operation):
    values = make_list(range(10))
    with pytest.raises(Boom):
        operation(values, Index(3, boom))
    assert values == list(range(10))
    for change in CHANGES.values():
        values = make_list(range(10))
        once = Once(change)
        once.container = values
        outcome(operation, values, Index(3, once))
        usable(values)


def test_index_that_clears_makes_negative_ones_wrong(make_list):
    for operation in (
        lambda x, i: x[i],
        lambda x, i: x.__setitem__(i, 1),
        lambda x, i: x.__delitem__(i),
        lambda x, i: x.pop(i),
    ):
        values = make_list(range(10))
        with pytest.raises(IndexError):
            operation(values, Index(-1, values.clear))


class Source:
    """Yields five numbers, and changes the list before each; its length hint is wrong."""

    def __init__(self, change, container):
        self.change, self.container = change, container

    def __iter__(self):
        for i in range(5):
            self.change(self.container)
            yield i

    def __length_hint__(self):
        return 2


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "operation",
    [
        lambda x, source: x.extend(source),
        lambda x, source: x.__iadd__(source),
        lambda x, source: x.__setitem__(slice(2, 5), source),
        lambda x, source: x.__init__(source),
    ],
)
def test_sources_that_change_the_list(make_list, operation, change):
    values = make_list(range(20))
    outcome(operation, values, Source(CHANGES[change], values))
    usable(values)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("step", [2, -1, 4])
def test_sources_of_extended_slices_that_change_the_list(make_our_list, step, change):
    """Of ours only: list takes its size before the source (3.11 to 3.13.0 may crash)."""
    values = make_our_list(range(20))
    outcome(values.__setitem__, slice(None, None, step), Source(CHANGES[change], values))
    usable(values)


# ---- finalizers ----


class Finalized:
    def __init__(self, then):
        self.then = then

    def __del__(self):
        self.then()


REMOVALS = {
    "pop": lambda x: x.pop(),
    "pop(0)": lambda x: x.pop(0),
    "del": lambda x: x.__delitem__(0),
    "del slice": lambda x: x.__delitem__(slice(None)),
    "del extended slice": lambda x: x.__delitem__(slice(None, None, 2)),
    "set": lambda x: x.__setitem__(0, None),
    "set slice": lambda x: x.__setitem__(slice(0, 3), ["a"]),
    "set longer slice": lambda x: x.__setitem__(slice(0, 3), "abcdef"),
    "set extended slice": lambda x: x.__setitem__(slice(0, 3, 2), "ab"),
    "clear": lambda x: x.clear(),
    "*= 0": lambda x: x.__imul__(0),
    "init": lambda x: x.__init__(),
    "remove": lambda x: x.remove(Calls(lambda: None, True)),
}


def drop():
    """What only waits is dropped: as settle, without the collector, which takes its time."""
    for _ in range(5):
        if collect() == 0:
            break


@pytest.mark.parametrize("removal", REMOVALS)
@pytest.mark.parametrize("change", [change for change in CHANGES if change != "collect"])
def test_finalizers_that_change_the_list(make_list, removal, change):
    finalized = []

    def finalizer():
        finalized.append(None)
        CHANGES[change](values)

    values = make_list()
    for _ in range(3):
        values[:] = [Finalized(finalizer) for _ in range(5)]
        REMOVALS[removal](values)
        drop()
        values[:] = []
        drop()
    assert len(finalized) == 15
    usable(values)


@pytest.mark.parametrize("removal", REMOVALS)
def test_finalizers_that_resurrect(make_list, removal):
    saved = []

    class Lazarus:
        def __del__(self):
            saved.append(self)

    values = make_list(Lazarus() for _ in range(5))
    REMOVALS[removal](values)
    settle()
    gone = len(saved)
    assert 1 <= gone <= 5
    values.extend(saved)
    saved.clear()
    values.clear()
    settle()
    assert len(saved) == 5 - gone  # each is finalized once


@pytest.mark.parametrize("removal", REMOVALS)
@pytest.mark.parametrize("turns", [False, True])
def test_nothing_is_lost_or_kept(make_list, removal, turns):
    census = Census()
    values = make_list()
    for _ in range(20):
        values[:] = [census.new() for _ in range(5)]
        in_other_thread(REMOVALS[removal], values) if turns else REMOVALS[removal](values)
    settle()
    assert census.alive == sum(not isinstance(v, (str, type(None))) for v in values)
    values.clear()
    settle()
    assert census.alive == 0


# ---- what cannot be stored ----


@pytest.mark.parametrize("sentinel", [MISSING, DELETE])
def test_sentinels_cannot_be_stored(make_our_list, sentinel):
    values, more = make_our_list([1, 2]), [3, sentinel]
    ways = {
        "append": lambda: values.append(sentinel),
        "insert": lambda: values.insert(0, sentinel),
        "set": lambda: values.__setitem__(0, sentinel),
        "extend by a list": lambda: values.extend(more),
        "extend by a tuple": lambda: values.extend(tuple(more)),
        "extend by an iterator": lambda: values.extend(iter(more)),
        "+=": lambda: values.__iadd__(more),
        "+": lambda: values + more,
        "slice": lambda: values.__setitem__(slice(0, 1), more),
        "extended slice": lambda: values.__setitem__(slice(None, None, -1), more),
        "construct": lambda: type(values)(more),
        "init": lambda: values.__init__(more),
    }
    for name, way in ways.items():
        with pytest.raises(ValueError, match="cannot be stored"):
            way()
            pytest.fail(name)
        assert values == [1, 2], name
    assert sentinel not in values and values.count(sentinel) == 0
    with pytest.raises(ValueError):
        values.index(sentinel)


def test_wrong_arguments_change_nothing(make_our_list):
    model = [1, 2, 3]
    values = make_our_list(model)
    for operation in (
        lambda x: x.insert(),
        lambda x: x.insert(0),
        lambda x: x.insert("a", 1),
        lambda x: x.insert(0, 1, 2),
        lambda x: x.insert(2**100, "end") or x.pop(),
        lambda x: x.pop("a"),
        lambda x: x.pop(0, 1),
        lambda x: x.remove(),
        lambda x: x.remove(1, 2),
        lambda x: x.index(),
        lambda x: x.index(1, "a"),
        lambda x: x.count(),
        lambda x: x.reverse(1),
        lambda x: x.copy(1),
        lambda x: x.clear(1),
        lambda x: x + 5,
        lambda x: x + (1,),
        lambda x: x * "a",
        lambda x: x * 1.5,
        lambda x: x * None,
        lambda x: x[1:2, 3],
        lambda x: x["a"],
        lambda x: x.__delitem__("a"),
        lambda x: x.__delitem__(None),
    ):
        outcome_of_both(operation, model, values)

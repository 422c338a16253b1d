"""What ours does beyond dict, one thread at a time: incr, get_or_create, snapshot."""

import pytest
from support import Boom, SameHash, in_other_thread

EDGES = [2**50, 2**51, 2**52, 2**53, 2**62, 2**63, 2**64, 2**100]


def test_incr(make_our_dict):
    d = make_our_dict()
    assert d.incr("a") == 1 and d.incr("a") == 2 and d.incr("a", 5) == 7
    assert d.incr("a", -10) == -3 and d.incr("a", 0) == -3
    assert d.incr("b", 3, 100) == 103 and d.incr("b", default=7) == 104
    assert d.incr("c", default=10, delta=2) == 12 and d.incr("d", delta=0) == 0
    assert d == {"a": -3, "b": 104, "c": 12, "d": 0}
    assert all(type(v) is int for v in d.values())


@pytest.mark.parametrize("edge", [sign * edge for edge in EDGES for sign in (1, -1)])
def test_incr_across_the_edges_of_words(make_our_dict, edge):
    up = 1 if edge > 0 else -1
    d = make_our_dict(a=edge - 3 * up)
    for expected in range(edge - 2 * up, edge + 4 * up, up):
        assert d.incr("a", up) == expected == d["a"]
    for expected in range(edge + 2 * up, edge - 4 * up, -up):
        assert d.incr("a", -up) == expected == d["a"]
    assert d.incr("b", edge) == edge and d.incr("b", -edge) == 0
    assert d.incr("c", 1, edge) == edge + 1
    assert d.incr("d", edge, edge) == 2 * edge and d.incr("d", edge) == 3 * edge


@pytest.mark.parametrize("value", ["1", None, [], object(), b"1", (1,)])
def test_incr_of_what_is_no_number(make_our_dict, value):
    d = make_our_dict(a=value, b=1)
    with pytest.raises(TypeError):
        d.incr("a")
    with pytest.raises(TypeError):
        d.incr("b", value)
    with pytest.raises(TypeError):
        d.incr("missing", value)
    with pytest.raises(TypeError):
        d.incr("missing", 1, value)
    assert d["a"] is value and d == {"a": value, "b": 1}


def test_incr_wrong_arguments(make_our_dict):
    d = make_our_dict(a=1)
    for call in (
        lambda: d.incr(),
        lambda: d.incr("a", 1, 2, 3),
        lambda: d.incr("a", step=1),
        lambda: d.incr([]),
        lambda: d.incr({}, 1),
    ):
        with pytest.raises(TypeError):
            call()
    assert d == {"a": 1}


def test_incr_keeps_key_and_place(make_our_dict):
    d = make_our_dict(a=1, b=2)
    d.incr("a", 2**80)
    d.incr(SameHash(1))
    assert list(d.values()) == [1 + 2**80, 2, 1] and d.incr(SameHash(1)) == 2 and len(d) == 3


def test_get_or_create(make_our_dict):
    d = make_our_dict(a=1)
    made = []

    def factory():
        made.append(object())
        return made[-1]

    assert d.get_or_create("a", factory) == 1 and not made
    assert d.get_or_create("b", factory) is made[0] is d["b"]
    assert d.get_or_create("b", factory) is made[0] and len(made) == 1
    assert d.get_or_create(SameHash(1), factory) is d.get_or_create(SameHash(1), factory)
    assert len(made) == 2 and len(d) == 3
    assert d.get_or_create("none", lambda: None) is None and d["none"] is None
    assert d.get_or_create("none", factory) is None
    assert d.get_or_create("list", list) == [] and d.get_or_create("int", int) == 0


def test_get_or_create_wrong_arguments(make_our_dict):
    d = make_our_dict(a=1)
    for call in (
        lambda: d.get_or_create(),
        lambda: d.get_or_create("b"),
        lambda: d.get_or_create("b", 5),
        lambda: d.get_or_create("b", None),
        lambda: d.get_or_create("b", lambda argument: 1),
        lambda: d.get_or_create([], list),
        lambda: d.get_or_create("b", list, 3),
    ):
        with pytest.raises(TypeError):
            call()
    assert d == {"a": 1}


class Interrupt(BaseException):
    pass


@pytest.mark.parametrize("error", [Boom, KeyError, SystemExit, KeyboardInterrupt, Interrupt])
def test_factory_that_raises(make_our_dict, error):
    d = make_our_dict(a=1)

    def factory():
        raise error("reason")

    for _ in range(3):
        with pytest.raises(error, match="reason"):
            d.get_or_create("b", factory)
        assert d == {"a": 1}
    assert d.get_or_create("b", lambda: 5) == 5
    assert in_other_thread(d.get_or_create, "b", factory) == 5


def test_factory_that_asks_for_its_own_key(make_our_dict):
    d = make_our_dict(a=1)

    def factory():
        return d.get_or_create("b", list)

    with pytest.raises(RuntimeError):
        d.get_or_create("b", factory)
    assert d == {"a": 1}
    deep = lambda: d.get_or_create("c", factory)  # noqa: E731
    with pytest.raises(RuntimeError):
        d.get_or_create("b", deep)
    assert "b" not in d
    assert d.get_or_create("b", list) == []


def test_factory_that_asks_for_an_equal_key(make_our_dict):
    d = make_our_dict()
    with pytest.raises(RuntimeError):
        d.get_or_create(1, lambda: d.get_or_create(1.0, list))
    with pytest.raises(RuntimeError):
        d.get_or_create(SameHash(1), lambda: d.get_or_create(SameHash(1), list))
    assert d.get_or_create(SameHash(1), lambda: d.get_or_create(SameHash(2), int)) == 0
    assert len(d) == 2


def test_factory_that_asks_for_other_keys(make_our_dict):
    d = make_our_dict()

    def fibonacci(n):
        if n < 2:
            return n
        return sum(d.get_or_create(n - i, lambda i=i: fibonacci(n - i)) for i in (1, 2))

    assert d.get_or_create(60, lambda: fibonacci(60)) == 1548008755920
    assert d[59] == 956722026041 and len(d) == 61


def test_the_same_key_in_two_dicts_at_once(make_our_dict):
    d, e = make_our_dict(), make_our_dict()
    assert d.get_or_create("a", lambda: e.get_or_create("a", lambda: 5) + 1) == 6
    assert d == {"a": 6} and e == {"a": 5}


def test_factory_that_changes_the_dict(make_our_dict):
    d = make_our_dict((i, i) for i in range(10))

    def fill_it():
        for i in range(1000):
            d[i] = -i
        return "value"

    def clear_it():
        d.clear()
        return "value"

    assert d.get_or_create("a", fill_it) == "value" == d["a"] and len(d) == 1001
    assert d.get_or_create("b", clear_it) == "value" and d == {"b": "value"}


def test_factory_that_stores_its_key(make_our_dict):
    d = make_our_dict()

    def factory():
        d["a"] = "stored"
        return "returned"

    assert d.get_or_create("a", factory) == d["a"] and d["a"] in ("stored", "returned")
    assert len(d) == 1


def test_reading_inside_a_factory(make_our_dict):
    d = make_our_dict(b=1)
    seen = []

    def factory():
        seen.append((d.get("a"), "a" in d, dict(d.snapshot()), len(d)))
        return 5

    d.get_or_create("a", factory)
    assert seen == [(None, False, {"b": 1}, 1)] and d["a"] == 5


def test_snapshot(make_our_dict):
    for content in ({}, {"a": 1, 2: None, (): [1]}, {i: str(i) for i in range(1000)}):
        d = make_our_dict(content)
        snapshot = d.snapshot()
        assert type(snapshot) is dict and list(snapshot.items()) == list(content.items())
        snapshot["new"] = 1
        assert "new" not in d
        d["other"] = 1
        assert "other" not in snapshot
    key, value = SameHash(1), [2]
    ((k, v),) = make_our_dict([(key, value)]).snapshot().items()
    assert k is key and v is value


def test_snapshot_and_clear_of_one_moment_keep_order(make_our_dict):
    d = make_our_dict((i, i) for i in range(100))
    for i in range(0, 100, 3):
        del d[i]
    assert list(d.snapshot()) == [i for i in range(100) if i % 3]
    with pytest.raises(TypeError):
        d.snapshot(1)

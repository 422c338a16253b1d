"""keys(), values(), items() and iterators, on dict and on ours alike."""

import pytest
from support import SameHash

EMPTY_AND_FULL = [{}, {"a": 1, "b": None, "c": "x"}]


@pytest.mark.parametrize("content", EMPTY_AND_FULL)
def test_views(make_dict, content):
    d = make_dict(content)
    keys, values, items = d.keys(), d.values(), d.items()
    for _ in range(2):  # a view can be used again
        assert list(keys) == list(content)
        assert list(values) == list(content.values())
        assert list(items) == list(content.items())
        assert len(keys) == len(values) == len(items) == len(content)
    assert all(type(pair) is tuple for pair in items)


def test_views_show_the_dict_as_it_is(make_dict):
    d = make_dict(a=1)
    keys, values, items = d.keys(), d.values(), d.items()
    d["b"] = 2
    del d["a"]
    d["c"] = 3
    assert list(keys) == ["b", "c"] and list(values) == [2, 3]
    assert list(items) == [("b", 2), ("c", 3)] and len(items) == 2
    d.clear()
    assert len(keys) == len(values) == len(items) == 0 and list(items) == []


def test_views_keep_the_dict_alive(make_dict):
    keys, items = make_dict(a=1).keys(), iter(make_dict(b=2).items())
    assert list(keys) == ["a"] and list(items) == [("b", 2)]


def test_membership(make_dict):
    nan = float("nan")
    d = make_dict({"a": 1, 2: "b", "nan": nan})
    assert "a" in d.keys() and "b" not in d.keys() and 2.0 in d.keys()
    assert 1 in d.values() and "b" in d.values() and "z" not in d.values() and nan in d.values()
    assert ("a", 1) in d.items() and ("a", 1.0) in d.items() and ("nan", nan) in d.items()
    for absent in (("a", 2), ("z", 1), "a", "ab", None, (), ("a",), ("a", 1, 2), ["a", 1], 5):
        assert absent not in d.items()
    for unhashable in ([], {}):
        with pytest.raises(TypeError):
            unhashable in d.keys()  # noqa: B015
        with pytest.raises(TypeError):
            (unhashable, 1) in d.items()  # noqa: B015
        assert unhashable not in d.values()


def test_membership_errors_come_through(make_dict):
    class NoEq:
        def __eq__(self, other):
            raise ZeroDivisionError

    d = make_dict(a=NoEq())
    with pytest.raises(ZeroDivisionError):
        5 in d.values()  # noqa: B015
    with pytest.raises(ZeroDivisionError):
        ("a", 5) in d.items()  # noqa: B015
    assert ("b", 5) not in d.items()


def test_repr_of_views(make_dict):
    d = make_dict(a=1)
    assert repr(["a"]) in repr(d.keys())
    assert repr([1]) in repr(d.values())
    assert repr([("a", 1)]) in repr(d.items())
    d["self"] = d.values()
    assert "..." in repr(d["self"])
    d.clear()


def test_views_cannot_be_hashed_or_made(make_dict):
    d = make_dict(a=1)
    for view in (d.keys(), d.items()):
        with pytest.raises(TypeError):
            hash(view)
    for view in (d.keys(), d.values(), d.items(), iter(d)):
        with pytest.raises(TypeError):
            type(view)()


@pytest.mark.parametrize("content", EMPTY_AND_FULL)
def test_iterators(make_dict, content):
    d = make_dict(content)
    sources = [
        (d, list(content)),
        (d.keys(), list(content)),
        (d.values(), list(content.values())),
        (d.items(), list(content.items())),
    ]
    for source, expected in sources:
        iterator = iter(source)
        assert iter(iterator) is iterator
        assert list(iterator) == expected
        for _ in range(3):  # exhausted for good
            with pytest.raises(StopIteration):
                next(iterator)
        assert next(iterator, "end") == "end"
    first, second = iter(d), iter(d)
    assert list(zip(first, second, strict=True)) == [(k, k) for k in content]


def test_exhausted_iterators_stay_so(make_dict):
    d = make_dict(a=1)
    iterator = iter(d)
    assert next(iterator) == "a" and next(iterator, None) is None
    del d["a"]
    d["b"] = 2
    assert next(iterator, None) is None


def test_iteration_with_holes(make_dict):
    d = make_dict((i, i) for i in range(100))
    for i in range(100):
        if i % 10:
            del d[i]
    assert list(d) == list(range(0, 100, 10)) and list(d.values()) == list(range(0, 100, 10))


def test_assigning_while_iterating(make_dict):
    d = make_dict((i, 0) for i in range(100))
    for i in d:
        d[i] = i
        d[99] = 99
    assert list(d.items()) == [(i, i) for i in range(100)]
    assert [v for _, v in d.items()] == list(range(100))


def test_iterators_hand_out_the_objects_themselves(make_dict):
    keys, values = [SameHash(i) for i in range(5)], [[i] for i in range(5)]
    d = make_dict(zip(keys, values, strict=True))
    assert all(a is b for a, b in zip(d, keys, strict=True))
    assert all(a is b for a, b in zip(d.values(), values, strict=True))
    assert all(a is k and b is v for (a, b), k, v in zip(d.items(), keys, values, strict=True))


def test_items_pairs_are_not_reused(make_dict):
    d = make_dict((i, str(i)) for i in range(10))
    kept = list(d.items())
    assert len(set(map(id, kept))) == 10
    first = next(iter(d.items()))
    for other in d.items():
        assert first == (0, "0") and other[0] == int(other[1])

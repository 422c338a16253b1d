"""K6 one step at a time: ours may change while it is iterated. (dict raises RuntimeError; so the
builtin is not among the parameters.)"""

import pytest
from support import SameHash, in_other_thread

VIEWS = {
    "keys": lambda d: d.keys(),
    "values": lambda d: d.values(),
    "items": lambda d: d.items(),
    "dict": lambda d: d,
}


@pytest.fixture(params=VIEWS)
def view(request):
    return VIEWS[request.param]


@pytest.fixture(params=["here", "elsewhere"])
def change(request):
    """Calls a function, in this thread or in another."""
    return (lambda f, *a: f(*a)) if request.param == "here" else in_other_thread


def key_of(entry):
    return entry[0] if isinstance(entry, tuple) else entry


def fill(make, n=20):
    """Each value equals its key, so that all views tell which entries they met."""
    return make((i, i) for i in range(n))


def test_K6_deleted_keys_are_not_met(make_our_dict, view, change):
    d = fill(make_our_dict)
    iterator = iter(view(d))
    met = [key_of(next(iterator)) for _ in range(5)]
    for key in (0, 7, 8, 19):
        change(d.__delitem__, key)
    met += map(key_of, iterator)
    assert met == [i for i in range(20) if i not in (7, 8, 19)]


def test_K6_each_key_deleted_once_met(make_our_dict, view, change):
    d = fill(make_our_dict)
    met = []
    for entry in view(d):
        change(d.__delitem__, key_of(entry))
        met.append(key_of(entry))
    assert met == list(range(20)) and len(d) == 0


@pytest.mark.parametrize("added", [1, 10, 1000])
def test_K6_growth_loses_and_repeats_nothing(make_our_dict, view, change, added):
    d = fill(make_our_dict)
    met = []
    for entry in view(d):
        met.append(key_of(entry))
        if len(met) < 30:
            change(d.update, {i: i for i in range(len(d), len(d) + added)})
    assert met[:20] == list(range(20)) and len(set(met)) == len(met)


def test_K6_adding_a_key_at_each_step_ends(make_our_dict, view):
    d = fill(make_our_dict)
    for steps, _ in enumerate(view(d)):
        d[len(d)] = len(d)
        assert steps < 20


def test_K6_clear_ends_it(make_our_dict, view, change):
    d = fill(make_our_dict)
    iterator = iter(view(d))
    next(iterator)
    change(d.clear)
    assert list(iterator) == []
    d[1] = 1
    assert list(iterator) == []


def test_K6_clear_and_the_same_keys_again(make_our_dict, view, change):
    d = fill(make_our_dict)
    iterator = iter(view(d))
    met = [key_of(next(iterator)) for _ in range(5)]
    change(d.clear)
    change(d.update, {i: i for i in range(20)})
    met += map(key_of, iterator)
    assert met[:5] == list(range(5)) and len(set(met)) == len(met)


def test_K6_deleted_and_inserted_again_is_not_repeated(make_our_dict, view, change):
    d = fill(make_our_dict)
    met = []
    for entry in view(d):
        met.append(key_of(entry))
        change(d.__delitem__, key_of(entry))
        change(d.__setitem__, key_of(entry), key_of(entry))
        if len(met) == 10:
            change(d.update, {i: i for i in range(20, 500)})  # a new table
            change(d.__delitem__, 2)
            change(d.__setitem__, 2, 2)
    assert met == list(range(20))


def test_K6_a_key_that_comes_back_is_another_entry(make_our_dict, view, change):
    """It may be met again (on 3.11 it is: the new key has the address of the old one of equal hash
    that comes next in the table that was replaced), as one of so many steps as there were entries
    when the iteration began; what stays is met once, and in order."""
    d = make_our_dict((key, key) for key in map(SameHash, range(6)))
    stays = list(d)[2:]
    iterator = iter(view(d))
    met = [key_of(next(iterator))]
    change(d.update, {i: i for i in range(50)})  # a new table
    change(d.pop, SameHash(0))
    probe = SameHash(1)
    change(d.pop, probe)
    change(lambda: d.update([(SameHash(0), SameHash(0))]))
    met += map(key_of, iterator)
    assert all(a is b for a, b in zip(met[-4:], stays, strict=True)) and len(met) <= 6
    assert [key.value for key in met[:-4]] in ([0], [0, 0])
    assert list(iterator) == []


def test_K6_a_key_object_that_comes_back_is_not_repeated(make_our_dict, view, change):
    """Where the objects live on no other key can have the address of one."""
    keys = [SameHash(i) for i in range(20)]
    d = make_our_dict((k, k) for k in keys)
    met = []
    for n, entry in enumerate(view(d)):
        met.append(key_of(entry))
        for key in (keys[n // 2], keys[n], keys[-1]):
            change(d.pop, key)
            change(d.__setitem__, key, key)
        change(d.update, {(n, i): i for i in range(20)})
    assert len({id(key) for key in met}) == len(met) <= 20
    assert {id(key) for key in met} <= {id(key) for key in keys}


def test_K6_values_after_the_beginning(make_our_dict, change):
    d = fill(make_our_dict)
    iterator = iter(d.items())
    next(iterator)
    change(d.__setitem__, 10, "new")
    change(d.update, {i: i for i in range(20, 500)})
    change(d.__setitem__, 11, "newer")
    rest = dict(iterator)
    assert rest[10] == "new" and rest[11] == "newer" and rest[12] == 12


def test_K6_everything_that_stays_is_met_through_many_tables(make_our_dict, view):
    d = make_our_dict((i, i) for i in range(2000))
    met = []
    for step, entry in enumerate(view(d)):
        met.append(key_of(entry))
        if step % 50 == 0:
            for key in range(2000 + step * 20, 2000 + step * 20 + 1000):
                d[key] = key
            for key in range(2000 + step * 20, 2000 + step * 20 + 1000):
                del d[key]
    assert met == list(range(2000))


def test_K6_keys_that_collide(make_our_dict, change):
    keys = [SameHash(i) for i in range(30)]
    d = make_our_dict((k, k.value) for k in keys)
    met = []
    for key in d:
        met.append(key.value)
        if len(met) == 10:
            change(d.update, [(SameHash(i), i) for i in range(30, 200)])
        if len(met) == 12:
            change(d.__delitem__, SameHash(20))
    assert met[:30] == [i for i in range(31) if i != 20][: len(met)]
    assert set(met) >= set(range(30)) - {20} and len(set(met)) == len(met)


def test_K6_an_equal_key_in_place_of_the_old_one(make_our_dict, change):
    d = make_our_dict((str(i), i) for i in range(20))
    met = []
    for key in d:
        met.append(key)
        if len(met) == 3:
            change(d.pop, "7")
            change(d.update, {str(i): i for i in range(20, 300)})
            change(d.__setitem__, "".join(["", "7"]), 7)
    assert len(set(met)) == len(met) and set(met) >= {str(i) for i in range(20)} - {"7"}


def test_K6_iterators_over_dead_dicts(make_our_dict, view):
    iterator = iter(view(fill(make_our_dict)))
    assert [key_of(e) for e in iterator] == list(range(20))

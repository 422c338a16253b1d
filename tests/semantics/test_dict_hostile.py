"""Keys whose `__hash__` and `__eq__` raise, or change the dict in the middle of a lookup."""

import gc
import threading

import pytest
from support import Boom, CallsOnEq, RaisesOnEq, RaisesOnHash, SameHash, Text, settle

OPERATIONS = {
    "[]": lambda d, k: d[k],
    "set": lambda d, k: d.__setitem__(k, "new"),
    "del": lambda d, k: d.__delitem__(k),
    "in": lambda d, k: k in d,
    "get": lambda d, k: d.get(k),
    "setdefault": lambda d, k: d.setdefault(k, "new"),
    "pop": lambda d, k: d.pop(k, None),
    "update": lambda d, k: d.update([(k, "new")]),
}
OUR_OPERATIONS = {
    "incr": lambda d, k: d.incr(k),
    "get_or_create": lambda d, k: d.get_or_create(k, list),
}


@pytest.fixture(params=OPERATIONS)
def operation(request):
    return OPERATIONS[request.param]


@pytest.fixture(params=OUR_OPERATIONS)
def our_operation(request):
    return OUR_OPERATIONS[request.param]


def colliding(make, n=5):
    return make((SameHash(i), i) for i in range(n))


def check_raising_hash(d, operation):
    before = list(d.items())
    with pytest.raises(Boom):
        operation(d, RaisesOnHash())
    assert list(d.items()) == before


def check_raising_eq(d, operation):
    before = [(id(k), v) for k, v in d.items()]
    with pytest.raises(Boom):
        operation(d, RaisesOnEq(0))
    assert [(id(k), v) for k, v in d.items()] == before
    assert d[SameHash(3)] == 3 and len(d) == 5


def test_raising_hash(make_dict, operation):
    check_raising_hash(make_dict(a=1), operation)


def test_raising_hash_in_ours(make_our_dict, our_operation):
    check_raising_hash(make_our_dict(a=1), our_operation)


def test_raising_eq(make_dict, operation):
    check_raising_eq(colliding(make_dict), operation)


def test_raising_eq_in_ours(make_our_dict, our_operation):
    check_raising_eq(colliding(make_our_dict), our_operation)


def test_raising_eq_of_a_key_that_is_there(make_dict, operation):
    key = RaisesOnEq(7)
    d = make_dict([(key, "old")])
    assert d[key] == "old"  # identity comes first
    with pytest.raises(Boom):
        operation(d, SameHash(7))
    assert list(d.items()) == [(key, "old")]
    d[key] = "new"
    assert d.pop(key) == "new" and len(d) == 0


@pytest.mark.parametrize("others", [0, 20])
@pytest.mark.parametrize("pass_by", [0, 20])
@pytest.mark.parametrize("shared", [False, True])
def test_a_key_that_goes_in_while_it_is_compared_is_there_once(
    make_our_dict, operation, others, pass_by, shared
):
    """The inner insertion uses a deleted key's slot, before the slot that the outer call compares.
    With `others` it goes into a new table, with `pass_by` into one that was compacted. (In 3.11
    the key is then in a dict twice.) Caught: PLACE_BLIND."""

    def insert():
        key.on_eq = lambda: None
        d[SameHash(7)] = 7
        for i in range(others):
            d[SameHash(100 + i)] = i
        for i in range(pass_by):
            d[SameHash(50)] = i
            del d[SameHash(50)]

    key = CallsOnEq(7, insert)
    d = colliding(make_our_dict, 2)
    if shared:
        thread = threading.Thread(target=lambda: d.setdefault(SameHash(1)))
        thread.start()
        thread.join()
    del d[SameHash(0)]
    try:
        operation(d, key)
    except KeyError:
        pass  # it was absent when that was asked
    found = [k.value for k in d]
    assert found.count(7) <= 1 and found.count(1) == 1
    assert len(found) == len(set(found)) == len(d)
    d.pop(SameHash(7), None)
    assert SameHash(7) not in d


def test_raising_eq_at_once_and_only_then(make_dict):
    d = make_dict([(RaisesOnEq(1), "other hash")])
    assert "a" not in d and d.get(5) is None
    d["a"] = 1
    assert d["a"] == 1


CHANGES = {
    "clear": lambda d: d.clear(),
    "grow": lambda d: d.update({i: i for i in range(1000)}),
    "delete all": lambda d: [d.pop(k, None) for k in list(d.keys())],
    "popitem": lambda d: d.popitem() if len(d) else None,
    "replace values": lambda d: [d.__setitem__(k, "other") for k in list(d.keys())],
    "collect": lambda d: gc.collect(),
    "clear and refill": lambda d: (d.clear(), d.update({i: i for i in range(10)})),
}


class Once:
    """Runs a change at the first call only, so that lookups come to an end."""

    def __init__(self, change):
        self.change = change
        self.container = None

    def __call__(self):
        container, self.container = self.container, None
        if container is not None:
            self.change(container)


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except (KeyError, TypeError) as error:
        return type(error)


def consistent(d):
    """Our dict's views of itself agree. (Not asked of the builtin: alphas of 3.15 no longer find a
    key inserted by an operation whose `__eq__` cleared the dict.)"""
    if type(d) is dict:
        return
    keys = list(d.keys())
    assert len(keys) == len(d) == len({id(k) for k in keys}) == len(list(d.values()))
    for key, value in list(d.items()):
        assert d[key] is value or d[key] == value


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("present", [True, False])
def test_eq_that_changes_the_dict(make_dict, operation, change, present):
    once = Once(CHANGES[change])
    d = colliding(make_dict)
    once.container = d
    outcome(operation, d, CallsOnEq(3 if present else 99, once))
    assert once.container is None, "__eq__ was not called"
    consistent(d)
    d.clear()
    d["a"] = 1
    assert d == {"a": 1}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("present", [True, False])
def test_eq_of_a_stored_key_that_changes_the_dict(make_dict, operation, change, present):
    once = Once(CHANGES[change])
    d = make_dict([(SameHash(0), 0), (CallsOnEq(1, once), 1), (SameHash(2), 2)])
    once.container = d
    outcome(operation, d, SameHash(2 if present else 99))
    assert once.container is None, "__eq__ was not called"
    consistent(d)


@pytest.mark.parametrize("change", CHANGES)
def test_eq_that_changes_ours(make_our_dict, our_operation, change):
    once = Once(CHANGES[change])
    d = colliding(make_our_dict)
    once.container = d
    outcome(our_operation, d, CallsOnEq(3, once))
    assert once.container is None
    consistent(d)


def test_eq_that_always_grows_the_dict_comes_to_an_end(make_dict):
    calls = []

    def grow():
        if len(calls) < 50:
            calls.append(None)
            for i in range(100):
                d[len(calls), i] = i

    d = make_dict([(SameHash(0), 0)])
    assert CallsOnEq(1, grow) not in d
    assert 1 <= len(calls) <= 50 and len(d) == 1 + 100 * len(calls)


def test_eq_that_replaces_the_compared_entry(make_dict):
    d = make_dict([(SameHash(1), "old")])

    def replace():
        if d.get(SameHash(1)) == "old":
            del d[SameHash(1)]
            d[SameHash(1)] = "new"

    assert d[CallsOnEq(1, replace)] == "new"
    consistent(d)


def test_eq_that_deletes_the_entry_it_is_compared_with(make_dict):
    d = make_dict([(SameHash(1), "old")])
    key = CallsOnEq(1, d.clear)
    with pytest.raises(KeyError):
        d[key]
    assert len(d) == 0


def test_hash_that_changes_the_dict(make_dict, operation):
    once = Once(lambda d: d.clear())

    class HashClears:
        def __hash__(self):
            once()
            return 5

    d = once.container = make_dict({i: i for i in range(20)})
    outcome(operation, d, HashClears())
    assert len(d) <= 1
    consistent(d)


def test_eq_with_odd_results(make_dict):
    class Odd(SameHash):
        __hash__ = SameHash.__hash__

        def __eq__(self, other):
            return self.value

    class NoTruth:
        def __bool__(self):
            raise Boom

    d = make_dict([(SameHash(1), "found")])
    assert d[Odd([1])] == "found"
    assert Odd([]) not in d and Odd(NotImplemented) not in d
    with pytest.raises(Boom):
        d[Odd(NoTruth())]


def test_str_subclass_with_its_own_eq(make_dict):
    class Never(Text):
        __hash__ = str.__hash__

        def __eq__(self, other):
            return False

    class Always(Text):
        def __hash__(self):
            return hash("a")

        def __eq__(self, other):
            return True

    d = make_dict(a=1)
    assert Never("a") not in d and d.get(Always("z")) == 1
    never = Never("a")
    d[never] = 2
    assert len(d) == 2 and d["a"] == 1 and d[never] == 2


def test_hash_of_a_wrong_type(make_dict, operation):
    class BadHash:
        def __hash__(self):
            return "5"

    d = make_dict(a=1)
    with pytest.raises(TypeError):
        operation(d, BadHash())
    assert d == {"a": 1}


def test_values_that_change_the_dict_when_compared(make_dict):
    class Clears:
        def __eq__(self, other):
            d.clear()
            return True

    d = make_dict((i, Clears()) for i in range(20))
    assert (d == {i: i for i in range(20)}) in (True, False)
    assert len(d) == 0
    d = make_dict((i, Clears()) for i in range(20))
    assert (0, 5) in d.items() and len(d) == 0


def test_repr_that_changes_the_dict(make_our_dict):
    class Clears:
        def __repr__(self):
            d.clear()
            return "x"

    d = make_our_dict((i, Clears()) for i in range(3))
    assert repr(d) == "{0: x, 1: x, 2: x}"  # one moment (K7)
    assert len(d) == 0


def test_finalizers_that_come_back_into_the_dict(make_dict):
    finalized = []

    class ComesBack:
        def __del__(self):
            finalized.append(len(d))
            d["finalized"] = len(finalized)

    d = make_dict()
    for i in range(200):
        d["key"] = ComesBack()
        d[i] = ComesBack()
        del d[i]
    d.pop("key")
    d.setdefault("key", ComesBack())
    d.pop("key")
    settle()
    assert d == {"finalized": 401} and len(finalized) == 401
    d["key"] = ComesBack()
    finalized.clear()
    d.clear()
    settle()
    assert d == {"finalized": 1}


def test_arguments_that_change_the_dict_during_update(make_dict):
    class Source:
        def keys(self):
            return ["a", "b", "c"]

        def __getitem__(self, key):
            d.clear()
            return key

    d = make_dict(old=1)
    d.update(Source())
    assert "old" not in d
    consistent(d)


def test_update_from_a_dict_that_changes(make_dict):
    class Clears(SameHash):
        __hash__ = SameHash.__hash__

        def __eq__(self, other):
            source.clear()
            return False

    source = {SameHash(i): i for i in range(5)}
    d = make_dict([(Clears(1), 0)])
    # dict notices and raises; ours may also finish with what it had read.
    try:
        d.update(source)
    except RuntimeError:
        pass
    consistent(d)

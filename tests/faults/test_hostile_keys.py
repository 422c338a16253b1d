"""Keys and values that misbehave, while other threads work on the same container.

Valid in all of them: no crash, no leak (references are counted, exactly), nothing of the others'
missing, changed or seen twice; what else is valid is said in each.
"""

import gc
import operator
import sys
import threading
import weakref

import pytest
from company import DictCompany, Hostile, ListCompany, references
from debug_build import EXTENSIONS
from support import (
    RACE_SCALE,
    Boom,
    Census,
    Number,
    RaisesOnHash,
    SameHash,
    Text,
    rounds,
    run_threads,
    scaled,
    settle,
    touch,
)

from qsbrcontainers import MISSING, ConcurrentDict, ConcurrentList, collect

sys.path.append(str(EXTENSIONS.parents[1] / "capi"))
from building import C11, compile_extension, load

VALUE = object()

# Whatever takes a key: on dict too, and ours alone.
WITH_KEY = {
    "[]": lambda d, k: d[k],
    "set": lambda d, k: operator.setitem(d, k, VALUE),
    "del": lambda d, k: operator.delitem(d, k),
    "in": lambda d, k: k in d,
    "get": lambda d, k: d.get(k),
    "setdefault": lambda d, k: d.setdefault(k, VALUE),
    "pop": lambda d, k: d.pop(k, None),
    "update": lambda d, k: d.update([(k, VALUE)]),
    "|=": lambda d, k: d.__ior__([(k, VALUE)]),
    "in keys": lambda d, k: k in d.keys(),
    "in items": lambda d, k: (k, VALUE) in d.items(),
    "keys &": lambda d, k: d.keys() & [k],
    "keys isdisjoint": lambda d, k: d.keys().isdisjoint([k]),
}
OURS_WITH_KEY = {
    "add": lambda d, k: d.add(k, VALUE),
    "swap": lambda d, k: d.swap(k, VALUE),
    "discard": lambda d, k: d.discard(k),
    "incr": lambda d, k: d.incr(k),
    "compute": lambda d, k: d.compute(k, lambda old: VALUE),
    "compare_and_set": lambda d, k: d.compare_and_set(k, MISSING, VALUE),
    "compare_and_delete": lambda d, k: d.compare_and_delete(k, VALUE),
    "get_or_create": lambda d, k: d.get_or_create(k, list),
    "get_many": lambda d, k: d.get_many([k]),
}
ALL_WITH_KEY = {**WITH_KEY, **OURS_WITH_KEY}

CHANGES = {
    "delete it": lambda d, key: d.pop(key, None),
    "replace it": lambda d, key: (d.pop(key, None), d.__setitem__(key, VALUE)),
    "assign to it": lambda d, key: d.__setitem__(key, 5),
    "resize": lambda d, key: (
        d.update((("many", i), i) for i in range(500)),
        [d.pop(("many", i)) for i in range(500)],
    ),
    "collect": lambda d, key: collect(),
}


def harmless(function, *arguments):
    """Runs it; what dict may raise as well is no harm."""
    try:
        function(*arguments)
    except (KeyError, TypeError):
        pass


def mine(d):
    """Takes out what the test's own thread has put in."""
    for key in [k for k in d if isinstance(k, SameHash) and not isinstance(k.value, tuple)]:
        d.pop(key)


@pytest.mark.parametrize("change", CHANGES)
def test_K1_eq_that_changes_the_dict_beside_others(change):
    """Valid: the operation returns, or raises KeyError or TypeError (`incr` of an object).

    Caught: a lookup that does not look whether the table changed under the comparison."""
    d = ConcurrentDict()
    company = DictCompany(d)
    called = []

    def terrible(_):
        for _ in range(rounds(3)):
            for name, operation in ALL_WITH_KEY.items():
                for wanted in (2, 9):  # there, and not
                    d.update((SameHash(i), i) for i in range(4))
                    done = []

                    def then(name=name, done=done):
                        if not done:
                            done.append(name)
                            CHANGES[change](d, SameHash(2))

                    harmless(operation, d, Hostile(wanted, then).only_here())
                    called.extend(done)
                    mine(d)

    run_threads(1, terrible, background=company.work)
    assert set(called) == set(ALL_WITH_KEY), "an __eq__ was never called"
    company.check()
    assert d == {}


def test_K7_eq_that_clears_the_dict_beside_others():
    """Valid: as above, and the others' keys have their own values or are gone."""
    d = ConcurrentDict()
    company = DictCompany(d, kept=False)

    def terrible(_):
        for _ in range(rounds(5)):
            for operation in ALL_WITH_KEY.values():
                d.update((SameHash(i), i) for i in range(4))
                harmless(operation, d, Hostile(2, d.clear).only_here())

    run_threads(1, terrible, background=company.work)
    d.clear()
    company.check()
    assert d == {}


@pytest.mark.parametrize("stored", [False, True])
def test_K8_a_colliding_eq_that_raises_beside_others(stored):
    """Valid: its exception, from each method; keys, values and the key that was asked for have as
    many references as before. Caught: a reference dropped twice where a comparison fails."""

    def boom():
        raise Boom

    d = ConcurrentDict()
    company = DictCompany(d)
    keys, values = [Hostile(i, boom) for i in range(5)], [object() for _ in range(5)]
    asked = Hostile(99, boom)
    d.update(zip(keys, values, strict=True))
    touch(d)
    before = references([*keys, *values, asked, VALUE])

    def terrible(_):
        for each in keys if stored else [asked]:
            each.only_here()
        for _ in range(rounds(20)):
            for name, operation in ALL_WITH_KEY.items():
                try:
                    operation(d, asked)
                except Boom:
                    continue
                raise AssertionError(f"{name} did not raise")
        for each in [*keys, asked]:
            each.thread = None

    run_threads(1, terrible, background=company.work)
    assert references([*keys, *values, asked, VALUE]) == before
    company.check()
    assert all(a is b for a, b in zip(d, keys, strict=True))
    assert all(a is b for a, b in zip(d.values(), values, strict=True))


def test_a_raising_hash_beside_others():
    """Valid: its exception, from each method, and nothing changes; not even a factory runs."""
    d = ConcurrentDict()
    company = DictCompany(d)
    asked = RaisesOnHash()
    before = references([asked, VALUE])

    def terrible(_):
        for _ in range(rounds(20)):
            for operation in ALL_WITH_KEY.values():
                with pytest.raises(Boom):
                    operation(d, asked)

    run_threads(1, terrible, background=company.work)
    assert references([asked, VALUE]) == before
    company.check()
    assert d == {}


@pytest.mark.parametrize("key", [[], {}, set(), ([],), ConcurrentDict(), ConcurrentList()])
@pytest.mark.parametrize("name", ALL_WITH_KEY)
def test_unhashable_keys_in_every_method(name, key):
    """Valid: TypeError, and the dict and all references are as before."""
    content = {"a": VALUE, "b": 5}
    d = ConcurrentDict(content)
    touch(d)
    before = references([key, VALUE])
    for _ in range(10):
        with pytest.raises(TypeError):
            ALL_WITH_KEY[name](d, key)
    assert references([key, VALUE]) == before
    assert d == content


@pytest.fixture(scope="module")
def minus_one(tmp_path_factory):
    """A type in C whose hash is -1, without an exception: against the rules."""
    folder = tmp_path_factory.mktemp("minus_one")
    return load(compile_extension(folder, "minus_one", [EXTENSIONS / "minus_one.c"], language=C11))


@pytest.mark.parametrize("name", [n for n in ALL_WITH_KEY if n not in ("update", "|=", "keys &")])
def test_a_hash_of_minus_one_from_c(minus_one, name):
    """Valid: SystemError, as the interpreter calls a failure without an exception, and everything
    is as before. (So does dict on 3.11; on 3.15 it crashes: what goes through a dict or a set is
    left out.)"""
    key = minus_one.MinusOne()
    before = references([key, VALUE])
    d = ConcurrentDict(a=1, b=VALUE)
    touch(d)
    for _ in range(5):
        with pytest.raises(SystemError):
            ALL_WITH_KEY[name](d, key)
    assert d == {"a": 1, "b": VALUE} and [*d] == ["a", "b"]
    del d
    assert references([key, VALUE]) == before


def test_hashes_that_would_be_minus_one_beside_others():
    """Valid: -1 and -2, which have one hash, are two keys, for every thread."""
    assert hash(-1) == hash(-2) == hash(-1.0)
    d = ConcurrentDict()
    company = DictCompany(d)

    class AlsoMinusOne:
        def __hash__(self):
            return -1  # becomes -2

    also = AlsoMinusOne()

    def terrible(_):
        for i in range(scaled(500)):
            d[-1], d[-2], d[also] = i, -i, [i]
            assert (d[-1], d[-1.0], d[-2], d[also]) == (i, i, -i, [i])
            assert d.pop(-2) == -i and -2 not in d and d[-1] == i
            d.pop(-1.0), d.pop(also)

    run_threads(1, terrible, background=company.work)
    company.check()
    assert d == {}


def test_nans_beside_others():
    """Valid: each NaN is a key of its own, and one value or element of its own: found by identity,
    in every thread."""
    d, values = ConcurrentDict(), ConcurrentList()
    company, list_company = DictCompany(d), ListCompany(values)

    def terrible(me):
        for _ in range(scaled(300)):
            nan = float("nan")
            d[nan] = nan
            values.append(nan)
            assert d[nan] is nan and float("nan") not in d and (nan, nan) in d.items()
            assert nan in values and values.index(nan) >= 0 and values.count(nan) == 1
            assert sum(value is nan for value in values.snapshot()) == 1
            assert float("nan") not in values
            d.incr("nans")
            assert d.pop(nan) is nan and nan not in d
            values.remove(nan)

    run_threads(2, terrible, background=[*company.work, *list_company.work])
    assert d.pop("nans") == 2 * scaled(300)
    company.check()
    list_company.check()
    assert d == {} and values == []


def test_1_true_and_1_0_beside_others():
    """Valid: one key, whichever of them a thread says, and the first object stays; in a list they
    are equal and stay what they are."""
    d = ConcurrentDict({1: 0})
    values = ConcurrentList([1, True, 1.0, Number(1)])
    company = DictCompany(d)
    ones = [1, True, 1.0, Number(1), complex(1)]
    count = scaled(2000)

    def terrible(me):
        for i in range(count):
            d.incr(ones[(i + me) % 5])
            d[("one", ones[i % 4]), me] = i
            assert d[("one", ones[(i + 1) % 4]), me] == i
        assert [values.count(one) for one in ones] == [4] * 5 and values.index(True) == 0

    run_threads(3, terrible, background=company.work)
    assert d[True] == 3 * count
    assert [type(k) for k in d if k == 1] == [int]
    assert [type(v) for v in values] == [int, bool, float, Number]
    company.check()
    assert len(d) == 4


def test_str_subclasses_with_their_own_eq_beside_others():
    """Valid: exact strs are found by exact strs, at once, whatever a subclass says of itself; the
    subclass's `__eq__` decides where it is asked."""

    class Never(Text):
        __hash__ = str.__hash__

        def __eq__(self, other):
            return False

    class Always(Text):
        __hash__ = str.__hash__

        def __eq__(self, other):
            return True

    d, values = ConcurrentDict(), ConcurrentList()
    company = DictCompany(d)
    names = [f"name {i}" for i in range(8)]

    def plain(_):
        for _ in range(scaled(300)):
            for name in names:
                own = "".join(name)
                d[own] = name
                assert d[own] is name and d.pop(own) is name

    def terrible(_):
        for i in range(scaled(300)):
            for name in names:
                never = Never(name)
                d[never] = i
                assert d[never] == i and Never(name) not in d
                assert d.pop(never) == i and never not in d
                assert d.get(Always(name), name) is name  # there or not: it is equal to one only
                values.append(Never(name))
                assert Never(name) not in values.copy()[-1:] and values.count(name) == 0
                values.pop()

    run_threads(1, plain, 1, terrible, background=company.work)
    company.check()
    assert d == {} and values == []


def test_a_hundred_thousand_equal_hashes():
    """Valid: they are keys like others, and the other threads, which collide with none of them, go
    on meanwhile. (It takes the square of their number, of dict too: with QC_RACE_SCALE above 1 as
    many as that, otherwise a tenth.)"""
    count, period = 100_000 if RACE_SCALE > 1 else 10_000, sys.hash_info.modulus
    d = ConcurrentDict()
    company = DictCompany(d)

    def terrible(_):
        for i in range(1, count):
            d[i * period] = i
        assert len(d) >= count
        for i in range(1, count, count // 50):
            assert d[i * period] == i and count * period + i not in d
        for i in gone:
            assert d.pop(i * period) == i

    gone = [*range(100, count, 100), *range(count - 99, count)]
    run_threads(1, terrible, background=company.work, timeout=1000)
    company.check()
    assert sorted(d.values()) == sorted(set(range(1, count)) - set(gone))
    assert all(key == value * period for key, value in d.items())


@pytest.mark.parametrize("kind", ["finalizer", "weakref callback"])
def test_T5_what_comes_back_while_retired_memory_is_processed(kind):
    """Valid: each is called once, for each object; what they retire is retired, and freed later
    (processing is not entered twice); nobody's exception is lost or another's."""
    d, values = ConcurrentDict(), ConcurrentList([None])
    companies = DictCompany(d), ListCompany(values)
    made, ended, references_to = [], [], []

    class Value:
        def __init__(self, depth):
            self.depth = depth
            made.append(None)
            if kind != "finalizer":
                references_to.append(weakref.ref(self, lambda _, depth=depth: come_back(depth)))

    if kind == "finalizer":
        Value.__del__ = lambda self: come_back(self.depth)

    def come_back(depth):
        ended.append(None)
        name = "hostile", threading.get_ident(), depth
        if depth:
            inner = Value(depth - 1)
            d[name] = inner  # and another's, which ends in the middle of this, may take it out
            values.append(inner)
            values.remove(inner)
            del inner
            d[name] = None  # retired, in the middle of the processing
        d.pop(name, None)
        collect()
        list(d.items())
        try:
            d[[]]
        except TypeError:
            pass

    def terrible(me):
        for _ in range(rounds(100)):
            d["hostile", me] = Value(2)
            value = Value(1)
            values.append(value)
            values.remove(value)
            del value
            try:
                d["hostile", me, "absent"]
            except KeyError as error:
                assert error.args == (("hostile", me, "absent"),)
            d.pop(("hostile", me))

    work = [*companies[0].work, *companies[1].work[:2]]
    run_threads(2, terrible, background=work)
    settle()
    assert len(ended) == len(made) == 2 * rounds(100) * 5
    companies[0].check()
    companies[1].check()
    assert d == {} and values == [None]


NESTED = 1_000_000
# 3.13 nests the ends of 10,000 lists whatever the stack, and dies of that without any of ours: 0,
# the usual size, there.
STACK = 0 if sys.version_info[:2] == (3, 13) else 256 * 1024
CHAINS = {
    "list": lambda inner: [inner],
    "tuple": lambda inner: (inner,),
    "our lists": lambda inner: ConcurrentList([inner]),
    "our dicts": lambda inner: ConcurrentDict(a=inner),
    "a slot": None,
}
DEATHS = {
    "replaced": (lambda d: d.__setitem__("chain", None), lambda x: x.__setitem__(-1, None)),
    "deleted": (lambda d: d.__delitem__("chain"), lambda x: x.__delitem__(-1)),
    "cleared": (lambda d: d.clear(), lambda x: x.clear()),
}


class Link:
    __slots__ = ("next",)

    def __init__(self, following):
        self.next = following


@pytest.mark.parametrize(
    ("kind", "death"),
    [
        ("list", "replaced"),
        ("tuple", "deleted"),
        ("a slot", "cleared"),
        ("our lists", "deleted"),
        ("our dicts", "replaced"),
    ],
)
def test_a_million_nested_values_die_at_once(kind, death):
    """Valid: all of them, wherever it happens: in a thread with a small stack, when what is
    retired is processed, or with the container."""
    make, census = CHAINS[kind] or Link, Census()
    for container in (ConcurrentDict(first=1), ConcurrentList([1])):
        touch(container)
        chain = census.new()
        for _ in range(NESTED):
            chain = make(chain)
        is_dict = isinstance(container, ConcurrentDict)
        container.update(chain=chain) if is_dict else container.append(chain)
        del chain
        kill = DEATHS[death][not is_dict]

        def work(container=container, kill=kill):
            kill(container)
            collect()

        before = threading.stack_size(STACK)
        try:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        finally:
            threading.stack_size(before)
        collect()
        assert census.alive == 0
    gc.collect()

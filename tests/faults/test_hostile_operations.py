"""Operations that nobody in his right mind would do, while other threads work on the same
container.

Valid in all of them: no crash, no leak, nothing of the others' missing, changed or seen twice;
what else is valid is said in each.
"""

import copy
import inspect
import itertools
import operator
import pickle
import random
import sys
import weakref

import pytest
from company import DictCompany, Hostile, ListCompany, references
from support import Boom, Census, SameHash, rounds, run_script, run_threads, scaled, settle, touch

import qsbrcontainers
from qsbrcontainers import ConcurrentDict, ConcurrentList

# ---- comparing elements ----

LIST_CHANGES = {
    "append": lambda x, mine: x.append("new"),
    "insert": lambda x, mine: x.insert(0, "new"),
    "insert and remove": lambda x, mine: (x.insert(0, mine), x.remove(mine)),
    "grow": lambda x, mine: x.extend(["new"] * 300),
    "reverse": lambda x, mine: x.reverse(),
}
SEARCHES = {
    "in": lambda x, v: v in x,
    "index": lambda x, v: x.index(v),
    "count": lambda x, v: x.count(v),
    "remove": lambda x, v: x.remove(v),
    "==": lambda x, v: x == [v] * len(x),
    "<": lambda x, v: x < [v] * len(x),
}


@pytest.mark.parametrize("change", LIST_CHANGES)
def test_A5_eq_that_changes_the_list_beside_others(change):
    """Valid: the operation returns, or raises ValueError or IndexError; the elements of the others
    are all there."""
    values = ConcurrentList([SameHash(i) for i in range(3)])
    company = ListCompany(values)
    mine, called = SameHash(-1), []

    class Calls(Hostile):
        def __lt__(self, other):
            return self == other

        __gt__ = __lt__

    def terrible(_):
        for _ in range(rounds(10)):
            for name, search in SEARCHES.items():
                done = []

                def then(done=done, name=name):
                    if not done:
                        done.append(name)
                        LIST_CHANGES[change](values, mine)

                try:
                    search(values, Calls(99, then).only_here())
                except (ValueError, IndexError):
                    pass
                called.extend(done)

    run_threads(1, terrible, background=company.work)
    assert set(called) >= set(SEARCHES) - {"==", "<"}, "__eq__ was not called"
    company.check()
    assert all(isinstance(v, SameHash) or v == "new" for v in values)


def test_K8_an_eq_that_raises_beside_others():
    """Valid: its exception; elements and what is searched for have as many references as before."""

    def boom():
        raise Boom

    values = ConcurrentList([object() for _ in range(3)])
    company = ListCompany(values)
    asked = Hostile(99, boom)
    own = list(values)[:3]
    before = references([*own, asked])

    def terrible(_):
        asked.only_here()
        for _ in range(scaled(100)):
            for name in ("in", "index", "count", "remove"):
                with pytest.raises(Boom):
                    SEARCHES[name](values, asked)
        asked.thread = None

    run_threads(1, terrible, background=company.work)
    assert references([*own, asked]) == before
    company.check()
    assert list(values) == own


# ---- containers that contain themselves ----


def test_containers_that_contain_themselves_beside_others():
    """Valid: repr says so, == with another such one is RecursionError, copies and pickles contain
    themselves and not the original, whatever comes and goes in them meanwhile; all of them are
    freed."""
    ended = look_at_containers_that_contain_themselves()
    settle()
    assert [each() for each in ended] == [None] * 4


def look_at_containers_that_contain_themselves():
    d, values, other, others = (
        ConcurrentDict(),
        ConcurrentList(),
        ConcurrentDict(),
        ConcurrentList(),
    )
    d.update({"self": d, "list": values})
    values.extend([values, d])
    other.update({"self": other, "list": others})
    others.extend([others, other])

    def change():
        for i in range(50):
            d[i] = i
            values.append(i)
        for i in range(50):
            del d[i]
            values.pop()

    def look(_):
        for _ in range(rounds(15)):
            assert "{...}" in repr(d) and "[...]" in repr(values)
            for a, b in ((d, other), (values, others)):
                try:
                    assert (a == b) is False  # of another length, at that moment
                except RecursionError:
                    pass
            for again in (copy.deepcopy(d), pickle.loads(pickle.dumps(d))):
                assert again is not d and again["self"] is again
                assert again["list"][0] is again["list"] and again["list"][1] is again
                again.clear()
            again = copy.copy(d)
            assert again["self"] is d

    run_threads(2, look, background=[change])
    return [weakref.ref(each) for each in (d, values, other, others)]


# ---- sizes ----


def test_sizes_beyond_a_limit_of_memory():
    """Valid: MemoryError or OverflowError; the container is as before and can be used, by other
    threads as well."""
    run_script(
        """
import resource, sys, threading
from qsbrcontainers import ConcurrentDict, ConcurrentList
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
before = resource.getrlimit(resource.RLIMIT_AS)
values, d = ConcurrentList([1, "a", 2.5]), ConcurrentDict(a=1, b="b")

def endless():
    while True:
        yield ("a key", "a value") * 500

huge = [
    lambda: values * 10**9,
    lambda: values.__imul__(10**9),
    lambda: values.extend([None] * 10**8),
    lambda: values.extend(endless()),
    lambda: values.__setitem__(slice(0, 1), endless()),
    lambda: values + endless_list(),
    lambda: ConcurrentList(endless()),
    lambda: ConcurrentList(range(10**10)),
    lambda: ConcurrentDict((i, str(i) * 200) for i in range(10**9)),
    lambda: d.update((i, str(i) * 200) for i in range(10**9)),
    lambda: d.fromkeys(str(i) * 200 for i in range(10**9)),
    lambda: d.get_many(range(10**10)),
]

def endless_list():
    return ConcurrentList(iter(endless()))

def use():
    assert d.copy() == {"a": 1, "b": "b"} and values.copy() == [1, "a", 2.5]
    values.append(d)
    d["c"] = values
    assert values.pop() is d and d.pop("c") is values

def use_elsewhere():
    done = []
    thread = threading.Thread(target=lambda: done.append(use()))
    thread.start()
    thread.join()
    assert done == [None]

use_elsewhere()
resource.setrlimit(resource.RLIMIT_AS, (used + (50 << 20), before[1]))
for make in huge:
    try:
        make()
    except (MemoryError, OverflowError):
        pass
    else:
        raise AssertionError("no MemoryError")
    use()
resource.setrlimit(resource.RLIMIT_AS, before)
use_elsewhere()
""",
        timeout=250,
    )


INDICES = [sys.maxsize, -sys.maxsize - 1, 2**64, -(2**64), 10**30, 5000, -5001]
WITH_INDEX = {
    "[]": lambda x, i: x[i],
    "set": lambda x, i: operator.setitem(x, i, None),
    "del": lambda x, i: operator.delitem(x, i),
    "pop": lambda x, i: x.pop(i),
    "swap": lambda x, i: x.swap(i, None),
    "incr": lambda x, i: x.incr(i),
    "compute": lambda x, i: x.compute(i, lambda old: None),
    "compare_and_set": lambda x, i: x.compare_and_set(i, None, None),
}


def test_indices_beyond_memory_beside_others():
    """Valid: IndexError (OverflowError where list raises it), nothing changes; as slice bounds and
    insertion points they mean the ends."""
    values = ConcurrentList()
    company = ListCompany(values)

    def terrible(_):
        for _ in range(scaled(30)):
            for index in INDICES:
                for operation in WITH_INDEX.values():
                    with pytest.raises((IndexError, OverflowError)):
                        operation(values, index)
                assert len(values[index:index]) == 0
                assert len(values[: abs(index)]) >= 20
                with pytest.raises((ValueError, OverflowError)):
                    values.index("absent", -abs(index), abs(index))
            end = Boom()
            values.insert(sys.maxsize, end)
            values.remove(end)
            values.insert(-sys.maxsize, end)
            values.remove(end)

    run_threads(1, terrible, background=company.work)
    company.check()
    assert values == []


# ---- iterators ----

ITERATORS = {
    "keys": lambda d, x: iter(d),
    "items": lambda d, x: iter(d.items()),
    "values": lambda d, x: iter(d.values()),
    "list": lambda d, x: iter(x),
    "reversed list": lambda d, x: reversed(x),
}


@pytest.mark.parametrize("churn", [False, True])
@pytest.mark.parametrize("kind", ITERATORS)
def test_K6_one_iterator_shared_by_eight_threads(kind, churn):
    """Valid: together they meet each entry once; copies and length hints of it are made meanwhile;
    at the end it is exhausted for all. Caught, on 3.15t: an iterator without its lock."""
    count = 2000
    for _ in range(rounds(5)):
        census = Census()
        objects = [census.new(i) for i in range(count)]
        d, x = ConcurrentDict(zip(range(count), objects, strict=True)), ConcurrentList(objects)
        iterator = ITERATORS[kind](d, x)

        def consume(_, iterator=iterator):
            met = []
            for entry in iterator:
                value = entry[1] if kind == "items" else entry
                met.append(value if kind == "keys" else value.check())
            return met

        def change(d=d, x=x):
            for i in range(count, count + 200):
                d[i] = d[0]
            x.append(x[0])
            x.pop()
            for i in range(count, count + 200):
                del d[i]

        def look(iterator=iterator):
            assert 0 <= iterator.__length_hint__() <= count + 300
            copied = [entry for entry, _ in zip(copy.copy(iterator), range(5), strict=False)]
            assert len(copied) <= 5

        background = [look, *[change] * (churn and "list" not in kind)]
        if churn and kind == "list":
            background.append(lambda x=x: (x.append(x[0]), x.pop()))
        met = [n for mine in run_threads(8, consume, background=background) for n in mine]
        if kind == "values":
            extra = sorted(met)
            assert [n for n in extra if n] == list(range(1, count)) and 0 in extra
        elif kind == "list":
            assert [n for n in sorted(met) if n] == list(range(1, count)) and 0 in met
        else:
            assert sorted(met) == list(range(count))
        assert next(iterator, None) is None and iterator.__length_hint__() == 0
        del objects, d, x, iterator, consume, change, look, background
        settle()
        assert census.alive == 0


# ---- with itself, with each other ----


def test_A2_extend_by_itself_in_many_threads():
    """Valid: each extend takes one moment of the list and appears at once: at every moment it
    consists of whole copies of what it was."""
    pattern = list(range(10))
    for _ in range(rounds(20)):
        values = ConcurrentList(pattern)

        def terrible(me, values=values):
            for i in range(3):
                match (me + i) % 3:
                    case 0:
                        values.extend(values)
                    case 1:
                        values.__iadd__(values)
                    case 2:
                        values[len(values) :] = values

        def look(values=values):
            seen = values.snapshot()
            assert seen == pattern * (len(seen) // 10)

        run_threads(3, terrible, background=[look])
        assert len(values) >= 20
        look()


def test_update_by_itself_in_many_threads():
    """Valid: nothing is lost and no key comes twice; a key has one of the values that it ever had
    (update assigns what was there at one moment)."""
    d = ConcurrentDict((SameHash(i) if i % 10 == 0 else i, [i]) for i in range(100))
    company = DictCompany(d, kept=False)
    keys = [k for k in d if isinstance(k, SameHash) and type(k.value) is int]
    last = {}

    def terrible(me):
        for i in range(scaled(20)):
            d.update(d)
            d.update(d.items())
            d.__ior__(d)
            d.__init__(d)
            d[keys[me]] = last[me] = [i]

    run_threads(2, terrible, background=[*company.work[:1]])
    assert len({id(k) for k in d}) == len(d) == 120
    assert all(d[k] == [k.value] for k in keys[2:]) and all(type(d[k]) is list for k in keys)
    d.clear()
    company.check()


def test_two_containers_that_take_each_other():
    """Valid: no deadlock, and each has, of itself and of the other, whole contents."""
    a, b = ConcurrentDict((i, "a") for i in range(50)), ConcurrentDict((i, "b") for i in range(99))
    x, y = ConcurrentList([1, 2, 3]), ConcurrentList([4, 5, 6])

    def take(me):
        one, other, first, second = (a, b, x, y) if me % 2 else (b, a, y, x)
        for i in range(scaled(100)):
            one.update(other)
            one |= other
            assert (one == other) in (True, False) and one.keys() & other.keys()
            match i % 4:
                case 0:
                    first.extend(second)
                case 1:
                    first[:] = second
                case 2:
                    first += second
                case 3:
                    first.__init__(second)
            assert (first == second) in (True, False) and (first < second) in (True, False)
            if len(first) > 1000:
                del first[3:]

    def look():
        for values in (x, y):
            seen = values.snapshot()
            whole = [tuple(seen[i : i + 3]) for i in range(0, len(seen), 3)]
            assert set(whole) <= {(1, 2, 3), (4, 5, 6)}

    run_threads(4, take, background=[look])
    assert list(a) == list(range(99)) or sorted(a) == list(range(99))
    assert set(a.values()) | set(b.values()) <= {"a", "b"}


def test_A4_sort_keys_that_change_the_list_beside_others():
    """Valid: sort() raises ValueError (the list was changed) or has sorted; no element of anybody's
    is lost, and what the keys did to the list stays done."""
    values = ConcurrentList()
    company = ListCompany(values)
    added, outcomes = [], []

    def place(value):
        return getattr(value, "first", None) or 0

    def terrible(_):
        for _ in range(scaled(20)):
            new = SameHash(len(added))
            done = []

            def key(value, new=new, done=done):
                if not done:
                    done.append(None)
                    values.append(new)
                    added.append(new)
                return place(value)

            try:
                values.sort(key=key)
                outcomes.append("sorted")
            except ValueError:
                outcomes.append("changed")
            try:
                values.sort(key=place, reverse=True)
            except ValueError:
                pass

    run_threads(1, terrible, background=company.work)
    assert outcomes.count("changed") == len(outcomes) == len(added)
    company.check()
    assert sorted(v.value for v in values) == list(range(len(added)))


# ---- construction ----


def test_init_again_in_many_threads():
    """Valid: a dict is updated, a list replaced, each in whole; what is replaced is freed."""
    census = Census()
    d, values = ConcurrentDict(), ConcurrentList()
    size = 20

    def terrible(me):
        for i in range(scaled(150)):
            mine = [census.new(me) for _ in range(size)]
            d.__init__({me: mine[0]}, own=mine[1], **{f"own {me}": mine[2]})
            assert d[me].check() == me and d[f"own {me}"] is mine[2]
            values.__init__(mine if i % 2 else iter(mine))
            values.__init__(tuple(mine))
            for wrong in (5, [5], "ab"):
                with pytest.raises((TypeError, ValueError)):
                    d.__init__(wrong)
            with pytest.raises(TypeError):
                values.__init__(5)

    def look():
        seen = values.snapshot()
        assert len(seen) in (0, size) and len({value.check() for value in seen}) <= 1
        for value in d.values():
            value.check()

    run_threads(3, terrible, background=[look, look])
    assert len(d) == 7 and len(values) == size
    settle()
    assert census.alive == 7 + size - len({id(v) for v in d.values()} & {id(v) for v in values})
    d.clear()
    values.clear()
    settle()
    assert census.alive == 0


# ---- arguments ----


class Useless:
    """Lacks everything; what is given to every method."""

    __hash__ = None

    def __eq__(self, other):
        raise Boom


ARGUMENTS = [None, -1, 2**70, 1.5, "key", b"", (), [1], {}, {1: 2}, object(), Useless(), len, int]
ARGUMENTS += [slice(None), slice(5, None, 0), ..., iter([]), ConcurrentDict(), ConcurrentList()]
KEYWORDS = [{}, {}, {}, {"x": 1}, {"key": 1}, {"default": []}, {"self": 1}, {"": 1}]
HARMLESS = {"__class__", "__subclasshook__", "__init_subclass__", "__getstate__", "__dir__"}
MAY_RAISE = (
    *(TypeError, ValueError, LookupError, AttributeError, ArithmeticError, StopIteration),
    *(Boom, RuntimeError, NotImplementedError, pickle.PicklingError, MemoryError),
)


def methods_of(things):
    return [
        (name, thing)
        for thing in things
        for name in dir(thing)
        if callable(getattr(thing, name)) and name not in HARMLESS
    ]


@pytest.mark.parametrize("kind", ["dict", "list"])
def test_wrong_arguments_to_every_method(kind):
    """Valid: an exception of the kind that wrong arguments get, never SystemError, or a result; the
    arguments have as many references as before, and the container can be used."""
    random.seed(kind)
    values = ConcurrentDict(a=1) if kind == "dict" else ConcurrentList([1, "a"])
    touch(values)
    things = [values, iter(values)]
    things += [values.keys(), values.items(), values.values()] if kind == "dict" else []
    methods = methods_of(things)
    assert len(methods) > 60
    counted = [a for a in ARGUMENTS if type(a) in (object, Useless, list, dict)]
    before = references(counted)
    for name, thing in methods:
        for count in (0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5):
            arguments = random.choices(ARGUMENTS, k=count)
            keywords = random.choice(KEYWORDS)
            try:
                result = getattr(thing, name)(*arguments, **keywords)
                del result
            except MAY_RAISE as error:
                assert type(error) is not SystemError, (name, arguments)
                del error
    values.clear()
    things.clear()
    methods.clear()
    del thing, arguments, keywords
    for each in ARGUMENTS:
        if type(each) in (dict, list):
            each.clear()
    if kind == "dict":
        values["a"] = 1
        assert values == {"a": 1}
    else:
        values.append(1)
        assert values == [1]
    values.clear()
    assert references(counted) == before


@pytest.mark.parametrize("cls", [ConcurrentDict, ConcurrentList])
def test_methods_of_another_self(cls):
    """Valid: TypeError, as for dict's and list's methods, also from what looks like one of ours."""
    others = [{}, [], object(), None, cls, ConcurrentDict() if cls is ConcurrentList else 5]
    names = set(dir(cls)) - set(dir(object)) - {"__class_getitem__"}
    methods = [inspect.getattr_static(cls, name) for name in sorted(names)]
    methods = [method for method in methods if inspect.ismethoddescriptor(method)]
    assert len(methods) > 20
    for method, other in itertools.product(methods, others):
        for arguments in ((), (1,), (1, 2), (1, 2, 3)):
            with pytest.raises(TypeError):
                method(other, *arguments)
    for base in (dict, list, object, int):
        with pytest.raises(TypeError):
            cls.__new__(base)
    with pytest.raises(TypeError):
        object.__new__(cls)
    with pytest.raises(TypeError):
        cls.__new__()
    for name in ("DictKeys", "DictValues", "DictItems"):
        with pytest.raises(TypeError):
            getattr(qsbrcontainers._native, name)()


# ---- subclasses ----


def test_subclasses_beside_others():
    """Valid: `__missing__` of a thread fills in what all then find, extra attributes come and go,
    each `__del__` is called once with the container whole; one brought back by it lives on."""
    ended, saved = [], []

    class Default(ConcurrentDict):
        def __missing__(self, key):
            return self.setdefault(key, [key])

        def __del__(self):
            ended.append(len(self))
            self["at the end"] = self
            if len(ended) % 10 == 0:
                saved.append(self)

    class Tagged(ConcurrentList):
        def __del__(self):
            ended.append(len(self))
            self.append(self)

    d, values = Default(), Tagged()
    company, list_company = DictCompany(d), ListCompany(values)
    made = itertools.count()

    def terrible(me):
        for i in range(scaled(200)):
            assert d[i % 50] == [i % 50]  # another one now and then: the other thread pops it
            assert d["mine", me] is d["mine", me]
            d.tag, values.tag = [i], [me]
            assert type(d.tag) is type(values.tag) is list
            d.pop(i % 50, None)
            d.pop(("mine", me))
            inner = Default(a=1)
            assert inner["b"] == ["b"]
            inner.outer, inner.me = [d], inner
            d["inner", me] = inner
            values.append(Tagged([inner]))
            next(made)
        d.pop(("inner", me))

    run_threads(2, terrible, background=[*company.work, *list_company.work])
    for key in range(50):
        d.pop(key, None)
    del values[20:]
    company.check()
    list_company.check()
    settle()
    count = next(made)
    assert count == 2 * scaled(200)
    assert len(ended) == 2 * count and ended.count(2) == count
    assert len(saved) and all(each["at the end"] is each and each["a"] == 1 for each in saved)
    saved.clear()
    settle()
    assert len(ended) == 2 * count
    assert d == {} and values == []
    Default.__del__ = Tagged.__del__ = lambda self: None

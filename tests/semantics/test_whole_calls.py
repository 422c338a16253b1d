"""Operations on a whole dict call __hash__ and __eq__ as often as dict's do. The same program runs
on dict and on ours, with keys that count their calls, that raise after the dict was filled, or that
have become equal since. The calls, the result, its order and the exception are compared."""

import copy
import operator

import pytest
from support import Boom, run_threads

from qsbrcontainers import ConcurrentDict, ConcurrentList

SIZE = 20


class Calls:
    def __init__(self):
        self.hash = self.eq = 0
        self.fail_hash = self.fail_eq = self.all_equal = False


class Key:
    def __init__(self, calls, value, hash_value):
        self.calls, self.value, self.hash_value = calls, value, hash_value

    def __hash__(self):
        self.calls.hash += 1
        if self.calls.fail_hash:
            raise Boom
        return self.hash_value

    def __eq__(self, other):
        self.calls.eq += 1
        if self.calls.fail_eq:
            raise Boom
        return self.calls.all_equal or self.value == other.value

    def __repr__(self):
        return f"K{self.value}"

    def __deepcopy__(self, memo):
        return Key(self.calls, self.value, self.hash_value)


def keys(calls, colliding, begin=0, end=SIZE):
    return [Key(calls, i, 7 if colliding else i * 1000) for i in range(begin, end)]


class Case:
    """A dict of counting keys, `same` with the same key objects, `other` with equal ones, and one
    with different keys of the same hashes."""

    def __init__(self, base, colliding, gaps, shared=False):
        self.base, self.calls = base, Calls()
        self.keys = keys(self.calls, colliding)
        self.d = self.filled(self.keys)
        if gaps:
            for key in self.keys[::3]:
                del self.d[key]
            del self.keys[::3]
        self.same = self.filled(self.keys)
        self.other = self.filled([Key(self.calls, k.value, k.hash_value) for k in self.keys])
        self.others = self.filled(keys(self.calls, colliding, SIZE, SIZE + 5))
        self.shorter = self.filled(self.keys[1:])
        self.iterator = iter(self.d)
        next(self.iterator)
        if shared:
            every = [self.d, self.same, self.other, self.others, self.shorter]
            run_threads(1, lambda _: [len(d) for d in every])

    def filled(self, its_keys):
        d = self.base()
        for key in its_keys:
            d[key] = key.value
        return d


def updated(case, source):
    d = case.others
    d.update(source)
    return d


def ored(case, d, other):
    d |= other
    return d


# Each takes a Case and returns a dict, a list, or another object that can be compared.
OPERATIONS = {
    "copy": lambda c: c.d.copy(),
    "copy.copy": lambda c: copy.copy(c.d),
    "deepcopy": lambda c: copy.deepcopy(c.d),
    "construction": lambda c: c.base(c.d),
    "construction with keywords": lambda c: c.base(c.d, a=1),
    "update of an empty one": lambda c: updated_empty(c),
    "update": lambda c: updated(c, c.d),
    "update with itself": lambda c: [c.d.update(c.d), c.d][1],
    "update with the same": lambda c: [c.d.update(c.same), c.d][1],
    "|": lambda c: c.d | c.others,
    "| of the same": lambda c: c.d | c.same,
    "| of an empty one": lambda c: c.d | c.base(),
    "| to an empty one": lambda c: c.base() | c.d,
    "|=": lambda c: ored(c, c.others, c.d),
    "|= to an empty one": lambda c: ored(c, c.base(), c.d),
    "|= itself": lambda c: ored(c, c.d, c.d),
    "pairs": lambda c: c.base([(k, 1) for k in c.keys]),
    "pairs into others": lambda c: updated(c, [(k, 1) for k in c.keys]),
    "zip": lambda c: c.base(zip(c.keys, c.keys)),  # noqa: B905
    "fromkeys": lambda c: c.base.fromkeys(c.keys),
    "fromkeys of one": lambda c: c.base.fromkeys(c.d, 5),
    "repr": lambda c: repr(c.d),
    "str": lambda c: f"{c.d!s:>10}",
    "iter": lambda c: list(c.d),
    "rest of an iterator": lambda c: list(c.iterator),
    "reversed": lambda c: list(reversed(c.d)),
    "reversed keys": lambda c: list(reversed(c.d.keys())),
    "reversed values": lambda c: list(reversed(c.d.values())),
    "reversed items": lambda c: list(reversed(c.d.items())),
    "items": lambda c: list(c.d.items()),
    "values": lambda c: list(c.d.values()),
    "== itself": lambda c: c.d == c.d,
    "== the same": lambda c: c.d == c.same,
    "!= the same": lambda c: c.d != c.same,
    "== equal": lambda c: c.d == c.other,
    "!= equal": lambda c: c.d != c.other,
    "== of another length": lambda c: (c.d == c.shorter, c.shorter == c.d, c.d == c.base()),
    "!= of another length": lambda c: (c.d != c.shorter, c.shorter != c.d, c.d != {}),
    "keys ==": lambda c: c.d.keys() == c.same.keys(),
    "items ==": lambda c: c.d.items() == c.same.items(),
    "keys <=": lambda c: c.d.keys() <= c.same.keys(),
    "isdisjoint": lambda c: c.d.keys().isdisjoint(c.same.keys()),
    "len": lambda c: len(c.d),
    "bool": lambda c: bool(c.d),
    "popitem": lambda c: [c.d.popitem() for _ in range(len(c.d))],
    "clear": lambda c: [c.d.clear(), c.d][1],
    "dict views' repr": lambda c: repr(c.d.keys()).split("(", 1)[1],
}
KINDS = ["plain", "hash raises", "eq raises", "all equal"]
# From a dict without gaps (deleted entries) dict takes the hashes and compares no keys; with gaps
# it compares them with each other. Ours compares none in either case.
INTO_EMPTY = {
    *("construction", "construction with keywords", "update of an empty one"),
    *("| to an empty one", "|= to an empty one"),
}
# (dict's fromkeys compares the keys of a dict with and without gaps.)
# Ours reads the source to its end, hashes included, before it assigns.
READ_FIRST = {"pairs", "pairs into others", "zip"}


def updated_empty(case):
    d = case.base()
    d.update(case.d)
    return d


def pairs_of(value):
    """A form that can be compared without calling the keys' methods."""
    if isinstance(value, dict | ConcurrentDict):
        value = list(value.items())
    if isinstance(value, list | ConcurrentList | tuple):
        return [pairs_of(v) for v in value]
    return value.value if isinstance(value, Key) else value


def outcome(base, name, kind, colliding, gaps, shared=False):
    case = Case(base, colliding, gaps, shared)
    case.calls.hash = case.calls.eq = 0
    case.calls.fail_hash = kind == "hash raises"
    case.calls.fail_eq = kind == "eq raises"
    case.calls.all_equal = kind == "all equal"
    try:
        made = pairs_of(OPERATIONS[name](case))
    except Boom:
        made = Boom
    return made, case.calls.hash, case.calls.eq


@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("gaps", [False, True], ids=["dense", "gaps"])
@pytest.mark.parametrize("colliding", [False, True], ids=["hashes", "one hash"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_calls_and_results_are_those_of_dict(name, kind, colliding, gaps, shared):
    made, hashes, comparisons = outcome(ConcurrentDict, name, kind, colliding, gaps, shared)
    fromkeys = name == "fromkeys of one"
    if colliding and (fromkeys or gaps and name in INTO_EMPTY):
        assert (hashes, comparisons) == (0, 0)
        left = [i for i in range(SIZE) if not gaps or i % 3 != 0]
        assert made == [[i, 5 if fromkeys else i] for i in left] + [
            ["a", 1] for _ in range(name.endswith("keywords"))
        ]
        return
    expected, dicts_hashes, dicts_comparisons = outcome(dict, name, kind, colliding, gaps)
    if kind == "eq raises" and colliding and name in READ_FIRST:
        dicts_hashes = len(range(SIZE)) - gaps * len(range(0, SIZE, 3))
    assert (hashes, comparisons) == (dicts_hashes, dicts_comparisons)
    assert made == expected


# A comparison with a plain dict hashes each key once, since no public function takes a hash.
WITH_A_PLAIN_ONE = {
    "snapshot": lambda c, plain: c.d.snapshot(),
    "construction": lambda c, plain: ConcurrentDict(plain),
    "update": lambda c, plain: c.base().update(plain),
    "|": lambda c, plain: ConcurrentDict() | plain,
    "reflected |": lambda c, plain: plain | ConcurrentDict(),
    "==": lambda c, plain: c.d == plain,
    "reflected ==": lambda c, plain: plain == c.d,
}


@pytest.mark.parametrize("name", WITH_A_PLAIN_ONE)
def test_with_a_plain_dict_each_key_is_hashed_once(name):
    case = Case(ConcurrentDict, False, False)
    plain = {k: k.value for k in case.keys}
    case.calls.hash = case.calls.eq = 0
    WITH_A_PLAIN_ONE[name](case, plain)
    assert (case.calls.hash, case.calls.eq) == (SIZE, 0)
    case = Case(ConcurrentDict, True, False)
    plain = {k: k.value for k in case.keys}
    case.calls.hash = case.calls.eq = 0
    WITH_A_PLAIN_ONE[name](case, plain)
    assert (case.calls.hash, case.calls.eq) == (SIZE, SIZE * (SIZE - 1) // 2)


def test_colliding_keys_that_have_become_equal_survive_a_copy():
    case = Case(ConcurrentDict, True, False)
    case.calls.all_equal = True
    for copied in (case.d.copy(), copy.copy(case.d), case.d | {}, ConcurrentDict(case.d)):
        assert len(copied) == SIZE and [k.value for k in copied] == list(range(SIZE))
    assert len(case.d.snapshot()) == 1


def test_different_lengths_are_told_without_a_copy():
    """Nor is __eq__ of values called, or memory taken for a copy; the same for lists."""
    case = Case(ConcurrentDict, True, False)
    values = ConcurrentList(keys(case.calls, False))
    case.calls.fail_eq = case.calls.fail_hash = True
    assert case.d != {} and case.d != case.shorter and not case.d == dict.fromkeys(range(5))
    assert values != [] and not values == values[:-1] and values != list(values)[1:]
    assert [] != values and case.shorter != case.d


# ---- lists ----

LIST_OPERATIONS = {
    "copy": lambda c: c.values.copy(),
    "copy.copy": lambda c: copy.copy(c.values),
    "construction": lambda c: c.base(c.values),
    "__init__ with itself": lambda c: [c.values.__init__(c.values), c.values][1],
    "+": lambda c: c.values + c.same,
    "*": lambda c: c.values * 2,
    "+= itself": lambda c: operator.iadd(c.values, c.values),
    "slice": lambda c: c.values[1:9:2],
    "slice assignment": lambda c: [operator.setitem(c.values, slice(2, 4), c.same), c.values][1],
    "repr": lambda c: repr(c.values),
    "reversed": lambda c: list(reversed(c.values)),
    "reverse": lambda c: [c.values.reverse(), c.values][1],
    "== itself": lambda c: c.values == c.values,
    "==": lambda c: c.values == c.same,
    "== equal": lambda c: c.values == c.equal,
    "== of another length": lambda c: (c.values == c.equal[1:], c.values != c.equal[:-1]),
    "< of another length": lambda c: (c.values < c.same[:-1], c.values >= c.same[:-1]),
    "in": lambda c: (c.equal[5] in c.values, c.values[5] in c.values),
    "index": lambda c: c.values.index(c.equal[5]),
    "count": lambda c: c.values.count(c.equal[5]),
    "remove": lambda c: [c.values.remove(c.equal[5]), c.values][1],
    "match": lambda c: matched(c.base, c.values),
}


class ListCase:
    def __init__(self, base):
        self.base, self.calls = base, Calls()
        values = keys(self.calls, False)
        self.values, self.same = base(values), base(values)
        self.equal = base(keys(self.calls, False))


def matched(base, value):
    if base is list:
        match value:
            case list(z):
                return z
    match value:
        case ConcurrentList(z) | ConcurrentDict(z):
            return z


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LIST_OPERATIONS)
def test_calls_and_results_are_those_of_list(name, kind):
    results = []
    for base in (list, ConcurrentList):
        case = ListCase(base)
        case.calls.fail_hash = kind == "hash raises"
        case.calls.fail_eq = kind == "eq raises"
        case.calls.all_equal = kind == "all equal"
        try:
            made = LIST_OPERATIONS[name](case)
            made = pairs_of(made)
        except Boom:
            made = Boom
        results.append((made, case.calls.hash, case.calls.eq))
    assert results[0] == results[1]

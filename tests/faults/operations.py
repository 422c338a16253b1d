"""Every method of both containers as one table, each with what it does to a dict or a list: for
tests that do something terrible meanwhile.

An operation is called with a container that `dict_items` or `list_items` filled and with `x`, which
has what it needs ready made, and returns something that can be compared.
"""

import copy
import pickle
import sys
from collections.abc import Callable
from operator import getitem
from typing import Any, NamedTuple

from support import SameHash

from qsbrcontainers import DELETE, MISSING, ConcurrentDict, ConcurrentList, collect, share, stats


class Operation(NamedTuple):
    name: str
    ours: Callable[[Any, Any], Any]
    model: Callable[[Any, Any], Any]
    partly: bool = False  # several steps: those that are through stay, if one fails
    beside: int = 0  # so many items more
    late: bool = False  # MemoryError for the result alone, which is made last
    # It makes functions, as generator expressions do: without memory for one, 3.12 and 3.13 drop a
    # reference to its code that is not theirs. (All others are written so that they make none.)
    functions: bool = False


class Things:
    """What operations use: made before, since making it may fail."""

    def __init__(self, new):
        self.value, self.other = new(), new()
        self.text, self.large = "new" + str(id(self)), 2**48
        self.key, self.equal = SameHash("new"), SameHash("b")
        self.pairs = [("u", self.value), ("number", 2**49), (SameHash("u"), self.other), ("v", 1.5)]

    def get_value(self):
        return self.value

    def get_large(self):
        return self.large

    def value_for(self, old):
        return self.value

    def add_large(self, old):
        return old + self.large


def raises(error, function, *arguments):
    try:
        function(*arguments)
    except error:
        return error.__name__
    except SystemError as wrong:
        # What 3.11 makes of an exception for which it has no traceback: of dict's as well.
        if str(wrong) != "error return without exception set":
            raise
        raise MemoryError from wrong
    return "nothing raised"


BIG = 2**70
PLAIN = {"a": 2**40, ("t", 1): [2.5, None], 2**41: "text"}
PLAIN_LIST = [2**40, 2.5, "text", [None]]


def dict_items(new, beside=0):
    """Keys and values of each kind; the last is a number by value where there are such."""
    return [
        *((("beside", i), i) for i in range(beside)),
        ("text", new()),
        (2**40, new()),
        (("tu", "ple"), new()),
        (SameHash("a"), new()),
        (SameHash("b"), 2**45),
        ("number", 2**40 + 1),
        ("float", 2.5),
        ("big", BIG),
        ("again", new()),
        ("last", 2**44),
    ]


def list_items(new, beside=0):
    return [
        new(),
        5.5,
        1e300,
        -(2**45),
        None,
        "text",
        new(),
        ("tu", "ple"),
        *range(2**40, 2**40 + 20 + beside),
    ]


def both(name, function, partly=False, functions=False):
    return Operation(name, function, function, partly, functions=functions)


# ---- dicts ----


def delete(d, key):
    del d[key]


def assign(d, key, value):
    d[key] = value


def incr_model(d, key, delta=1, default=0):
    d[key] = d.get(key, default) + delta
    return d[key]


def swap_model(d, key, new):
    old = d.get(key)
    d[key] = new
    return old


def compute_number(d, x):
    return d.compute("number", x.add_large)


def is_int(key, value):
    return isinstance(value, int)


def to_delete(old):
    return DELETE


def discard_numbers(d, x):
    return d.discard_if(is_int)


def discard_numbers_model(d, x):
    gone = [key for key, value in d.items() if isinstance(value, int)]
    for key in gone:
        del d[key]
    return len(gone)


def iterate(view):
    return lambda d, x: list(getattr(d, view)())


def view_algebra(d, x):
    keys = d.keys()
    return [
        sorted(map(str, keys & {"text", 2**40, "none"})),
        sorted(map(str, {"text", "none"} - keys)),
        len(keys | {"none"}),
        len(keys ^ {"none"}),
        keys.isdisjoint(["none"]),
        ("number", 2**40 + 1) in d.items(),
        2.5 in d.values(),
        keys == set(d),
        keys >= {"text"},
        len(keys.mapping),
    ]


def insert_beside(counts):
    """One of them grows the table, whatever its sizes are."""

    def insert(d, x):
        d[x.text] = x.value

    return [Operation(f"insert beside {n} more", insert, insert, False, n) for n in counts]


def dict_of_kind(d, x):
    return list(type(d)(d).items())


DICT_OPERATIONS = [
    both("replace an object", lambda d, x: assign(d, "text", x.value)),
    both("replace an object by a number", lambda d, x: assign(d, 2**40, x.large)),
    both("replace a number", lambda d, x: assign(d, "number", x.large)),
    both("replace a number by an object", lambda d, x: assign(d, "number", x.value)),
    both("replace by __eq__", lambda d, x: assign(d, x.equal, x.value)),
    both("insert by __eq__", lambda d, x: assign(d, x.key, x.value)),
    both("read an object", lambda d, x: (d["text"], d.get(2**40), d["tu", "ple"])),
    both("read numbers", lambda d, x: (d["number"], d.get("float"), d["big"], d["last"])),
    both("read by __eq__", lambda d, x: (d[x.equal], d.get(x.key))),
    both("read what is absent", lambda d, x: (d.get("none"), raises(KeyError, getitem, d, "none"))),
    both("in", lambda d, x: ("text" in d, x.equal in d, x.key in d, ["u"] not in [d])),
    both("unhashable", lambda d, x: raises(TypeError, getitem, d, [])),
    both("len", lambda d, x: len(d)),
    both("delete an object", lambda d, x: delete(d, "text")),
    both("delete a number", lambda d, x: delete(d, "number")),
    both("delete by __eq__", lambda d, x: delete(d, x.equal)),
    both("delete what is absent", lambda d, x: raises(KeyError, delete, d, "none")),
    both("pop an object", lambda d, x: d.pop("text")),
    both("pop an int", lambda d, x: d.pop("number")),
    both("pop a float", lambda d, x: d.pop("float", None)),
    both("pop by __eq__", lambda d, x: d.pop(x.equal)),
    both("pop what is absent", lambda d, x: d.pop("none", x.value)),
    both("popitem", lambda d, x: d.popitem()),
    both("popitem twice", lambda d, x: (d.popitem(), d.popitem()), partly=True),
    both("setdefault, there", lambda d, x: d.setdefault("number", x.value)),
    both("setdefault, absent", lambda d, x: d.setdefault(x.text, x.value)),
    both("setdefault a number", lambda d, x: d.setdefault(x.key, x.large)),
    both("update from pairs", lambda d, x: d.update(x.pairs), partly=True),
    both("update from a dict", lambda d, x: d.update(PLAIN, kw=x.value), partly=True),
    both("update from itself", lambda d, x: d.update(d), partly=True),
    both("update from ours", lambda d, x: d.update(OURS), partly=True),
    both("|=", lambda d, x: d.__ior__(PLAIN) and None, partly=True),
    both("|", lambda d, x: list((d | PLAIN).items())),
    both("reflected |", lambda d, x: list((PLAIN | d).items())),
    both("clear", lambda d, x: d.clear()),
    both("copy", lambda d, x: list(d.copy().items())),
    both("copy.copy", lambda d, x: list(copy.copy(d).items())),
    both("construct", dict_of_kind),
    both("construct from pairs", lambda d, x: list(type(d)(x.pairs, kw=x.value).items())),
    both("construct again", lambda d, x: d.__init__(x.pairs), partly=True),
    both("fromkeys", lambda d, x: list(type(d).fromkeys(d, x.value).items())),
    both("iterate", lambda d, x: list(d)),
    both("iterate keys", iterate("keys")),
    both("iterate values", iterate("values")),
    both("iterate items", iterate("items")),
    both("reversed", lambda d, x: [list(reversed(d)), list(reversed(d.items()))]),
    both("copy an iterator", lambda d, x: list(copy.copy(iter(d.items())))),
    both("==", lambda d, x: (d == dict(d.items()), d != PLAIN, d == OURS)),
    both("views", view_algebra, functions=True),
    both(
        "pickle",
        lambda d, x: pickle.loads(pickle.dumps(PLAIN if type(d) is dict else OURS)) == PLAIN,
    ),
    both(
        "deepcopy",
        lambda d, x: copy.deepcopy(PLAIN if type(d) is dict else OURS) == PLAIN,
        functions=True,
    ),
    Operation("snapshot", lambda d, x: list(d.snapshot().items()), lambda d, x: list(d.items())),
    Operation(
        "get_many",
        lambda d, x: d.get_many(["text", "none", "number", x.equal, "float"], 7),
        lambda d, x: [d["text"], 7, d["number"], d[x.equal], 2.5],
    ),
    Operation(
        "incr",
        lambda d, x: d.incr("number", x.large),
        lambda d, x: incr_model(d, "number", x.large),
        late=True,
    ),
    Operation(
        "incr by 1", lambda d, x: d.incr("last"), lambda d, x: incr_model(d, "last"), late=True
    ),
    Operation(
        "incr beyond 51 bits",
        lambda d, x: d.incr("number", 2**50),
        lambda d, x: incr_model(d, "number", 2**50),
    ),
    Operation(
        "incr a big one", lambda d, x: d.incr("big", 2), lambda d, x: incr_model(d, "big", 2)
    ),
    Operation(
        "incr a float",
        lambda d, x: d.incr("float", 0.25),
        lambda d, x: incr_model(d, "float", 0.25),
    ),
    Operation(
        "incr what is absent",
        lambda d, x: d.incr(x.text, x.large, 5),
        lambda d, x: incr_model(d, x.text, x.large, 5),
    ),
    Operation(
        "get_or_create, there",
        lambda d, x: d.get_or_create("number", list),
        lambda d, x: d["number"],
    ),
    Operation(
        "get_or_create",
        lambda d, x: d.get_or_create(x.text, x.get_value),
        lambda d, x: d.setdefault(x.text, x.value),
    ),
    Operation(
        "get_or_create a number",
        lambda d, x: d.get_or_create(x.key, x.get_large),
        lambda d, x: d.setdefault(x.key, x.large),
    ),
    Operation(
        "add", lambda d, x: d.add(x.text, x.value), lambda d, x: not assign(d, x.text, x.value)
    ),
    Operation("add, there", lambda d, x: d.add("number", x.value), lambda d, x: False),
    Operation(
        "swap", lambda d, x: d.swap("text", x.value), lambda d, x: swap_model(d, "text", x.value)
    ),
    Operation(
        "swap a number",
        lambda d, x: d.swap("number", x.large),
        lambda d, x: swap_model(d, "number", x.large),
    ),
    Operation(
        "swap what is absent",
        lambda d, x: d.swap(x.text, x.value),
        lambda d, x: swap_model(d, x.text, x.value),
    ),
    Operation("discard", lambda d, x: d.discard("number"), lambda d, x: not delete(d, "number")),
    Operation("discard_if", discard_numbers, discard_numbers_model, partly=True),
    Operation(
        "compare_and_set",
        lambda d, x: d.compare_and_set("number", 2**40 + 1, x.value),
        lambda d, x: not assign(d, "number", x.value),
    ),
    Operation(
        "compare_and_set to what is absent",
        lambda d, x: d.compare_and_set(x.text, MISSING, x.value),
        lambda d, x: not assign(d, x.text, x.value),
    ),
    Operation(
        "compare_and_delete",
        lambda d, x: (d.compare_and_delete("float", 2.5), d.compare_and_delete("big", 5)),
        lambda d, x: (not delete(d, "float"), False),
        partly=True,
    ),
    Operation("compute", compute_number, lambda d, x: incr_model(d, "number", x.large)),
    Operation(
        "compute to nothing",
        lambda d, x: d.compute("number", to_delete) is MISSING,
        lambda d, x: not delete(d, "number"),
    ),
    Operation(
        "compute from nothing",
        lambda d, x: d.compute(x.text, x.value_for),
        lambda d, x: d.setdefault(x.text, x.value),
    ),
    *insert_beside(range(12)),
    Operation("share", lambda d, x: share(d) is d, lambda d, x: True),
    Operation("sizeof", lambda d, x: sys.getsizeof(d) > 100, lambda d, x: True),
    Operation("collect and stats", lambda d, x: (collect(), stats()) and None, lambda d, x: None),
]

OURS = ConcurrentDict(PLAIN)

# ---- lists ----


def slice_of(*bounds):
    return lambda v, x: list(v[slice(*bounds)])


def no_number(value):
    return value if type(value) is int else 0


def search(v, x):
    return (v.index(5.5), v.count(1e300), ("tu", "ple") in v, x.value in v, v.index(2**40 + 5))


LIST_OPERATIONS = [
    both("append", lambda v, x: v.append(x.value)),
    both("append a number", lambda v, x: v.append(x.large)),
    both("append many", lambda v, x: [v.append(i) for i in range(30)] and None, partly=True),
    both("extend", lambda v, x: v.extend([x.value, 2.5, x.other, None])),
    both("extend by an iterator", lambda v, x: v.extend(iter(x.pairs))),
    both("extend by itself", lambda v, x: v.extend(v)),
    both("extend by ours", lambda v, x: v.extend(OUR_LIST)),
    both("insert", lambda v, x: v.insert(1, x.value)),
    both("insert at the end", lambda v, x: v.insert(len(v), x.large)),
    both("pop", lambda v, x: v.pop()),
    both("pop an object", lambda v, x: v.pop(0)),
    both("pop a float", lambda v, x: v.pop(1)),
    both("pop out of range", lambda v, x: raises(IndexError, v.pop, 1000)),
    both("delete an object", lambda v, x: delete(v, 0)),
    both("delete a number", lambda v, x: delete(v, -1)),
    both("remove a number", lambda v, x: v.remove(5.5)),
    both("remove by eq", lambda v, x: v.remove(("tu", "p" + "le"))),
    both("remove what is absent", lambda v, x: raises(ValueError, v.remove, "none")),
    both("set an object", lambda v, x: assign(v, 0, x.value)),
    both("set a number", lambda v, x: assign(v, 0, x.large)),
    both("set in place of a number", lambda v, x: assign(v, -1, x.value)),
    both("set a slice", lambda v, x: assign(v, slice(1, 3), [x.value, 2.5, x.other, *range(40)])),
    both("set a slice from an iterator", lambda v, x: assign(v, slice(0, 1), iter(x.pairs))),
    both("set a slice of the same size", lambda v, x: assign(v, slice(0, 2), [x.value, x.other])),
    both("set an extended slice", lambda v, x: assign(v, slice(None, None, -1), list(v))),
    both("delete a slice", lambda v, x: delete(v, slice(0, 5))),
    both("delete an extended slice", lambda v, x: delete(v, slice(None, None, 3))),
    both("sort", lambda v, x: v.sort(key=no_number)),
    both("reverse", lambda v, x: v.reverse()),
    both("clear", lambda v, x: v.clear()),
    both("+=", lambda v, x: v.__iadd__([x.value]) and None),
    both("*=", lambda v, x: v.__imul__(3) and None),
    both("*= 0", lambda v, x: v.__imul__(0) and None),
    both("construct again", lambda v, x: v.__init__(x.pairs)),
    both("construct", lambda v, x: list(type(v)(v))),
    both("construct from an iterator", lambda v, x: list(type(v)(iter(x.pairs)))),
    both("slice", slice_of(1, 9)),
    both("extended slice", slice_of(None, None, -2)),
    both("copy", lambda v, x: list(v.copy())),
    both("copy.copy", lambda v, x: list(copy.copy(v))),
    both("+", lambda v, x: list(v + v)),
    both("*", lambda v, x: list(v * 2)),
    both("read", lambda v, x: (v[0], v[1], v[-1], v[3])),
    both("read out of range", lambda v, x: raises(IndexError, getitem, v, 1000)),
    both("search", search),
    both("compare", lambda v, x: (v == v[:], v[:2] < v[:1], v != OUR_LIST)),
    both("len", lambda v, x: len(v)),
    both("iterate", lambda v, x: list(v)),
    both("reversed", lambda v, x: list(reversed(v))),
    both("copy an iterator", lambda v, x: list(copy.copy(iter(v)))),
    both(
        "pickle",
        lambda v, x: (
            pickle.loads(pickle.dumps(PLAIN_LIST if type(v) is list else OUR_LIST)) == PLAIN_LIST
        ),
    ),
    both(
        "deepcopy",
        lambda v, x: copy.deepcopy(PLAIN_LIST if type(v) is list else OUR_LIST) == PLAIN_LIST,
        functions=True,
    ),
    Operation("snapshot", lambda v, x: v.snapshot(), lambda v, x: list(v)),
    Operation("swap", lambda v, x: v.swap(0, x.value), lambda v, x: swap_item(v, 0, x.value)),
    Operation(
        "swap a number", lambda v, x: v.swap(-1, x.large), lambda v, x: swap_item(v, -1, x.large)
    ),
    Operation(
        "compare_and_set",
        lambda v, x: v.compare_and_set(3, -(2**45), x.value),
        lambda v, x: not assign(v, 3, x.value),
    ),
    Operation(
        "compute",
        lambda v, x: v.compute(-1, x.add_large),
        lambda v, x: assign(v, -1, v[-1] + x.large) or v[-1],
    ),
    Operation(
        "compute an object",
        lambda v, x: v.compute(0, x.value_for),
        lambda v, x: assign(v, 0, x.value) or x.value,
    ),
    Operation("incr", lambda v, x: v.incr(-1), lambda v, x: assign(v, -1, v[-1] + 1) or v[-1]),
    Operation(
        "incr beyond 51 bits",
        lambda v, x: v.incr(-1, 2**50),
        lambda v, x: assign(v, -1, v[-1] + 2**50) or v[-1],
    ),
    Operation(
        "incr a float", lambda v, x: v.incr(1, 0.25), lambda v, x: assign(v, 1, 5.75) or 5.75
    ),
    Operation(
        "append_index",
        lambda v, x: v.append_index(x.value),
        lambda v, x: v.append(x.value) or len(v) - 1,
    ),
    Operation("drain", lambda v, x: v.drain(), lambda v, x: [v.copy(), v.clear()][0]),
    Operation("share", lambda v, x: share(v) is v, lambda v, x: True),
    Operation("sizeof", lambda v, x: sys.getsizeof(v) > 100, lambda v, x: True),
]


def swap_item(v, index, new):
    old = v[index]
    v[index] = new
    return old


OUR_LIST = ConcurrentList(PLAIN_LIST)

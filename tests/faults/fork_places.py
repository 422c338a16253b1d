"""For test_fork_places.py, with a debug build: one change of a container in a thread of its own,
stopped at each of its yields in turn. There the process forks, and the child has a container that
a thread which is gone was in the middle of changing.

Prints how many places there were.
"""

import ctypes
import gc
import os
import signal
import sys
import sysconfig
import threading
import traceback
import warnings

from qsbrcontainers import ConcurrentDict, ConcurrentList, _native, collect

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
HANGS_AFTER = 60  # seconds; only turns a deadlock into a failure


class Value:
    """Counts those that live."""

    alive = 0

    def __init__(self, n):
        self.n = n
        Value.alive += 1

    def __del__(self):
        Value.alive -= 1


class Key:
    """All of them collide, and only __eq__ tells them apart: finding one leaves the lock."""

    def __init__(self, n):
        self.n = n

    def __hash__(self):
        return 42

    def __eq__(self, other):
        return isinstance(other, Key) and self.n == other.n


KEYS = {name: Key(name) for name in "uvwxyz"}


def equal(key):
    """Another one that is equal, if only __eq__ can tell."""
    return Key(key.n) if isinstance(key, Key) else key


def plain(value):
    return value.n if isinstance(value, Value) else value


# The thread that is stopped


class Stopper:
    def __init__(self):
        # Debug builds alone have it.
        self.hook = ctypes.c_void_p.in_dll(ctypes.CDLL(_native.__file__), "qc_yield_hook")
        self.callback = ctypes.CFUNCTYPE(None, ctypes.c_char_p)(self.passed)
        self.there, self.go = threading.Lock(), threading.Lock()

    def passed(self, place):
        """Runs in the middle of an operation, with whatever it holds."""
        if threading.get_ident() != self.thread:
            return
        self.count += 1
        if self.count == self.at:
            self.place = place.decode()
            self.there.release()
            self.go.acquire()

    def start(self, prepare, change, at):
        """Whether `change` of what `prepare` made was stopped at its yield number `at`."""
        self.at, self.count, self.place, self.error = at, 0, None, None
        self.there.acquire()
        self.go.acquire()
        self.worker = threading.Thread(target=self.work, args=(prepare, change), daemon=True)
        self.worker.start()
        self.there.acquire()
        self.there.release()
        return self.place is not None

    def work(self, prepare, change):
        try:
            self.container = prepare()
            self.iterator = iter(self.container)
            self.thread = threading.get_ident()
            self.hook.value = ctypes.cast(self.callback, ctypes.c_void_p).value
            change(self.container)
        except BaseException as error:
            self.error = error
        finally:
            self.hook.value = None
            if self.place is None:
                self.there.release()

    def go_on(self):
        self.go.release()
        self.worker.join(HANGS_AFTER)
        assert not self.worker.is_alive(), "the thread that was stopped hangs"
        if self.error is not None:
            raise self.error

    def in_child(self):
        self.hook.value = None


# Changes: (what is there before, the change, what may be there afterwards)


def five(n=5):
    return [("abcde"[i], i) for i in range(n)]


def without(pairs, key):
    return [pair for pair in pairs if pair[0] != key]


def step(d):
    next(stopper.iterator)  # which the thread that forks uses as well


def update(d):
    d.update(f=Value(10), g=Value(11))


DICT_CHANGES = {
    "insert": (five(3), lambda d: d.__setitem__("f", Value(9)), [[*five(3), ("f", 9)]]),
    "insert and grow": (five(), lambda d: d.__setitem__("f", Value(9)), [[*five(), ("f", 9)]]),
    "insert a number": (five(), lambda d: d.__setitem__("f", 9), [[*five(), ("f", 9)]]),
    "replace": (five(2), lambda d: d.__setitem__("b", Value(9)), [[("a", 0), ("b", 9)]]),
    "replace by a number": (five(2), lambda d: d.__setitem__("b", 9), [[("a", 0), ("b", 9)]]),
    "delete": (five(), lambda d: d.__delitem__("b"), [without(five(), "b")]),
    "pop": (five(), lambda d: d.pop("e"), [five(4)]),
    "popitem": (five(), lambda d: d.popitem(), [five(4)]),
    "clear": (five(), lambda d: d.clear(), [[]]),
    "update": (five(), update, [[*five(), ("f", 10)], [*five(), ("f", 10), ("g", 11)]]),
    "setdefault": (five(), lambda d: d.setdefault("f", Value(9)), [[*five(), ("f", 9)]]),
    "incr": ([("a", 1)], lambda d: d.incr("a", 5), [[("a", 6)]]),
    "incr a new one": (five(), lambda d: d.incr("f", 5), [[*five(), ("f", 5)]]),
    "incr beyond 51 bits": ([("a", 2**50 - 1)], lambda d: d.incr("a"), [[("a", 2**50)]]),
    "get_or_create": (
        five(),
        lambda d: d.get_or_create("f", lambda: Value(9)),
        [[*five(), ("f", 9)]],
    ),
    "insert by __eq__ and grow": (
        [(KEYS[name], 1) for name in "uvwxy"],
        lambda d: d.__setitem__(KEYS["z"], Value(3)),
        [[*((KEYS[name], 1) for name in "uvwxy"), (KEYS["z"], 3)]],
    ),
    "replace by __eq__": (
        [(KEYS["x"], 1), (KEYS["y"], 2)],
        lambda d: d.__setitem__(Key("y"), Value(3)),
        [[(KEYS["x"], 1), (KEYS["y"], 3)]],
    ),
    "snapshot": (five(), lambda d: d.snapshot(), [five()]),
    "copy": (five(), lambda d: d.copy(), [five()]),
    "iterate": (five(), lambda d: list(d.items()), [five()]),
    "step": (five(), step, [five()]),
}

LIST_CHANGES = {
    "append": ([1, 2], lambda v: v.append(Value(9)), [[1, 2, 9]]),
    "append and grow": ([1, 2, 3], lambda v: v.append(Value(9)), [[1, 2, 3, 9]]),
    "append the first": ([], lambda v: v.append(9), [[9]]),
    "extend": ([1, 2, 3], lambda v: v.extend([Value(8), 9]), [[1, 2, 3, 8, 9]]),
    "pop": ([1, 2, 3], lambda v: v.pop(), [[1, 2]]),
    "replace": ([1, 2, 3], lambda v: v.__setitem__(1, Value(9)), [[1, 9, 3]]),
    "clear": ([1, 2, 3], lambda v: v.clear(), [[]]),
    "snapshot": ([1, 2, 3], lambda v: v.snapshot(), [[1, 2, 3]]),
    "in": ([1, 2, 3], lambda v: 7 in v, [[1, 2, 3]]),
    "iterate": ([1, 2, 3], list, [[1, 2, 3]]),
    "step": ([1, 2, 3], step, [[1, 2, 3]]),
    "again": ([1, 2, 3], lambda v: v.__init__([Value(4)]), [[4]]),
}


# What the child does


class Dicts:
    changes = DICT_CHANGES

    @staticmethod
    def make(pairs):
        return ConcurrentDict((key, Value(value)) for key, value in pairs)

    @staticmethod
    def make_plain(pairs):
        return ConcurrentDict(pairs)

    @staticmethod
    def reads_as(d, pairs):
        """Without anything that takes the lock."""
        known = dict(pairs)
        candidates = [*"abcdefgh", *map(equal, KEYS.values()), *map(equal, known)]
        there = {key: plain(d.get(key)) for key in candidates if key in d}
        return there == known

    @staticmethod
    def check(d, pairs):
        assert len(d) == len(pairs), (len(d), pairs)
        items = [(key, plain(value)) for key, value in d.items()]
        assert items == pairs, (items, pairs)
        assert list(d) == [key for key, _ in pairs]
        moment = [(key, plain(value)) for key, value in d.snapshot().items()]
        assert moment == pairs, (moment, pairs)
        assert Dicts.reads_as(d, pairs)

    @staticmethod
    def first(d, pairs, which):
        """Some change that is the first in the child; what is there now."""
        known = dict(pairs)
        if which == 0:
            d["h"] = known["h"] = 1
        elif which == 1 and known:
            key = next(iter(known))
            d[key] = Value(77)
            known[key] = 77
        elif which == 2 and known:
            last, value = d.popitem()
            assert (last, plain(value)) == known.popitem()
        elif which == 3:
            d.clear()
            known.clear()
        elif which == 4 and known:
            key = next(iter(known))
            assert plain(d.pop(key)) == known.pop(key)
        elif which == 5:
            assert d.get_or_create("h", lambda: 5) == 5
            known["h"] = 5
        elif which == 6:
            repr(d), d == known, sys.getsizeof(d), iter(d).__length_hint__()
        elif which == 7:
            d.update(known)
        return list(known.items())

    @staticmethod
    def check_iterator(iterator, before, now, taken):
        """Begun before the change; the thread that is gone may have taken the first."""
        keys = list(iterator)
        there = [key for key, _ in before if key in dict(now)]
        assert keys == there or (taken and keys == there[1:]), (keys, there)

    @staticmethod
    def go_on(d, pairs):
        known = dict(pairs)
        for i in range(40):
            d[f"k{i}"] = Value(i)
            known[f"k{i}"] = i
            if i % 3 == 0:
                del d[f"k{i}"], known[f"k{i}"]
        d.incr("count", 3)
        known["count"] = 3
        assert plain(d.setdefault("k1", 5)) == 1
        return list(known.items())


class Lists:
    changes = LIST_CHANGES

    @staticmethod
    def make(values):
        return ConcurrentList(Value(value) for value in values)

    make_plain = ConcurrentList

    @staticmethod
    def reads_as(v, values):
        if len(v) != len(values):
            return False
        back = [plain(v[-i - 1]) for i in range(len(values))]
        return [plain(x) for x in v] == values and back[::-1] == values

    @staticmethod
    def check(v, values):
        assert [plain(x) for x in v.snapshot()] == values
        assert Lists.reads_as(v, values)
        assert 12345 not in v

    @staticmethod
    def first(v, values, which):
        known = list(values)
        if which % 4 == 0:
            v.append(1)
            known.append(1)
        elif which % 4 == 1 and known:
            assert plain(v.pop()) == known.pop()
        elif which % 4 == 2:
            v.clear()
            known.clear()
        elif which % 4 == 3 and known:
            v[-1] = 5
            known[-1] = 5
        return known

    @staticmethod
    def check_iterator(iterator, before, now, taken):
        found = [plain(x) for x in iterator]
        assert found == now or (taken and found == now[1:]), (found, now)

    @staticmethod
    def go_on(v, values):
        known = list(values)
        for i in range(40):
            v.append(Value(i))
            known.append(i)
            if i % 3 == 0:
                assert plain(v.pop()) == known.pop()
        v.extend([1, 2])
        return [*known, 1, 2]


def in_threads(kind, container, now):
    """Several threads are the first to come."""
    errors = []

    def look():
        try:
            for _ in range(5):
                kind.check(container, now)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if errors:
        raise errors[0]


def drop_references(container):
    """Those of the frames of the thread that is gone: nobody else will."""
    while sys.getrefcount(container) > 3:  # our caller's, ours, the call's
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(container))


def child(stopper, kind, states, at, drop):
    stopper.in_child()
    container = stopper.container
    del stopper.container
    now = next((s for s in states if kind.reads_as(container, s)), None)
    assert now is not None, f"half done: {container!r}"
    iterator, stopper.iterator = stopper.iterator, None
    if not drop:
        kind.check_iterator(iterator, states[0], now, stopper.name == "step")
        if at % 9 == 8:
            in_threads(kind, container, now)
        now = kind.first(container, now, at % 9)
        kind.check(container, now)
        now = kind.go_on(container, now)
        kind.check(container, now)
        gc.collect()
        collect()
        kind.check(container, now)
        container.clear()
        kind.check(container, type(now)())
        collect()
        assert Value.alive <= 12, Value.alive  # what the other thread has in hand
    del iterator
    if not FREE_THREADED:
        drop_references(container)
    del container
    gc.collect()
    collect()
    if not FREE_THREADED and stopper.name.startswith(("insert", "replace", "pop", "update")):
        assert Value.alive <= 3, Value.alive  # all but what it has in hand


def fork(stopper, kind, states, at, drop):
    pid = os.fork()
    if pid == 0:
        signal.alarm(HANGS_AFTER)
        try:
            child(stopper, kind, states, at, drop)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        if at % 4 == 0:
            sys.exit()  # the interpreter's own end
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, f"the child ended with {status}; stopped at {stopper.place!r}"


def touch(container):
    def use():
        for _ in range(100):
            len(container), next(iter(container), None)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()


def main(kind, name, shared):
    kind = {"dict": Dicts, "list": Lists}[kind]
    before, change, after = kind.changes[name]
    states = [before, *after]
    make = kind.make_plain if "incr" in name else kind.make
    global stopper
    stopper, places = Stopper(), []
    stopper.name = name

    def prepare():
        container = make(before)
        if shared:
            touch(container)
        return container

    at = 0
    while True:
        at += 1
        stopped = stopper.start(prepare, change, at)
        if stopped:
            places.append(stopper.place)
            for drop in False, True:
                fork(stopper, kind, states, at, drop)
        stopper.go_on()
        kind.check(stopper.container, after[-1])  # in the parent nothing has happened
        del stopper.container, stopper.iterator
        stopper.there, stopper.go = threading.Lock(), threading.Lock()
        gc.collect()
        collect()
        assert Value.alive == 0, Value.alive
        if not stopped:
            break
    print(len(places))


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads
    gc.disable()  # as long as operations are stopped half way
    main(sys.argv[1], sys.argv[2], sys.argv[3] == "shared")

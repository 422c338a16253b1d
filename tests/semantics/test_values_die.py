"""K8: what is replaced or removed dies in the operation that does it, as with dict and list: one
suite for the builtin and ours, unshared, shared, and with deferred reference counting."""

import socket
import threading
import weakref

import pytest
from support import DICTS, LISTS, MANY_TOUCHES, touch

from qsbrcontainers import DELETE, ConcurrentDict, ConcurrentList


def settled(constructor):
    def construct(*arguments):
        container = constructor(*arguments)
        touch(container, MANY_TOUCHES)
        return container

    return construct


ALL_DICTS = {**DICTS, "settled": settled(ConcurrentDict)}
ALL_LISTS = {**LISTS, "settled": settled(ConcurrentList)}


class Thing:
    pass


def lock(path):
    """A lock that is released when what holds it dies."""
    held = threading.Lock()
    held.acquire()
    thing = Thing()
    weakref.finalize(thing, held.release).atexit = False
    return thing, lambda: not held.locked()


def file(path):
    opened = open(path / "file", "wb")
    number = opened.fileno()

    def is_closed():
        try:
            socket.socket(fileno=number).detach()
        except OSError as error:
            return error.errno == 9  # EBADF
        return False

    return opened.detach(), is_closed


def peer(path):
    """A socket, of which the other end notices that it is closed."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def is_closed():
        try:
            return theirs.recv(1) == b""
        except BlockingIOError:
            return False

    return ours, is_closed


def thing(path):
    value = Thing()
    ref = weakref.ref(value)
    return value, lambda: ref() is None


RESOURCES = {"lock": lock, "file": file, "socket": peer, "object": thing}

DICT_ENDS = {
    "del": lambda d: d.__delitem__("k"),
    "replace": lambda d: d.__setitem__("k", None),
    "replace by a number": lambda d: d.__setitem__("k", 1),
    "replace by another": lambda d: d.__setitem__("k", Thing()),
    "update": lambda d: d.update(k=None),
    "pop": lambda d: d.pop("k") and None,
    "popitem": lambda d: d.popitem() and None,
    "clear": lambda d: d.clear(),
    "grow, del": lambda d: (d.update((i, i) for i in range(100)), d.__delitem__("k")),
    "grow, clear": lambda d: (d.update((i, i) for i in range(100)), d.clear()),
    "iterate, clear": lambda d: (d.__setitem__("i", iter(d)), d.clear()),
}
OUR_DICT_ENDS = {
    "swap": lambda d: d.swap("k", None) and None,
    "discard": lambda d: d.discard("k"),
    "discard_if": lambda d: d.discard_if(lambda key, value: True),
    "compute": lambda d: d.compute("k", lambda old: None),
    "compute DELETE": lambda d: d.compute("k", lambda old: DELETE) and None,
    "compare_and_set": lambda d: d.compare_and_set("k", d["k"], None),
    "compare_and_delete": lambda d: d.compare_and_delete("k", d["k"]),
}
LIST_ENDS = {
    "set": lambda x: x.__setitem__(0, None),
    "set from the end": lambda x: x.__setitem__(-1, 1),
    "del": lambda x: x.__delitem__(0),
    "pop": lambda x: x.pop() and None,
    "pop(0)": lambda x: (x.append(1), x.pop(0)) and None,
    "remove": lambda x: x.remove(x[0]),
    "clear": lambda x: x.clear(),
    "assign a slice": lambda x: x.__setitem__(slice(None), [1, 2, 3]),
    "assign an extended slice": lambda x: x.__setitem__(slice(None, None, 2), [1]),
    "delete a slice": lambda x: (x.extend(range(9)), x.__delitem__(slice(0, None, 2))),
    "cut": lambda x: (x.insert(0, 1), x.__delitem__(slice(1, None))),
    "imul": lambda x: x.__imul__(0),
    "init": lambda x: x.__init__([1]),
    "grow, pop": lambda x: (x.extend(range(100)), x.pop(0)) and None,
    "sort, clear": lambda x: (x.sort(key=id), x.reverse(), x.clear()),
}
OUR_LIST_ENDS = {
    "swap": lambda x: x.swap(0, None) and None,
    "compute": lambda x: x.compute(0, lambda old: None),
    "compare_and_set": lambda x: x.compare_and_set(0, x[0], None),
    "drain": lambda x: x.drain() and None,
}
MATRIX = [
    *((kind, "dict", end) for kind in ALL_DICTS for end in DICT_ENDS),
    *((kind, "dict", end) for kind in ALL_DICTS if kind != "dict" for end in OUR_DICT_ENDS),
    *((kind, "list", end) for kind in ALL_LISTS for end in LIST_ENDS),
    *((kind, "list", end) for kind in ALL_LISTS if kind != "list" for end in OUR_LIST_ENDS),
]


@pytest.mark.parametrize("resource", RESOURCES)
@pytest.mark.parametrize(("kind", "like", "end"), MATRIX)
def test_K8_what_a_value_holds_is_released_in_the_operation(kind, like, end, resource, tmp_path):
    value, is_released = RESOURCES[resource](tmp_path)
    container = (ALL_DICTS if like == "dict" else ALL_LISTS)[kind]()
    if like == "dict":
        container["k"] = value
        finish = {**DICT_ENDS, **OUR_DICT_ENDS}[end]
    else:
        container.append(value)
        finish = {**LIST_ENDS, **OUR_LIST_ENDS}[end]
    del value
    assert not is_released()
    finish(container)
    assert is_released()


class Comes:
    """Its finalizer uses the container that it was in, and says in which thread."""

    def __init__(self, container, said, use):
        self.container, self.said, self.use = container, said, use

    def __del__(self):
        self.use(self.container)
        self.said.append(threading.get_ident())


@pytest.mark.parametrize(("kind", "like", "end"), MATRIX)
def test_K8_a_finalizer_may_use_the_container_and_runs_in_this_thread(kind, like, end):
    container = (ALL_DICTS if like == "dict" else ALL_LISTS)[kind]()
    said = []
    if like == "dict":

        def use(d):
            d["back"] = len(d)
            d.pop("back", None)
            list(d)

        container["k"] = Comes(container, said, use)
        finish = {**DICT_ENDS, **OUR_DICT_ENDS}[end]
    else:

        def use(x):
            x.append(len(x))
            x.pop()
            list(x)

        container.append(Comes(container, said, use))
        finish = {**LIST_ENDS, **OUR_LIST_ENDS}[end]
    finish(container)
    assert said == [threading.get_ident()]

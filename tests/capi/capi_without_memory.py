"""For test_capi_without_memory.py, with the debug build: each function of the C API with its first
allocation failing, its second, and so on, until none is left to fail; once, and with all that
follow.

    capi_without_memory.py dict|list|engine WHOSE shared|unshared
"""

import gc
import os
import sys
from functools import partial
from itertools import count

import probe
from operations import Operation, assign, delete, incr_model
from without_memory import Dicts, Lists, failing, in_new_thread, main

from qsbrcontainers import ConcurrentDict


def nothing(*ignored):
    return 0


def set_default_model(d, key, value):
    return (1 if key in d else 0), d.setdefault(key, value)


class DictFunctions(Dicts):
    operations = [
        Operation(
            "dict_set",
            lambda d, x: probe.dict_set(d, x.text, x.value),
            lambda d, x: nothing(assign(d, x.text, x.value)),
        ),
        Operation(
            "dict_set, there",
            lambda d, x: probe.dict_set(d, x.equal, x.value),
            lambda d, x: nothing(assign(d, x.equal, x.value)),
        ),
        Operation(
            "dict_get_ref",
            lambda d, x: probe.dict_get_ref(d, "number"),
            lambda d, x: (1, d["number"]),
        ),
        Operation(
            "dict_contains",
            lambda d, x: (probe.dict_contains(d, x.equal), probe.dict_size(d)),
            lambda d, x: (1, len(d)),
        ),
        Operation(
            "dict_set_default_ref",
            lambda d, x: probe.dict_set_default_ref(d, x.text, x.large),
            lambda d, x: set_default_model(d, x.text, x.large),
        ),
        Operation(
            "dict_set_default_ref, there",
            lambda d, x: probe.dict_set_default_ref(d, "number", x.value),
            lambda d, x: set_default_model(d, "number", x.value),
        ),
        Operation(
            "dict_set_default",
            lambda d, x: probe.dict_set_default(d, x.text, x.value),
            lambda d, x: set_default_model(d, x.text, x.value)[0],
        ),
        Operation(
            "dict_del",
            lambda d, x: probe.dict_del(d, x.equal),
            lambda d, x: nothing(delete(d, x.equal)),
        ),
        Operation(
            "dict_pop",
            lambda d, x: probe.dict_pop(d, "number"),
            lambda d, x: (1, d.pop("number")),
        ),
        Operation(
            "dict_discard",
            lambda d, x: probe.dict_discard(d, "number"),
            lambda d, x: 1 + nothing(d.pop("number")),
        ),
        Operation(
            "dict_incr",
            lambda d, x: probe.dict_incr(d, "number", x.large, 0),
            lambda d, x: incr_model(d, "number", x.large),
            late=True,
        ),
        Operation("dict_clear", lambda d, x: probe.dict_clear(d), lambda d, x: nothing(d.clear())),
        Operation(
            "dict_snapshot",
            lambda d, x: list(probe.dict_snapshot(d).items()),
            lambda d, x: list(d.items()),
        ),
        Operation("dict_new", lambda d, x: len(probe.dict_new()), nothing),
    ]


class ListFunctions(Lists):
    operations = [
        Operation(
            "list_append",
            lambda v, x: probe.list_append(v, x.value),
            lambda v, x: nothing(v.append(x.value)),
        ),
        Operation(
            "list_extend",
            lambda v, x: probe.list_extend(v, x.pairs),
            lambda v, x: nothing(v.extend(x.pairs)),
        ),
        Operation(
            "list_get_ref",
            lambda v, x: (probe.list_get_ref(v, -1), probe.list_get_ref(v, 1000)),
            lambda v, x: ((1, v[-1]), (0, None)),
        ),
        Operation(
            "list_set",
            lambda v, x: probe.list_set(v, 0, x.large),
            lambda v, x: nothing(assign(v, 0, x.large)),
        ),
        Operation("list_pop", lambda v, x: probe.list_pop(v), lambda v, x: (1, v.pop())),
        Operation("list_clear", lambda v, x: probe.list_clear(v), lambda v, x: nothing(v.clear())),
        Operation("list_snapshot", lambda v, x: probe.list_snapshot(v), lambda v, x: list(v)),
        Operation("list_new", lambda v, x: len(probe.list_new()), nothing),
    ]


# ---- domains, records and queues ----

ENGINE = {
    "new": lambda p: probe.Probe() is None,
    "register": lambda p: p.register() == p.register_detached(),
    "register detached": lambda p: p.register_detached() == p.register(),
    "unregister": lambda p: p.unregister(),
    "section": lambda p: (p.enter(), p.exit()),
    "retire": lambda p: p.retire_one(p.ran, 8),
    "retire a reference": lambda p: p.retire_one(p.ran, 0),
    "reserve": lambda p: (p.reserve(100), p.commit()),
    "safe point": lambda p: p.safe_point(),
    "wait": lambda p: p.wait(p.advance()),
    "collect": lambda p: p.collect(),
}
# Without memory for the second call the thread would stay where it is.
TWO_CALLS = ("section", "reserve")


class Probed:
    """A probe, and how often what it retires has run."""

    def __init__(self):
        self.probe, self.run = probe.Probe(), []
        # No Python code, which the interpreter may have no memory for.
        self.ran = partial(self.run.append, None)

    def __getattr__(self, name):
        return getattr(self.probe, name)


def attempt(name, whose, n, forever):
    """How many allocations failed."""
    p, failed, at = Probed(), 1, f"{name}: allocation {n} {'and the following' * forever}"
    right = ENGINE[name](Probed())
    call = partial(failing.call, whose, n, forever, partial(ENGINE[name], p))
    retired = 0
    try:
        failed, result = in_new_thread(call)  # to whom all is new
        assert result == right, f"{at}: {result}, not {right}"
        retired = name.startswith("retire")
    except MemoryError:
        assert name != "safe point" or whose == "python", at  # for the call itself
    p.collect()
    assert len(p.run) == retired and p.held() == (0, 0), f"{at}: {p.run} run, {p.held()} held"
    p.retire_one(p.ran, 8)
    p.collect()
    assert len(p.run) == retired + 1, at
    p.release()
    return failed


def engine(whose):
    failures = {}
    for name in ENGINE:
        if whose == "python" and name in TWO_CALLS:
            continue
        attempt(name, whose, 0, False)
        for n in count(1):
            assert n < 200, name
            if not attempt(name, whose, n, False):
                break
            failures[name] = n
            attempt(name, whose, n, True)
    print(sum(failures.values()), len(failures), len(ENGINE), flush=True)
    gc.collect()
    os._exit(0)  # the threads stay where they are


if __name__ == "__main__":
    if sys.argv[1] == "engine":
        engine(sys.argv[2])
    d = ConcurrentDict(a=1)
    for _ in range(5000):  # until the thread has ints in reserve, for what may not fail any more
        d.get("a")
    main({"dict": DictFunctions, "list": ListFunctions}[sys.argv[1]], *sys.argv[2:])

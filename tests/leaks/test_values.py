"""K8 and T1 in counts: how many values live at most, where their finalizers run, and when a
container begins to wait for the collector. Each for the builtin too."""

import collections
import gc
import os
import sys
import threading
import weakref

import pytest
from support import FREE_THREADED, Census, run_script, run_threads, scaled

from qsbrcontainers import ConcurrentDict, ConcurrentList

WRITERS = 8
MORE_THAN_BUILTIN = 3

# Each gives its container new values, `new()`, and takes out the old ones; `me` is a thread.
REFRESH = {
    "d[k] = v": ("dict", lambda d, me, new: d.__setitem__(me, new())),
    "update": ("dict", lambda d, me, new: d.update({me: new()})),
    "set, del": ("dict", lambda d, me, new: (d.__setitem__(me, new()), d.__delitem__(me))),
    "set, pop": ("dict", lambda d, me, new: (d.__setitem__(me, new()), d.pop(me))),
    "set, clear": ("dict", lambda d, me, new: (d.__setitem__(me, new()), d.clear())),
    "l[i] = v": ("list", lambda x, me, new: x.__setitem__(me, new())),
    "append, pop": ("list", lambda x, me, new: (x.append(new()), x.pop())),
    "insert, del": ("list", lambda x, me, new: (x.insert(0, new()), x.__delitem__(0))),
    "append, clear": ("list", lambda x, me, new: (x.append(new()), x.clear())),
}


class Peak:
    """How many of its values live, and have lived at most when one was made."""

    def __init__(self):
        self.census = Census()
        self.most = collections.Counter()

    def new(self):
        value = self.census.new()
        me = threading.get_ident()
        self.most[me] = max(self.most[me], self.census.alive)
        return value


def peak_of(container, refresh, writers):
    """The most values that lived while `writers` refreshed them, and how many the threads may
    have had in their hands beside the container's."""
    peak = Peak()
    if isinstance(container, (list, ConcurrentList)):
        container.extend([None] * WRITERS)

    def write(me):
        for _ in range(scaled(100)):
            refresh(container, me, peak.new)

    def read():
        for key in range(WRITERS):
            try:
                container[key]
            except LookupError:
                pass

    run_threads(writers, write, background=[read])
    return max(peak.most.values())


@pytest.mark.parametrize("writers", [1, WRITERS])
@pytest.mark.parametrize("how", REFRESH)
def test_K8_as_many_values_live_as_with_the_builtin(how, writers):
    """A value that is replaced beside a reader is not kept for later, by whatever operation and
    by however many threads. Caught: values in batches, which were up to 1,020 a thread."""
    like, refresh = REFRESH[how]
    builtin, ours = (dict, ConcurrentDict) if like == "dict" else (list, ConcurrentList)

    def quiet(container, me, new):
        try:
            refresh(container, me, new)
        except LookupError:
            pass  # another thread's clear()

    # In the container, just made, and just taken out by each writer; and the reader's.
    in_hands = 3 * writers + 1
    allowed = max(peak_of(builtin(), quiet, writers), in_hands) + MORE_THAN_BUILTIN
    assert peak_of(ours(), quiet, writers) <= allowed


REPLACED = """
import sys, time
from qsbrcontainers import ConcurrentDict
from support import peak_memory, run_threads
d = {"dict": dict, "ours": ConcurrentDict}[sys.argv[1]](frame=b"")
def write(_):
    for i in range(500):
        d["frame"] = b"x" * (2 << 20)
def read():
    len(d["frame"])
    time.sleep(0.002)
before = peak_memory()
run_threads(1, write, background=[read])
print(peak_memory() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs the peak of this process alone")
def test_K8_the_memory_of_a_large_value_that_is_replaced():
    """In MiB: one value of 2 MiB, 500 times. (It was 1,004 where dict takes 22.) Either may need
    more now and then, where the allocator keeps what it has: the best of a few runs."""
    ours, builtin = [], []
    for _ in range(8):
        ours.append(float(run_script(REPLACED, "ours")))
        builtin.append(float(run_script(REPLACED, "dict")))
        if min(ours) <= min(builtin) + MORE_THAN_BUILTIN * 2:
            return
    raise AssertionError((ours, builtin))


# ---- where finalizers run ----


FINALIZERS = """
import collections, sys, threading
from qsbrcontainers import ConcurrentDict
from support import run_threads, scaled
d = {"dict": dict, "ours": ConcurrentDict}[sys.argv[1]](k=None, other=None)
where, inside = collections.Counter(), threading.local()
class Value:
    def __del__(self):
        where[getattr(inside, "operation", None)] += 1
def write(_):
    for _ in range(scaled(2000)):
        value = Value()
        inside.operation = "write"
        d["k"] = value
        inside.operation = None
        del value
        inside.operation = "write"
        d["k"] = None
        inside.operation = None
def read():
    inside.operation = "read"
    d.get(sys.argv[2])
    inside.operation = None
run_threads(1, write, background=[read])
assert sum(where.values()) == scaled(2000), where
print(where[None], where["read"], where["write"])
"""


@pytest.mark.parametrize("kind", ["dict", "ours"])
def test_K8_finalizers_run_in_the_operation_that_replaced_the_value(kind):
    """All of them, where the other thread reads another key. Caught: values in batches, most of
    which died between two bytecodes of whatever thread."""
    assert run_script(FINALIZERS, kind, "other").split()[:2] == ["0", "0"]


def test_K8_finalizers_run_where_dict_s_do_if_a_reader_has_the_value():
    """The reader may be the one that lets go of it last, and hands it to the thread that made it:
    the interpreter's reference queue drops it there, between two bytecodes."""
    dicts, ours = (run_script(FINALIZERS, kind, "k").split() for kind in ("dict", "ours"))
    assert int(ours[2]) > 0 and int(dicts[2]) > 0
    if not FREE_THREADED:
        assert ours == dicts


QUEUE = """
import queue, sys, threading
from qsbrcontainers import ConcurrentDict
from support import run_threads
pool = queue.Queue()
class Connection:
    def __init__(self):
        self.raw = pool.get_nowait() if pool.qsize() else object()
    def __del__(self):
        pool.put(self.raw)
d = ConcurrentDict(db=None)
def read():
    for _ in range(300):
        d.get("db")
stop = False
def keep_reading():
    while not stop:
        read()
reader = threading.Thread(target=keep_reading)
reader.start()
for _ in range(3000):
    d["db"] = Connection()
    for _ in range(20):
        pool.put(1)
        pool.get()
stop = True
reader.join()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot choose a CPU")
@pytest.mark.parametrize("attempt", range(3))
def test_K8_a_finalizer_that_takes_a_lock_of_the_program(attempt):
    """On one CPU, where the reader is often kept off it in the middle of something: a finalizer
    that puts into a queue.Queue runs where the main thread has not just taken the queue's lock.
    Caught: values dropped between two bytecodes of the main thread, which hung at once."""
    command = f"import os\nos.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})\n"
    assert run_script(command + QUEUE) == "done"


# ---- when the collector has to come ----

SETTLES = {
    "d[k]": (ConcurrentDict, lambda d: d["k"]),
    "d.get": (ConcurrentDict, lambda d: d.get("k")),
    "k in d": (ConcurrentDict, lambda d: "k" in d),
    "d[k] = v": (ConcurrentDict, lambda d: d.__setitem__("k", 1)),
    "d[k] = object": (ConcurrentDict, lambda d: d.__setitem__("k", settles)),
    "l[i]": (ConcurrentList, lambda x: x[0]),
    "l[i] = v": (ConcurrentList, lambda x: x.__setitem__(0, settles)),
    "append, pop": (ConcurrentList, lambda x: (x.append(1), x.pop())),
    "for x in l": (ConcurrentList, lambda x: list(x)),
    "for k in d": (ConcurrentDict, lambda d: list(d)),
}


def settles(how, each, times=3000):
    """Whether only the collector frees a container that another thread has used so."""
    constructor, use = SETTLES[how]
    container = constructor([("k", "v")])
    ref = weakref.ref(container)
    pause = threading.Event()

    def work(_):
        for i in range(times):
            use(container)
            if i % 500 == 0:
                pause.wait(each)

    run_threads(1, work)
    gc.disable()
    try:
        container = work = None
        return ref() is not None
    finally:
        gc.enable()
        gc.collect()
        assert ref() is None


@pytest.mark.parametrize("how", SETTLES)
def test_T1_a_container_that_is_used_for_long_settles(how):
    """Whatever operation it is used by: the fast ones count as others do. (A second is a
    millisecond here.) Caught: a count of accesses that the fast path took below 0."""
    assert settles(how, 0.002) == FREE_THREADED


DEAD = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from qsbrcontainers import ConcurrentDict, ConcurrentList
from support import Census
kind = {"list": list, "dict": dict, "our list": ConcurrentList, "our dict": ConcurrentDict}
pool, census, most = ThreadPoolExecutor(4), Census(), 0
def work(results, i):
    if hasattr(results, "append"):
        results.append(census.new())
    else:
        results[i] = census.new()
    for _ in range(50):
        len(results), list(results)
for _ in range(6):
    results = kind[sys.argv[1]]()
    for each in [pool.submit(work, results, i) for i in range(100)]:
        each.result()
    assert len(results) == 100
    most = max(most, census.alive)
    del results, each
print(most)
"""


@pytest.mark.parametrize("kind", ["list", "dict", "our list", "our dict"])
def test_T1_containers_made_for_one_request_die_with_it(kind):
    """Filled and read by four threads, and dropped; a container is shared for a second before
    only the collector frees it. (All 600 objects were alive at the end.)"""
    source = "import gc; gc.disable()\n" + DEAD
    most = int(run_script(source, kind, QSBRCONTAINERS_SETTLE_MS="100000"))
    assert 100 <= most <= 200

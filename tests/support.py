"""What the Python tests share: threads that re-raise, hostile keys, objects that count their own
lives, scripts in fresh processes, and the constructors over which the semantics suite runs.
"""

import faulthandler
import gc
import os
import re
import subprocess
import sys
import sysconfig
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qsbrcontainers import ConcurrentDict, ConcurrentList, collect, stats

TESTS = Path(__file__).parent
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
# With a GIL nothing that containers replace waits to be freed, but in debug builds.
FREES_AT_ONCE = stats()["frees"] == "at once"

# Seconds after which threads that still run are taken for hung. No test asserts on time; this and
# HARD_TIMEOUT only turn a deadlock into a failure.
TIMEOUT = 120
HARD_TIMEOUT = 300

RACE_SCALE = float(os.environ.get("QC_RACE_SCALE", "1"))


def scaled(count):
    """`count` operations, times QC_RACE_SCALE; four times as many where threads run side by side
    and are not made to switch all the time, which takes no longer."""
    return max(1, int(count * RACE_SCALE * (4 if FREE_THREADED else 1)))


def rounds(count):
    """`count` rounds of new threads, times QC_RACE_SCALE."""
    return max(1, int(count * RACE_SCALE))


# Threads


def run_threads(*groups, background=(), timeout=TIMEOUT):
    """Run threads that start together, and raise what any of them raised.

    `groups` alternates counts and functions: `run_threads(2, write, 1, read)` runs write(0),
    write(1) and read(0). Each function in `background` is called over and over in a thread of its
    own, at least once, until all of `groups` are through. Returns the groups' results in order.
    """
    counts, functions = groups[::2], groups[1::2]
    jobs = [(f, (i,)) for n, f in zip(counts, functions, strict=True) for i in range(n)]
    start = threading.Barrier(len(jobs) + len(background))
    over = threading.Event()
    results, errors = [None] * len(jobs), []

    def guarded(body):
        try:
            start.wait(timeout)
            body()
        except BaseException as error:
            errors.append(error)

    def work(position):
        function, arguments = jobs[position]
        results[position] = function(*arguments)

    def repeat(function):
        function()
        while not over.is_set():
            function()

    def thread(body, argument):
        return threading.Thread(target=guarded, args=(lambda: body(argument),), daemon=True)

    workers = [thread(work, position) for position in range(len(jobs))]
    repeaters = [thread(repeat, function) for function in background]
    for each in workers + repeaters:
        each.start()
    _join(workers, timeout)
    over.set()
    _join(repeaters, timeout)
    if errors:
        if len(errors) > 1:
            errors[0].add_note(f"({len(errors) - 1} more threads raised)")
        raise errors[0]
    return results


def _join(threads, timeout):
    for each in threads:
        each.join(timeout)
        if each.is_alive():
            faulthandler.dump_traceback(sys.__stderr__, all_threads=True)
            pytest.fail(f"a thread still runs after {timeout} s: deadlock or endless loop")


_other_thread = ThreadPoolExecutor(1)


def in_other_thread(function, *arguments):
    """The result of calling `function` in a second thread, always the same one."""
    return _other_thread.submit(function, *arguments).result(TIMEOUT)


def touch(container, times=1):
    """Use `container` from another thread, so that it is shared (T1) from now on; with many
    `times`, also often enough for deferred reference counting where there is such a thing."""

    def use():
        for i in range(times):
            if i == MANY_TOUCHES // 2:
                time.sleep(0.003)  # longer than conftest.py's QSBRCONTAINERS_SETTLE_MS
            len(container)
            for _ in container:
                break

    thread = threading.Thread(target=use)
    thread.start()
    thread.join(TIMEOUT)


MANY_TOUCHES = 20_000


@pytest.fixture(scope="session")
def real_stderr(pytestconfig):
    """A file descriptor for standard error outside pytest's capture."""
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        descriptor = os.dup(2)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(autouse=True)
def watchdog(real_stderr):
    """End the process, with all threads' tracebacks, when a test hangs so that not even
    `run_threads` can say so (a deadlock that holds the GIL). Autouse where it is imported."""
    faulthandler.dump_traceback_later(HARD_TIMEOUT, exit=True, file=real_stderr)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session", autouse=True)
def only_our_objects():
    """Thousands of collections follow: what is there already need not be looked at each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


# Scripts


def run_script(source, *arguments, timeout=TIMEOUT, **environment):
    """Run `source` in a fresh interpreter with `environment` added to ours; a status other than 0
    fails the test. Returns its standard output, stripped."""
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    settings = {**os.environ, "PYTHONPATH": path, **environment}
    # -P: the folder the tests run in may hold the package's sources without the extension.
    command = [sys.executable, "-P", "-X", "faulthandler", "-c", source, *map(str, arguments)]
    try:
        done = subprocess.run(
            command, env=settings, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired as expired:
        pytest.fail(f"the script hangs; it printed\n{expired.stdout}\n{expired.stderr}")
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


# Containers


def peak_memory():
    """MiB that this process has had in memory at most: its own, where the system says so.

    What getrusage() says begins, on Linux, with what the process had that started this one.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 1024 if sys.platform != "darwin" else peak / 1024 / 1024


def shared(constructor):
    """A constructor whose containers have been used by a second thread: every one of them takes
    the shared paths (assignment without the lock, delayed frees), deterministically."""

    def construct(*arguments, **keywords):
        container = constructor(*arguments, **keywords)
        touch(container)
        return container

    return construct


class DictSubclass(ConcurrentDict):
    """A trivial subclass."""


class ListSubclass(ConcurrentList):
    """A trivial subclass."""


OUR_DICTS = {
    "ConcurrentDict": ConcurrentDict,
    "subclass": DictSubclass,
    "shared": shared(ConcurrentDict),
}
OUR_LISTS = {
    "ConcurrentList": ConcurrentList,
    "subclass": ListSubclass,
    "shared": shared(ConcurrentList),
}
DICTS = {"dict": dict, **OUR_DICTS}
LISTS = {"list": list, **OUR_LISTS}


def outcome_of_both(operation, model, ours):
    """Run `operation` on a list and on ours, which are equal; both come to the same end, as to
    result, exception, message and what is left. Returns what the operation gave on the list."""
    expected, got = _outcome(operation, model), _outcome(operation, ours)
    assert got == expected
    assert repr(ours.snapshot()) == repr(model)
    return expected


def _outcome(operation, container):
    try:
        result = operation(container)
    except Exception as error:
        said = re.sub(r"\b(qsbrcontainers\.)?(ConcurrentList|ListSubclass)\b", "list", str(error))
        return type(error), said
    if isinstance(result, ConcurrentList):
        assert type(result) is ConcurrentList or result is container
        result = result.snapshot()
    return "the container" if result is container else repr(result)


# Hostile keys


class Boom(Exception):
    """What hostile objects raise."""


class Equal:
    """Equal to everything; counts."""

    def __init__(self, then=lambda: None):
        self.then, self.asked = then, 0

    def __eq__(self, other):
        self.asked += 1
        self.then()
        return True


class NoEq:
    def __eq__(self, other):
        raise Boom


class SameHash:
    """Keys of which all collide: only `__eq__` tells them apart."""

    HASH = 42

    def __init__(self, value):
        self.value = value

    def __hash__(self):
        return self.HASH

    def __eq__(self, other):
        return self.value == other.value if isinstance(other, SameHash) else NotImplemented

    def __repr__(self):
        return f"SameHash({self.value!r})"


class CallsOnEq(SameHash):
    """Collides with SameHash; `__eq__` first calls `on_eq()`."""

    def __init__(self, value, on_eq):
        super().__init__(value)
        self.on_eq = on_eq

    __hash__ = SameHash.__hash__

    def __eq__(self, other):
        self.on_eq()
        return super().__eq__(other)


class RaisesOnEq(SameHash):
    """Collides with SameHash; `__eq__` raises."""

    __hash__ = SameHash.__hash__

    def __eq__(self, other):
        raise Boom


class RaisesOnHash:
    def __hash__(self):
        raise Boom


class Text(str):
    """A str subclass: not the exact type that lookups begin with."""


class Number(int):
    """An int subclass, which must come back as itself."""


# Lives


class Census:
    """Counts objects made by `new` and finalized. Each thread counts for itself, so that counting
    does not keep the threads in step; it appends to a list, which a finalizer may interrupt."""

    def __init__(self):
        self._local = threading.local()
        self._all = []

    def new(self, number=0):
        return Counted(self, number)

    def mine(self):
        """This thread's lists: one entry for each object made, one for each gone."""
        try:
            return self._local.lists
        except AttributeError:
            lists = self._local.lists = [], []
            self._all.append(lists)
            return lists

    @property
    def alive(self):
        return sum(len(made) - len(gone) for made, gone in list(self._all))


class Counted:
    """An object with two fields that agree as long as it lives. It is wide, so that its memory is
    soon somebody else's when it was freed too early."""

    __slots__ = ("_census", "first", *(f"_{i}" for i in range(16)), "second", "__weakref__")

    def __init__(self, census, number):
        self._census = census
        self.first = self.second = number
        census.mine()[0].append(None)

    def __del__(self):
        self.first = None
        self._census.mine()[1].append(None)

    def check(self):
        """The object's number; fails for one that was finalized."""
        number = self.first
        assert number is not None and number == self.second, "a finalized object was handed out"
        return number


def settle():
    """Free whatever is only deferred, or only the collector's to free."""
    for _ in range(5):  # what dies may hold, or retire, more
        if collect() + gc.collect() == 0:
            break

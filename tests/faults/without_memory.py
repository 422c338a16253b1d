"""For test_without_memory.py, with the debug build: each operation with its first allocation
failing, its second, and so on, until none is left to fail; once, and with all that follow.

Whatever the builtin does, ours has then done, or it raises MemoryError and has changed nothing;
nothing is lost, nothing is kept.
"""

import gc
import os
import sys
import threading
from functools import partial
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from itertools import count

from operations import (
    DICT_OPERATIONS,
    LIST_OPERATIONS,
    Things,
    dict_items,
    list_items,
)
from support import Census, Counted, in_other_thread, settle

from qsbrcontainers import ConcurrentDict, ConcurrentList, _native, stats

WARM = 12  # calls: so that the interpreter has what it needs for itself
AT_MOST = 2000

DROPS_CODE = (3, 12) <= sys.version_info < (3, 14)

# 3.11 and 3.12 keep the frame, with its locals, for which it has no memory for a traceback.
LEAKS_BY_ITSELF = sys.version_info < (3, 13)


def load_failing():
    loader = ExtensionFileLoader("_failing", _native.__file__)
    module = module_from_spec(spec_from_loader("_failing", loader))
    loader.exec_module(module)
    return module


failing = load_failing()


never = threading.Event()


def in_new_thread(function):
    """The result of calling it in a thread that stays, so that the next one is all new, too."""
    outcome = []
    over = threading.Event()

    def work():
        nonlocal function
        try:
            outcome.append((function(), None))
        except BaseException as error:
            outcome.append((None, error.with_traceback(None)))
        function = None
        over.set()
        never.wait()

    threading.Thread(target=work, daemon=True).start()
    over.wait()
    result, error = outcome.pop()
    if error is not None:
        raise error
    return result


def use_up_records(known=ConcurrentList()):  # noqa: B008
    """Until the next thread that comes has to ask libc for a record."""
    while True:
        try:
            in_new_thread(partial(failing.call, "libc", 1, True, partial(len, known)))
        except MemoryError:
            return


class Dicts:
    builtin, ours, operations, items = dict, ConcurrentDict, DICT_OPERATIONS, dict_items

    @staticmethod
    def contents(d):
        return list((d if isinstance(d, dict) else d.snapshot()).items())

    @staticmethod
    def is_partly(left, before, after):
        """Whether `left` may be what a few of the steps from `before` to `after` come to."""
        before, after = dict(before), dict(after)
        return (
            all(
                any(key in d and same(d[key], value) for d in (before, after))
                for key, value in left
            )
            and {key for key, _ in left} >= before.keys() & after.keys()
        )


class Lists:
    builtin, ours, operations, items = list, ConcurrentList, LIST_OPERATIONS, list_items

    @staticmethod
    def contents(v):
        return list(v) if isinstance(v, list) else v.snapshot()

    @staticmethod
    def is_partly(left, before, after):
        return same(left, after[: len(left)]) and same(left[: len(before)], before)


def same(a, b):
    """Equal, and of what is no number the same objects."""
    if isinstance(a, tuple | list) and type(a) is type(b):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b if isinstance(a, int | float) else a is b


class Case:
    """One operation on containers of one kind."""

    def __init__(self, kind, operation, shared):
        self.kind, self.operation, self.shared = kind, operation, shared
        self.census = Census()
        self.items = kind.items(self.census.new, operation.beside)
        self.x = Things(self.census.new)
        model = kind.builtin(self.items)
        self.before = kind.contents(model)
        self.result = operation.model(model, self.x)
        self.after = kind.contents(model)

    def container(self):
        container = self.kind.ours(self.items)
        if self.shared:
            in_other_thread(len, container)
        return container

    def attempt(self, whose, n, forever):
        """How many allocations failed."""
        container, x = self.container(), self.x
        run = self.operation.ours
        at = f"{self.operation.name}: allocation {n} {'and the following' * forever}"
        failed, result = 1, None
        call = partial(failing.call, whose, n, forever, lambda: run(container, x))
        try:
            # libc is asked where a thread comes for the first time.
            failed, result = in_new_thread(call) if whose == "libc" else call()
            raised = False
        except MemoryError:
            raised = True
        left = self.kind.contents(container)
        if raised:
            partly = self.operation.partly and self.kind.is_partly(left, self.before, self.after)
            late = self.operation.late and forever and same(left, self.after)
            unchanged = same(left, self.before)
            assert unchanged or partly or late, f"{at}: changed, and MemoryError\n{left}"
        else:
            assert same(left, self.after), f"{at}: changed to\n{left}\nnot\n{self.after}"
            assert result == self.result, f"{at}: {result}, not {self.result}"
        assert len(container) == len(left), at
        return failed

    def run(self, whose):
        if whose == "records":
            use_up_records()
            return self.attempt("libc", 1, True)
        for _ in range(WARM if whose != "libc" else 0):
            self.attempt(whose, 0, False)
        numbers = 0
        for n in count(1):
            assert n < AT_MOST, self.operation.name
            if not self.attempt(whose, n, False):
                break
            numbers = n
            self.attempt(whose, n, True)
        return numbers

    def check_lives(self):
        """Nobody is lost. How many stay that should not."""
        for value in [self.x.value, self.x.other, *(i[-1] for i in self.items if type(i) is tuple)]:
            if isinstance(value, Counted):
                value.check()
        self.items = self.x = self.before = self.after = self.result = None
        settle()
        return self.census.alive


KINDS = {"dict": Dicts, "list": Lists}


def main(kind, whose, shared):
    gc.collect()
    gc.freeze()
    settle()
    failures, wrong = {}, []
    bytes_before = stats()["heap_bytes"]
    for operation in kind.operations:
        if operation.functions and whose == "python" and DROPS_CODE:
            continue
        case = Case(kind, operation, shared == "shared")
        try:
            failures[operation.name] = case.run(whose)
            stay, bytes_now = case.check_lives(), stats()["heap_bytes"]
            if whose != "python" or not LEAKS_BY_ITSELF:
                assert stay == 0, f"{operation.name}: {stay} objects stay"
                assert bytes_now <= bytes_before, f"{operation.name}: a block of ours stays"
        except AssertionError as error:
            wrong.append(str(error))
    assert not wrong, "\n".join([f"{len(wrong)} operations", *wrong[:20]])
    print(sum(failures.values()), sum(map(bool, failures.values())), len(failures), flush=True)
    os._exit(0)  # the threads stay where they are


if __name__ == "__main__":
    main(KINDS[sys.argv[1]], *sys.argv[2:])

"""Another task of the same thread goes on in the middle of an operation: coroutines that `__eq__`
advances, whole event loops inside `__eq__` and factories, greenlets. An operation of one task is
begun and ended inside one of another's, or, with greenlets, neither is: whichever comes first.

Each task has keys of its own and checks them; common counters are right in the end.
"""

import asyncio
import random
import threading
import warnings
from collections import deque

import pytest
from support import SameHash, rounds, run_threads

from qsbrcontainers import ConcurrentDict, ConcurrentList

TASKS = 5


def nothing():
    pass


class Turn(threading.local):
    switch = staticmethod(nothing)  # whose turn it is next, in this thread


turn = Turn()


class Switches(SameHash):
    """Collides with all others; `__eq__` first lets another task of the thread go on."""

    __hash__ = SameHash.__hash__

    def __eq__(self, other):
        turn.switch()
        return super().__eq__(other)


class Pause:
    """Awaited: gives the turn up."""

    def __await__(self):
        yield


class Scheduler:
    """Advances one task, whichever is not under way, whenever it is asked."""

    DEEPEST = 20

    def __init__(self):
        self.ready, self.depth, self.nested = deque(), 0, 0

    def switch(self):
        if not self.ready or self.depth >= self.DEEPEST:
            return
        task = self.ready.popleft()
        self.depth += 1
        self.nested += self.depth > 1
        try:
            task.send(None)
            self.ready.append(task)
        except StopIteration:
            pass
        finally:
            self.depth -= 1

    def run(self, tasks):
        self.ready.extend(tasks)
        while self.ready:
            self.switch()


async def use(d, values, me, times, pause):
    """A task: everything, on keys of its own in common containers."""
    mine = {}
    rng = random.Random(str(me))
    for i in range(times):
        key = Switches((me, rng.randrange(4)))
        match rng.randrange(6):
            case 0 | 1:
                d[key] = mine[key.value] = [me, i]
            case 2:
                assert d.pop(key, None) == mine.pop(key.value, None)
            case 3:
                made = d.get_or_create(key, lambda: [turn.switch(), me])
                assert made is mine.setdefault(key.value, made)
            case 4:
                assert d.setdefault(key, made := [me]) is mine.setdefault(key.value, made)
            case 5:
                new = d.compute(key, lambda old, i=i: [turn.switch(), i])
                mine[key.value] = new
        d.incr("count")
        values.append(key)
        assert d.get(key) is mine.get(key.value)
        assert key in values
        await pause()
        for value, expected in mine.items():
            assert d[Switches(value)] is expected
    return mine


def check(d, values, found, times):
    """`found`: what each task has in the end."""
    assert d["count"] == len(found) * times == len(values)
    expected = {value: item for mine in found for value, item in mine.items()}
    left = {key.value: value for key, value in d.items() if key != "count"}
    assert left == expected and len(d) == len(expected) + 1


def keep(coroutine, into):
    """A coroutine that keeps the other's result."""

    async def run():
        into.append(await coroutine)

    return run()


def test_coroutines_that_eq_advances():
    """In two threads: tasks nest in each other's operations, twenty deep."""
    d, values, times = ConcurrentDict(count=0), ConcurrentList(), rounds(30)
    found = []

    def work(me):
        scheduler = Scheduler()
        turn.switch = scheduler.switch
        scheduler.run(
            keep(use(d, values, (me, task), times, Pause), found) for task in range(TASKS)
        )
        assert scheduler.nested > 0

    run_threads(2, work)
    assert len(found) == 2 * TASKS
    check(d, values, found, times)


def test_event_loops_inside_eq():
    """`__eq__`, and factories, run event loops of their own, whose tasks use the same dict."""
    d, values, times = ConcurrentDict(count=0), ConcurrentList(), rounds(6)
    found, loops = [], []

    def work(me):
        state = {"inside": False, "loops": 0}

        def run_loop():
            if state["inside"] or state["loops"] >= 20:
                return
            state["inside"] = True
            state["loops"] += 1
            try:
                found.append(asyncio.run(inner()))
            finally:
                state["inside"] = False

        async def inner():
            names = [(me, state["loops"], i) for i in range(2)]
            tasks = [use(d, values, name, 3, asyncio_pause) for name in names]
            first, second = await asyncio.gather(*tasks)
            return first | second

        # The outer one is driven by hand: a thread has one event loop that runs.
        turn.switch = run_loop
        outer = use(d, values, (me, "outer"), times, Pause)
        try:
            while True:
                outer.send(None)
        except StopIteration as over:
            found.append(over.value)
        loops.append(state["loops"])

    async def asyncio_pause():
        await asyncio.sleep(0)

    run_threads(2, work)
    assert min(loops) > 0
    expected = {value: item for mine in found for value, item in mine.items()}
    assert {k.value: v for k, v in d.items() if k != "count"} == expected
    assert d["count"] == len(values) == 2 * times + sum(loops) * 6


def test_tasks_of_one_loop_beside_its_threads():
    """asyncio as it is used: tasks, and asyncio.to_thread for what would block."""
    d, values, times = ConcurrentDict(count=0), ConcurrentList(), rounds(20)

    def in_thread(name):
        turn.switch = nothing
        task = use(d, values, name, times, Pause)
        try:
            while True:
                task.send(None)
        except StopIteration as over:
            return over.value

    async def main():
        turn.switch = nothing
        tasks = [use(d, values, ("task", i), times, lambda: asyncio.sleep(0)) for i in range(TASKS)]
        threads = [asyncio.to_thread(in_thread, ("thread", i)) for i in range(2)]
        return await asyncio.gather(*tasks, *threads)

    check(d, values, asyncio.run(main()), times)


def greenlets():
    try:
        import greenlet
    except ImportError:
        warnings.warn("THERE IS NO greenlet HERE: switches inside __eq__ UNTRIED", stacklevel=1)
        pytest.skip("no greenlet")
    return greenlet


def test_greenlets_that_switch_inside_eq():
    """An operation stays in the middle for as long as the others like, and ends in any order."""
    greenlet = greenlets()
    d, values, times = ConcurrentDict(count=0), ConcurrentList(), rounds(30)
    found, switches = [], []

    def work(me):
        rng, ready = random.Random(me), []

        def switch():
            others = [g for g in ready if not g.dead and g is not greenlet.getcurrent()]
            if others:
                switches.append(None)
                rng.choice(others).switch()

        def body(task):
            coroutine = use(d, values, (me, task), times, Pause)
            try:
                while True:
                    coroutine.send(None)
                    switch()
            except StopIteration as over:
                found.append(over.value)

        turn.switch = switch
        ready += [greenlet.greenlet(lambda task=task: body(task)) for task in range(TASKS)]
        while any(not g.dead for g in ready):
            next(g for g in ready if not g.dead).switch()

    run_threads(2, work)
    assert len(found) == 2 * TASKS and switches
    check(d, values, found, times)

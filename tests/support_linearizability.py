"""Is what several threads saw of one key what one thread could have seen? (Wing and Gong's search,
with Lowe's memory of what was tried.)

A history is the calls that concerned one key, each with the time before it was made and after it
came back. It is linearizable if there is an order of the calls, in which none stands before one
that had come back before it was made, and which gives a dict each call's result. Keys of a dict are
independent of each other, so each key's calls are searched alone: the history of a dict is
linearizable if those of its keys are (Herlihy and Wing's locality).
"""

import time
from typing import NamedTuple

from qsbrcontainers import DELETE, MISSING


class Call(NamedTuple):
    start: int
    end: int
    name: str
    arguments: tuple
    result: object


def outcome(before, name, arguments):
    """What the call returns and leaves behind if `before` is the value, or MISSING."""
    absent = before is MISSING
    match name, *arguments:
        case ["get" | "get_many" | "snapshot"]:
            return before, before
        case ["contains"]:
            return not absent, before
        case ["set" | "update", new]:
            return None, new
        case ["delete"]:
            return KeyError if absent else None, MISSING
        case ["clear"]:
            return None, MISSING
        case ["discard"]:
            return not absent, MISSING
        case ["pop"]:
            return before, MISSING
        case ["add", new]:
            return absent, new if absent else before
        case ["setdefault" | "get_or_create", new]:
            after = new if absent else before
            return after, after
        case ["swap", new]:
            return before, new
        case ["compare_and_set", expected, new]:
            return before == expected, new if before == expected else before
        case ["compare_and_delete", expected]:
            return before == expected, MISSING if before == expected else before
        case ["incr", delta]:
            after = (0 if absent else before) + delta
            return after, after
        case ["compute", new]:  # the result: what the function was given last, what came back
            after = MISSING if new is DELETE else new
            return (before, after), after
    raise ValueError(name)


def perform(d, key, name, arguments):
    """Make the call; its result as `outcome` gives it."""
    match name, *arguments:
        case ["get"]:
            return d.get(key, MISSING)
        case ["contains"]:
            return key in d
        case ["set", new]:
            d[key] = new
            return None
        case ["delete"]:
            try:
                del d[key]
            except KeyError:
                return KeyError
            return None
        case ["pop" | "swap" as name, *new]:
            return getattr(d, name)(key, *new, MISSING)
        case ["get_or_create", new]:
            return d.get_or_create(key, lambda: new)
        case ["update", new]:
            return d.update([(key, new)])
        case ["compute", new]:
            given = []
            returned = d.compute(key, lambda old: given.append(old) or new)
            return given[-1], returned
    return getattr(d, name)(key, *arguments)


def recorded(calls, d, key, name, *arguments):
    """The result of a call, which is added to `calls[key]`.

    The clock is one for all threads (CLOCK_MONOTONIC). Of two calls that touch at one tick neither
    comes first, so a coarse clock makes the search lenient, never wrong."""
    start = time.perf_counter_ns()
    result = perform(d, key, name, arguments)
    end = time.perf_counter_ns()
    calls[key].append(Call(start, end, name, arguments, result))
    return result


def recorded_for_all(calls, d, name):
    """As `recorded`, for a call that concerns all keys."""
    keys = list(calls)
    start = time.perf_counter_ns()
    match name:
        case "clear":
            d.clear()
            results = [None] * len(keys)
        case "snapshot":
            copied = d.snapshot()
            results = [copied.get(key, MISSING) for key in keys]
        case "get_many":
            results = d.get_many(keys, MISSING)
    end = time.perf_counter_ns()
    for key, result in zip(keys, results, strict=True):
        calls[key].append(Call(start, end, name, (), result))


def linearizable(calls, initial=MISSING):
    """Is there an order? `calls` are all of one key, in any order; the values are hashable and
    equal only if they are the same to whoever stored them."""
    calls = sorted(calls)
    everything = (1 << len(calls)) - 1
    earlier = [sum(1 << j for j, b in enumerate(calls) if b.end < a.start) for a in calls]
    # What one may do next depends only on which calls are done and on the value they left.
    tried, left = {(0, initial)}, [(0, initial)]
    while left:
        done, value = left.pop()
        if done == everything:
            return True
        for i, call in enumerate(calls):
            bit = 1 << i
            if done & bit or earlier[i] & ~done:
                continue
            result, after = outcome(value, call.name, call.arguments)
            step = done | bit, after
            if result == call.result and step not in tried:
                tried.add(step)
                left.append(step)
    return False


def overlapping(calls):
    """How many pairs of calls were under way at the same time."""
    calls = sorted(calls)
    return sum(b.start <= a.end for i, a in enumerate(calls) for b in calls[i + 1 :])


def as_text(calls):
    first = min(call.start for call in calls)
    return "\n".join(
        f"{c.start - first:>10}-{c.end - first:<10} {c.name}{c.arguments} -> {c.result!r}"
        for c in sorted(calls)
    )

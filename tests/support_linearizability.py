"""Is what several threads saw of one key, or of one list, what one thread could have seen?
(Wing and Gong's search, with Lowe's memory of what was tried.)

A history is the calls that concerned one thing, each with the time before it was made and after it
came back. It is linearizable if there is an order of the calls, in which none stands before one
that had come back before it was made, and which gives a dict, or a list, each call's result. Keys
of a dict are independent of each other, so each key's calls are searched alone: the history of a
dict is linearizable if those of its keys are (Herlihy and Wing's locality). The elements of a list
are not, so the whole list is what the calls are about.
"""

import time
from typing import NamedTuple

from qsbrcontainers import DELETE, MISSING

# The search


class Call(NamedTuple):
    start: int
    end: int
    name: str
    arguments: tuple
    result: object


def linearizable(calls, initial=MISSING, outcome=None):
    """Is there an order? `calls` are all of one key, in any order; the values are hashable and
    equal only if they are the same to whoever stored them. `outcome` says what a call returns and
    leaves behind; for a list it is `list_outcome`, and `initial` a tuple."""
    outcome = outcome or key_outcome
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


# A key of a dict


def key_outcome(before, name, arguments):
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
    """Make the call; its result as `key_outcome` gives it."""
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


# A list


class ListModel(list):
    """What our lists have, of one thread."""

    def swap(self, index, new):
        old, self[index] = self[index], new
        return old

    def compare_and_set(self, index, expected, new):
        same = self[index] == expected
        if same:
            self[index] = new
        return same

    def compute(self, index, func):
        self[index] = func(self[index])
        return self[index]

    def incr(self, index, delta=1):
        self[index] += delta
        return self[index]

    def append_index(self, value):
        self.append(value)
        return len(self) - 1

    def drain(self):
        everything = self[:]
        self.clear()
        return everything

    def snapshot(self):
        return self[:]


def perform_on_list(values, name, arguments):
    """Make the call, of a ListModel or of ours; its result, or the class of what it raised."""
    try:
        match name, *arguments:
            case ["get", index]:
                return values[index]
            case ["set", index, new]:
                values[index] = new
                return None
            case ["len"]:
                return len(values)
            case ["contains", value]:
                return value in values
            case ["slice", *bounds]:
                return list(values[slice(*bounds)])
            case ["set slice", new, *bounds]:
                values[slice(*bounds)] = new
                return None
            case ["delete", index]:
                del values[index]
                return None
            case ["delete slice", *bounds]:
                del values[slice(*bounds)]
                return None
            case ["extend from", more]:
                return values.extend(value for value in more)
            case ["add", more]:
                values += more
                return None
            case ["times", n]:
                values *= n
                return None
            case ["copy"]:
                return list(values.copy())
            case ["equals", other]:
                return values == other
            case ["compute", index, new]:  # the result: what the function was given last, too
                given = []
                returned = values.compute(index, lambda old: given.append(old) or new)
                return given[-1], returned
            case ["sort", key]:
                return values.sort(key=key)
        return getattr(values, name)(*arguments)
    except (IndexError, ValueError) as error:
        return type(error)


def list_outcome(before, name, arguments):
    """What the call returns and leaves behind if `before`, a tuple, is the list."""
    if name == "disturbed sort":  # somebody changed the list: so it says, and leaves it as it is
        return ValueError, before
    model = ListModel(before)
    result = perform_on_list(model, name, arguments)
    return result, tuple(model)


def recorded_on_list(calls, values, name, *arguments):
    """As `recorded`; `calls` is a list of this thread's."""
    start = time.perf_counter_ns()
    result = perform_on_list(values, name, arguments)
    end = time.perf_counter_ns()
    if name == "sort" and result is ValueError:
        name = "disturbed sort"
    calls.append(Call(start, end, name, arguments, result))
    return result

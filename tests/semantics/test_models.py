"""Model tests: hypothesis drives ours and the builtin with the same operations and compares
results, errors and contents after each step.

Each machine runs four ways: on a container that one thread has used; on one that a second thread
has touched, so that every operation takes the shared paths; with the threads taking turns; and on
a subclass.
"""

import math

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support import DictSubclass, ListSubclass, SameHash, Text, in_other_thread, touch

from qsbrcontainers import DELETE, MISSING, ConcurrentDict, ConcurrentList

SETTINGS = settings(
    max_examples=50,
    stateful_step_count=50,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

# Few keys, so that operations meet; many collide (SameHash, -1 and -2, 1 and 2**61) or are equal
# without being the same (1 and 1.0, "a" and Text("a")).
KEYS = st.sampled_from(
    [
        *(0, 1, 2, 3, 1.0, True, -1, -2, 2**61, 2**122, "a", "b", "c", Text("a"), None, (1, 2)),
        *(SameHash(0), SameHash(1), SameHash(2), SameHash(3), SameHash.HASH, 2.5),
    ]
)
MORE_KEYS = [("more", i) for i in range(200)]
UNHASHABLE = st.sampled_from([[], {}])
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([s * 2**e + d for s in (1, -1) for e in (50, 51, 62, 63) for d in (-1, 0, 1)]),
    st.integers(),
)
VALUES = st.one_of(
    NUMBERS,
    st.floats(allow_nan=False),
    st.sampled_from([None, True, False, "text", (), [], math.nan]),
)
INDICES = st.one_of(st.integers(-15, 15), st.integers())
BOUNDS = st.one_of(st.none(), st.integers(-15, 15), st.integers())
STEPS = st.sampled_from([None, None, 1, 2, 3, -1, -2, 0, 2**70, -(2**70)])
SLICES = st.builds(slice, BOUNDS, BOUNDS, STEPS)
PAIRS = st.lists(st.tuples(KEYS, VALUES), max_size=12)


class Machine(RuleBasedStateMachine):
    """Runs an operation on both sides and compares what came of it."""

    turns = False
    shares = False
    model_type = our_type = None

    def __init__(self):
        super().__init__()
        self.steps = 0
        self.model = self.model_type()
        self.ours = self.our_type()

    @initialize()
    def share(self):
        if self.shares:
            touch(self.ours)

    def start_over(self, argument):
        self.model, self.ours = self.model_type(argument), self.our_type(argument)
        self.share()

    def both(self, operation):
        self.each(operation, operation)

    def each(self, on_model, on_ours):
        self.steps += 1
        call = in_other_thread if self.turns and self.steps % 2 else lambda f, *x: f(*x)
        expected, got = result(on_model, self.model), call(result, on_ours, self.ours)
        assert same(got, expected), f"{got!r} instead of {expected!r}"


def result(operation, container):
    try:
        return operation(container)
    except Exception as error:
        return type(error), error.args if isinstance(error, KeyError) else None


def same(got, expected):
    """Equal, of the same types but for a list of ours, and NaNs alike."""
    if type(got) is ConcurrentList and type(expected) is list:
        got = got.snapshot()
    if type(got) is not type(expected):
        return False
    if isinstance(expected, (tuple, list)):
        return len(got) == len(expected) and all(map(same, got, expected))
    if isinstance(expected, float):
        return repr(got) == repr(expected)
    return got is expected or got == expected


def equals(value, expected):
    """As containers compare: what is identical is equal."""
    return value is expected or value == expected


class DictMachine(Machine):
    model_type = dict
    our_type = ConcurrentDict

    @rule(pairs=PAIRS)
    def construct(self, pairs):
        self.start_over(pairs)

    @rule(key=KEYS, value=VALUES)
    def set(self, key, value):
        self.both(lambda d: d.__setitem__(key, value))

    @rule(key=KEYS)
    def read(self, key):
        self.both(lambda d: d[key])
        self.both(lambda d: d.get(key))
        self.both(lambda d: key in d)

    @rule(key=KEYS)
    def delete(self, key):
        self.both(lambda d: d.__delitem__(key))

    @rule(key=KEYS, value=VALUES)
    def pop(self, key, value):
        self.both(lambda d: d.pop(key, value))
        self.both(lambda d: d.pop(key))

    @rule(key=KEYS, value=VALUES)
    def setdefault(self, key, value):
        self.both(lambda d: d.setdefault(key, value))

    @rule()
    def popitem(self):
        self.both(lambda d: d.popitem() if d else ())

    @rule(pairs=PAIRS)
    def update(self, pairs):
        self.both(lambda d: d.update(pairs))
        self.both(lambda d: d.update(dict(pairs)))

    @rule(key=KEYS, delta=NUMBERS, default=NUMBERS)
    def incr(self, key, delta, default):
        if type(self.model.get(key, 0)) is int:
            self.model[key] = self.model.get(key, default) + delta
            assert same(self.ours.incr(key, delta, default), self.model[key])

    @rule(key=KEYS, value=VALUES)
    def get_or_create(self, key, value):
        expected = self.model.setdefault(key, value)
        assert same(self.ours.get_or_create(key, lambda: value), expected)

    @rule(key=KEYS, value=VALUES)
    def add(self, key, value):
        absent = key not in self.model
        self.model.setdefault(key, value)
        assert self.ours.add(key, value) is absent

    @rule(key=KEYS, value=VALUES, default=VALUES)
    def swap(self, key, value, default):
        expected = self.model.get(key, default)
        self.model[key] = value
        assert same(self.ours.swap(key, value, default), expected)

    @rule(key=KEYS, expected=VALUES, value=VALUES, current=st.booleans())
    def compare_and_set(self, key, expected, value, current):
        if current:
            expected = self.model.get(key, MISSING)
        equal = equals(self.model.get(key, MISSING), expected)
        if equal:
            self.model[key] = value
        assert self.ours.compare_and_set(key, expected, value) is equal

    @rule(key=KEYS, expected=VALUES, current=st.booleans())
    def compare_and_delete(self, key, expected, current):
        if current:
            expected = self.model.get(key, MISSING)
        equal = equals(self.model.get(key, MISSING), expected)
        if equal:
            self.model.pop(key, None)
        assert self.ours.compare_and_delete(key, expected) is equal

    @rule(key=KEYS, value=st.one_of(VALUES, st.just(DELETE)), default=st.one_of(st.none(), VALUES))
    def compute(self, key, value, default):
        given = []
        defaults = () if default is None else (default,)
        expected = self.model.get(key, *(defaults or (MISSING,)))
        result = self.ours.compute(key, lambda old: given.append(old) or value, *defaults)
        assert len(given) == 1 and same(given[0], expected)
        if value is DELETE:
            self.model.pop(key, None)
            assert result is MISSING
        else:
            self.model[key] = value
            assert result is value

    @rule(key=KEYS)
    def discard(self, key):
        assert self.ours.discard(key) is (key in self.model)
        self.model.pop(key, None)

    @rule(keys=st.lists(KEYS, max_size=5))
    def discard_if(self, keys):
        seen = []
        gone = [key for key in self.model if key in keys]
        removed = self.ours.discard_if(lambda k, v: seen.append((k, v)) or k in keys)
        assert removed == len(gone) and same(seen, list(self.model.items()))
        for key in gone:
            del self.model[key]

    @rule(keys=st.lists(KEYS, max_size=5), default=VALUES)
    def get_many(self, keys, default):
        expected = [self.model.get(key, default) for key in keys]
        assert same(self.ours.get_many(keys, default), expected)

    @rule(size=st.integers(1, 200))
    def grow_and_shrink(self, size):
        self.both(lambda d: d.update(dict.fromkeys(MORE_KEYS[:size], 5)))
        self.both(lambda d: [d.pop(key, None) for key in MORE_KEYS[:size]])

    @rule(size=st.integers(1, 100))
    def grow(self, size):
        self.both(lambda d: d.update(dict.fromkeys(MORE_KEYS[:size], -5)))

    @rule(key=UNHASHABLE, value=VALUES)
    def unhashable(self, key, value):
        self.both(lambda d: d.get(key))
        self.both(lambda d: d.__setitem__(key, value))
        self.both(lambda d: d.setdefault(key, value))
        self.both(lambda d: d.update([(key, value)]))

    @rule()
    def clear(self):
        self.both(lambda d: d.clear())

    @rule()
    def copy(self):
        self.both(lambda d: list(d.copy().items()))
        self.model, self.ours = self.model.copy(), self.ours.copy()
        self.share()

    @invariant()
    def same_contents(self):
        model, ours = self.model, self.ours
        assert len(ours) == len(model) and bool(ours) == bool(model)
        assert same(list(ours.items()), list(model.items()))
        assert same(list(ours), list(model)) and same(list(ours.values()), list(model.values()))
        assert same(list(ours.snapshot().items()), list(model.items()))
        assert all(a is b for a, b in zip(ours, model, strict=True)), "another of the equal keys"
        assert repr(ours) == repr(model)
        assert ours == model and model == ours and not ours != model


class ListMachine(Machine):
    model_type = list
    our_type = ConcurrentList

    @rule(values=st.lists(VALUES, max_size=12))
    def construct(self, values):
        self.start_over(values)

    @rule(value=VALUES)
    def append(self, value):
        self.both(lambda x: x.append(value))

    @rule(values=st.lists(VALUES, max_size=20))
    def extend(self, values):
        self.both(lambda x: x.extend(values))
        self.both(lambda x: x.extend(iter(values[:2])))

    @precondition(lambda self: len(self.model) < 300)
    @rule()
    def extend_with_itself(self):
        self.both(lambda x: x.extend(x))

    @rule(index=INDICES)
    def read(self, index):
        self.both(lambda x: x[index])

    @rule(index=INDICES, value=VALUES)
    def set(self, index, value):
        self.both(lambda x: x.__setitem__(index, value))

    @rule(index=INDICES, value=VALUES)
    def insert(self, index, value):
        self.both(lambda x: x.insert(index, value))

    @rule(count=st.integers(1, 10))
    def pop(self, count):
        for _ in range(count):
            self.both(lambda x: x.pop())

    @rule(index=INDICES)
    def pop_at(self, index):
        self.both(lambda x: x.pop(index))

    @rule(index=INDICES)
    def delete(self, index):
        self.both(lambda x: x.__delitem__(index))

    @rule(where=SLICES)
    def read_slice(self, where):
        self.both(lambda x: x[where])

    @rule(where=SLICES, values=st.lists(VALUES, max_size=10))
    def set_slice(self, where, values):
        self.both(lambda x: x.__setitem__(where, values))
        self.both(lambda x: x.__setitem__(where, iter(x[where])))

    @rule(where=SLICES)
    def set_slice_to_itself(self, where):
        if len(self.model) < 300:
            self.both(lambda x: x.__setitem__(where, x))

    @rule(where=SLICES)
    def delete_slice(self, where):
        self.both(lambda x: x.__delitem__(where))

    @rule(value=VALUES, start=INDICES, stop=INDICES)
    def search(self, value, start, stop):
        self.both(lambda x: value in x)
        self.both(lambda x: x.count(value))
        self.both(lambda x: x.index(value))
        self.both(lambda x: x.index(value, start, stop))

    @rule(value=VALUES)
    def remove(self, value):
        self.both(lambda x: x.remove(value))

    @rule(index=INDICES)
    def remove_one_that_is_there(self, index):
        self.both(lambda x: x.remove(x[index]))

    @rule(reverse=st.booleans())
    def sort_by_repr(self, reverse):
        self.both(lambda x: x.sort(key=repr, reverse=reverse))

    @rule(reverse=st.booleans(), numbers=st.booleans())
    def sort_or_fail(self, reverse, numbers):
        if numbers:
            chosen = [v for v in self.model if isinstance(v, (int, float))]
            self.both(lambda x: x.__setitem__(slice(None), chosen))
        try:
            sorted(self.model)
        except TypeError:
            with pytest.raises(TypeError):  # and ours stays as it was
                self.ours.sort(reverse=reverse)
        else:
            self.both(lambda x: x.sort(reverse=reverse))

    @rule()
    def reverse(self):
        self.both(lambda x: x.reverse())

    @rule(values=st.lists(VALUES, max_size=5))
    def add(self, values):
        self.both(lambda x: x + values)
        self.both(lambda x: x + x)

    @precondition(lambda self: len(self.model) < 300)
    @rule(count=st.integers(-1, 3))
    def multiply(self, count):
        self.both(lambda x: x * count)
        self.both(lambda x: count * x)
        self.both(lambda x: x.__imul__(count) is x)

    @rule(values=st.lists(VALUES, max_size=5))
    def compare(self, values):
        for other in (values, self.model, self.model[:2]):
            self.both(lambda x: (x == other, x != other))  # noqa: B023
            self.both(lambda x: x < other)  # noqa: B023
            self.both(lambda x: x >= other)  # noqa: B023

    @rule(index=INDICES, value=VALUES)
    def swap(self, index, value):
        def on_list(x):
            x[index], old = value, x[index]
            return old

        self.each(on_list, lambda x: x.swap(index, value))

    @rule(index=INDICES, expected=VALUES, value=VALUES)
    def compare_and_set(self, index, expected, value):
        def on_list(x):
            if not equals(x[index], expected):
                return False
            x[index] = value
            return True

        self.each(on_list, lambda x: x.compare_and_set(index, expected, value))
        if -len(self.model) <= index < len(self.model):
            there = self.model[index]
            assert self.ours.compare_and_set(index, there, there) is True

    @rule(index=INDICES, value=VALUES)
    def compute(self, index, value):
        given = []

        def on_list(x):
            given.append(x[index])
            x[index] = value
            return value

        self.each(on_list, lambda x: x.compute(index, lambda old: given.append(old) or value))
        assert len(given) in (0, 2) and same(given[:1], given[1:])

    @rule(index=INDICES, delta=NUMBERS)
    def incr(self, index, delta):
        if math.nan in self.model:
            return  # each side would get a NaN of its own, and no two are equal

        def on_list(x):
            if not isinstance(x[index], (int, float)):
                raise TypeError
            x[index] += delta
            return x[index]

        self.each(on_list, lambda x: x.incr(index, delta))

    @rule(value=VALUES)
    def append_index(self, value):
        self.each(lambda x: x.append(value) or len(x) - 1, lambda x: x.append_index(value))

    @rule()
    def drain(self):
        self.each(lambda x: (x[:], x.clear())[0], lambda x: x.drain())

    @rule()
    def clear(self):
        self.both(lambda x: x.clear())

    @rule()
    def copy(self):
        self.both(lambda x: x.copy())
        self.start_over(self.model.copy())

    @rule()
    def reversed(self):
        self.both(lambda x: list(reversed(x)))

    @rule(size=st.integers(10, 300))
    def grow_and_shrink(self, size):
        self.both(lambda x: x.extend(range(size)))
        self.both(lambda x: [x.pop() for _ in range(size)])

    @rule(steps=st.integers(0, 5), value=VALUES)
    def iterate_and_change(self, steps, value):
        def operation(x):
            iterator = iter(x)
            met = [next(iterator, None) for _ in range(steps)]
            x.append(value)
            met.append(next(iterator, None))
            x.pop()
            return met + list(iterator)

        self.both(operation)

    @invariant()
    def same_contents(self):
        model, ours = self.model, self.ours
        assert len(ours) == len(model) and bool(ours) == bool(model)
        assert same(list(ours), model) and same(ours.snapshot(), model)
        assert repr(ours) == repr(model)
        assert ours == model and model == ours and not ours != model


@pytest.mark.parametrize("machine", [DictMachine, ListMachine])
@pytest.mark.parametrize("way", ["unshared", "shared", "turns", "subclass"])
def test_model(machine, way):
    subclass = DictSubclass if machine is DictMachine else ListSubclass
    changes = {
        "unshared": {},
        "shared": {"shares": True},
        "turns": {"turns": True},
        "subclass": {"our_type": subclass, "shares": True},
    }[way]
    run_state_machine_as_test(type(machine.__name__, (machine,), changes), settings=SETTINGS)

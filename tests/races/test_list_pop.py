"""K8 for what takes elements out: who does it drops the object, while readers may be about to take
it."""

import pytest
from support import Census, run_threads, scaled, settle

from qsbrcontainers import ConcurrentList


def append_and(take):
    def put_and_take(values, new):
        values.append(new)
        take(values)

    return put_and_take


TAKE = {
    "pop": append_and(lambda values: values.pop()),
    "pop(0)": append_and(lambda values: values.pop(0)),
    "del": append_and(lambda values: values.__delitem__(-1)),
    "del slice": append_and(lambda values: values.__delitem__(slice(1, None))),
    "clear": append_and(lambda values: values.clear()),
    "drain": append_and(lambda values: values.drain()),
    "set": lambda values, new: values.__setitem__(0, new),
    "set slice": lambda values, new: values.__setitem__(slice(None), [new]),
    "swap": lambda values, new: values.swap(0, new),
    "compute": lambda values, new: values.compute(0, lambda old: new),
    "compare_and_set": lambda values, new: values.compare_and_set(0, values[0], new),
}


@pytest.mark.parametrize("name", TAKE)
def test_K8_what_is_taken_out_lives_as_long_as_readers_may_take_it(name):
    """A reader gets an element, whatever died meanwhile. (Step by step, with what was caught:
    test_values_placed.py.)"""
    census = Census()
    values = ConcurrentList([census.new(0)])
    take = TAKE[name]

    def put_and_take(_):
        for _ in range(scaled(5000)):
            take(values, census.new(0))

    def read():
        for i in range(100):
            try:
                values[-(i > 20)].check()
            except IndexError:
                pass

    run_threads(1, put_and_take, background=[read, read])
    settle()
    assert census.alive == len(values) <= 1

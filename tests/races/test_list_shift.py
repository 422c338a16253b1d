"""A3: single reads, which take no lock, beside changes that shift elements: each change is seen
by all of them or by none.

Caught (3.15t): LIST_SHIFT_IN_PLACE.
"""

import random
import threading

from support import run_threads, scaled

from qsbrcontainers import ConcurrentList


def reader(values, offset, indices):
    """Reads at any of the indices; `offset(value, index)` never becomes smaller."""
    seen = threading.local()

    def read():
        dice = random.Random(threading.get_ident())
        last = getattr(seen, "last", -(10**9))
        for _ in range(50):
            index = dice.choice(indices)
            try:
                value = values[index]
            except IndexError:
                continue
            assert offset(value, index) >= last, (value, index, last)
            last = offset(value, index)
        seen.last = last

    return read


def test_A3_elements_move_up_at_once():
    """The newest is put in front: element i is the newest less i, whatever else goes on."""
    most = 600
    values = ConcurrentList(range(most - 1, -1, -1))

    def write(_):
        for n in range(most, most + scaled(4000)):
            if n % 3 == 0:
                values.insert(0, n)
            elif n % 3 == 1:
                values[:0] = [n]
            else:
                values[0:1] = [n, n - 1]
            if n % 2:
                values.pop()
                values.pop()
            else:
                values[-2:] = []
            values.append(n - len(values))

    read = reader(values, lambda value, index: value + index, range(most))
    run_threads(1, write, background=[read, read])


def test_A3_elements_move_down_at_once():
    """The oldest are taken out in front: element i is the oldest plus i."""
    most = 600
    values = ConcurrentList(range(most))

    def write(_):
        for n in range(scaled(2000)):
            if n % 4 == 0:
                values.pop(0)
            elif n % 4 == 1:
                del values[0]
            elif n % 4 == 2:
                values.remove(values[0])
            else:
                del values[:3]
            values.extend(range(values[-1] + 1, values[0] + most))

    read = reader(values, lambda value, index: value - index, range(most))
    run_threads(1, write, background=[read, read])


def test_A3_every_second_element_changes_and_goes_at_once():
    """At even places a number of one round is followed by none of an earlier round."""
    size = 400
    values = ConcurrentList([0] * 2 * size)

    def write(_):
        for n in range(1, scaled(3000)):
            values[::2] = [n] * size
            values[1::2] = [n] * size
            del values[::2]
            values.extend([n] * size)

    read = reader(values, lambda value, index: value, range(0, 2 * size, 2))
    run_threads(1, write, background=[read, read])

"""Daemon threads in the middle of every operation while the interpreter ends, for a process of
its own: `python daemons.py SEED ENDING`. The seed chooses what each thread does and when the
main thread has had enough.
"""

import faulthandler
import random
import sys
import sysconfig
import threading
import time
from functools import partial

from qsbrcontainers import ConcurrentDict, ConcurrentList, collect, share, stats

THREADS = 5
# A free-threaded interpreter that makes or ends a thread state while it ends can hang by itself:
# the lock of its own registry goes to a thread that hangs for ever (seen with 3.15.0a0). So
# there, threads whose first operation comes late are there from the start.
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
RESERVE = 10


class Plain:
    """A value of which the death is noticed: its finalizer uses the dict it was in."""

    def __init__(self, d):
        self.d = d

    def __del__(self):
        self.d.get("finalized")


def operations(d, values):
    """Name and function of everything there is to do; each is one short step."""
    numbers = iter(range(sys.maxsize))

    def update():
        i = next(numbers)
        d.update({i % 30: [i], ("new", i % 9): i})

    def delete():
        d.pop(("new", random.randrange(9)), None)
        d.setdefault("gone")
        try:
            del d["gone"]
        except KeyError:
            pass  # another thread was faster

    def grow():
        for i in range(200):
            d["grow", i] = [i]
        for i in range(200):
            d.pop(("grow", i), None)

    def iterate():
        for _, (_, _) in zip(range(20), d.items(), strict=False):
            pass
        list(values)

    def left_in_the_middle():
        iterator = iter(d.values())
        next(iterator, None)
        kept[random.randrange(len(kept))] = iterator

    def change_list():
        values.append([len(values)])
        values.extend(range(5))
        try:
            values[0] = [1]
            for _ in range(6):
                values.pop()
        except IndexError:
            pass  # another thread was faster

    def slow():
        time.sleep(0.001)
        return [1]

    def create_and_wait():
        d.get_or_create("made", slow)
        d.pop("made", None)

    def start_thread():
        if FREE_THREADED:
            return
        thread = threading.Thread(target=update, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return  # not while the interpreter ends
        thread.join()

    def own():
        mine = ConcurrentDict(a=1, b=Plain(d))
        mine["a"] = ConcurrentList([mine, d])

    kept = [None] * 10
    return [
        update,
        delete,
        grow,
        iterate,
        left_in_the_middle,
        change_list,
        create_and_wait,
        start_thread,
        own,
        lambda: [d.get(i) for i in range(30)],
        lambda: (d.snapshot(), d.copy(), d == values, repr(d) and None),
        lambda: d.incr("counter"),
        lambda: d.__setitem__("object", Plain(d)),
        lambda: random.random() < 0.1 and d.clear(),
        lambda: random.random() < 0.1 and values.clear(),
        lambda: (collect(), stats()),
        lambda: share(ConcurrentList([1])),
    ]


def work(begun, steps, seed):
    rng = random.Random(seed)
    begun.wait()
    while True:
        step = rng.choice(steps)
        for _ in range(rng.randrange(1, 10)):
            step()


def come_late(step, delay):
    time.sleep(delay)
    step()
    while True:
        time.sleep(0.001)
        step()


def main(seed, ending):
    faulthandler.dump_traceback_later(40)  # what hangs says where
    rng = random.Random(seed)
    sys.setswitchinterval(rng.choice([1e-6, 1e-4, 5e-3]))
    d = ConcurrentDict((i, [i]) for i in range(30))
    values = ConcurrentList([d])
    steps = operations(d, values)
    begun = threading.Barrier(THREADS + 1)
    for _ in range(THREADS):
        # One thing only, or everything in turn.
        mine = [rng.choice(steps)] if rng.random() < 0.5 else steps
        threading.Thread(target=partial(work, begun, mine, rng.random()), daemon=True).start()
    for _ in range(RESERVE if FREE_THREADED else 0):
        late = partial(come_late, rng.choice(steps), rng.random() * 0.03)
        threading.Thread(target=late, daemon=True).start()
    begun.wait()
    time.sleep(rng.random() * 0.02)
    match ending:
        case "exit":
            sys.exit(0)
        case "exception":
            raise ValueError("the end")
        case "module":  # what the modules hold is dropped while the interpreter ends
            sys.modules["kept"] = (d, values, Plain(d))
        case "busy":
            for _ in range(20):
                rng.choice(steps)()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

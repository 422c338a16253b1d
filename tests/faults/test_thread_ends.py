"""Threads that end with everything pending, by the thousand and in every way: memory stays flat,
and who goes on has what it had.
"""

import sys

import pytest
from support import rounds, run_script

# Each leaves values of 1 KB behind, that it has replaced, tables, a dict and a list of its own that
# others have used too, and an iterator in the middle. 40 at once. (No cycles: free-threaded builds
# do not count what threads allocate that are over too soon, and never ask for the collector.)
SHORT = """
import _thread, os, random, sys, threading, time
from qsbrcontainers import ConcurrentDict, ConcurrentList, collect, stats

AT_ONCE, LIVES = 40, {lives}
d, values = ConcurrentDict(count=0), ConcurrentList([0] * 10)
d["of", "another"] = ConcurrentDict(a=1)
iterators = [None] * 10

def live(me):
    for i in range(5):
        d[me % 20] = bytearray(1000)
        values[me % 10] = bytearray(1000)
    d["own", me % 30] = own = ConcurrentDict((i, [i]) for i in range(20))
    own["list"] = ConcurrentList([me])
    d["of", "another"] = own
    d["own", (me * 7) % 30] = [me]
    iterators[me % 10] = iter(own.items())
    next(iterators[me % 10])
    d.get_or_create(("made", me % 3), list)
    d.pop(("made", me % 3), None)
    d.incr("count")

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def lives(first, last):
    most_records = 0
    for begin in range(first, last, AT_ONCE):
        for me in range(begin, begin + AT_ONCE):
            _thread.start_new_thread(live, (me,))
        while d["count"] < begin + AT_ONCE:
            time.sleep(0.0002)
        most_records = max(most_records, stats()["records"])
    return most_records

some = LIVES // 5 // AT_ONCE * AT_ONCE
lives(0, some)
before, held_before = resident(), stats()
most_records = lives(some, LIVES)
after, held = resident(), stats()
# Nobody has called collect() until here: what threads left is freed by those that come later.
assert after - before < 16 << 20, (before, after, held)
assert held["bytes_held"] < 32 << 20 and held["items_held"] < 50_000, held
assert most_records <= 5 * AT_ONCE, most_records
assert d["count"] == LIVES and len(values) == 10
iterators.clear()
d.clear()
values.clear()
import gc
while collect() + gc.collect():
    pass
held = stats()
assert held["items_held"] == 0, held
until = time.monotonic() + 60
while stats()["records"] > 1 and time.monotonic() < until:
    time.sleep(0.01)
assert stats()["records"] == 1, stats()
print(f"{{LIVES}} threads: {{(after - before) >> 10}} KiB more, {{most_records}} records at most")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_T6_short_threads_with_pending_retirements():
    """5,000 here; 20,000 with QC_RACE_SCALE=4: 0.3 MiB more on 3.11, 7 on 3.15t. Caught, with 120
    MiB more: safe points that leave alone what quiet threads have left."""
    said = run_script(SHORT.format(lives=rounds(125) * 40), timeout=280)
    print(said)
    assert "threads: " in said


# Its records are given back by a destructor of thread-specific data; those of other libraries come
# before or after it, and may run Python code, which finds that thread without anything of ours.
LATE = """
import ctypes, threading
from qsbrcontainers import ConcurrentDict, ConcurrentList

ended, begun, through = threading.Event(), threading.Event(), threading.Event()
d = ConcurrentDict()
wrong = []

class Value:
    pass

def use(me):
    mine = [ConcurrentList([me] * 8) for _ in range(50)]
    for i in range(4000):
        mine[i % 50] = ConcurrentList([me] * 8)
        d[me, i % 100] = Value()
        if list(mine[i * 7 % 50]) != [me] * 8:
            wrong.append(me)
        if i % 10 == 0:
            del d[me, i % 100]

@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def destructor(_):
    ended.set()
    begun.wait()
    use("one that has ended")
    through.set()

process, key = ctypes.CDLL(None), ctypes.c_ulong()
assert process.pthread_key_create(ctypes.byref(key), destructor) == 0

def run(then):
    for _ in range(3000):  # as long as it takes to have all that threads have
        d["own"] = Value()
    then()

def end():
    process.pthread_setspecific(key, ctypes.c_void_p(1))

def heir():
    begun.set()
    use("its heir")

for _ in range(2):
    for event in ended, begun, through:
        event.clear()
    threads = [threading.Thread(target=run, args=(then,)) for then in (end, heir)]
    threads[0].start()
    ended.wait()
    threads[1].start()
    through.wait()
    threads[0].join(), threads[1].join()
assert not wrong, wrong
print("all is its own")
"""


def test_Q5_python_code_after_the_end_of_a_thread():
    """Caught now and then (QC_BREAK_NOT_FORGOTTEN, 3.15t): a crash, or lists that two threads have.
    Step by step, and each time: tests/engine/test_page_others.c."""
    assert "all is its own" in run_script(LATE)


# Ways in which a thread, or the process, ends in the middle of an operation.
FRAME = """
import os, sys, threading, time
from support import CallsOnEq, SameHash
from qsbrcontainers import ConcurrentDict, ConcurrentList, collect
threading.excepthook = lambda args: print(args.exc_type.__name__, flush=True)
sys.unraisablehook = lambda args: print(args.exc_type.__name__, flush=True)

class OnDel:
    def __init__(self, then):
        self.then = then
    def __del__(self):
        self.then()

d, values = ConcurrentDict(count=0), ConcurrentList(range(5))
d[SameHash(1)] = 1
over, going = threading.Event(), threading.Semaphore(0)

def others():
    going.release()
    while not over.is_set():
        d.incr("count")
        d["object"] = [1]
        d.get(SameHash(1)), values.append(1), values.pop(), d.snapshot()

threads = [threading.Thread(target=others, daemon=True) for _ in range(2)]
[t.start() for t in threads]
[going.acquire() for _ in threads]

def in_eq():
    d[CallsOnEq(1, END)]
def in_factory():
    d.get_or_create("made", END)
def in_compute():
    d.compute("count", lambda old: END())
def in_list():
    values.sort(key=lambda v: END())
def in_finalizer():
    d["last"] = OnDel(END)
    d["last"] = None
    del d["last"]
    collect()
def in_iteration():
    def items():
        yield 1
        END()
    values.extend(items())

def END():
    {end}

PLACES = [in_eq, in_factory, in_compute, in_list, in_finalizer, in_iteration]
"""

IN_THREADS = """
for place in PLACES:
    t = threading.Thread(target=place)
    t.start()
    t.join()
before = d["count"]
while d["count"] < before + 100:  # the others have not noticed
    time.sleep(0.001)
over.set()
[t.join() for t in threads]
assert d.get_or_create("made", lambda: 5) == 5 and d[SameHash(1)] == 1
assert d.compute("count", lambda old: old + 1) == d["count"]
assert values == list(range(5)) and "last" not in d
print("over")
"""


@pytest.mark.parametrize("error", ["ValueError", "SystemExit", "KeyboardInterrupt"])
def test_threads_that_an_exception_ends_in_the_middle(error):
    """In each place the operation has changed nothing, or all; who waited goes on; all others do
    not notice. (sys.exit() in a thread ends the thread.)"""
    out = run_script(FRAME.replace("{end}", f"raise {error}") + IN_THREADS).split()
    assert out == [error] * 6 + ["over"]


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("who", ["main", "thread"])
def test_os_exit_in_the_middle(place, who):
    """The process is gone at once, with the status that was given, whatever others do."""
    source = FRAME.replace("{end}", "print('ends', flush=True); os._exit(0)")
    call = f"PLACES[{place}]()"
    if who == "thread":
        call = f"threading.Thread(target=PLACES[{place}]).start(); time.sleep(60)"
    assert run_script(f"{source}\n{call}\nos._exit(3)") == "ends"


@pytest.mark.parametrize("place", [0, 1, 2, 3, 5])
def test_sys_exit_in_the_middle(place):
    """The main thread leaves out of an operation of its own; daemon threads are in theirs."""
    source = FRAME.replace("{end}", "sys.exit(0)")
    assert run_script(f"{source}\nPLACES[{place}]()\nos._exit(3)") == ""

"""How a process ends: threads in the middle of operations, pending frees, exceptions, exits."""

import pytest
from support import run_script

DAEMONS = """
import sys, threading, time
from qsbrcontainers import ConcurrentDict, ConcurrentList
d, values = ConcurrentDict((i, [i]) for i in range(100)), ConcurrentList(range(100))
begun = threading.Barrier(6)

def write():
    begun.wait()
    i = 0
    while True:
        i += 1
        d[i % 100] = [i]
        d["more", i] = i
        d.pop(("more", i - 50), None)
        values.append(i)
        values[i % 50] = [i]
        if i % 50 == 0:
            values.pop()
            d.clear()

def read():
    begun.wait()
    while True:
        for i in range(100):
            d.get(i)
        list(d.items()), d.snapshot(), values[-1], list(values)

def make():
    begun.wait()
    i = 0
    while True:
        i += 1
        d.get_or_create(("made", i % 100), lambda: [i])
        ConcurrentDict(a=i)

for target in (write, write, read, read, make):
    threading.Thread(target=target, daemon=True).start()
begun.wait()
time.sleep(0.03)
{ending}
"""

ENDINGS = {
    "the main thread ends": "",
    "sys.exit": "sys.exit(0)",
    "with the containers dropped first": "del d, values",
    "in the middle of an operation of the main thread": "d.update((i, i) for i in range(1000))",
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("attempt", range(5))
def test_daemon_threads_in_the_middle_of_operations(ending, attempt):
    """`del d` makes the daemons fail: their NameErrors are no concern here, the status is."""
    run_script(DAEMONS.format(ending=ENDINGS[ending]))


WAITING = """
import threading
from qsbrcontainers import ConcurrentDict
d = ConcurrentDict()
inside = threading.Event()
never = threading.Event()

def slow():
    inside.set()
    never.wait()

threading.Thread(target=lambda: d.get_or_create("key", slow), daemon=True).start()
inside.wait()
waiting = [
    threading.Thread(target=lambda: d.get_or_create("key", slow), daemon=True) for _ in range(3)
]
for t in waiting:
    t.start()
"""


@pytest.mark.parametrize("attempt", range(3))
def test_daemon_threads_waiting_for_a_factory(attempt):
    run_script(WAITING)


def test_pending_frees_at_exit():
    run_script(
        "import threading\n"
        "from qsbrcontainers import ConcurrentDict, ConcurrentList\n"
        "d, values = ConcurrentDict(), ConcurrentList([0])\n"
        "def use():\n"
        "    for i in range(1000):\n"
        "        d[i % 20] = [i]; values[0] = [i]; d[i] = i\n"
        "threads = [threading.Thread(target=use) for _ in range(4)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "d['self'] = d; values.append(values)\n"
    )


def test_finalizers_at_exit_use_the_containers():
    out = run_script(
        "import threading\n"
        "from qsbrcontainers import ConcurrentDict, ConcurrentList\n"
        "class Uses:\n"
        "    def __init__(self, d): self.d = d\n"
        "    def __del__(self): self.d['late'] = [1]; self.d.get(5); print('used')\n"
        "d = ConcurrentDict()\n"
        "t = threading.Thread(target=lambda: d.update(a=1)); t.start(); t.join()\n"
        "d['x'] = Uses(d)\n"
    )
    assert out == "used"


def test_atexit_functions_use_the_containers():
    out = run_script(
        "import atexit, threading\n"
        "from qsbrcontainers import ConcurrentDict, collect\n"
        "d = ConcurrentDict(a=1)\n"
        "def late():\n"
        "    t = threading.Thread(target=lambda: d.update(b=[2]))\n"
        "    try:\n"
        "        t.start(); t.join()\n"
        "    except RuntimeError:\n"
        "        d['b'] = [2]\n"
        "    d['b'] = 3; collect(); print(d['a'], d['b'])\n"
        "atexit.register(late)\n"
    )
    assert out == "1 3"


def test_exceptions_that_end_threads():
    run_script(
        "import threading\n"
        "from qsbrcontainers import ConcurrentDict\n"
        "threading.excepthook = lambda args: None\n"
        "d = ConcurrentDict()\n"
        "def use(i):\n"
        "    d[i] = [i]; d[i] = [i]\n"
        "    raise (ValueError, SystemExit, KeyboardInterrupt)[i % 3]\n"
        "threads = [threading.Thread(target=use, args=(i,)) for i in range(30)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "assert len(d) == 30\n"
    )

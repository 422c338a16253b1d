"""Q8: threads come and go by the thousand, each with a record and a queue of its own, while others
hold the GIL, where there is one: always, by PYTHON_GIL, or from the middle on, when an extension is
imported that needs it. A deadlock ends a process with all tracebacks.
"""

import shutil
import subprocess
import sysconfig

import pytest
from support import FREE_THREADED, HARD_TIMEOUT, rounds, run_script

LIVES = 10_000
AT_ONCE = 40

STORM = """
import _thread, faulthandler, random, sys, threading, time
faulthandler.dump_traceback_later({limit}, exit=True)
from qsbrcontainers import ConcurrentDict, ConcurrentList, collect, stats
sys.setswitchinterval(1e-5)
d, values = ConcurrentDict(a=[0], count=0), ConcurrentList([0])

def write():
    d["a"] = [1]  # retired, and left to others
    values[0] = [2]

def read():
    assert len(d["a"]) == 1 and len(values) == 1 and values[0] is not None

def make():
    d["made"] = ConcurrentDict(a=ConcurrentList([1]))  # outlives its thread

def insert():
    d["new", threading.get_ident()] = [1]
    d.pop(("new", threading.get_ident()), None)

def whole():
    d.snapshot()
    collect()

def one_life(ways=(write, read, make, insert, whole)):
    random.choice(ways)()
    d.incr("count")

def hold():
    while not over:
        sum(range(20_000))  # keeps the GIL throughout
        time.sleep(0.001)

over = []
holders = [threading.Thread(target=hold) for _ in range(2)]
for t in holders:
    t.start()
{before}
for lives in range({at_once}, {rounds} * {at_once} + 1, {at_once}):
    for _ in range({at_once}):
        _thread.start_new_thread(one_life, ())
    while d["count"] < lives:
        time.sleep(0.0005)
    {middle}
over.append(True)
for t in holders:
    t.join()
while stats()["records"] > 1:
    time.sleep(0.01)
print(getattr(sys, "_is_gil_enabled", lambda: True)())
"""


def storm(scale=1, before="", middle="", **environment):
    source = STORM.format(
        limit=HARD_TIMEOUT / 3,
        rounds=rounds(LIVES * scale / AT_ONCE),
        at_once=AT_ONCE,
        before=before,
        middle=middle,
    )
    return run_script(source, **environment)


@pytest.mark.parametrize("gil", ["0", "1"] if FREE_THREADED else [""])
def test_Q8_ten_thousand_threads(gil):
    """Caught, on 3.11: registering without detaching, with the lock kept over a detach."""
    environment = {"PYTHON_GIL": gil} if gil else {}
    assert storm(**environment) == str(gil != "0")


EXTENSION = """
#include <Python.h>
/* Says nothing about the GIL, so it needs it. */
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "needs_the_gil"};
PyMODINIT_FUNC PyInit_needs_the_gil(void) { return PyModuleDef_Init(&definition); }
"""


@pytest.mark.skipif(not FREE_THREADED, reason="the GIL is always there on this build")
def test_Q8_the_gil_is_turned_on_in_the_middle(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    (tmp_path / "source.c").write_text(EXTENSION)
    name = "needs_the_gil" + sysconfig.get_config_var("EXT_SUFFIX")
    command = [compiler, "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}"]
    command += [str(tmp_path / "source.c"), "-o", str(tmp_path / name)]
    subprocess.run(command, check=True)
    before = f"sys.path.append({str(tmp_path)!r})\nassert not sys._is_gil_enabled()"
    middle = f"if lives == {2 * AT_ONCE}: import needs_the_gil  # warns"
    assert storm(0.3, before, middle) == "True"

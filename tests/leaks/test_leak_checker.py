"""T8: a process that has used everything ends, and valgrind finds no block of ours lost and no
access of ours to a free one. Only what has a frame of the extension in its stack is judged: the
interpreter has findings of its own.
"""

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from support import FREE_THREADED, HARD_TIMEOUT, TESTS

USE = """
import threading
from qsbrcontainers import ConcurrentDict, ConcurrentList, stats
d, values = ConcurrentDict(), ConcurrentList([0])

def use(me):
    for i in range(60):
        d[i % 10] = [i]
        d["own", me, i] = i
        d.pop(("own", me, i - 5), None)
        d.incr("n")
        values.append([i])
        values[0] = i
        d.get_or_create(("made", i % 7), list)
    d.snapshot(), d.copy(), list(d.items()), repr(values)
    values.pop()

threads = [threading.Thread(target=use, args=(i,)) for i in range(3)]
[t.start() for t in threads]
[t.join() for t in threads]
use(4)
iterators = [iter(d), iter(values), iter(d.items())]
[next(i) for i in iterators]
d["self"] = d
values.append(values)
d.clear()
d[1] = [2]
d[1] = [3]
del d[1]  # its key waits
assert stats()["items_held"] > 0
"""

# The main interpreter leaves some modules to the end of the process; another one frees all.
TWICE = """
try:
    import _interpreters as interpreters
    another = interpreters.create("legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    another = interpreters.create(isolated=False)
wrong = interpreters.run_string(another, USE)
assert wrong is None, wrong
interpreters.destroy(another)
exec(USE)
print("over")
"""


def is_ours(error):
    """Not the names of types and methods, which 3.12 and 3.13 intern for good when a module is
    made, and lose with a subinterpreter."""
    functions = {frame.text for frame in error.iter("fn")}
    name_of_a_module = {"module_exec", "PyUnicode_New"} <= functions
    return not name_of_a_module and any("_native" in (o.text or "") for o in error.iter("obj"))


@pytest.mark.skipif(FREE_THREADED, reason="has an allocator of its own always")
@pytest.mark.skipif(
    shutil.which("valgrind") is None, reason="VALGRIND IS NOT INSTALLED: nothing was looked for"
)
def test_T8_a_process_ends_and_nothing_of_ours_is_lost(debug_build, tmp_path):
    """On a debug build, where things wait to be freed.

    Caught: by hand, a queue that does not free its locals."""
    found = tmp_path / "found.xml"
    command = ["valgrind", "--leak-check=full", "--show-leak-kinds=definite,indirect"]
    command += ["--num-callers=40", "--xml=yes", f"--xml-file={found}"]
    # The interpreter's objects one by one, not in arenas.
    path = os.pathsep.join(map(str, [debug_build, TESTS]))
    environment = {**os.environ, "PYTHONMALLOC": "malloc", "PYTHONPATH": path}
    command += [sys.executable, "-P", "-c", f"USE = {USE!r}\n{TWICE}"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=HARD_TIMEOUT
    )
    assert done.returncode == 0 and done.stdout == "over\n", f"{done.stdout}\n{done.stderr}"
    errors = ElementTree.parse(found).getroot().findall("error")
    ours = [error for error in errors if is_ours(error)]
    assert not ours, "\n".join(ElementTree.tostring(error, encoding="unicode") for error in ours)

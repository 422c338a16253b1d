"""K9: a dict takes as many keys as its largest table has room for, and says so when it is full. In
a debug build, whose largest table can be made a small one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import HARD_TIMEOUT

SCRIPT = """
import ctypes, sys, threading
from qsbrcontainers import ConcurrentDict, _native

slots = ctypes.c_uint64.in_dll(ctypes.CDLL(_native.__file__), "keytable_max_slots")
assert slots.value == 2**31
slots.value, most = 256, 170
d = ConcurrentDict()
if sys.argv[1] == "shared":
    thread = threading.Thread(target=lambda: d.get(0))
    thread.start()
    thread.join()
for i in range(most):
    d[i] = str(i)
    for n in range(300 * (i in (60, 90, 150, most - 1))):  # compaction has to do
        del d[i]
        d[i] = str(i)

def refused(call):
    try:
        call()
    except MemoryError as error:
        assert str(error) == f"a ConcurrentDict can have at most {most} keys", error
    else:
        assert False, "there was room"
    assert len(d) == most and list(d) == list(range(most))

new = object()
references = sys.getrefcount(new)
for key in (-1, "new", (1, 2), new):
    for call in (
        lambda: d.__setitem__(key, new),
        lambda: d.setdefault(key, new),
        lambda: d.add(key, new),
        lambda: d.swap(key, new),
        lambda: d.update({key: new}),
        lambda: d.compute(key, lambda old: new),
        lambda: d.get_or_create(key, lambda: new),
        lambda: d.incr(key),
    ):
        refused(call)
d[0] = "assigned"
assert d.pop(1) == "1"
d["new"] = 1
assert d["new"] == 1 and 1 not in d and len(d) == most and d[0] == "assigned"
del d["new"], d[0]
d[0] = d["new"] = 2
assert len(ConcurrentDict.fromkeys(range(most))) == most
for many in (dict.fromkeys(range(most + 1)), [(i, i) for i in range(most + 1)]):
    try:
        ConcurrentDict(many)
    except MemoryError as error:
        assert str(error) == f"a ConcurrentDict can have at most {most} keys", error
    else:
        assert False, "there was room"
print("all as it should be")
"""


@pytest.mark.parametrize("whose", ["own", "shared"])
def test_K9_the_limit_of_keys(debug_build, whose):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, whose],
        cwd=Path(debug_build),
        env={**os.environ, "PYTHONPATH": str(debug_build)},
        capture_output=True,
        text=True,
        timeout=HARD_TIMEOUT,
    )
    assert done.returncode == 0 and "all as it should be" in done.stdout, done.stderr

"""An extension with a structure of its own (extensions/chain.c): threads read it while others
change it, nodes are poisoned when they are freed, and readers check each node they come to.

Caught by the stress script: a chain that frees at once (CHAIN_FREES_AT_ONCE), in the suite itself.
"""

import os
import platform
import subprocess
import sys
import sysconfig
import threading

import pytest
from building import EXTENSIONS, build, compiler
from support import TESTS, run_script, run_threads, scaled, settle

STRESS = """
import sys
sys.path.insert(0, sys.argv[1])
import chain
from support import Census, run_threads
rounds = int(sys.argv[2])
sys.setswitchinterval(1e-6)
c, census = chain.Chain(), Census()
for key in range(0, 40, 2):
    c.set(key, census.new(key))

def write(me):
    for i in range(rounds):
        key = i * 7 % 40
        c.set(key, census.new(key))
        if key % 2:
            c.remove(key)

def get():
    for key in range(0, 40, 2):  # keys that are there throughout
        assert c.get(key).check() == key

def walk():
    c.walk(50)

run_threads(2, write, background=[get, walk, walk])
for odd in range(1, 40, 2):
    c.remove(odd)
assert c.walk(1) == 20
while chain.held()[1]:
    chain.collect()
assert chain.live() == 20 and census.alive == 20
assert min(c.hits()[key] for key in range(0, 40, 2)) > 0
del c
assert chain.live() == 0 and census.alive == 0
print("clean")
"""
ROUNDS = 3000


def stress(folder, rounds, **environment):
    """The script in a process of its own: (exit status, what it printed)."""
    settings = {**os.environ, "PYTHONPATH": str(TESTS), **environment}
    command = [sys.executable, "-P", "-c", STRESS, str(folder), str(rounds)]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def live(chain):
    """The nodes that are alive when nothing is retired, and nothing garbage, any more."""
    settle()
    while chain.held()[1]:
        chain.collect()
        settle()
    return chain.live()


@pytest.mark.parametrize("barrier", ["", "fence"])
def test_Q1_readers_never_find_a_freed_node(built, barrier):
    status, printed = stress(built, scaled(ROUNDS), QSBRCONTAINERS_BARRIER=barrier)
    assert status == 0 and printed.strip() == "clean", printed


def test_the_stress_script_sees_a_chain_that_frees_at_once(tmp_path):
    build(tmp_path, "chain", "-DCHAIN_FREES_AT_ONCE", "-DCHAIN_DAWDLES")
    for _ in range(5):
        status, printed = stress(tmp_path, scaled(ROUNDS))
        if status != 0:
            break
    assert status != 0, "nobody noticed"


def test_a_chain_with_slow_readers_is_as_safe(tmp_path):
    """The counterpart of the test above: the same readers, and nothing else."""
    build(tmp_path, "chain", "-DCHAIN_DAWDLES")
    status, printed = stress(tmp_path, scaled(ROUNDS) // 4)
    assert status == 0, printed


def test_chain_does_what_it_says(chain):
    before = live(chain)
    c = chain.Chain()
    assert c.set(5, "five") is False and c.set(1, "one") is False and c.set(5, "V") is True
    assert c.get(5) == "V" and c.walk(2) == 4
    assert c.remove(1) is True and c.remove(1) is False
    with pytest.raises(KeyError):
        c.get(1)
    assert c.hits() == {5: 1}
    del c
    assert live(chain) == before


def test_no_references_are_lost(chain):
    class Value:
        pass

    value, other = Value(), Value()
    before = [sys.getrefcount(value), sys.getrefcount(other), live(chain)]
    c = chain.Chain()
    for i in range(500):
        c.set(i % 10, value)
        c.get(i % 10)
        c.set(i % 7, other)
        c.remove(i % 5)
    del c
    live(chain)
    assert [sys.getrefcount(value), sys.getrefcount(other), live(chain)] == before


def test_cycles_through_a_chain_are_collected(chain):
    before = live(chain)
    for _ in range(20):
        c = chain.Chain()
        c.set(1, [c])
        c.set(1, {"me": c})
    del c
    assert live(chain) == before


def test_values_whose_end_comes_back_into_the_chain(chain):
    """T5: items run where Python code may run, this chain's own operations too."""
    c, seen = chain.Chain(), []

    class Value:
        def __del__(self):
            seen.append(c.walk(1))
            c.set(len(seen) % 10, None)
            chain.collect()

    def write(me):
        for i in range(scaled(200)):
            c.set(i % 10, Value())

    run_threads(2, write)
    chain.collect()
    assert len(seen) >= 2 * scaled(200) - 10


def test_Q4_threads_come_and_go(chain):
    before = live(chain)
    c = chain.Chain()
    for r in range(20):
        run_threads(3, lambda me, r=r: [c.set(i % 20, (me, i, r)) for i in range(30)], 1, c.walk)
    assert live(chain) == before + c.walk(1) == before + 20


# The end of an interpreter

DAEMONS = """
import sys, threading, time
sys.path.insert(0, sys.argv[1])
import chain
c = chain.Chain()
begun = threading.Barrier(5)

def write():
    begun.wait()
    i = 0
    while True:
        i += 1
        c.set(i % 20, [i])
        c.remove((i + 3) % 20)

def read():
    begun.wait()
    while True:
        c.walk(20)
        try:
            c.get(3)
        except KeyError:
            pass
        chain.Chain().set(1, 1)
        chain.collect()

for target in (write, write, read, read):
    threading.Thread(target=target, daemon=True).start()
begun.wait()
time.sleep(0.03)
{ending}
"""


@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "del c, chain"])
@pytest.mark.parametrize("attempt", range(4))
def test_Q7_daemon_threads_in_the_middle_of_operations(built, ending, attempt):
    run_script(DAEMONS.format(ending=ending), built)


def test_T8_what_is_retired_is_freed_at_exit(built):
    printed = run_script(
        """
import os, sys
sys.path.insert(0, sys.argv[1])
import chain

class Value:
    def __del__(self, write=os.write):
        write(1, b"x")

c = chain.Chain()
for i in range(10):
    c.set(1, Value())
""",
        built,
    )
    assert printed == "x" * 10


FORK = """
import os, sys, threading
sys.path.insert(0, sys.argv[1])
import chain
c, over = chain.Chain(), threading.Event()
for i in range(20):
    c.set(i, [i])

def walk():
    while not over.is_set():
        c.walk(2000)

def retire():
    for i in range(100):
        c.set(i % 20, [i])

t = threading.Thread(target=retire)
t.start()
t.join()
readers = [threading.Thread(target=walk) for _ in range(2)]
for t in readers:
    t.start()
for _ in range(10):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for i in range(300):
                c.set(i % 20, [i])
            for _ in range(1000):
                if chain.held()[1]:
                    chain.collect()
            status = 0 if chain.live() == 20 and c.walk(1) == 20 else 2
            if chain.held()[1]:
                status = 3  # something was in a thread's hand at the fork, and is lost
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
over.set()
for t in readers:
    t.join()
while chain.held()[1]:
    chain.collect()
assert chain.live() == 20
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_Q10_a_fork_while_others_are_in_sections(built):
    run_script("import warnings; warnings.simplefilter('ignore')" + FORK, built)


# Interpreters

SUBINTERPRETERS = """
import sys, threading
sys.path.insert(0, sys.argv[1])
import chain
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = '''
import sys
sys.path[:] = %r
import chain, qsbrcontainers
assert type(chain.Chain().hits()) is dict
c = chain.Chain()
for i in range(300):
    c.set(i %% 20, [i])
    c.get(i %% 20)
assert c.walk(1) == 20
''' % (sys.path,)

def work():
    for _ in range(rounds):
        interpreter = interpreters.create()
        error = interpreters.run_string(interpreter, code)
        interpreters.destroy(interpreter)
        assert error is None, error

rounds = int(sys.argv[2])
errors = []
def guarded():
    try:
        work()
    except BaseException as error:
        errors.append(error)

threads = [threading.Thread(target=guarded) for _ in range(int(sys.argv[3]))]
for t in threads:
    t.start()
c = chain.Chain()
for i in range(2000):
    c.set(i % 20, [i])
for t in threads:
    t.join()
assert not errors, errors
while chain.held()[1]:
    chain.collect()
assert chain.live() == 20, chain.live()
"""


def test_Q11_interpreters_each_have_a_chain(built):
    # Before 3.12 interpreters share a GIL, and creating them in threads is not safe.
    threads = 2 if sys.version_info >= (3, 12) else 1
    run_script(SUBINTERPRETERS, built, 10, threads)


def test_importing_leaves_the_gil_off(built):
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("a GIL build")
    run_script(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import chain, probe\nassert not sys._is_gil_enabled()",
        built,
    )


def test_threads_that_python_did_not_start_need_no_thread_state(chain):
    """chain.walk reads detached: on GIL builds too, walks go on while another thread holds it."""
    c = chain.Chain()
    for i in range(10):
        c.set(i, i)
    done = []
    threads = [threading.Thread(target=lambda: done.append(c.walk(1000))) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert done == [10_000] * 3


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc's names")
@pytest.mark.skipif("QC_CAPI_CFLAGS" in os.environ, reason="a sanitizer has its own malloc")
def test_T2_without_memory_nothing_is_changed(built, tmp_path):
    """reserve is what fails, before the operation: the chain is as it was, and goes on."""
    library = tmp_path / "no_memory.so"
    source = EXTENSIONS / "no_memory.c"
    subprocess.run([*compiler(), "-shared", "-fPIC", source, "-o", library], check=True)
    run_script(
        """
import ctypes, sys, threading
sys.path.insert(0, sys.argv[1])
import chain, probe
now = ctypes.c_int.in_dll(ctypes.CDLL(None), "no_memory_now")

def refused(function, *arguments):
    now.value = 1
    try:
        function(*arguments)
    except MemoryError:
        return True
    finally:
        now.value = 0
    return False

c, value = chain.Chain(), object()
count = sys.getrefcount(value)
assert refused(c.set, 1, value) and refused(c.remove, 1)
assert chain.live() == c.walk(1) == 0 and sys.getrefcount(value) == count
c.set(1, "one"), c.set(1, "uno")
assert c.get(1) == "uno"

# With a reader that stays every batch is a new one.
p, entered, leave, run = probe.Probe(), threading.Event(), threading.Event(), []

def read():
    p.enter()
    entered.set()
    leave.wait()
    p.exit()

reader = threading.Thread(target=read)
reader.start()
entered.wait()
refusals = accepted = 0
for i in range(2000):
    if refused(p.retire_one, lambda: run.append(None), 1):
        refusals += 1
        p.retire_one(lambda: run.append(None), 1)
    accepted += 1
leave.set()
reader.join()
p.collect()
assert refusals >= 10 and len(run) == accepted == 2000, (refusals, len(run))
""",
        built,
        LD_PRELOAD=str(library),
    )

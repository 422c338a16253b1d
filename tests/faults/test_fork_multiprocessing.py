"""Q10: multiprocessing by fork, spawn and forkserver, beside threads that use our containers: the
children use the parent's where they have them, and their own."""

import os
import subprocess
import sys

import pytest
from support import TIMEOUT

SCRIPT = '''
import gc, multiprocessing, sys, threading, warnings
from concurrent.futures import ProcessPoolExecutor
from qsbrcontainers import ConcurrentDict, ConcurrentList, collect, stats

warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads

def use(d, values):
    """Threads that do all kinds of things with both; what should be there is."""
    def work(me):
        for n in range(300):
            d[me, n % 50] = (me, n)
            assert d[me, n % 50] == (me, n)
            d.incr("count")
            d.pop((me, (n + 25) % 50), None)
            values.append(n)
            if n % 3 == 0:
                values.pop()
            for key, value in d.items():
                assert key == "count" or type(value) is tuple
    threads = [threading.Thread(target=work, args=(me,)) for me in range(3)]
    before = d.get("count", 0), len(values)
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert d["count"] == before[0] + 900
    assert len(values) == before[1] + 600
    assert len(d) == len(d.snapshot()) == len(list(d))
    gc.collect()
    collect()
    return d["count"]

def child(pipe, pairs, elements, d=None, values=None):
    """Where it was forked: the parent's own as well."""
    mine = ConcurrentDict(pairs), ConcurrentList(elements)
    assert dict(mine[0].snapshot()) == pairs and list(mine[1]) == elements
    results = [use(*mine)]
    if d is not None:
        assert all(d[key] == value for key, value in pairs.items())
        results.append(use(d, values))
        d.clear()
        values.clear()
    collect()
    assert stats()["quarantined"] == 0
    pipe.send(results)
    pipe.close()

LOCAL = ConcurrentDict(start=(0,))

def square(n):
    LOCAL[n] = (n * n,)
    LOCAL.incr("count")
    return LOCAL.get_or_create(("square", n), lambda: LOCAL[n][0])

def main(method):
    context = multiprocessing.get_context(method)
    pairs = {("stable", i): (i,) for i in range(100)}
    d, values = ConcurrentDict(pairs), ConcurrentList(range(50))
    other, over = ConcurrentDict(), threading.Event()

    def churn(me):
        n = 0
        while not over.is_set():
            n += 1
            other[me, n % 100] = (n,)
            other.pop((me, (n + 50) % 100), None)
            LOCAL["churned", n % 20] = (n,)
            d["stable", n % 100] = (n % 100,)

    threads = [threading.Thread(target=churn, args=(me,)) for me in range(2)]
    for each in threads:
        each.start()
    try:
        for _ in range(4):
            theirs, ours = context.Pipe()
            inherited = (d, values) if method == "fork" else ()
            process = context.Process(
                target=child, args=(ours, pairs, list(range(50)), *inherited)
            )
            process.start()
            ours.close()
            results = theirs.recv()
            process.join()
            assert process.exitcode == 0, process.exitcode
            assert results == [900] * (1 + len(inherited) // 2), results
        with context.Pool(2) as pool:
            assert pool.map(square, range(40)) == [n * n for n in range(40)]
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            assert list(pool.map(square, range(40))) == [n * n for n in range(40)]
    finally:
        over.set()
    for each in threads:
        each.join()
    assert d.snapshot() == pairs and values.snapshot() == list(range(50))
    assert "count" not in LOCAL
    use(d, values)

if __name__ == "__main__":
    main(sys.argv[1])
'''


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_Q10_multiprocessing(tmp_path, method):
    script = tmp_path / "uses_processes.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-P", "-X", "faulthandler", str(script), method]
    # A session of its own: where it hangs its children end with it.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        pytest.fail(f"hangs; it printed\n{process.communicate()[0]}")
    assert process.returncode == 0, f"status {process.returncode}\n{output}"

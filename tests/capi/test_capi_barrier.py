"""Q12 through the C API: membarrier is refused after the import."""

import pytest
from denied import NO_FILTERS, run_filtered

# The other thread has a record in the domain, so that a grace period takes the barrier.
SOURCE = """
import os, sys, threading
sys.path.insert(0, sys.argv[1])
import probe
from qsbrcontainers import stats
if stats()["barrier"] != "membarrier":
    print({no_filters!r})
    os._exit(0)
p, begun, leave, run = probe.Probe(), threading.Event(), threading.Event(), []

def other():
    p.register()
    begun.set()
    leave.wait()

thread = threading.Thread(target=other)
thread.start()
begun.wait()
before = p.advance()
assert p.poll(before) and p.goal_reached(before)
deny_membarrier(errno.{error})
goal = p.advance()
assert not p.poll(goal)
p.retire_one(lambda: run.append(1), 8)
for call in (lambda: p.wait(goal), p.collect):
    try:
        call()
    except RuntimeError as error:
        assert "membarrier" in str(error), error
    else:
        raise AssertionError("did not raise")
p.wait(before)
for i in range(500):
    p.safe_point()
    p.retire_one(lambda: run.append(1), 8)
assert run == [] and p.held() == (501 * 8, 501) and not p.goal_reached(goal)
leave.set()
thread.join()
print("over")
os._exit(0)
"""


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
def test_Q12_what_waits_raises_and_nothing_is_freed(built, error):
    source = SOURCE.format(error=error, no_filters=NO_FILTERS)
    assert run_filtered(source, arguments=[built]) == "over"

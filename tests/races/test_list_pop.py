"""K8 for pop(): who pops drops the object, while readers may be about to take it."""

from support import Census, run_threads, scaled, settle

from qsbrcontainers import ConcurrentList


def test_K8_popped_elements_live_as_long_as_readers_may_take_them():
    """Caught: LIST_POP_AT_ONCE, on 3.15t (a finalized object is handed out, or a crash): in every
    run of a debug build with QSBRCONTAINERS_YIELD=20, in one of three of a release build."""
    census = Census()
    values = ConcurrentList([census.new(0)])

    def push_and_pop(_):
        for _ in range(scaled(10_000)):
            values.append(census.new(0))
            values.pop()

    def read():
        for _ in range(50):
            values[-1].check()

    run_threads(1, push_and_pop, background=[read, read])
    settle()
    assert census.alive == len(values) == 1

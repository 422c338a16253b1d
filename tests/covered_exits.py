"""For the environments of tests/covered.py: os._exit() keeps what the process has counted.

Forked children of tests, and of multiprocessing, end by it.
"""

import os
import sys

_exit = os._exit


def counted_exit(status):
    native = sys.modules.get("qsbrcontainers._native")
    if native is not None:
        import ctypes

        dump = getattr(ctypes.CDLL(native.__file__), "qc_coverage_dump", None)
        if dump is not None:  # not a build that a test has made for itself
            dump()
    _exit(status)


os._exit = counted_exit

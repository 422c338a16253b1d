"""For test_without_memory_at_import.py, with the debug build: the extension module is made with its
first allocation failing, its second, and so on, once and with all that follow.

    import_without_memory.py FILE_OF_THE_EXTENSION WHOSE
"""

import _imp
import atexit
import gc
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import spec_from_loader
from itertools import count

AT_MOST = 5000


def spec_of(name):
    return spec_from_loader(name, ExtensionFileLoader(name, sys.argv[1]))


failing = _imp.create_dynamic(spec_of("_failing"))
_imp.exec_dynamic(failing)
spec = spec_of("qsbrcontainers._native")


def make():
    module = _imp.create_dynamic(spec)
    _imp.exec_dynamic(module)
    return module


def types():
    """How many there are that a module of ours has made."""
    gc.collect()
    return sum(
        isinstance(o, type) and o.__module__.startswith("qsbrcontainers") for o in gc.get_objects()
    )


def attempt(whose, n, forever):
    """How many allocations failed."""
    try:
        failed, module = failing.call(whose, n, forever, make)
    except MemoryError:
        return 1
    # Without one of what it can do without; the exit hook is not one of that.
    d, v = module.ConcurrentDict(), module.ConcurrentList()
    d["a"] = v
    v.append(d)
    assert d["a"][0] is d and module._C_API and module.MISSING is not None
    atexit.unregister(module._drain)
    d.clear()
    return failed


def main(whose):
    if whose != "libc":  # which is asked for what stays, when all is new
        attempt(whose, 0, False)
    before, failures = types(), 0
    for n in count(1):
        assert n < AT_MOST
        if not attempt(whose, n, False):
            break
        failures = n
        attempt(whose, n, True)
    attempt(whose, 0, False)
    after = types()
    assert after <= before, f"types: {before}, then {after}"
    print(failures)


main(sys.argv[2])

"""What ConcurrentList leaves to Python, attached to the C type at import."""

from reprlib import recursive_repr

from qsbrcontainers import _native


@recursive_repr("[...]")
def __repr__(self):
    return repr(self.snapshot())


__repr__.__qualname__ = "ConcurrentList.__repr__"
_native.ConcurrentList.__repr__ = __repr__

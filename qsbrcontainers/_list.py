"""What ConcurrentList leaves to Python, attached to the C type at import."""

from reprlib import recursive_repr
from typing import Any

from qsbrcontainers import _native


@recursive_repr("[...]")
def __repr__(self: _native.ConcurrentList[Any]) -> str:
    return repr(self.snapshot())


__repr__.__qualname__ = "ConcurrentList.__repr__"
_type: Any = _native.ConcurrentList
_type.__repr__ = __repr__

"""What ConcurrentList leaves to Python: repr, pickling, registration with the ABCs; attached to the
C type at import.

One moment of the list (`snapshot`) is taken wherever several elements are looked at.
"""

from collections.abc import MutableSequence
from reprlib import recursive_repr
from typing import Any

from qsbrcontainers import _native, _pickling

ConcurrentList = _native.ConcurrentList

# The types that a caller sees are in _native.pyi.
_Ours = ConcurrentList[Any]


def _repr(self: _Ours) -> str:
    return repr(ConcurrentList.snapshot(self))


def _contents(self: _Ours) -> tuple[Any, None]:
    """As list does, this uses the __iter__ of a subclass that has its own."""
    inherited = type(self).__iter__ is ConcurrentList.__iter__
    return iter(ConcurrentList.snapshot(self) if inherited else self), None


def _reduce_ex(self: _Ours, protocol: int, /) -> Any:
    """Elements go as list items; those of one moment."""
    return _pickling.reduce_ex(self, protocol, _contents)


for _name, _function in {
    "__repr__": recursive_repr("[...]")(_repr),
    "__reduce_ex__": _reduce_ex,
}.items():
    _function.__name__ = _name
    _function.__qualname__ = f"ConcurrentList.{_name}"
    setattr(ConcurrentList, _name, _function)
_type: Any = ConcurrentList
_type.__getstate__ = _pickling.getstate
_pickling.bind_whole(ConcurrentList)

MutableSequence.register(ConcurrentList)

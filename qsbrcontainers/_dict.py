"""What ConcurrentDict and its views leave to Python: operators in terms of C methods, pickling,
registration with the ABCs, the views' set algebra; attached to the C types at import.

One moment of the dict (`snapshot`) is taken wherever several entries are looked at.
"""

from collections.abc import ItemsView, Iterable, KeysView, MutableMapping, Set, ValuesView
from typing import Any

from qsbrcontainers import _native, _pickling

ConcurrentDict = _native.ConcurrentDict

# The types that a caller sees are in _native.pyi.
_Ours = ConcurrentDict[Any, Any]

# ---- the dict ----


def fromkeys(cls: Any, iterable: Iterable[Any], value: Any = None, /) -> Any:
    """Create a new dict with keys from iterable and values set to value."""
    new = cls()
    for key in iterable:
        new[key] = value
    return new


def _or(self: _Ours, other: Any, /) -> Any:
    if not isinstance(other, dict | ConcurrentDict):
        return NotImplemented
    new = ConcurrentDict(self)  # of a subclass too, as with dict
    new.update(other)
    return new


def _ror(self: _Ours, other: Any, /) -> Any:
    """dict | ConcurrentDict: the left operand's pairs first, as with two dicts."""
    if not isinstance(other, dict):
        return NotImplemented
    new = ConcurrentDict(other)
    new.update(self)
    return new


def _ior(self: _Ours, other: Any, /) -> _Ours:
    """Assign the pairs of a mapping or of an iterable of pairs, as update does."""
    ConcurrentDict.update(self, other)
    return self


def _reversed_keys(self: _Ours) -> Any:
    """Iterate over the keys of one moment, the last one first."""
    return reversed(list(self.snapshot()))


def _contents(self: _Ours) -> tuple[None, Any]:
    return None, iter(ConcurrentDict.snapshot(self).items())


def _reduce_ex(self: _Ours, protocol: int, /) -> Any:
    """Entries go as dict items; those of one moment."""
    return _pickling.reduce_ex(self, protocol, _contents)


for _name, _function in {
    "__or__": _or,
    "__ror__": _ror,
    "__ior__": _ior,
    "__reversed__": _reversed_keys,
    "__reduce_ex__": _reduce_ex,
}.items():
    _function.__name__ = _name
    _function.__qualname__ = f"ConcurrentDict.{_name}"
    setattr(ConcurrentDict, _name, _function)
fromkeys.__qualname__ = "ConcurrentDict.fromkeys"
_type: Any = ConcurrentDict
_type.__getstate__ = _pickling.getstate
_type.fromkeys = classmethod(fromkeys)

# ---- the views ----

_SET_METHODS = (
    "__and__ __rand__ __or__ __ror__ __sub__ __rsub__ __xor__ __rxor__ "
    "__le__ __lt__ __ge__ __gt__ __eq__ isdisjoint"
).split()


def _from_iterable(cls: type, iterable: Iterable[Any]) -> set[Any]:
    """The result of the views' operators is a plain set, as dict's is."""
    return set(iterable)


_view: Any
for _view in (_native.DictKeys, _native.DictItems):
    _view._from_iterable = classmethod(_from_iterable)
    for _name in _SET_METHODS:
        setattr(_view, _name, getattr(Set, _name))


def _reversed_view(self: Iterable[Any]) -> Any:
    """Iterate over what the view yields now, from its end."""
    return reversed(list(self))


_reversed_view.__name__ = "__reversed__"
for _view in (_native.DictKeys, _native.DictValues, _native.DictItems):
    _view.__reversed__ = _reversed_view

MutableMapping.register(ConcurrentDict)
KeysView.register(_native.DictKeys)
ValuesView.register(_native.DictValues)
ItemsView.register(_native.DictItems)

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

# What Set says is what dict's views do, except where something cannot be hashed: those below go
# the way that dict's go.
_SET_METHODS = "__or__ __ror__ __le__ __lt__ __ge__ __gt__ __eq__".split()
_VIEWS: tuple[Any, ...] = (
    *(_native.DictKeys, _native.DictItems),
    *(type(dict[Any, Any]().keys()), type(dict[Any, Any]().items())),
)
_SETS: tuple[Any, ...] = (set, frozenset, *_VIEWS)


def _from_iterable(cls: type, iterable: Iterable[Any]) -> set[Any]:
    """The result of the views' operators is a plain set, as dict's is."""
    return set(iterable)


def _and(self: Any, other: Any, /) -> Any:
    if not isinstance(other, Iterable):
        return NotImplemented
    if type(other) is set and len(self) <= len(other):
        return other.intersection(self)
    if isinstance(other, _VIEWS) and len(other) > len(self):
        self, other = other, self
    return {value for value in other if value in self}


def _sub(self: Any, other: Any, /) -> Any:
    return set(self).difference(other) if isinstance(other, Iterable) else NotImplemented


def _rsub(self: Any, other: Any, /) -> Any:
    return set(other).difference(self) if isinstance(other, Iterable) else NotImplemented


def _xor(self: Any, other: Any, /) -> Any:
    if not isinstance(other, Iterable):
        return NotImplemented
    if isinstance(self, ItemsView) and isinstance(other, _VIEWS) and isinstance(other, ItemsView):
        new = {value for value in self if value not in other}
        new.update([value for value in other if value not in self])
        return new
    return set(self).symmetric_difference(other)


def _isdisjoint(self: Any, other: Any) -> bool:
    """Whether no element of the other one is in the view."""
    if isinstance(other, _SETS) and len(other) > len(self):
        self, other = other, self
    return not any(value in self for value in other)


_view: Any
for _view in (_native.DictKeys, _native.DictItems):
    _view._from_iterable = classmethod(_from_iterable)
    for _name in _SET_METHODS:
        setattr(_view, _name, getattr(Set, _name))
    for _name, _function in {
        "__and__": _and,
        "__rand__": _and,
        "__sub__": _sub,
        "__rsub__": _rsub,
        "__xor__": _xor,
        "__rxor__": _xor,
        "isdisjoint": _isdisjoint,
    }.items():
        _function.__name__ = _name
        setattr(_view, _name, _function)


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

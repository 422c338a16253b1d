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


def _contents(self: _Ours) -> tuple[None, Any]:
    """As dict does, this uses the items() of a subclass that has its own."""
    cls: Any = type(self)
    inherited = cls.items is ConcurrentDict.items
    return None, iter((_native._moment(self) if inherited else self).items())


def _reduce_ex(self: _Ours, protocol: int, /) -> Any:
    """Entries go as dict items; those of one moment."""
    return _pickling.reduce_ex(self, protocol, _contents)


def _copy(self: _Ours, /) -> Any:
    """For copy.copy. Copying an exact ConcurrentDict calls no __hash__ and no __eq__."""
    return self.copy() if type(self) is ConcurrentDict else _pickling.copy(self)


for _name, _function in {
    "__or__": _or,
    "__ror__": _ror,
    "__ior__": _ior,
    "__reduce_ex__": _reduce_ex,
    "__copy__": _copy,
}.items():
    _function.__name__ = _name
    _function.__qualname__ = f"ConcurrentDict.{_name}"
    setattr(ConcurrentDict, _name, _function)
_type: Any = ConcurrentDict
_type.__getstate__ = _pickling.getstate

_compute: Any = ConcurrentDict.compute


def compute(self: _Ours, key: Any, func: Any, default: Any = _native.MISSING) -> Any:
    # A Python function, since the signature of a C method cannot have MISSING as a default.
    return _compute(self, key, func, default)


compute.__doc__ = _compute.__doc__
compute.__annotations__ = {}  # the stubs have them
compute.__qualname__ = "ConcurrentDict.compute"
_type.compute = compute
_pickling.bind_whole(ConcurrentDict)

# ---- the views ----

# The comparisons of Set do what those of dict's views do. The other operators differ where an
# element cannot be hashed, and are defined below as dict defines them.
_SET_METHODS = "__le__ __lt__ __ge__ __gt__ __eq__".split()
_VIEWS: tuple[Any, ...] = (
    *(_native.DictKeys, _native.DictItems),
    *(type(dict[Any, Any]().keys()), type(dict[Any, Any]().items())),
)
_SETS: tuple[Any, ...] = (set, frozenset, *_VIEWS)


def _from_iterable(cls: type, iterable: Iterable[Any]) -> set[Any]:
    """The result of the views' operators is a plain set, as dict's is."""
    return set(iterable)


# As with dict's views, the same one of two equal elements is kept, and an operand that is not
# iterable is a TypeError.


def _view_or(self: Any, other: Any, /) -> Any:
    new = set(self)
    new.update(other)
    return new


def _and(self: Any, other: Any, /) -> Any:
    if type(other) is set and len(self) <= len(other):
        return other.intersection(self)
    if isinstance(other, _VIEWS) and len(other) > len(self):
        self, other = other, self
    return {value for value in other if value in self}


def _sub(self: Any, other: Any, /) -> Any:
    new = set(self)
    new.difference_update(other)
    return new


def _xor(self: Any, other: Any, /) -> Any:
    if isinstance(self, ItemsView) and isinstance(other, _VIEWS) and isinstance(other, ItemsView):
        new = {value for value in self if value not in other}
        new.update([value for value in other if value not in self])
        return new
    new = set(self)
    new.symmetric_difference_update(other)
    return new


def _reflected(operation: Any) -> Any:
    return lambda self, other, /: operation(other, self)


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
        "__or__": _view_or,
        "__ror__": _reflected(_view_or),
        "__and__": _and,
        "__rand__": _and,
        "__sub__": _sub,
        "__rsub__": _reflected(_sub),
        "__xor__": _xor,
        "__rxor__": _reflected(_xor),
        "isdisjoint": _isdisjoint,
    }.items():
        _function.__name__ = _name
        setattr(_view, _name, _function)


MutableMapping.register(ConcurrentDict)
KeysView.register(_native.DictKeys)
ValuesView.register(_native.DictValues)
ItemsView.register(_native.DictItems)

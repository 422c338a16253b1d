"""Pickling, copying and matching, for both containers."""

import copy as _copy
import copyreg
from collections.abc import Callable
from typing import Any


def reduce_ex(self: Any, protocol: int, contents: Callable[[Any], tuple[Any, Any]]) -> Any:
    """What object.__reduce_ex__ says, and after that what `contents` gives: an iterator of list
    items and one of dict items. They are no arguments, so that a container may contain itself.

    A subclass's own __reduce__ is all there is. Protocols 0 and 1 get what protocol 2 does, which
    needs nothing that they lack.
    """
    reduced = object.__reduce_ex__(self, max(protocol, 2))
    cls: Any = type(self)
    if cls.__reduce__ is not object.__reduce__:
        return reduced
    return (*reduced[:3], *contents(self))


class _Reduced:
    """Stands in for an object so that copy.copy does what it would do without __copy__."""

    def __init__(self, original: Any) -> None:
        reductor = copyreg.dispatch_table.get(type(original))
        self.value = reductor(original) if reductor else original.__reduce_ex__(4)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.value


def copy(self: Any) -> Any:
    """A shallow copy by the object's own reduction."""
    reduced = _Reduced(self)
    return self if isinstance(reduced.value, str) else _copy.copy(reduced)


def getstate(self: Any) -> Any:
    """The instance's own attributes, which a subclass may have; None where there are none."""
    attributes = getattr(self, "__dict__", None) or None
    slots = {}
    for cls in type(self).__mro__:
        names = cls.__dict__.get("__slots__", ())
        for name in [names] if isinstance(names, str) else names:
            if name.startswith("__") and not name.endswith("__"):
                stripped = cls.__name__.lstrip("_")  # nothing is mangled in a class "__"
                name = f"_{stripped}{name}" if stripped else name
            if name not in ("__dict__", "__weakref__") and hasattr(self, name):
                slots[name] = getattr(self, name)
    return (attributes, slots) if slots else attributes


def bind_whole(cls: Any) -> None:
    """Make `case cls(name)` bind the whole container, as it does for dict and list. The interpreter
    knows those by a private flag; an attribute that is the object itself has the same effect."""
    cls._matched = property(lambda self: self, doc="The container itself, for `case`.")
    setattr(cls, "__match_args__", ("_matched",))  # noqa: B010  (mypy takes it for final)

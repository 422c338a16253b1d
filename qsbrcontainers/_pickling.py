"""What pickling and copying of both containers have in common."""

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


def getstate(self: Any) -> Any:
    """The instance's own attributes, which a subclass may have; None where there are none."""
    attributes = getattr(self, "__dict__", None) or None
    slots = {}
    for cls in type(self).__mro__:
        names = cls.__dict__.get("__slots__", ())
        for name in [names] if isinstance(names, str) else names:
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{cls.__name__.lstrip('_')}{name}"
            if name not in ("__dict__", "__weakref__") and hasattr(self, name):
                slots[name] = getattr(self, name)
    return (attributes, slots) if slots else attributes

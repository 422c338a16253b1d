"""What ConcurrentDict and its views leave to Python: registered with their ABCs, the
views with the set algebra of collections.abc, attached to the C types at import."""

from collections.abc import ItemsView, KeysView, MutableMapping, Set, ValuesView

from qsbrcontainers import _native

_SET_METHODS = (
    "__and__ __rand__ __or__ __ror__ __sub__ __rsub__ __xor__ __rxor__ "
    "__le__ __lt__ __ge__ __gt__ __eq__ isdisjoint"
).split()


def _from_iterable(cls, iterable):
    """The result of the views' operators is a plain set, as dict's is."""
    return set(iterable)


for _view in (_native.DictKeys, _native.DictItems):
    _view._from_iterable = classmethod(_from_iterable)
    for _name in _SET_METHODS:
        setattr(_view, _name, getattr(Set, _name))

MutableMapping.register(_native.ConcurrentDict)
KeysView.register(_native.DictKeys)
ValuesView.register(_native.DictValues)
ItemsView.register(_native.DictItems)

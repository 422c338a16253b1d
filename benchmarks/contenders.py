"""Who is measured: ours, the builtins, and what else a user could pick.

A contender says how its container is made, what a thread uses it through (cereggii's handle,
ft_utils' LocalWrapper, a container of its own), what is put around each operation (a lock), and
whose spelling of an operation it needs, where spellings differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec

OURS, DICT, LOCKED, PRIVATE = "ConcurrentDict", "dict", "dict + Lock", "dict, private"
CEREGGII, HANDLES = "cereggii.AtomicDict", "cereggii, handles"
FT_UTILS, WRAPPED = "ft_utils.ConcurrentDict", "ft_utils, LocalWrapper"
CEREGGII_CELLS, FT_UTILS_CELLS = "cereggii of AtomicInt64", "ft_utils of AtomicInt64"
# What an extension type that does nothing takes (limit/limit.c): nobody's promises hold there.
NULL, NULL_LIST = "null dict", "null list"
OUR_LIST, LIST, LOCKED_LIST, PRIVATE_LIST = (
    "ConcurrentList",
    "list",
    "list + RLock",
    "list, private",
)


@dataclass(frozen=True)
class Contender:
    """One of those that are compared; "module:name" says where something is imported from."""

    name: str
    kind: str  # "dict" or "list"
    made_by: str
    spelling: str  # whose spelling of operations it needs: "ours", "builtin", "cereggii" ...
    seen_by_thread: str = "c"  # what a thread uses, an expression of the container c
    around: str = ""  # what stands around each operation
    helper: str = ""  # what `seen_by_thread` needs besides, or `around`: called `helper` there
    number: str = ""  # what makes the numbers that it holds, where these are not ints

    @property
    def private(self) -> bool:
        """Whether each thread has a container of its own: the limit, without any sharing."""
        return self.name.endswith(", private")

    @property
    def package(self) -> str:
        return self.made_by.partition(":")[0].partition(".")[0]


_DICT, _LIST = "builtins:dict", "builtins:list"
_CEREGGII, _FT_UTILS = "cereggii:AtomicDict", "ft_utils.concurrency:ConcurrentDict"
ALL = [
    Contender(OURS, "dict", "qsbrcontainers:ConcurrentDict", "ours"),
    Contender(DICT, "dict", _DICT, "builtin"),
    Contender(LOCKED, "dict", _DICT, "builtin", around="with helper:", helper="threading:Lock"),
    Contender(PRIVATE, "dict", _DICT, "builtin"),
    Contender(CEREGGII, "dict", _CEREGGII, "cereggii"),
    Contender(HANDLES, "dict", _CEREGGII, "cereggii", seen_by_thread="c.get_handle()"),
    Contender(FT_UTILS, "dict", _FT_UTILS, "ft_utils"),
    Contender(
        WRAPPED,
        "dict",
        _FT_UTILS,
        "ft_utils",
        seen_by_thread="helper(c)",
        helper="ft_utils.concurrency:LocalWrapper",
    ),
    Contender(CEREGGII_CELLS, "dict", _CEREGGII, "cereggii cells", number="cereggii:AtomicInt64"),
    Contender(
        FT_UTILS_CELLS,
        "dict",
        _FT_UTILS,
        "ft_utils cells",
        number="ft_utils.concurrency:AtomicInt64",
    ),
    Contender(NULL, "dict", "qc_limit:Nothing", "builtin"),
    Contender(NULL_LIST, "list", "qc_limit:Nothing", "builtin"),
    Contender(OUR_LIST, "list", "qsbrcontainers:ConcurrentList", "ours"),
    Contender(LIST, "list", _LIST, "builtin"),
    Contender(
        LOCKED_LIST, "list", _LIST, "builtin", around="with helper:", helper="threading:RLock"
    ),
    Contender(PRIVATE_LIST, "list", _LIST, "builtin"),
]
BY_NAME = {contender.name: contender for contender in ALL}
DICTS = (OURS, DICT, LOCKED, PRIVATE, CEREGGII, HANDLES, FT_UTILS, WRAPPED)
LISTS = (OUR_LIST, LIST, LOCKED_LIST, PRIVATE_LIST)


def imported(where: str):
    """What "module:name" stands for."""
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


def installed() -> dict[str, str]:
    """Package and version of each contender that can be measured with this interpreter.

    Nothing is imported for that: importing a peer may turn the GIL on.
    """
    found = {}
    for contender in ALL:
        if contender.package == "builtins":
            found[contender.name] = ""
        elif find_spec(contender.package):
            found[contender.name] = f"{contender.package} {metadata.version(contender.package)}"
    return found

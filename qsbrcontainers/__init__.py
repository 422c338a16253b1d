"""A dict and a list that many threads read without a lock.

    from qsbrcontainers import ConcurrentDict, ConcurrentList

    hits, pages = ConcurrentDict(), ConcurrentDict()
    hits.incr(url)                                           # exactly once, from any thread
    page = pages.get_or_create(url, lambda: render(url))     # one render a url

See the README for what each method promises to other threads.
"""

from pathlib import Path as _Path

try:
    from qsbrcontainers._native import (
        DELETE,
        MISSING,
        ConcurrentDict,
        ConcurrentList,
        Sentinel,
        collect,
        share,
        stats,
    )
except ModuleNotFoundError as _error:
    raise ImportError(
        "qsbrcontainers is without its extension module. These are the sources of a checkout? "
        "Install them with `pip install .`, and run Python elsewhere or with -P."
    ) from _error

# Attach what C leaves to Python.
from qsbrcontainers import _dict, _list, _native  # noqa: F401  isort: skip

_native._seal()

__all__ = [
    "DELETE",
    "MISSING",
    "ConcurrentDict",
    "ConcurrentList",
    "Sentinel",
    "collect",
    "get_include",
    "share",
    "stats",
]
__version__ = "0.1.0"


def get_include() -> str:
    """The folder of qsbrcontainers.h, the C API for other extensions (docs/c_api.md).

    In a setup.py: Extension(..., include_dirs=[qsbrcontainers.get_include()]).
    """
    return str(_Path(__file__).parent / "include")

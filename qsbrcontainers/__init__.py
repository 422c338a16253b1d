"""A dict and a list that many threads read without a lock.

    from qsbrcontainers import ConcurrentDict, ConcurrentList

    hits = ConcurrentDict()
    hits.incr("/index")                       # exactly once, from any thread
    page = cache.get_or_create(url, render)   # one render a url

See the README for what each method promises to other threads.
"""

from qsbrcontainers._native import ConcurrentDict, ConcurrentList, collect, share, stats

# Attach what C leaves to Python.
from qsbrcontainers import _dict, _list  # noqa: F401  isort: skip

__all__ = ["ConcurrentDict", "ConcurrentList", "collect", "share", "stats"]
__version__ = "0.1.0"

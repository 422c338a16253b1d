"""Where the application keeps what its threads share: once in this package's containers, once in
dicts under a lock, for comparison. Both have the same four operations.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

from qsbrcontainers import ConcurrentDict, ConcurrentList


class Store(Protocol):
    """What the application asks of it."""

    def new_session(self, sid: str, user: str) -> None:
        """A session of *user*, without a visit so far."""

    def visit(self, sid: str) -> tuple[str, int] | None:
        """Counts a visit of the session: its user and all its visits; None: no such session."""

    def page(self, path: str, render: Callable[[], str]) -> str:
        """The page at *path*, rendered once."""

    def note(self, line: tuple[str, str, int]) -> None:
        """Adds a line to the log."""

    def take_log(self) -> list[tuple[str, str, int]]:
        """The lines so far, which are no longer in the log then."""

    def totals(self) -> dict[str, Any]:
        """What is in it: sessions, visits, pages, lines of the log."""


class ConcurrentStore:
    """No lock anywhere: each operation is one or two atomic ones."""

    def __init__(self) -> None:
        self.users: ConcurrentDict[str, str] = ConcurrentDict()
        self.visits: ConcurrentDict[str, int] = ConcurrentDict()
        self.pages: ConcurrentDict[str, str] = ConcurrentDict()
        self.log: ConcurrentList[tuple[str, str, int]] = ConcurrentList()

    def new_session(self, sid: str, user: str) -> None:
        self.users[sid] = user

    def visit(self, sid: str) -> tuple[str, int] | None:
        user = self.users.get(sid)
        return None if user is None else (user, self.visits.incr(sid))

    def page(self, path: str, render: Callable[[], str]) -> str:
        return self.pages.get_or_create(path, render)

    def note(self, line: tuple[str, str, int]) -> None:
        self.log.append(line)

    def take_log(self) -> list[tuple[str, str, int]]:
        return self.log.drain()

    def totals(self) -> dict[str, Any]:
        visits = self.visits.snapshot()
        return {
            "sessions": len(self.users),
            "visits": sum(visits.values()),
            "pages": len(self.pages),
            "lines": len(self.log),
        }


class LockedStore:
    """The same with one lock around each operation. Rendering is under it too: nobody else can see
    to it that a page is rendered once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users: dict[str, str] = {}
        self.visits: dict[str, int] = {}
        self.pages: dict[str, str] = {}
        self.log: list[tuple[str, str, int]] = []

    def new_session(self, sid: str, user: str) -> None:
        with self.lock:
            self.users[sid] = user

    def visit(self, sid: str) -> tuple[str, int] | None:
        with self.lock:
            user = self.users.get(sid)
            if user is None:
                return None
            self.visits[sid] = visits = self.visits.get(sid, 0) + 1
            return user, visits

    def page(self, path: str, render: Callable[[], str]) -> str:
        with self.lock:
            page = self.pages.get(path)
            if page is None:
                page = self.pages[path] = render()
            return page

    def note(self, line: tuple[str, str, int]) -> None:
        with self.lock:
            self.log.append(line)

    def take_log(self) -> list[tuple[str, str, int]]:
        with self.lock:
            log, self.log = self.log, []
            return log

    def totals(self) -> dict[str, Any]:
        with self.lock:
            return {
                "sessions": len(self.users),
                "visits": sum(self.visits.values()),
                "pages": len(self.pages),
                "lines": len(self.log),
            }


STORES: dict[str, Callable[[], Store]] = {
    "concurrent": ConcurrentStore,
    "locked": LockedStore,
}

"""A small web application whose threads share sessions, counters, a page cache and a log.

    python app.py --port 8080 --store concurrent

``GET /login?user=NAME`` makes a session and returns its id (also as a cookie), ``GET /page/NAME``
counts a visit of the session and shows a page, ``GET /totals`` says what has been counted so far.
At SIGTERM or Ctrl-C it finishes what it has begun and prints the totals as JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import secrets
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from stores import STORES, Store
from waitress.server import create_server

Start = Callable[[str, list[tuple[str, str]]], Any]


class Application:
    """The WSGI application; *store* has all that its threads share."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        headers = [("Content-Type", "text/plain; charset=utf-8")]
        if path == "/login":
            status, text = "200 OK", self.login(environ)
            headers.append(("Set-Cookie", f"sid={text}"))
        elif path.startswith("/page/"):
            status, text = self.show(environ, path)
        elif path == "/totals":
            status, text = "200 OK", json.dumps(self.store.totals())
        else:
            status, text = "404 Not Found", "nothing here"
        body = text.encode()
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [body]

    def login(self, environ: dict[str, Any]) -> str:
        user = parse_qs(environ["QUERY_STRING"]).get("user", ["somebody"])[0]
        sid = secrets.token_hex(16)
        self.store.new_session(sid, user)
        return sid

    def show(self, environ: dict[str, Any], path: str) -> tuple[str, str]:
        cookie = SimpleCookie(environ.get("HTTP_COOKIE", "")).get("sid")
        sid = "" if cookie is None else cookie.value
        visit = self.store.visit(sid)
        if visit is None:
            return "403 Forbidden", "no such session"
        user, number = visit
        page = self.store.page(path, lambda: render(path))
        self.store.note((sid, path, number))
        return "200 OK", f"{user}, visit {number}\n{page}"


def render(path: str) -> str:
    """What a template engine would take its time for."""
    return "\n".join(f"{path}: line {number}" for number in range(20))


class LogWriter:
    """A thread that empties the log now and then, and counts what was in it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.lines: Counter[str] = Counter()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, name="log")
        self.thread.start()

    def run(self) -> None:
        while not self.over.wait(0.05):
            self.write()

    def write(self) -> None:
        for sid, _, _ in self.store.take_log():
            self.lines[sid] += 1

    def close(self) -> None:
        self.over.set()
        self.thread.join()
        self.write()


def stop(number: int, frame: object) -> None:
    """The server ends its threads after this, each with its request."""
    raise SystemExit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--store", choices=STORES, default="concurrent")
    options = parser.parse_args()

    logging.getLogger("waitress").setLevel(logging.ERROR)  # not each request that had to wait
    store = STORES[options.store]()
    server = create_server(
        Application(store),
        host="127.0.0.1",
        port=options.port,
        threads=options.threads,
        connection_limit=1000,
    )
    signal.signal(signal.SIGTERM, stop)
    log = LogWriter(store)
    print(f"listening on {server.effective_port}", flush=True)
    try:
        server.run()  # until the signal's SystemExit; then its threads have ended
    finally:
        log.close()
    print(json.dumps(store.totals() | {"logged": sum(log.lines.values())}), flush=True)


if __name__ == "__main__":
    main()

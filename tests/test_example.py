"""The session server of examples/, with clients of Python's own: every visit that was answered is
in the server's totals when it has ended, and in its log. (`make example-load` drives it with wrk.)
"""

import http.client
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import TESTS

FOLDER = TESTS.parent / "examples" / "session_server"
CLIENTS, VISITS = 4, 50


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import load

    return load


def client(port, number):
    """Logs in and visits pages; how many visits the server says there were."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def get(path, **headers):
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()

    assert get("/page/1") == (403, "no such session")
    status, sid = get(f"/login?user=u{number}")
    assert status == 200
    for visit in range(1, VISITS + 1):
        status, text = get(f"/page/{visit % 10}", Cookie=f"sid={sid}")
        assert status == 200
        assert text.startswith(f"u{number}, visit {visit}\n/page/{visit % 10}: line 0\n"), text
    connection.close()
    return visit


@pytest.mark.parametrize("store", ["concurrent", "locked"])
def test_session_server_loses_nothing(load, store):
    server = load.Server(store, threads=4)
    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            visits = sum(pool.map(client, [server.port] * CLIENTS, range(CLIENTS)))
        totals = server.stop()
    finally:
        server.process.kill()
        server.process.wait()
    assert totals == {
        "sessions": CLIENTS,
        "visits": visits,
        "pages": 10,
        "lines": 0,
        "logged": visits,
    }


def test_session_server_says_what_it_wants():
    done = subprocess.run(
        [sys.executable, FOLDER / "app.py", "--help"],
        env=os.environ | {"PYTHONPATH": str(FOLDER)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--store" in done.stdout

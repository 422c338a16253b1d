"""Drives the session server with wrk and checks that nothing is lost.

    python load.py --seconds 60

For each store, in a server of its own: as many sessions as were made, as many visits as were
answered (and at most one more for each connection that wrk cut off), each of them in the log; the
memory flat after the first third; and an end in order at SIGTERM, once after the load and once in
the middle of it. Then requests per second, side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stores import STORES

HERE = Path(__file__).resolve().parent
CONNECTIONS, WRK_THREADS = 16, 2


class Server:
    """The application in a process of its own."""

    def __init__(self, store: str, threads: int) -> None:
        command = [sys.executable, str(HERE / "app.py"), "--store", store]
        self.process = subprocess.Popen(
            [*command, "--threads", str(threads)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(HERE)},
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split()[-1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def resident(self) -> int:
        """Bytes in memory; 0 where the system does not say."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        except OSError:
            return 0
        return next(int(s.split()[1]) for s in status.splitlines() if s.startswith("VmRSS")) * 1024

    def stop(self) -> dict[str, Any]:
        """SIGTERM; what the server says at its end."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=60)
        if self.process.returncode != 0:
            raise SystemExit(f"The server ended with status {self.process.returncode}.")
        return json.loads(out)


@dataclass
class Run:
    """What came of the load on one server."""

    store: str
    wrk: dict[str, Any]
    totals: dict[str, Any]
    resident: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def expect(self, truth: bool, fault: str) -> None:
        if not truth:
            self.faults.append(f"{self.store}: {fault}")

    def check(self, cut_off: bool) -> None:
        """*cut_off*: the server was stopped before wrk was."""
        wrk, totals = self.wrk, self.totals
        slack = CONNECTIONS  # answered by the server when wrk had stopped listening
        for ours, theirs in (("sessions", "logins"), ("visits", "visits")):
            self.expect(
                wrk[theirs] <= totals[ours] <= wrk[theirs] + slack,
                f"{totals[ours]} {ours} in the server, {wrk[theirs]} answers",
            )
        self.expect(totals["logged"] == totals["visits"], "the log is not the visits")
        self.expect(totals["pages"] <= 100, "a page is there twice")
        self.expect(wrk["visits"] > 0, "nothing was visited")
        self.expect(wrk["wrong"] == 0, f"{wrk['wrong']} requests were refused")
        self.expect(cut_off or wrk["broken"] == 0, f"{wrk['broken']} connections broke")
        if len(self.resident) >= 6 and not cut_off:
            third = len(self.resident) // 3
            first, last = max(self.resident[:third]), max(self.resident[-third:])
            grown = last - first
            self.expect(grown < 16 * 2**20, f"memory grew from {first:,} to {last:,} bytes")


def load(store: str, seconds: float, threads: int, cut_off: bool = False) -> Run:
    """wrk against a server with *store*; SIGTERM afterwards, or, with *cut_off*, in the middle."""
    server = Server(store, threads)
    command = ["wrk", f"-t{WRK_THREADS}", f"-c{CONNECTIONS}", f"-d{round(seconds)}s"]
    command += ["--latency", "-s", str(HERE / "visits.lua"), server.url]
    resident: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(seconds / 30):
            resident.append(server.resident())

    watcher = threading.Thread(target=watch)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as wrk:
        watcher.start()
        if cut_off:
            over.wait(seconds / 2)
            totals = server.stop()
        out, _ = wrk.communicate()
        over.set()
        watcher.join()
    if not cut_off:
        totals = server.stop()
    line = next((line for line in out.splitlines() if line.startswith("JSON ")), None)
    if line is None:
        raise SystemExit(f"wrk said:\n{out}")
    run = Run(store, json.loads(line.removeprefix("JSON ")), totals, resident)
    run.check(cut_off)
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="of load on each server")
    parser.add_argument("--threads", type=int, default=8, help="of the server")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed.")

    faults: list[str] = []
    rates: dict[str, float] = {}
    for store in STORES:
        run = load(store, options.seconds, options.threads)
        rates[store] = run.wrk["visits"] / run.wrk["seconds"]
        print(
            f"{store}: {rates[store]:,.0f} visits/s, 99 % within {run.wrk['p99_ms']:.0f} ms, "
            f"{run.totals['sessions']} sessions, {run.totals['visits']:,} visits, all of them "
            f"logged; {max(run.resident, default=0) / 2**20:.0f} MiB at most"
        )
        faults += run.faults
    for store in STORES:
        run = load(store, max(2, options.seconds / 10), options.threads, cut_off=True)
        print(f"{store}, SIGTERM in the middle: {run.totals['visits']:,} visits, all logged")
        faults += run.faults
    print(f"concurrent : locked = {rates['concurrent'] / rates['locked']:.2f}")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()

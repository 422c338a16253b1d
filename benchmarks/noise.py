"""Was the machine quiet while something was measured?

Four witnesses. A loop whose work is always the same is timed before and after: where it takes
longer than it did at best, the CPU is slower now, or a neighbour has it. The kernel counts, in
/proc/stat, what other processes of this machine used and what other machines took (steal), and,
for this process, how often a thread that wanted to go on was put off its CPU. None of them looks
at the figure itself: a measurement is not called disturbed for being slow.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence

from qsbrcontainers._demo_measure import cores, gil_enabled

OTHERS_AT_MOST = 0.05  # of the CPUs' time
STEAL_AT_MOST = 0.02
SLOWER_AT_MOST = 1.10  # the loop, compared with its usual time
SWITCHES_AT_MOST = 60  # a second and thread, beyond a few
A_FEW_SWITCHES = 4


def calibration() -> float:
    """Seconds that the loop takes; the best of five, so that only what lasts counts."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        x = 1
        for _ in range(5_000):
            x = (x * 5 + 3) & 0xFFFF
        best = min(best, time.perf_counter() - began)
    return best


def _cpu_times() -> tuple[float, float] | None:
    """Seconds that all CPUs were busy, and stolen from them, since boot; None outside Linux."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            fields = [int(field) for field in file.readline().split()[1:]]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / tick, steal / tick


class Watch:
    """Around what is measured: `with Watch(threads) as watch: ...`, then watch.seen."""

    def __init__(self, threads: int):
        self.threads = threads
        self.seen: dict = {}

    def __enter__(self) -> Watch:
        self.loop = calibration()
        self.switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
        self.began = self._now()
        return self

    def __exit__(self, *exc) -> None:
        wall, cpu, machine = self._now()
        switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw - self.switches
        wall, cpu = wall - self.began[0], cpu - self.began[1]
        capacity = wall * (os.cpu_count() or 1)
        self.seen = {
            "loop": max(self.loop, calibration()),
            "cpu": cpu / (wall * self.threads),
            "switches": max(0, switches - A_FEW_SWITCHES) / (wall * self.threads),
            # Where threads wait for a CPU or the GIL, it is each other that they put off.
            "in_each_others_way": self.threads > (1 if gil_enabled() else cores()),
        }
        if machine and self.began[2]:
            busy, steal = (now - then for now, then in zip(machine, self.began[2], strict=True))
            # The kernel counts in ticks: below two of them nothing can be said.
            tick = 2 / os.sysconf("SC_CLK_TCK")
            self.seen["others"] = max(0.0, busy - cpu - tick) / capacity
            self.seen["steal"] = max(0.0, steal - tick / 2) / capacity

    @staticmethod
    def _now():
        return time.perf_counter(), time.process_time(), _cpu_times()


def usual(loops: Sequence[float]) -> float:
    """How long the loop takes when nothing disturbs it: not the best of many, which was luck."""
    return sorted(loops)[len(loops) // 5]


def reasons(seen: dict, usual_loop: float) -> list[str]:
    """Why what was measured meanwhile does not count; empty if it does."""
    found = []
    if seen["loop"] > SLOWER_AT_MOST * usual_loop:
        found.append(f"CPU {seen['loop'] / usual_loop:.2f} x slower")
    if seen.get("others", 0) > OTHERS_AT_MOST:
        found.append(f"others had {seen['others']:.0%} of the CPUs")
    if seen.get("steal", 0) > STEAL_AT_MOST:
        found.append(f"{seen['steal']:.0%} stolen")
    if seen["switches"] > SWITCHES_AT_MOST and not seen["in_each_others_way"]:
        found.append(f"put off the CPU {seen['switches']:.0f} times a second")
    return found

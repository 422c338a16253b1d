"""Runs programs in rotation for a given time and reports: the machinery of tests/soak.py, which
says what is run.

Time is counted while this runs. While it is stopped (SIGSTOP, Ctrl-Z, a machine that sleeps)
nothing counts, and what it has started is stopped with it (Linux). What fails in a run that was
stopped in the middle is run again with the same seed before it counts: the watchdogs in there go on
counting, and end what is well.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

TICK = 0.05
GAP = 2.0  # longer between two ticks: it was stopped
WATCH = 0.2
CANNOT = {77, 5}  # of the engine's programs; of pytest where no test was chosen
COUNTER = re.compile(r"^\s*counter (sum|least|most) (.+): (\d+)$", re.MULTILINE)
PUT_TOGETHER: dict[str, Callable[[int, int], int]] = {
    "sum": lambda a, b: a + b,
    "least": min,
    "most": max,
}
# With r runs of an exponential clock: exp(-T / mean) = 5 % where mean is T / 3.
MEAN_AT_95 = -math.log(0.05)


class Job(NamedTuple):
    command: list[str]
    environment: dict[str, str]  # added to ours
    limit: float  # seconds after which it hangs

    def __str__(self) -> str:
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*settings, shlex.join(self.command)])


class Impossible(Exception):
    """This machine cannot run it."""


class Item(NamedTuple):
    """One thing that is run, in several configurations in turn. Each makes the job for a seed, or
    raises Impossible; that may take long (compiling, installing) and does not count."""

    kind: str
    name: str
    configurations: list[tuple[str, Callable[[int], Job]]]


def full_name(item: Item, configuration: str) -> str:
    return f"{item.name}, {configuration}" if configuration else item.name


class Clock:
    """Seconds of running, and of standing still."""

    def __init__(self) -> None:
        self.running = self.stopped = 0.0
        self.gaps = 0
        self.last = time.monotonic()

    def tick(self) -> None:
        now = time.monotonic()
        passed, self.last = now - self.last, now
        if passed <= GAP:
            self.running += passed
            return
        self.stopped += passed - TICK
        self.running += TICK
        self.gaps += 1


@dataclass
class Tally:
    """What is known of a kind."""

    runs: int = 0
    seconds: float = 0.0
    failures: int = 0
    seconds_since_failure: float = 0.0
    counters: dict[tuple[str, str], int] = field(default_factory=dict)  # by name and how

    def add(self, seconds: float, failed: bool, output: str) -> None:
        self.runs += 1
        self.seconds += seconds
        self.failures += failed
        self.seconds_since_failure = 0.0 if failed else self.seconds_since_failure + seconds
        for how, name, text in COUNTER.findall(output):
            number = int(text)
            if (name, how) in self.counters:
                number = PUT_TOGETHER[how](self.counters[name, how], number)
            self.counters[name, how] = number

    def as_json(self) -> dict[str, object]:
        claim = self.seconds / MEAN_AT_95 if self.failures == 0 else None
        return {
            "runs": self.runs,
            "hours": self.seconds / 3600,
            "failures": self.failures,
            "hours_without_failure": self.seconds_since_failure / 3600,
            "mean_time_between_failures_above_hours": claim and claim / 3600,
            "counters": {f"{name} ({how})": n for (name, how), n in sorted(self.counters.items())},
        }


class Running:
    """A job under way, in a session of its own."""

    def __init__(self, item: Item, configuration: str, make: Callable[[int], Job], seed: int):
        self.item, self.configuration, self.make, self.seed = item, configuration, make, seed
        self.name = full_name(item, configuration)
        self.job: Job | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.future: Future[Job] | None = None
        self.number = 0
        self.output = Path()
        self.began = 0.0
        self.gaps = 0
        self.hangs = False

    def start(self, clock: Clock, output: Path, folder: Path) -> None:
        assert self.job is not None
        self.output = output
        environment = {k: v for k, v in os.environ.items() if k != "PYTHON_GIL"}
        with output.open("wb") as out:
            self.process = subprocess.Popen(
                self.job.command,
                env=environment | self.job.environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.began, self.gaps = clock.running, clock.gaps

    def end(self) -> None:
        """With all that it has started."""
        assert self.process is not None
        others = descendants(self.process.pid)
        for pid in [self.process.pid, *others]:
            send(pid, signal.SIGCONT)
        send(-self.process.pid, signal.SIGKILL)
        for pid in others:
            send(pid, signal.SIGKILL)
        self.process.wait()


class Rotation:
    """Each round runs all items, in an order and with seeds that follow from `seed`."""

    def __init__(
        self,
        items: list[Item],
        *,
        folder: Path,  # for the report and the outputs of what fails
        seconds: float,
        seed: int,
        at_once: int = 1,
        first_failure: bool = False,  # ends it
        where: Path | None = None,  # the folder in which the commands run
    ) -> None:
        self.items, self.folder, self.where = items, folder, where or folder
        self.seconds, self.seed, self.at_once = seconds, seed, at_once
        self.first_failure = first_failure
        self.clock = Clock()
        self.tallies: dict[str, Tally] = {item.kind: Tally() for item in items}
        self.failures: list[dict[str, object]] = []
        self.disturbed: list[str] = []
        self.unable: dict[str, str] = {}
        self.again: list[Running] = []
        self.left: list[tuple[Item, int]] = []
        self.rounds = self.begun = 0
        self.ended_by = ""
        self.maker = ThreadPoolExecutor(1)

    def run(self) -> int:
        """0: no failure. 1: failures. 2: nothing could be run."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.began_at = time.strftime("%Y-%m-%d %H:%M:%S")
        say(f"Seed {self.seed}: --seed {self.seed} repeats the order and the seeds.")
        before = {s: signal.signal(s, self.stop) for s in (signal.SIGTERM, signal.SIGINT)}
        watcher = watch(os.getpid())
        under_way: list[Running] = []
        try:
            while not self.is_over():
                time.sleep(TICK)
                self.clock.tick()
                for running in [r for r in under_way if self.look_at(r)]:
                    under_way.remove(running)
                while len(under_way) < self.at_once and not self.is_over():
                    if (running := self.next_one()) is None:
                        break
                    under_way.append(running)
                if not under_way and not self.is_over():
                    self.ended_by = "having nothing to run"
        finally:
            for running in under_way:
                if running.process is not None:
                    running.end()
                    running.output.unlink()
            self.maker.shutdown(cancel_futures=True)
            if watcher is not None:
                watcher.kill()
                watcher.wait()
            for number, handler in before.items():
                signal.signal(number, handler)
            say("\n" + self.write_report())
        if self.failures:
            return 1
        return 0 if any(tally.runs for tally in self.tallies.values()) else 2

    def stop(self, number: int, frame: object) -> None:
        self.ended_by = signal.Signals(number).name

    def is_over(self) -> bool:
        if not self.ended_by and self.clock.running >= self.seconds:
            self.ended_by = "time"
        if not self.ended_by and self.failures and self.first_failure:
            self.ended_by = "the first failure"
        return bool(self.ended_by)

    def next_one(self) -> Running | None:
        if self.again:
            running = self.again.pop()
        else:
            running = self.next_in_turn()
            if running is None:
                return None
        self.begun += 1
        running.number = self.begun
        running.future = self.maker.submit(running.make, running.seed)
        return running

    def next_in_turn(self) -> Running | None:
        """None: there is nothing that can be run."""
        if not any(self.possible(item) for item in self.items):
            return None
        while True:
            if not self.left:
                self.begin_round()
            item, turn = self.left.pop()
            seed = random.Random(f"{self.seed} {self.rounds} {item.name}").randrange(1, 2**31)
            for name, make in self.possible(item, turn):
                return Running(item, name, make, seed)

    def possible(self, item: Item, turn: int = 0) -> list[tuple[str, Callable[[int], Job]]]:
        """An item's configurations without those that cannot be run, from the one whose turn it
        is."""
        turn %= len(item.configurations)
        in_turn = item.configurations[turn:] + item.configurations[:turn]
        return [(name, make) for name, make in in_turn if full_name(item, name) not in self.unable]

    def begin_round(self) -> None:
        if self.rounds:
            self.write_report()
        self.rounds += 1
        self.left = [(item, i + self.rounds) for i, item in enumerate(self.items)]
        random.Random(f"{self.seed} {self.rounds}").shuffle(self.left)

    def look_at(self, running: Running) -> bool:
        """Whether it is over, and what became of it noted."""
        if running.process is None:
            assert running.future is not None
            if not running.future.done():
                return False
            try:
                running.job = running.future.result()
            except Impossible as error:
                self.unable[running.name] = str(error)
                say(f"CANNOT RUN {running.name}: {error}")
                return True
            except Exception as error:
                self.unable[running.name] = "could not be made"
                self.tallies[running.item.kind].add(0.0, True, "")
                self.fail(running, "could not be made", str(error))
                return True
            output = self.folder / f"{running.number}.log"
            running.start(self.clock, output, self.where)
            return False
        assert running.job is not None
        seconds = self.clock.running - running.began
        if running.process.poll() is None:
            # Its own watchdogs first: whoever is aborted may say where it hangs.
            if seconds > running.job.limit and not running.hangs:
                running.hangs = True
                running.process.send_signal(signal.SIGABRT)
            if seconds > running.job.limit + 10:
                running.end()
            return False
        send(-running.process.pid, signal.SIGKILL)  # what it has left behind
        self.judge(running, running.process.returncode, seconds)
        return True

    def judge(self, running: Running, status: int, seconds: float) -> None:
        output = running.output.read_text(errors="replace")
        number = f"{running.number:5} {self.clock.running / 60:7.1f} min"
        end = "hangs" if running.hangs else f"status {status}" if status else "ok"
        if status in CANNOT:
            lines = output.strip().splitlines()
            self.unable[running.name] = lines[-1] if lines else f"status {status}"
            end = "CANNOT RUN"
        elif status and running.gaps != self.clock.gaps:
            self.disturbed.append(f"{running.name}: {running.job}: {running.output}")
            again = Running(running.item, running.configuration, running.make, running.seed)
            self.again.append(again)
            say(f"{number} {running.name}: {end}, but was stopped meanwhile: again")
            return
        else:
            self.tallies[running.item.kind].add(seconds, bool(status), output)
        say(f"{number} {running.name}, seed {running.seed}: {end} ({seconds:.1f} s)")
        if not status or status in CANNOT:
            running.output.unlink()
            return
        self.fail(running, end, output)

    def fail(self, running: Running, end: str, output: str) -> None:
        path = self.folder / f"{running.number}.log"
        path.write_text(output)
        self.failures.append(
            {
                "kind": running.item.kind,
                "name": running.name,
                "seed": running.seed,
                "end": end,
                "after_hours": self.clock.running / 3600,
                "command": str(running.job),
                "output": str(path),
            }
        )
        say(f"FAILED: {running.name}\n{output[-3000:]}\nto repeat it: {running.job}\n")

    # The report

    def as_json(self) -> dict[str, object]:
        total = Tally()
        for tally in self.tallies.values():
            total.runs += tally.runs
            total.seconds += tally.seconds
            total.failures += tally.failures
        everything = total.as_json()
        del everything["counters"], everything["hours_without_failure"]
        return {
            "began": self.began_at,
            "seed": self.seed,
            "ended_by": self.ended_by,
            "hours": self.clock.running / 3600,
            "stopped_hours": self.clock.stopped / 3600,
            "rounds": self.rounds,
            "at_once": self.at_once,
            "total": everything,
            "kinds": {kind: tally.as_json() for kind, tally in self.tallies.items()},
            "failures": self.failures,
            "disturbed": self.disturbed,
            "unable": self.unable,
        }

    def write_report(self) -> str:
        found = self.as_json()
        text = self.as_text(found)
        for name, content in ("report.json", json.dumps(found, indent=2)), ("report.txt", text):
            path = self.folder / f"{name}.new"
            path.write_text(content + "\n")
            path.replace(self.folder / name)
        return text

    def as_text(self, found: dict[str, object]) -> str:
        lines = [
            f"{self.rounds} rounds in {self.clock.running / 3600:.2f} h"
            f" (stopped for {self.clock.stopped / 3600:.2f} h more), seed {self.seed};"
            f" ended by {self.ended_by or 'nothing yet'}."
        ]
        for kind, tally in self.tallies.items():
            hours, since = tally.seconds / 3600, tally.seconds_since_failure / 3600
            lines.append(f"\n{kind}: {tally.runs} runs, {hours:.3f} h, {tally.failures} failures")
            if tally.failures:
                lines[-1] += f", {since:.3f} h since the last"
            width = max((len(name) for name, _ in tally.counters), default=0)
            for (name, how), number in sorted(tally.counters.items()):
                lines.append(f"    {name:{width}}  {number:>16,}  ({how})")
        hours = sum(tally.seconds for tally in self.tallies.values()) / 3600
        lines.append("")
        for name, reason in self.unable.items():
            lines.append(f"{'!' * 10} NOT RUN: {name}: {reason}")
        for text in self.disturbed:
            lines.append(f"failed when it was stopped in the middle, and was run again: {text}")
        for failure in self.failures:
            lines.append(f"FAILED ({failure['end']}): {failure['name']}: {failure['output']}")
            lines.append(f"    to repeat it: {failure['command']}")
        if self.failures:
            lines.append(f"{len(self.failures)} FAILURES in {hours:.3f} h of torture.")
        else:
            lines.append(
                f"{hours:.3f} failure-free hours of torture support a mean time between failures"
                f" above {hours / MEAN_AT_95:.3f} h (T/3) at 95 %."
            )
        return "\n".join(lines)


# Processes


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number) if pid > 0 else os.killpg(-pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def all_processes() -> dict[int, tuple[str, int, str]]:
    """State, parent and time of birth of each; nothing where there is no /proc."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found[int(path.parent.name)] = fields[0], int(fields[1]), fields[19]
    return found


def descendants(pid: int) -> list[int]:
    everybody = all_processes()
    found = [pid]
    for one in found:
        found += [p for p, (_, parent, _) in everybody.items() if parent == one]
    return found[1:]


def watch(pid: int) -> subprocess.Popen[bytes] | None:
    """A process that stops what `pid` has started while `pid` is stopped, and ends it when `pid`
    has been killed."""
    if not Path("/proc/self/stat").exists():
        return None
    return subprocess.Popen([sys.executable, __file__, str(pid)], start_new_session=True)


def watch_over(pid: int) -> None:
    for number in signal.SIGINT, signal.SIGTERM:
        signal.signal(number, signal.SIG_IGN)
    known: dict[int, str] = {}
    stopped: list[int] = []
    looks = 0
    while os.getppid() == pid:
        looks += 1
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        is_stopped = fields[0] == "T"
        if is_stopped or stopped or looks % 5 == 0:
            others = [p for p in descendants(pid) if p != os.getpid()]
            everybody = all_processes()
            known = {p: everybody[p][2] for p in others if p in everybody}
        if is_stopped:
            for other in set(known) - set(stopped):
                send(other, signal.SIGSTOP)
                stopped.append(other)
        elif stopped:
            for other in stopped:
                send(other, signal.SIGCONT)
            stopped = []
        time.sleep(WATCH)
    everybody = all_processes()
    for other, born in known.items():
        if other in everybody and everybody[other][2] == born:
            send(other, signal.SIGKILL)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    try:
        watch_over(int(sys.argv[1]))
    except FileNotFoundError:  # it is gone
        pass

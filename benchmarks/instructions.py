"""How many instructions does an operation execute? Counted, not timed: a guard without noise.

    python benchmarks/instructions.py            counts and shows, beside the table in the tree
    python benchmarks/instructions.py --check    fails if a path of ours is more than 3 % dearer
    python benchmarks/instructions.py --update   writes the table, benchmarks/instructions.json

Callgrind counts what one thread executes, in a process whose hash seed, addresses and environment
are always the same. Each path runs twice with different lengths, and the difference, over the
operations it has more, is the path's figure; of what goes through keys, the loop's own part is
taken off. Runs agree to the last digit; other compilers, interpreters and C libraries give other
figures, so the table has a part for each combination that it was made with, and a check with any
other says so and passes. Only for builds with a GIL: there one thread
that counts is all there is. "shared" paths are those of a container that two threads have used.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import contenders as who
from cases_lists import APPEND, POP
from cases_reads import ASSIGN, GET, GET_MANY, IN, READ
from cases_writes import DELETE, INCR, ITERATE
from loops import KEYS, VALUES, LoopCase, Op, source

TABLE = Path(__file__).with_name("instructions.json")
DEARER_AT_MOST = 1.03
SIZE = 1000
# What is counted ends where this is called: a function of libc that nothing else calls.
MARK = "getppid"
# One set of string functions on every x86 CPU.
TUNABLES = "glibc.cpu.hwcaps=-AVX2,-AVX512VL,-AVX512BW,-ERMS,-FSRM,-RTM"


@dataclass(frozen=True)
class Route:
    """One path: an operation on a container of 1,000, or on one that it fills or empties."""

    name: str
    op: Op
    kind: str = "dict"
    keys: str = "str"
    values: str = "int"
    first: int = 0  # number of the first key used
    step: int = 10
    on: str = "full"  # or "filling", "emptying": then each operation has a key or place of its own
    shared: bool = False
    per_pass: int = 0  # operations a pass, where it is not one for each key

    def contenders(self) -> tuple[str, ...]:
        ours = who.OURS if self.kind == "dict" else who.OUR_LIST
        return (ours,) if self.shared else (ours, self.kind)


def _both(name: str, op: Op, **more) -> list[Route]:
    return [Route(name, op, **more), Route(f"{name}, shared", op, shared=True, **more)]


ROUTES = [
    Route("d[k], str", READ),
    Route("d[k], str, shared", READ, shared=True),
    Route("d[k], int", READ, keys="int"),
    Route("d[k], tuple", READ, keys="tuple"),
    Route("d.get(k)", GET),
    Route("d.get(k), missing", GET, first=SIZE),
    Route("k in d", IN),
    Route("k in d, missing", IN, first=SIZE),
    Route("d.get_many(100), per key", GET_MANY, step=100),
    Route("for k in d, per key", ITERATE, per_pass=SIZE),
    *_both("d[k] = v, there", ASSIGN),
    *_both("d[k] = v, new", ASSIGN, on="filling"),
    *_both("del d[k]", DELETE, on="emptying"),
    *_both("d.incr(k), dict: d[k] += 1", INCR),
    Route("l[i]", READ, kind="list", keys="index"),
    Route("for x in l, per element", ITERATE, kind="list", keys="index", per_pass=SIZE),
    *_both("l[i] = v", ASSIGN, kind="list", keys="index"),
    *_both("l.append(v)", APPEND, kind="list", keys="index", on="filling"),
    *_both("l.pop()", POP, kind="list", keys="index", on="emptying"),
]
LOOP = Route("the loop", Op("pass # {k}"))
LOOP_BY_HUNDREDS = Route("the loop, by hundreds", Op("pass # {s}"), step=100)


def counted() -> Iterator[tuple[Route, str]]:
    yield LOOP, who.DICT
    yield LOOP_BY_HUNDREDS, who.DICT
    for route in ROUTES:
        for name in route.contenders():
            yield route, name


class Runner:
    """A path with a contender, in the process that is counted."""

    def __init__(self, route: Route, name: str):
        self.route = route
        contender = who.BY_NAME[name]
        self.make = who.imported(contender.made_by)
        case = LoopCase(
            name="",
            title="",
            ops=route.op,
            keys=route.keys,
            step=1 if route.per_pass else route.step,
        )
        self.code = source(case, contender)
        scope: dict = {}
        exec(self.code, scope)
        self.loop = scope["run"]
        self.value = VALUES[route.values](SIZE)
        if route.on == "full":
            self.lengths = (5, 25)  # passes
            self.operations = 20 * (route.per_pass or SIZE)
        else:
            self.lengths = (1000, 5000)  # keys
            self.operations = 4000

    def container(self, size: int):
        key, value = KEYS[self.route.keys], VALUES[self.route.values]
        made = self.make()
        if self.route.kind == "list":
            made.extend([value(n) for n in range(size)])
        else:
            for n in range(size):
                made[key(n)] = value(n)
        if self.route.shared:
            other = threading.Thread(target=lambda: len(made) and made[key(0)])
            other.start()
            other.join()
        return made

    def steps(self, size: int) -> list[tuple]:
        key, step, first = KEYS[self.route.keys], self.route.step, self.route.first
        return [tuple(key(first + n + i) for i in range(step)) for n in range(0, size, step)]

    def prepared(self, length: int):
        """What is counted, as a function of nothing."""
        on, loop, value = self.route.on, self.loop, self.value
        if on == "full":
            steps, container = self.steps(SIZE), self.container(SIZE)
            loop(container, steps, 3, value)  # specialized code, a container that has settled
            return lambda: loop(container, steps, length, value)
        container = self.container(0 if on == "filling" else length)
        steps = self.steps(length)
        passes = 1 if " in steps:" in self.code else length // self.route.step
        return lambda: loop(container, steps, passes, value)


def run_all() -> None:
    """What is counted; between any two marks there is one thing."""
    import gc

    gc.disable()
    for route, name in counted():
        runner = Runner(route, name)
        runner.prepared(runner.lengths[0])()
        for length in runner.lengths:
            work = runner.prepared(length)
            os.getppid()
            work()
            os.getppid()


def totals(folder: str) -> list[int]:
    """Instructions before each mark, since the one before."""
    found = []
    for file in sorted(Path(folder).glob("out.*"), key=lambda file: int(file.suffix[1:])):
        with file.open() as lines:
            found += [int(line.split()[1]) for line in lines if line.startswith("summary:")]
    return found


def count() -> dict[str, dict[str, float]]:
    """Instructions an operation, of each path, for ours and the builtin."""
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONHASHSEED": "1",
        "GLIBC_TUNABLES": TUNABLES,
        "LC_ALL": "C.UTF-8",
        "QSBRCONTAINERS_QUIET_MS": "1000000",  # nothing depends on the time it takes
    }
    with tempfile.TemporaryDirectory() as folder:
        command = ["setarch", "-R", "valgrind", "--tool=callgrind", f"--dump-before={MARK}"]
        command += ["--compress-strings=yes", f"--callgrind-out-file={folder}/out"]
        command += [sys.executable, "-s", __file__, "--run"]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
        counts = totals(folder)
    work = counts[1::2]  # before every second mark lies the work, before the others what prepares
    found: dict[str, dict[str, float]] = {}
    loops: dict[int, float] = {}
    for number, (route, name) in enumerate(counted()):
        runner = Runner(route, name)
        short, long = work[2 * number : 2 * number + 2]
        each = (long - short) / runner.operations
        if route in (LOOP, LOOP_BY_HUNDREDS):
            loops[route.step] = each
            continue
        if " in steps:" in runner.code:
            each -= loops[route.step]
        of = "builtin" if name in (who.DICT, who.LIST) else "ours"
        found.setdefault(route.name, {})[of] = round(each, 2)
    return found


def here() -> dict[str, str]:
    """All that the figures depend on, besides our sources."""
    compiler = os.environ.get("CC") or "cc"
    try:
        said = subprocess.check_output([*compiler.split(), "--version"], text=True).splitlines()[0]
    except OSError:
        said = "no compiler"
    return {
        "interpreter": platform.python_version(),
        "compiled by": platform.python_compiler(),
        "our compiler": said,
        "libc": " ".join(platform.libc_ver()),
        "machine": platform.machine(),
    }


def why_not() -> str:
    """Why nothing can be counted here; empty if it can."""
    missing = [name for name in ("valgrind", "setarch") if not shutil.which(name)]
    if missing:
        return f"there is no {' and no '.join(missing)}"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "this interpreter has no GIL"
    return ""


def load() -> list[dict]:
    return json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else []


def kept_for(place: dict[str, str], tables: list[dict]) -> dict[str, dict[str, float]] | None:
    return next((each["paths"] for each in tables if each["with"] == place), None)


def show(found: dict, kept: dict | None) -> list[str]:
    """Prints the figures; gives the paths that became dearer than is allowed."""
    dearer = []
    print(f"{'instructions an operation':36}{'ours':>8}{'builtin':>9}{'ratio':>8}{'kept':>9}")
    for name, of in found.items():
        before = (kept or {}).get(name, {}).get("ours")
        builtin = (
            f"{of['builtin']:9.1f}{of['ours'] / of['builtin']:7.2f}x"
            if "builtin" in of
            else " " * 17
        )
        shown = f"{before:9.1f}" if before else f"{'-':>9}"
        mark = ""
        if before and of["ours"] > before * DEARER_AT_MOST:
            mark = f"   {of['ours'] / before - 1:+.1%}"
            dearer.append(name)
        print(f"{name:36}{of['ours']:8.1f}{builtin}{shown}{mark}")
    return dearer


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="fail where a path became dearer")
    what.add_argument("--update", action="store_true", help="keep what is counted now")
    what.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run_all()
        return 0
    reason = why_not()
    place, tables = here(), load()
    kept = kept_for(place, tables)
    if not reason and options.check and kept is None:
        reason = f"the table has no figures made with {place}"
    if reason:
        print(f"!!!!!!!!!! INSTRUCTIONS NOT COUNTED: {reason} !!!!!!!!!!")
        return 0 if options.check else 1
    found = count()
    dearer = show(found, kept)
    if kept and not dearer and found != kept:
        print("The table has other figures: --update keeps these.")
    if options.update:
        others = [each for each in tables if each["with"] != place]
        text = json.dumps([*others, {"with": place, "paths": found}], indent=1)
        TABLE.write_text(re.sub(r"\{\n\s+(\"ours\": [^{}]*?)\n\s+\}", _on_one_line, text) + "\n")
        return 0
    if options.check and dearer:
        print(f"{len(dearer)} paths are more than {DEARER_AT_MOST - 1:.0%} dearer: see above.")
        print("If that is meant: python benchmarks/instructions.py --update, and say why.")
        return 1
    return 0


def _on_one_line(found: re.Match) -> str:
    return "{" + " ".join(found.group(1).split()) + "}"


if __name__ == "__main__":
    sys.exit(main())

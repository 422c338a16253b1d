"""`make mutants`: builds the engine broken on purpose, once for each QC_BREAK_ macro, and fails
unless every checker that must notice does.

    python tests/mutants.py [BREAK...]      some, or all; a few minutes on two cores
    python tests/mutants.py --table         the table of tests/engine/README.md

Here are only checkers that notice at once and in every run: models, schedules that are simulated
and can be repeated, tests that drive threads by hand, ThreadSanitizer where it follows from the
order of events that it happens to see. Each must also pass what is whole.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS / "engine"), str(TESTS / "model")]

import programs  # noqa: E402
import promela  # noqa: E402

AT_ONCE = 2
LIMIT = 100  # seconds for one program
BOTH, MEMBARRIER, FENCE = ("membarrier", "fence"), ("membarrier",), ("fence",)
# What a checker says when it notices; anything else (a crash, a hang) does not count.
NOTICED = {
    "debug": "CHECK failed|assertion failed",
    "asan": "ERROR: AddressSanitizer: ",
    "tsan": "WARNING: ThreadSanitizer: ",
}


class Check(NamedTuple):
    how: str  # "spin", or the flavour of an engine test
    what: str  # the mutant in a model, or the program
    modes: tuple[str, ...] = BOTH
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = {"spin": promela.MUTANTS[self.what].file if self.how == "spin" else ""}
        text = f"{names.get(self.how, self.what)} ({self.how}"
        return text + (f", {self.modes[0]})" if len(self.modes) == 1 and self.modes[0] else ")")


class Break(NamedTuple):
    what: str  # is wrong with it
    checks: tuple[Check, ...]
    later: str = ""  # what else notices it, sooner or later
    note: str = ""  # a footnote of the table


def spin(name: str) -> Check:
    modes = tuple(mode.lower() for mode in promela.MUTANTS[name].modes)
    return Check("spin", name, modes)


def simulated(scenario: str, modes: tuple[str, ...] = BOTH) -> Check:
    return Check("debug", "tso_model", modes, (scenario,))


def debug(program: str, modes: tuple[str, ...] = BOTH) -> Check:
    return Check("debug", program, modes)


def asan(program: str) -> Check:
    return Check("asan", program)


def tsan(program: str) -> Check:
    return Check("tsan", program)


ONE_WRITER = "Q1: a reader and a writer"
OTHERS_POLL = "Q1: a reader, a writer, another's polls"
QUEUE = "T6: the retire queue"
OPEN_BATCH = "T6: an open batch that another takes"

BREAKS = {
    "NO_LIGHT_BARRIER": Break(
        "no barrier between the enter store and the section's loads",
        (spin("NO_LIGHT_BARRIER"), simulated(ONE_WRITER, FENCE)),
        "torture_qsbr (release, debug; fence)",
        "¹",
    ),
    "NO_HEAVY_BARRIER": Break(
        "no barrier in the poll",
        (
            spin("NO_HEAVY_BARRIER"),
            simulated(ONE_WRITER, MEMBARRIER),
            debug("broken_barrier", MEMBARRIER),
        ),
        "torture_qsbr (release, debug; membarrier)",
        "²",
    ),
    "LOAD_AFTER_BARRIER": Break(
        "the poll loads the sequence after the heavy barrier",
        (spin("LOAD_AFTER_BARRIER"), simulated(OTHERS_POLL, MEMBARRIER)),
        note="³",
    ),
    "BARRIER_LEFT_OUT_OFFLINE": Break(
        "no heavy barrier where all other records look offline",
        (spin("BARRIER_LEFT_OUT_OFFLINE"), simulated(ONE_WRITER, MEMBARRIER)),
        note="³",
    ),
    "FENCED_TOO_EARLY": Break(
        "polls go without a barrier on the word of one that has not finished",
        (spin("FENCED_TOO_EARLY"), simulated(OTHERS_POLL, MEMBARRIER)),
        note="³",
    ),
    "GOAL_NOT_ADDED": Break(
        "the goal is a sequence that was never added",
        (
            spin("GOAL_NOT_ADDED"),
            debug("retire"),
            debug("retire_others"),
            simulated(QUEUE),
        ),
    ),
    "RELAXED_EXIT": Break(
        "the exit store does not release",
        (spin("RELAXED_EXIT"), simulated(ONE_WRITER), tsan("torture_qsbr"), tsan("torture_retire")),
        "torture_keytable (tsan)",
    ),
    "RELAXED_ENTER": Break(
        "the enter store ends the last exit's release sequence",
        (spin("RELAXED_ENTER"), simulated(ONE_WRITER)),
        note="⁴",
    ),
    "LEAF_IN_SECTION": Break(
        "a section that is not counted ends the one around it",
        (debug("qsbr"),),
    ),
    "FREE_AT_ONCE": Break(
        "shared memory is freed without a grace period",
        (
            spin("FREE_AT_ONCE"),
            debug("retire"),
            debug("retire_others"),
            simulated(QUEUE),
            asan("keytable"),
            tsan("torture_retire"),
        ),
        "torture_retire, torture_keytable (all)",
    ),
    "GOAL_BEFORE_BATCH": Break(
        "the goal is taken before the batch is",
        (spin("GOAL_BEFORE_BATCH"), simulated(OPEN_BATCH)),
    ),
    "TAG_BEFORE_LAST_ITEM": Break(
        "a batch is tagged before its last item is unlinked",
        (spin("TAG_BEFORE_LAST_ITEM"), simulated(QUEUE)),
    ),
    "LISTED_BY_A_LOOK": Break(
        "the owner decides whether to list its local by a look at the word before it takes it",
        (spin("LISTED_BY_A_LOOK"), debug("retire_look")),
    ),
    "TAKEN_FROM_THE_HAND": Break(
        "the looker takes a local off the list while its owner has its batch in hand",
        (spin("TAKEN_FROM_THE_HAND"), debug("retire_look")),
    ),
    "CLOSED_WITHOUT_THE_WORD": Break(
        "batches that are not reached are closed again by an owner that has not taken the word",
        (spin("CLOSED_WITHOUT_THE_WORD"), debug("retire_look")),
    ),
    "ALL_LOOKED_AT": Break(
        "closed batches behind one that is not reached are looked at too",
        (debug("retire_look"),),
    ),
    "OPEN_NOT_COUNTED": Break(
        "the limits ignore the bytes of open batches",
        (debug("retire_look"),),
    ),
    "NOT_IN_THE_SCAN": Break(
        "registering leaves out the bit by which polls find the record",
        (debug("qsbr"), debug("retire_look")),
    ),
    "MOVED_BEFORE_COPY": Break(
        "a growing table says MOVED before the word is copied",
        (spin("MOVED_BEFORE_COPY"), spin("MOVED_NOT_CAS"), debug("keytable")),
        "torture_keytable (all)",
    ),
    "PLACE_BLIND": Break(
        "a key that was not found without the lock goes in without another look",
        (spin("PLACE_BLIND"), debug("keytable_slots")),
        "torture_keytable (all), races/test_dict_writes",
    ),
    "USED_BEFORE_SLOT": Break(
        "an insertion is counted before its slot is stored",
        (spin("USED_BEFORE_SLOT"), debug("keytable_slots")),
    ),
    "COMPARE_BY_ADDRESS": Break(
        "after a comparison a table is recognized by its address",
        (debug("keytable"),),
    ),
    "COMPARE_IN_FIRST_ONLY": Break(
        "nor is it looked for in the next one, while a table grows",
        (debug("keytable"),),
        "fork_dict (all), tests/faults/test_fork_places.py",
    ),
    "NO_FREEZE": Break(
        "what sees one moment does not stop assignments",
        (debug("keytable"),),
        "torture_keytable (all)",
    ),
    "FREEZE_NOT_COUNTED": Break(
        "the first of several threads to thaw a map ends all freezes", (debug("keytable"),)
    ),
    "LEN_NO_LOCK": Break("len() takes no lock where it finds it held", (debug("keytable"),)),
    "PAGE_TO_OTHER_CLASS": Break(
        "a waiting page is handed to another class before its goal",
        (debug("page"), debug("page_others")),
        "torture_page (all), the fuzz target",
    ),
    "PAGE_TAG_EARLY": Break(
        "a page's generation is tagged before it is taken",
        (debug("page"),),
        "the fuzz target",
    ),
    "PAGE_TAG_NEXT": Break(
        "a thread that tags for others tags the next locals, not those whose pages it took",
        (debug("page_costs"),),
    ),
    "PAGES_NOT_ASKED": Break(
        "the limit ignores waiting pages until a safe point happens to come",
        (debug("page_costs"),),
        "tests/leaks/test_held_memory.py",
    ),
    "BLOCK_AT_ONCE": Break(
        "a page serves a block that was just retired",
        (debug("page"),),
        "torture_page (all), the fuzz target",
    ),
    "UNLISTED_WAITS": Break(
        "a full page that waited leaves its class's list and stays among the waiting pages",
        (spin("UNLISTED_WAITS"), debug("page_others"), debug("torture_page")),
    ),
    "PAGE_ADVANCES": Break(
        "a thread advances and polls whenever it has no free block", (debug("page_costs"),)
    ),
    "PAGE_ALL_LOCALS": Break(
        "a fresh page costs a visit of every thread there ever was", (debug("page_costs"),)
    ),
    "REGISTRY_READ_EARLY": Break(
        "what the registry's lock protects is read before the lock is there",
        (debug("registry"),),
    ),
    "SLOT_IS_LEFT": Break(
        "the end of a domain leaves its slots, and threads that end later follow them",
        (asan("registry"), asan("records")),
    ),
    "NOT_FORGOTTEN": Break(
        "a thread that has ended, and goes on, goes on with what another has by then",
        (debug("page_others"),),
        "tests/faults/test_thread_ends.py (free-threaded builds)",
    ),
    "WAIT_FOR_THE_GONE": Break(
        "in the child of a fork a lock is not taken over from a thread that is gone",
        (debug("fork_locks", MEMBARRIER),),  # the watchdog's 20 s
        "fork, fork_list, fork_torture (all)",
    ),
    "FORK_DOES_NOT_WAIT": Break(
        "a fork does not wait for those who hold forks back",
        (debug("fork_held"),),
        "fork_torture (now and then)",
    ),
    "FORKS_AWAITED_FOR_EVER": Break(
        "a change waits for a fork without a limit",
        (debug("fork_held", MEMBARRIER),),
    ),
    "COUNTED_BESIDE_FORKS": Break(
        "a fork can come between a batch's mark and the queue's count of it",
        (debug("retire_held"),),
    ),
    "MENDED_BESIDE_FORKS": Break(
        "nor for one that puts right what a fork has left of the queue",
        (debug("retire_held"),),
    ),
    "NO_MEND": Break(
        "nor is put right what that thread was in the middle of",
        (debug("fork_torture", MEMBARRIER),),  # the first of many children notices
        "fork_dict (all)",
    ),
    "MOVED_IS_GONE": Break(
        "an iterator takes a key that was moved to another table for deleted",
        (debug("keytable_iter", ("membarrier",)),),
        "races/test_dict_iteration_races",
    ),
    "LIST_NO_RECHECK": Break(
        "an element is read without a second look at the size", (debug("ptrarray_between"),)
    ),
}
# In src/py, or seen from there: Python tests notice these, sooner or later, with an extension
# built by QSBRCONTAINERS_BREAK. They are not run here; a model's mutant that is broken alike is.
IN_PYTHON = {
    "DELETE_BLIND": (
        "a deletion takes what was there before the lock was taken",
        "races/test_dict_writes",
    ),
    "INCR_NOT_CAS": ("incr() stores instead of comparing and setting", "races/test_dict_writes"),
    "LIST_SHIFT_IN_PLACE": (
        "insert(), reverse() and the like shift elements under readers",
        "races/test_list_moments",
    ),
    "LIST_EXTEND_BY_ONE": (
        "extend() in place raises the size with each element",
        "races/test_list_moments",
    ),
    "LIST_MOMENT_BY_ONE": (
        "snapshot(), copy() and the like read one element after the other",
        "races/test_list_moments",
    ),
    "LIST_SORT_BLIND": (
        "sort() does not look whether the list has changed",
        "races/test_list_linearizability",
    ),
    "LIST_INSTALL_BLIND": (
        "incr(), compute() and the like do not look whether the element is the one they saw",
        "races/test_list_linearizability",
    ),
    "LIST_DRAIN_IN_TWO": (
        "drain() copies the elements and then removes what is there",
        "races/test_list_linearizability",
    ),
    "LIST_INDEX_EARLY": (
        "append_index() returns the length that it found before",
        "races/test_list_linearizability",
    ),
    "TURNS_NO_WAIT": (
        "a second thread steps an iterator while its owner may be in a step",
        "faults/test_turns",
    ),
    "TURNS_LEAVING_IS_LEFT": (
        "nor does who finds that another waits for it",
        "faults/test_turns",
    ),
    "TURNS_TWO_OWNERS": (
        "an iterator gets an owner without a look whether it has got one meanwhile",
        "faults/test_turns",
    ),
    "NO_RELOOK": (
        "get_or_create() does not look again after it has registered",
        "races/test_get_or_create",
    ),
}
# With mutants of models.
MODELLED = {
    "VALUE_NO_SECOND_LOOK": Break(
        "a reader does not look again whether the object that it holds is the value",
        (spin("NO_SECOND_LOOK"), spin("LIST_NO_SECOND_LOOK")),
        "races/test_values_placed",
    ),
    "LIST_LOOKS_AT_WORD": Break(
        "nor, in a list, whether the array is still the published one, and the index covered",
        (spin("LIST_LOOK_AT_WORD_ONLY"), spin("NO_LOOK_AT_SIZE")),
        "races/test_values_placed",
    ),
    "VALUE_DROPPED_FIRST": Break(
        "clear() drops the values before it says DELETED in their places",
        (spin("DROP_BEFORE_DELETED"), spin("DELETION_DROPS_FIRST")),
        "races/test_values_placed",
    ),
    "VALUE_NOT_ENABLED": Break(
        "a value is stored that readers of other threads cannot take references to",
        (spin("NO_TRY_ENABLE"),),
        "races/test_values_placed",
    ),
}
BREAKS.update(MODELLED)
IN_PYTHON.update({name: (one.what, one.later) for name, one in MODELLED.items()})


class Workplace:
    """What is built once, and what runs a check on a whole or a broken source."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.whole = programs.Builder(folder / "whole")
        self.broken: dict[str, programs.Builder] = {}

    def run(self, check: Check, mode: str, broken: str = "") -> tuple[str, str]:
        """'passes', 'notices' or 'cannot', and what was said."""
        if check.how == "spin":
            return self.run_spin(check.what, mode, broken)
        builder = self.whole
        if broken:
            if broken not in self.broken:
                folder = self.folder / broken
                self.broken[broken] = programs.Builder(folder, [broken], self.whole)
            builder = self.broken[broken]
        try:
            command = builder.program(programs.HERE / f"test_{check.what}.c", check.how)
        except programs.Impossible as reason:
            return "cannot", str(reason)
        except programs.Failed as reason:
            return "cannot be built", str(reason)
        # A broken one is looked at for longer, should it take longer on another machine.
        scale = {"QC_TORTURE_SCALE": "10"} if broken else {}
        status, said = programs.run([*command, *check.arguments], mode, LIMIT, **scale)
        if status == programs.CANNOT:
            return "cannot", said
        if status != 0 and re.search(NOTICED[check.how], said):
            return "notices", said
        return ("passes" if status == 0 else f"ends with {status}"), said

    def run_spin(self, name: str, mode: str, broken: str) -> tuple[str, str]:
        if promela.LACKS:
            return "cannot", f"this machine lacks {promela.LACKS}"
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            if broken:
                said = promela.verify_mutant(Path(folder), name, mode.upper())
                return ("notices" if promela.is_found(name, said) else "passes"), said
            model = promela.MUTANTS[name]
            said = promela.verify(Path(folder), model, mode.upper(), optimize="-O0")
            return ("notices" if promela.complaints(said) else "passes"), said


def main(arguments: list[str]) -> int:
    if arguments == ["--table"]:
        print(table())
        return 0
    chosen = {name: BREAKS[name] for name in arguments} or BREAKS
    with tempfile.TemporaryDirectory() as folder:
        return judge(Workplace(Path(folder)), chosen)


def judge(place: Workplace, chosen: dict[str, Break]) -> int:
    began = time.monotonic()
    failures: list[str] = []
    unchecked: set[str] = set()

    def one(job: tuple[str, Check, str]) -> tuple[str, str]:
        broken, check, mode = job
        outcome, said = place.run(check, mode, broken)
        wanted = "notices" if broken else "passes"
        if outcome == "cannot":
            unchecked.add(f"{check.how}: {said.strip().splitlines()[-1]}")
        elif outcome != wanted:
            name = broken or "what is whole"
            failures.append(f"{name}: {check}, {mode}: {outcome}\n{said[-3000:]}")
        return outcome, wanted

    def all_of(broken: str) -> str:
        words = []
        for check in chosen[broken].checks:
            for mode in check.modes:
                outcome, wanted = one((broken, check, mode))
                good = "noticed by" if outcome == wanted else outcome.upper() + ":"
                words.append(f"    {good} {check.what} ({check.how}{', ' * bool(mode)}{mode})")
        return "\n".join([f"{broken}: {chosen[broken].what}", *words])

    whole = {
        (whole_key(check), mode): check
        for one_break in chosen.values()
        for check in one_break.checks
        for mode in check.modes
    }
    for flavour in sorted({c.how for c in whole.values()} - {"spin"}):
        try:
            place.whole.objects(flavour)
        except (programs.Impossible, programs.Failed):
            pass  # each check says so
    for check in whole.values():
        if check.how != "spin":
            prepare(place.whole, check)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, [("", check, mode) for (_, mode), check in whole.items()]))
        print(f"What is whole has passed {len(whole)} checks ({time.monotonic() - began:.0f} s).")
        for text in pool.map(all_of, chosen):
            print(text, flush=True)

    for line in sorted(unchecked):
        print("!" * 10 + f" NOT CHECKED HERE, {line}")
    for text in failures:
        print(f"\nFAILED: {text}")
    print(f"{len(chosen)} breaks, {len(failures)} failures, {time.monotonic() - began:.0f} s")
    return 1 if failures else 0


def whole_key(check: Check) -> tuple[object, ...]:
    """What is run on whole sources: a model's configuration rather than its mutant."""
    if check.how == "spin":
        return check.how, promela.MUTANTS[check.what][:2]
    return check.how, check.what, check.arguments


def prepare(builder: programs.Builder, check: Check) -> None:
    try:
        builder.program(programs.HERE / f"test_{check.what}.c", check.how)
    except (programs.Impossible, programs.Failed):
        pass


def table() -> str:
    lines = [
        "| break | what is wrong | noticed at once by | also by, within seconds |",
        "| --- | --- | --- | --- |",
    ]
    for name, one in BREAKS.items():
        if name in MODELLED:
            continue
        checks = ", ".join(dict.fromkeys(str(check) for check in one.checks))
        lines.append(f"| {name} {one.note}".rstrip() + f" | {one.what} | {checks} | {one.later} |")
    for name, (what, test) in IN_PYTHON.items():
        checks = ", ".join(map(str, MODELLED[name].checks)) if name in MODELLED else ""
        # Two mutants of one model are named once.
        checks = ", ".join(dict.fromkeys(checks.split(", "))) + " " * bool(checks)
        lines.append(f"| {name} | {what} | {checks}| tests/{test}.py |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The models of this folder, their configurations and mutants, and how spin checks one: for
test_promela.py and for tests/mutants.py."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
COMPILER = next((name for name in ("gcc", "cc", "clang") if shutil.which(name)), None)
LIMIT, LARGE_LIMIT = 300, 1500  # seconds
# Where threads go on for ever, paths are long; else a thousand is enough so far.
DEPTH = {"page": 9_000_000, "values_dict": 10_000_000, "values_list": 10_000_000}


def what_is_lacking():
    if COMPILER is None:
        return "a C compiler"
    if shutil.which("spin") is None:
        return "spin"
    said = subprocess.run(["spin", "-V"], capture_output=True, text=True).stdout
    version = re.search(r"Version (\d+)\.(\d+)", said)
    new = version is not None and (int(version[1]), int(version[2])) >= (6, 5)
    return "" if new else "spin 6.5 or newer (lists as initial values)"


LACKS = what_is_lacking()


class Model(NamedTuple):
    """A file, and the macros that make one configuration of it."""

    file: str
    macros: str = ""
    modes: tuple[str, ...] = ("MEMBARRIER", "FENCE")


WITHOUT = ("",)  # the barrier has no part in it
# Seconds each.
MODELS = {
    "Q1: one reader comes twice": Model("qsbr", "READERS=1 SECTIONS=2"),
    "Q1: one reader comes twice, fenced": Model("qsbr", "READERS=1 SECTIONS=2 FENCED"),
    "Q1: one reader, each writer twice": Model("qsbr", "READERS=1 ROUNDS=2 FENCED"),
    "Q1: two readers": Model("qsbr", "READERS=2"),
    "Q1: two readers, fenced": Model("qsbr", "READERS=2 FENCED"),
    "Q4: two readers that register late": Model("qsbr", "READERS=2 LATE=2 FENCED"),
    "T6: a batch, its owner and another": Model("qsbr", "READERS=1 SECTIONS=2 BATCH FENCED"),
    "T6: the list of locals": Model("listed", "OPERATIONS=3", WITHOUT),
    "K3: growth, an assignment, a deletion, a reader": Model("moved", "", WITHOUT),
    "K3: growing twice": Model("moved", "TABLES=3", WITHOUT),
    "K3: two assignments": Model("moved", "ASSIGNERS=2", WITHOUT),
    "K1: slots that are used again": Model("slots", "", WITHOUT),
    "K1: slots that are used again, and a growth": Model("slots", "OPS=3 TABLES=2", WITHOUT),
    "H4: two owners": Model("page", "", WITHOUT),
    "H4: two blocks, two that retire": Model("page", "OWNERS=1 BLOCKS=2 RETIRERS=2", WITHOUT),
    "H5: an owner that ends": Model("page", "ADOPT", WITHOUT),
    "K8: a key's value": Model("values_dict", "", WITHOUT),
    "K8: a list's elements": Model("values_list", "", WITHOUT),
}
LARGER = {
    "Q1: two readers come twice, fenced": Model("qsbr", "READERS=2 SECTIONS=2 FENCED"),
    "Q4: one of two readers registers late": Model("qsbr", "READERS=2 LATE=1 FENCED"),
    "Q4: one reader, late, each writer twice": Model(
        "qsbr", "READERS=1 SECTIONS=2 ROUNDS=2 LATE=1 FENCED"
    ),
    "T6: a batch and two readers": Model("qsbr", "READERS=2 BATCH FENCED"),
    "T6: the list of three locals": Model("listed", "THREADS=3", WITHOUT),
    "K3: growing twice, two assignments": Model("moved", "TABLES=3 ASSIGNERS=2", WITHOUT),
    "H4: two owners, two blocks": Model("page", "BLOCKS=2", WITHOUT),
    "H4: three blocks, two that retire": Model("page", "OWNERS=1 BLOCKS=3 RETIRERS=2", WITHOUT),
    "H5: an owner that ends, two blocks": Model("page", "BLOCKS=2 ADOPT", WITHOUT),
    "K8: a key's value, given by another": Model("values_dict", "GIVEN", WITHOUT),
    "K8: a list's elements, dropped late": Model("values_list", "DROPPER", WITHOUT),
    "K3: two readers, two assignments": Model("moved", "READERS=2 ASSIGNERS=2", WITHOUT),
    "K1: five changes": Model("slots", "OPS=5", WITHOUT),
    "K1: two readers": Model("slots", "OPS=3 READERS=2", WITHOUT),
    "K1: four changes and a growth": Model("slots", "TABLES=2", WITHOUT),
}
# In which configuration each is found. Where only one barrier is named, the other's orders hold
# without what the mutant takes away: README.md says why.
ONLY_MEMBARRIER = ("MEMBARRIER",)
MUTANTS = {
    "NO_LIGHT_BARRIER": Model("qsbr", "READERS=1"),
    "NO_HEAVY_BARRIER": Model("qsbr", "READERS=1"),
    "LOAD_AFTER_BARRIER": Model("qsbr", "READERS=1", ONLY_MEMBARRIER),
    "BARRIER_LEFT_OUT_OFFLINE": Model("qsbr", "READERS=1", ONLY_MEMBARRIER),
    "GOAL_NOT_ADDED": Model("qsbr", "READERS=1"),
    "FREE_AT_ONCE": Model("qsbr", "READERS=1"),
    "RELAXED_EXIT": Model("qsbr", "READERS=1"),
    "RELAXED_ENTER": Model("qsbr", "READERS=1 SECTIONS=2"),
    "RELAXED_SEQ_LOAD": Model("qsbr", "READERS=1"),
    "NO_REGISTER_FENCE": Model("qsbr", "READERS=1 LATE=1"),
    "FENCED_TOO_EARLY": Model("qsbr", "READERS=1 FENCED", ONLY_MEMBARRIER),
    "FENCED_SCANS_TOO_FAR": Model("qsbr", "READERS=1 SECTIONS=2 FENCED", ONLY_MEMBARRIER),
    "GOAL_BEFORE_BATCH": Model("qsbr", "READERS=1 BATCH"),
    "TAG_BEFORE_LAST_ITEM": Model("qsbr", "READERS=1 BATCH"),
    "LISTED_BY_A_LOOK": Model("listed", "OPERATIONS=3", WITHOUT),
    "CLOSED_WITHOUT_THE_WORD": Model("listed", "OPERATIONS=3", WITHOUT),
    "TAKEN_FROM_THE_HAND": Model("listed", "OPERATIONS=3", WITHOUT),
    "NEXT_READ_LATE": Model("listed", "OPERATIONS=3", WITHOUT),
    "LOOK_WITHOUT_CLAIM": Model("listed", "OPERATIONS=3", WITHOUT),
    "MOVED_BEFORE_COPY": Model("moved", "", WITHOUT),
    "MOVED_NOT_CAS": Model("moved", "", WITHOUT),
    "NOT_COPIED_AGAIN": Model("moved", "", WITHOUT),
    "NEXT_AFTER_MOVED": Model("moved", "", WITHOUT),
    "PUBLISHED_BEFORE_MOVED": Model("moved", "", WITHOUT),
    "GROWTH_WITHOUT_LOCK": Model("moved", "", WITHOUT),
    "MOVED_IS_MISSING": Model("moved", "", WITHOUT),
    "ASSIGN_NOT_CAS": Model("moved", "", WITHOUT),
    "DELETION_IGNORES_MOVED": Model("moved", "", WITHOUT),
    "DELETION_WITHOUT_LOCK": Model("moved", "", WITHOUT),
    "PLACE_BLIND": Model("slots", "", WITHOUT),
    "USED_BEFORE_SLOT": Model("slots", "", WITHOUT),
    "USED_AFTER_LOOK": Model("slots", "", WITHOUT),
    "USED_OF_ANOTHER_TABLE": Model("slots", "TABLES=2", WITHOUT),
    "READER_STOPS_AT_DUMMY": Model("slots", "", WITHOUT),
    "DELETION_EMPTIES": Model("slots", "", WITHOUT),
    "DELETION_BY_SLOT": Model("slots", "", WITHOUT),
    "ENTRY_REUSED": Model("slots", "", WITHOUT),
    "UNLISTED_WAITS": Model("page", "BLOCKS=2 ANY_STATE", WITHOUT),
    "PHASE_STAYS": Model("page", "BLOCKS=2 ANY_STATE", WITHOUT),
    "SETTLE_BLIND": Model("page", "BLOCKS=2 ANY_STATE", WITHOUT),
    "TAG_EARLY": Model("page", "BLOCKS=2 ANY_STATE", WITHOUT),
    "EMPTY_NOT_SETTLED": Model("page", "BLOCKS=2 ANY_STATE", WITHOUT),
    "NO_SECOND_LOOK": Model("values_dict", "", WITHOUT),
    "LOOK_BEFORE_TRY": Model("values_dict", "", WITHOUT),
    "INCREF_NOT_TRY": Model("values_dict", "", WITHOUT),
    "NOT_LET_GO": Model("values_dict", "", WITHOUT),
    "NO_TRY_ENABLE": Model("values_dict", "", WITHOUT),
    "ENABLED_TOO_LATE": Model("values_dict", "", WITHOUT),
    "DELETION_DROPS_FIRST": Model("values_dict", "", WITHOUT),
    "DROP_BEFORE_DELETED": Model("values_dict", "", WITHOUT),
    "DELETED_NOT_EXCHANGED": Model("values_dict", "", WITHOUT),
    "MOVED_NOT_SAID": Model("values_dict", "", WITHOUT),
    "LIST_NO_SECOND_LOOK": Model("values_list", "", WITHOUT),
    "LIST_LOOK_AT_WORD_ONLY": Model("values_list", "", WITHOUT),
    "NO_LOOK_AT_WORD": Model("values_list", "", WITHOUT),
    "NO_LOOK_AT_SIZE": Model("values_list", "", WITHOUT),
    "SIZE_BEFORE_WORD": Model("values_list", "", WITHOUT),
    "SIZE_AFTER_WORD": Model("values_list", "", WITHOUT),
    "LIST_INCREF_NOT_TRY": Model("values_list", "", WITHOUT),
    "ASSIGNMENT_DROPS_FIRST": Model("values_list", "", WITHOUT),
    "POP_DROPS_FIRST": Model("values_list", "", WITHOUT),
    "DROP_BEFORE_PUBLISHED": Model("values_list", "", WITHOUT),
    "ARRAY_NOT_PINNED": Model("values_list", "", WITHOUT),
}
PROPERTY = {
    "qsbr": r"assertion violated.*\b(hold|freed)\b",
    "listed": r"assertion violated.*\b(linked|looking|found|retired)\b",
    "moved": r"assertion violated.*\b(now|was_absent|next)\b",
    "slots": r"assertion violated.*\b(now|was_absent)\b",
    "page": r"assertion violated.*\b(listed|waiting|untouched|busy)\b",
    "values_dict": r"assertion violated.*\b(count|seen|changed|hold)\b",
    "values_list": r"assertion violated.*\b(count|seen|missing|changed|hold)\b",
}
INCOMPLETE = "Search not completed|max search depth too small|out of memory|error:"
# Threads that never end.
ENDLESS = {"memory", "owner", "retirer", "collector"}
ENDLESS |= {"stranger", "reads", "assigns", "writes", "drops", "counts"}


def run(command, folder, limit):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=limit)
    return done.returncode, done.stdout + done.stderr


def verify(folder, model, mode, more=(), optimize="-O1", large=False):
    """What the verifier says about one configuration."""
    defines = [f"-D{macro}" for macro in (*mode.split(), *model.macros.split(), *more)]
    file = str(HERE / f"{model.file}.pml")
    steps = [
        ["spin", f"-P{COMPILER} -E -x c", *defines, "-a", file],
        # COLLAPSE: less memory; states are compared whole all the same.
        [COMPILER, "-w", optimize, "-DSAFETY", "-DNOFAIR", "-DMEMLIM=6000"]
        + ["-DCOLLAPSE"] * large
        + ["-o", "pan", "pan.c"],
        # -w: a hash table of 128 MiB, or of 1 MiB where states are few.
        ["./pan", f"-m{DEPTH.get(model.file, 100_000)}", "-w24" if optimize == "-O1" else "-w17"],
    ]
    said = ""
    for step in steps:
        limit = LARGE_LIMIT if large else LIMIT
        done = subprocess.run(step, cwd=folder, capture_output=True, text=True, timeout=limit)
        said += done.stdout + done.stderr
        if done.returncode != 0:
            break
    return said


def complaints(said):
    """Why the configuration is not checked to exhaustion and found right; empty: it is."""
    found = [line for line in said.splitlines() if re.search(INCOMPLETE, line)]
    if not re.search(r"errors: 0\b", said):
        found.append("not without errors")
    process = ""
    for line in said.splitlines():
        if heading := re.match(r"unreached in (?:proctype|init) ?(\w*)", line):
            process = heading.group(1)
        elif place := re.match(r'\t(\S+:\d+), state \d+, "(.*)"', line):
            if not (place.group(2) == "-end-" and process in ENDLESS):
                found.append(f"no state reaches {': '.join(place.groups())} of {process}")
    return found


def is_found(name, said):
    """Whether a mutant's violation is one of the property, not of the model's machinery."""
    return re.search(PROPERTY[MUTANTS[name].file], said) is not None


def verify_mutant(folder, name, mode):
    # -O0: they are found at once, and to compile takes longer.
    return verify(folder, MUTANTS[name], mode, [f"MUTANT_{name}"], "-O0")

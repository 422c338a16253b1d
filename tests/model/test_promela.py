"""Checks the Promela models of this folder with spin, each to exhaustion and with each barrier
(Q12), and sees to it that every mutant is found. README.md says what is modelled.

QC_MODELS=large checks the larger configurations instead (minutes, a few GiB): `make stress` does.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).resolve().parent
LARGE = os.environ.get("QC_MODELS") == "large"
LIMIT = 1500 if LARGE else 300  # seconds
DEPTH = 1_000_000 if LARGE else 100_000
COMPILER = next((name for name in ("gcc", "cc", "clang") if shutil.which(name)), None)

if shutil.which("spin") is None or COMPILER is None:
    lacks = "spin" if COMPILER else "a C compiler"
    pytest.skip(f"NO MODEL IS CHECKED: this machine lacks {lacks}", allow_module_level=True)

pytestmark = pytest.mark.timeout(LIMIT + 60)


class Model(NamedTuple):
    """A file, and the macros that make one configuration of it."""

    file: str
    macros: str = ""
    modes: tuple[str, ...] = ("MEMBARRIER", "FENCE")


MODELS = {
    "Q1: one reader comes twice": Model("qsbr", "READERS=1 SECTIONS=2"),
    "Q1: one reader comes twice, fenced": Model("qsbr", "READERS=1 SECTIONS=2 FENCED"),
    "Q1: one reader, each writer twice": Model("qsbr", "READERS=1 ROUNDS=2 FENCED"),
    "Q1: two readers": Model("qsbr", "READERS=2"),
    "Q1: two readers, fenced": Model("qsbr", "READERS=2 FENCED"),
    "Q4: two readers that register late": Model("qsbr", "READERS=2 LATE=2 FENCED"),
    "T6: a batch, its owner and another": Model("qsbr", "READERS=1 SECTIONS=2 BATCH FENCED"),
}
LARGER = {
    "Q1: two readers come twice, fenced": Model("qsbr", "READERS=2 SECTIONS=2 FENCED"),
    "Q4: one of two readers registers late": Model("qsbr", "READERS=2 LATE=1 FENCED"),
    "Q4: one reader, late, each writer twice": Model(
        "qsbr", "READERS=1 SECTIONS=2 ROUNDS=2 LATE=1 FENCED"
    ),
    "T6: a batch and two readers": Model("qsbr", "READERS=2 BATCH FENCED"),
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
}
# What a mutant has to violate: an assertion of the property, not of the model's machinery.
PROPERTY = {"qsbr": r"assertion violated.*\b(hold|freed)\b"}
# Threads that never end.
ENDLESS = {"memory"}


def cases(models):
    for name, model in models.items():
        for mode in model.modes:
            yield pytest.param(name, model, mode, id=f"{name}-{mode.lower()}")


def run(command, folder, limit=LIMIT):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=limit)
    return done.returncode, done.stdout + done.stderr


def check(folder, model, macros, optimize="-O1"):
    """What the verifier says about one configuration."""
    defines = [f"-D{macro}" for macro in macros]
    preprocess = f"-P{COMPILER} -E -x c"
    status, said = run(
        ["spin", preprocess, *defines, "-a", str(HERE / f"{model.file}.pml")], folder
    )
    assert status == 0 and (folder / "pan.c").exists(), said
    command = [COMPILER, "-w", optimize, "-DSAFETY", "-DNOFAIR", "-DMEMLIM=6000"]
    if LARGE:
        command.append("-DCOLLAPSE")  # less memory; states are compared whole all the same
    status, text = run([*command, "-o", "pan", "pan.c"], folder)
    assert status == 0, text
    status, text = run(["./pan", f"-m{DEPTH}"], folder)
    print(said, text, sep="\n")
    return text


def unreached(text):
    """Statements that no state reached: (process, line)."""
    found, process = [], ""
    for line in text.splitlines():
        if heading := re.match(r"unreached in (?:proctype|init) ?(\w*)", line):
            process = heading.group(1)
        elif place := re.match(r'\t(\S+:\d+), state \d+, "(.*)"', line):
            if not (place.group(2) == "-end-" and process in ENDLESS):
                found.append((process, *place.groups()))
    return found


@pytest.mark.parametrize(("name", "model", "mode"), cases(LARGER if LARGE else MODELS))
def test_model(tmp_path, name, model, mode):
    text = check(tmp_path, model, [mode, *model.macros.split()])
    assert "Search not completed" not in text
    assert "max search depth too small" not in text
    assert re.search(r"errors: 0\b", text), text
    assert not unreached(text)


@pytest.mark.skipif(LARGE, reason="mutants are found in the small configurations")
@pytest.mark.parametrize(("name", "model", "mode"), cases(MUTANTS))
def test_mutant_is_found(tmp_path, name, model, mode):
    # -O0: they are found at once, and to compile takes longer.
    text = check(tmp_path, model, [mode, f"MUTANT_{name}", *model.macros.split()], "-O0")
    assert re.search(PROPERTY[model.file], text), f"{name} SURVIVES\n{text}"


def test_every_mutant_of_the_models_is_in_the_table():
    for file in {model.file for model in MUTANTS.values()}:
        in_the_model = set(re.findall(r"MUTANT_(\w+)", (HERE / f"{file}.pml").read_text()))
        assert in_the_model == {name for name, model in MUTANTS.items() if model.file == file}

"""Compiles and runs the C programs of this folder: engine, queue, heap and containers without
Python, in each flavour of build and with each barrier (Q12). programs.py says how.

Environment: QC_TORTURE_SCALE multiplies the amount of torture; QC_BREAK=NAME[,NAME] builds with
QC_BREAK_NAME, to see the tests fail (README.md has the table, `make mutants` does it for all).
"""

import os

import pytest
from programs import CANNOT, FLAVOURS, MODES, PROGRAMS, Builder, Failed, Impossible, marked, run

SCALE = float(os.environ.get("QC_TORTURE_SCALE") or "1")
TIMEOUT = 120 * max(1, SCALE)


def cases():
    for flavour in FLAVOURS:
        for program in PROGRAMS:
            only = marked(program, "flavours")
            if only and flavour not in only:
                continue
            for mode in MODES[: 1 if marked(program, "modes") == ["one"] else None]:
                yield pytest.param(
                    program, flavour, mode, id=f"{program.stem[5:]}-{flavour}-{mode}"
                )


@pytest.fixture(scope="session")
def builder(tmp_path_factory):
    breaks = [name for name in os.environ.get("QC_BREAK", "").split(",") if name]
    return Builder(tmp_path_factory.mktemp("engine"), breaks)


@pytest.mark.parametrize(("program", "flavour", "mode"), cases())
def test_program(builder, program, flavour, mode):
    try:
        command = builder.program(program, flavour)
    except Impossible as reason:
        pytest.skip(str(reason))
    except Failed as reason:
        pytest.fail(str(reason), pytrace=False)
    status, said = run(command, mode, TIMEOUT)
    if status == CANNOT:
        pytest.skip(said.strip())
    print(said)
    if status != 0:
        pytest.fail(f"status {status}\n{said}", pytrace=False)

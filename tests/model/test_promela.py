"""Checks the Promela models of this folder with spin, each to exhaustion and with each barrier
(Q12), and sees to it that every mutant is found. README.md says what is modelled.

QC_MODELS=large checks the larger configurations instead (minutes, a few GiB): `make stress` does.
"""

import os
import re

import promela
import pytest

LARGE = os.environ.get("QC_MODELS") == "large"

if promela.LACKS:
    pytest.skip(f"NO MODEL IS CHECKED: this machine lacks {promela.LACKS}", allow_module_level=True)

pytestmark = pytest.mark.timeout(promela.LARGE_LIMIT if LARGE else promela.LIMIT)


def cases(models):
    for name, model in models.items():
        for mode in model.modes:
            yield pytest.param(name, model, mode, id=f"{name} {mode.lower()}".strip())


MODELS = promela.LARGER if LARGE else promela.MODELS


@pytest.mark.parametrize(("name", "model", "mode"), cases(MODELS))
def test_model(tmp_path, name, model, mode):
    said = promela.verify(tmp_path, model, mode, large=LARGE)
    assert not promela.complaints(said), said


@pytest.mark.skipif(LARGE, reason="mutants are found in the small configurations")
@pytest.mark.parametrize(("name", "model", "mode"), cases(promela.MUTANTS))
def test_mutant_is_found(tmp_path, name, model, mode):
    said = promela.verify_mutant(tmp_path, name, mode)
    assert promela.is_found(name, said), f"{name} SURVIVES\n{said}"


@pytest.mark.parametrize("file", sorted(path.stem for path in promela.HERE.glob("*.pml")))
def test_every_mutant_of_a_model_is_in_the_table(file):
    text = (promela.HERE / f"{file}.pml").read_text()
    listed = {name for name, model in promela.MUTANTS.items() if model.file == file}
    assert set(re.findall(r"MUTANT_(\w+)", text)) == listed
    assert file in promela.PROPERTY

"""tests/mutants.py has every break of the sources, and tests/engine/README.md has its table."""

import re
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS))

import mutants  # noqa: E402
import pytest  # noqa: E402


def test_every_break_of_the_sources_is_in_the_table():
    texts = [path.read_text() for path in (TESTS.parent / "src").rglob("*.[ch]")]
    breaks = {name for text in texts for name in re.findall(r"\bQC_BREAK_(\w+)", text)}
    assert breaks == set(mutants.BREAKS) | set(mutants.IN_PYTHON)


def test_the_readme_has_the_table():
    """To write it anew: python tests/mutants.py --table"""
    assert mutants.table() in (TESTS / "engine" / "README.md").read_text()


def test_every_break_has_a_checker_that_exists():
    for name, one in mutants.BREAKS.items():
        assert one.checks, name
        for check in one.checks:
            if check.how != "spin":
                assert (TESTS / "engine" / f"test_{check.what}.c").exists(), check
    for name, (_, test) in mutants.IN_PYTHON.items():
        assert name in (TESTS / f"{test}.py").read_text()


class Workplace:
    """As if a checker had said so, of what is whole and of what is broken."""

    def __init__(self, whole, broken):
        self.says = {"": whole}
        self.broken = broken
        self.whole = self

    def objects(self, flavour):
        pass

    def program(self, path, flavour):
        pass

    def run(self, check, mode, broken=""):
        return self.says.get(broken, self.broken), "what it said"


@pytest.mark.parametrize(
    ("whole", "broken", "status"),
    [
        ("passes", "notices", 0),
        ("passes", "passes", 1),
        ("passes", "ends with -11", 1),
        ("passes", "cannot be built", 1),
        ("notices", "notices", 1),
        ("cannot", "cannot", 0),
    ],
)
def test_what_make_mutants_takes_for_a_failure(capsys, whole, broken, status):
    chosen = {"LEN_NO_LOCK": mutants.BREAKS["LEN_NO_LOCK"]}
    assert mutants.judge(Workplace(whole, broken), chosen) == status
    assert ("NOT CHECKED" in capsys.readouterr().out) == (whole == "cannot")

"""README.md's table of faults names tests that exist."""

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
TABLE = (TESTS / "faults" / "README.md").read_text()
NAMED = re.findall(r"`([\w/]+\.\w+)::(\w+)`", TABLE)


def test_every_test_of_the_table_exists():
    assert len(NAMED) > 50
    missing = []
    for file, name in NAMED:
        path = TESTS / file
        text = path.read_text() if path.exists() else ""
        if not re.search(rf"^def {name}\(", text, re.MULTILINE):
            missing.append(f"{file}::{name}")
    assert not missing

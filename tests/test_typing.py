"""The stubs say what there is at run time (stubtest), the wrappers pass `mypy --strict`, and what
users write with the containers has the types that they expect."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = Path(__file__).resolve().parent.parent / "pyproject.toml"

if importlib.util.find_spec("mypy") is None:
    pytest.skip("!!!! NO MYPY HERE: THE TYPES ARE NOT CHECKED !!!!", allow_module_level=True)

USES = """
from collections.abc import MutableMapping, MutableSequence
from typing import Any, assert_type

from qsbrcontainers import DELETE, MISSING, ConcurrentDict, ConcurrentList, Sentinel
from qsbrcontainers import get_include, share, stats


class Hits(ConcurrentDict[str, int]):
    def __missing__(self, key: str) -> int:
        return 0


hits = Hits()
d: ConcurrentDict[str, int] = ConcurrentDict()
assert_type(d["a"], int)
assert_type(d.get("a"), int | None)
assert_type(d.get("a", None), int | None)
assert_type(d.get("a", 0), int)
assert_type(d.get("a", "x"), int | str)
assert_type(d.pop("a"), int)
assert_type(d.pop("a", None), int | None)
assert_type(d.popitem(), tuple[str, int])
assert_type(d.setdefault("a", 1), int)
assert_type(d.add("a", 1), bool)
assert_type(d.swap("a", 1), int | None)
assert_type(d.swap("a", 1, "none"), int | str)
assert_type(d.compare_and_set("a", MISSING, 1), bool)
assert_type(d.compare_and_delete("a", 1), bool)
assert_type(d.get_many(["a"]), list[int | None])
assert_type(d.get_many(["a"], 0.5), list[int | float])
assert_type(d.discard("a"), bool)
assert_type(d.discard_if(lambda key, value: key.isupper() and value > 1), int)
assert_type(d.get_or_create("a", lambda: 1), int)
assert_type(d.snapshot(), dict[str, int])
assert_type(d.copy(), ConcurrentDict[str, int])
assert_type(hits.copy(), Hits)
assert_type(list(d.items()), list[tuple[str, int]])
assert_type(list(reversed(d)), list[str])
assert_type(d | {"b": 2}, ConcurrentDict[str, int])
assert_type({"b": 2} | d, ConcurrentDict[str, int])
match d:
    case ConcurrentDict(whole):
        assert_type(whole, ConcurrentDict[Any, Any])
d |= [("b", 2)]
d.update({"a": 1}, b=2)
assert_type(ConcurrentDict([("a", 1)]), ConcurrentDict[str, int])
assert_type(ConcurrentDict({1: "a"}), ConcurrentDict[int, str])
assert_type(ConcurrentDict(a=1), ConcurrentDict[str, int])
assert_type(ConcurrentDict.fromkeys("ab", 1), ConcurrentDict[str, int])
assert_type({**d}, dict[str, int])


def countdown(old: int | Sentinel) -> int | Sentinel:
    if isinstance(old, Sentinel) or old == 1:
        return DELETE
    return old - 1


left = d.compute("a", countdown)
print(left is MISSING, left is not DELETE)
assert_type(d.compute("a", lambda old: old + 1, 0), int | Sentinel)

items: ConcurrentList[int] = ConcurrentList([1])
assert_type(items[0], int)
assert_type(items[1:], ConcurrentList[int])
assert_type(items.pop(), int)
assert_type(items.pop(0), int)
assert_type(items.copy(), ConcurrentList[int])
assert_type(items.snapshot(), list[int])
assert_type(items.drain(), list[int])
assert_type(items + [2], ConcurrentList[int])
assert_type(items + ["a"], ConcurrentList[str | int])
assert_type(items * 2, ConcurrentList[int])
assert_type(2 * items, ConcurrentList[int])
assert_type(items < [5], bool)
assert_type(items.index(1, 0, 5), int)
assert_type(items.count(1), int)
assert_type(list(reversed(items)), list[int])
assert_type([item for item in items], list[int])
assert_type(items.swap(0, 1), int)
assert_type(items.compare_and_set(0, None, 1), bool)
assert_type(items.compute(0, lambda old: old + 1), int)
assert_type(items.append_index(1), int)
items[0], items[1:2], items[::2] = 1, [2], (3,)
items += range(3)
items *= 2
items.insert(0, 1)
items.sort()
items.sort(key=lambda item: -item, reverse=True)
items.extend(ConcurrentList([True]))
del items[0], items[:]
sequence: MutableSequence[int] = items
mapping: MutableMapping[str, int] = d
assert_type(ConcurrentList("ab"), ConcurrentList[str])
assert_type(ConcurrentList[str](), ConcurrentList[str])


class Names(ConcurrentList[str]):
    pass


names = Names(["a"])
names += ["b"]
assert_type(names, Names)
assert_type(names[:1], ConcurrentList[str])
match items:
    case [first, *others]:
        assert_type(first, int)
assert_type(share(items), ConcurrentList[int])
assert_type(get_include(), str)
stats()

d["a"] = "text"  # error
d[1]  # error
d.add("a")  # error
d.compute("a", lambda: 1)  # error
MISSING()  # error
items["a"]  # error
items.append("text")  # error
items[0:1] = 5  # error
items[0] = [1]  # error
items.compute(0, lambda: 1)  # error
items + (1,)  # error
items.sort(len)  # error
ConcurrentList([None]).sort()  # error
"""


def run(*arguments, cwd):
    """Outside the checkout, whose sources are without the extension."""
    command = [sys.executable, "-P", "-m", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=500)
    return done.returncode, done.stdout + done.stderr


def test_stubs_say_what_there_is(tmp_path):
    status, said = run(
        "mypy.stubtest", "--mypy-config-file", CONFIG, "--concise", "qsbrcontainers", cwd=tmp_path
    )
    assert status == 0, said


def test_wrappers_are_typed(tmp_path):
    status, said = run("mypy", "--config-file", CONFIG, "-p", "qsbrcontainers", cwd=tmp_path)
    assert status == 0, said


def test_types_that_users_see(tmp_path):
    path = tmp_path / "uses.py"
    path.write_text(USES)
    _, said = run("mypy", "--strict", "--no-error-summary", path, cwd=tmp_path)
    wrong = {int(line.split(":")[1]) for line in said.splitlines() if " error: " in line}
    meant = {n for n, line in enumerate(USES.splitlines(), 1) if line.endswith("# error")}
    assert wrong == meant, said

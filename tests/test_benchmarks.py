"""The benchmark suite: every case runs, and what it says of figures is right. Nothing is timed."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))

import cases  # noqa: E402
import contenders  # noqa: E402
import goals  # noqa: E402
import instructions  # noqa: E402
import loops  # noqa: E402
import noise  # noqa: E402
from results import Cell, Measured, Results  # noqa: E402

INSTALLED = contenders.installed()
QUIET = {"loop": 1.0, "cpu": 1.0, "switches": 0.0, "in_each_others_way": False}

# In a process of its own: a peer may turn the GIL on, or crash.
EVERY_CONTENDER = """
import json, sys, traceback
sys.path.insert(0, sys.argv[1])
import cases
for cell in json.loads(sys.argv[2]):
    try:
        said = cases.measure(cell).get("figure", "cannot")
    except Exception:
        said = traceback.format_exc()
    print(json.dumps([cell, said]), flush=True)
"""


def run(*command, **how):
    """This interpreter with the command; not with -P, which would hide a program's neighbours."""
    environment = {name: os.environ[name] for name in os.environ if name != "PYTHONSAFEPATH"}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
        env=environment,
        **how,
    )


PEERS = ("cereggii", "ft_utils")
PEER = "ft_utils.ConcurrentDict"


def cells_of(case, packages):
    names = [name for name in case.contenders if name in INSTALLED]
    return [
        {"case": case.name, "contender": name, "threads": threads, "size": 40, "seconds": 0.0}
        for name in names
        if contenders.BY_NAME[name].package in packages
        if case.can(contenders.BY_NAME[name])
        for threads in case.threads[:2]
    ]


@cache
def measured(group, packages):
    """What became of each cell of a group's cases: a figure, or a traceback; and the exit."""
    of_group = [case for case in cases.CASES.values() if case.group == group]
    cells = [cell for case in of_group for cell in cells_of(case, packages)]
    done = run("-P", "-c", EVERY_CONTENDER, BENCHMARKS, json.dumps(cells))
    return [json.loads(line) for line in done.stdout.splitlines()], done


@pytest.mark.parametrize("name", cases.CASES)
def test_every_case_runs(name):
    case, packages = cases.CASES[name], ("qsbrcontainers", "builtins")
    found, done = measured(case.group, packages)
    of_case = [(cell, said) for cell, said in found if cell["case"] == name]
    assert [cell for cell, _ in of_case] == cells_of(case, packages) != [], done.stderr
    for cell, said in of_case:
        waits_for_it = cell["contender"] == "ConcurrentList" and getattr(case, "trial", "")
        assert (isinstance(said, float) and said > 0) or waits_for_it, f"{cell}: {said}"
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", PEERS)
@pytest.mark.parametrize("group", cases.GROUPS)
def test_operations_are_spelled_as_peers_want_them(package, group):
    """One thread alone: what peers do under several is theirs (some cases crash them)."""
    if not any(contenders.BY_NAME[name].package == package for name in INSTALLED):
        pytest.skip(f"{package} is not installed")
    found, done = measured(group, (package,))
    for cell, said in found:
        alone = cell["threads"] == 1 and not getattr(cases.CASES[cell["case"]], "beside", None)
        assert isinstance(said, float) or not alone, f"{cell}: {said}"
    assert done.returncode <= 0, done.stderr


def test_every_goal_is_about_cells_that_are_measured():
    for goal in goals.TABLE:
        for cell in filter(None, (goal.above, goal.below)):
            case = cases.CASES[cell.case]
            assert cell.contender in case.contenders
            assert case.can(contenders.BY_NAME[cell.contender])
            assert cell.size in case.sizes
            assert cell.threads in case.threads or goal.cores == cell.threads
    assert {build for goal in goals.TABLE for build in goal.builds} <= {"free-threaded", "GIL"}


def test_more_cores_have_more_goals():
    few, many = (goals.needed({"build": "free-threaded", "cores": cores}) for cores in (2, 16))
    assert {cell.threads for cell in few} == {1, 2}
    assert {cell.threads for cell in many} == {1, 2, 16}
    assert goals.needed({"build": "free-threaded, GIL on", "cores": 2}) == few


def test_a_mix_has_the_shares_that_it_says():
    case = cases.CASES["mix-95-5"]
    code = loops.source(case, contenders.BY_NAME["dict + Lock"])
    assert code.count("with helper:") == 100
    assert code.count("] = v") == 5


def test_every_key_of_a_step_is_used_once():
    code = loops.source(cases.CASES["read-str-int"], contenders.BY_NAME["dict"])
    assert [code.count(f"c[k{i}]") for i in range(10)] == [1] * 10


def test_operations_are_counted():
    case = cases.CASES["read-str-int"]
    cell = {"contender": "dict", "threads": 2, "size": 200, "seconds": 0.0}
    measurement = loops.Measurement(case, contenders.BY_NAME["dict"], cell)
    measurement.container, measurement.stored = measurement.filled()
    assert measurement.run(3)[1] == 2 * 200 * 3
    case = cases.CASES["get-many"]
    measurement = loops.Measurement(case, contenders.BY_NAME["ConcurrentDict"], cell)
    measurement.container, measurement.stored = measurement.filled()
    assert measurement.run(3)[1] == 2 * 200 * 3


def test_interval_of_the_median():
    assert Measured.of([5, 1, 3, 2, 4], 0, False) == Measured(3, 1, 5, 5, 0.9375, 0, False)
    nine = Measured.of(list(range(9)), 2, False)
    assert (nine.low, nine.median, nine.high, nine.left_out) == (1, 4, 7, 2)
    assert 0.9 < nine.confidence < 1
    one = Measured.of([2.0], 0, True)
    assert (one.low, one.high, one.confidence) == (2.0, 2.0, 0.0)


@pytest.mark.parametrize(
    "seen, why",
    [
        ({}, None),
        ({"loop": 1.2}, "slower"),
        ({"others": 0.2}, "others"),
        ({"steal": 0.1}, "stolen"),
        ({"switches": 500}, "put off"),
        ({"switches": 500, "in_each_others_way": True}, None),
    ],
)
def test_what_disturbs_is_noticed(seen, why):
    found = noise.reasons(QUIET | seen, 1.0)
    assert (why in found[0]) if why else not found


def results_of(rounds):
    """Results in which ours has `rounds`, each a list of (figure, others' share), and dict 1.0."""
    tries = [
        [{"figure": figure, "seen": QUIET | {"others": others}} for figure, others in each]
        for each in rounds
    ]
    quiet = [[{"figure": 1.0, "seen": QUIET}] for _ in rounds]
    ours, other = (
        Cell("read-str-int", "ConcurrentDict", 1, 1000),
        Cell("read-str-int", "dict", 1, 1000),
    )
    about = {"build": "free-threaded", "gil": False}
    return Results("here", about, {ours: tries, other: quiet}), ours, other


def test_a_disturbed_round_is_left_out_and_counted():
    found, ours, other = results_of([[(2.0, 0)], [(9.0, 0.5)], [(2.2, 0)], [(8.0, 0.5), (2.1, 0)]])
    assert found.figure(ours).median == 2.1
    assert found.ratio(ours, other).left_out == 1
    assert found.ratio(ours, other).rounds == 3
    assert found.disturbed_rounds() == (1, 8, 1)
    again = Results.from_json(json.loads(json.dumps(found.as_json())))
    assert again.ratio(ours, other) == found.ratio(ours, other)


def test_where_all_rounds_are_disturbed_it_is_said():
    found, ours, other = results_of([[(2.0, 0.5)], [(3.0, 0.5)]])
    assert found.ratio(ours, other).disturbed
    assert f"{found.ratio(ours, other):.1f}" == "2.5 (2.0 to 3.0) !"


def test_verdicts():
    found, ours, other = results_of([[(2.0, 0)]] * 5)

    def verdict(**limit):
        goal = goals.Goal("row", "part", ours, other, **limit)
        return goal.verdict(goal.measured(found))

    assert verdict(at_least=1.9) == "reached"
    assert verdict(at_least=2.1) == "NOT REACHED"
    assert verdict(at_most=2.0) == "reached"
    assert verdict(at_most=1.9) == "NOT REACHED"
    unsure, ours, other = results_of([[(figure, 0)] for figure in (1.0, 2.0, 3.0, 2.5, 1.5)])
    goal = goals.Goal("row", "part", ours, other, at_least=1.9)
    assert goal.verdict(goal.measured(unsure)) == "reached, not for sure"
    assert goal.verdict(None) == "NOT MEASURED"


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """The whole program on two small cases; a peer is there or not, like anywhere."""
    folder = tmp_path_factory.mktemp("suite")
    arguments = ["--cases", "read-str-int", "get-many", "--rounds", 2, "--seconds", 0, "--size", 40]
    arguments += ["--threads", 1, "--contenders", "ConcurrentDict", "dict + Lock", PEER]
    out = {"json": folder / "deeper" / "out.json", "markdown": folder / "out.md"}
    files = [part for kind, path in out.items() for part in (f"--{kind}", path)]
    done = run(BENCHMARKS / "suite.py", *arguments, *files, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done, out


def test_the_suite_from_end_to_end(small_run):
    done, out = small_run
    data = json.loads(out["json"].read_text())
    [interpreter] = data["interpreters"]
    assert {cell["case"] for cell in interpreter["cells"]} == {"read-str-int", "get-many"}
    assert all(len(cell["rounds"]) == 2 for cell in interpreter["cells"])
    assert all("disturbed" in t for c in interpreter["cells"] for r in c["rounds"] for t in r)
    if PEER not in INSTALLED:
        assert f"left out: {PEER} is not installed" in done.stdout
    assert list(interpreter["left_out"]) == ([] if PEER in INSTALLED else [PEER])
    assert "d[k], str keys, int values" in done.stdout
    text = out["markdown"].read_text()
    assert "| dict + Lock |" in text
    shown = run(BENCHMARKS / "report.py", out["json"])
    assert shown.returncode == 0, shown.stderr
    assert "d[k], str keys, int values" in shown.stdout
    assert run(BENCHMARKS / "report.py", "--markdown", out["json"]).stdout.strip() == text.strip()
    some = run(BENCHMARKS / "report.py", "--markdown", out["json"], "--only", "get-many").stdout
    assert "d.get_many" in some and "d[k], str keys" not in some and "| goal" not in some


def test_pictures(small_run, tmp_path):
    pytest.importorskip("matplotlib")
    done = run(BENCHMARKS / "plot.py", small_run[1]["json"], "--to", tmp_path / "pictures")
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names[0].startswith("get-many-40-ratios") and names[0].endswith(".svg")
    assert "2 pictures" in done.stdout


def test_pictures_without_matplotlib_are_a_clear_sentence(small_run, tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('no matplotlib')")
    code = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); sys.argv.pop(0);"
    code += "sys.path.insert(0, sys.argv[1]); runpy.run_path(sys.argv[0], run_name='__main__')"
    done = run("-P", "-c", code, tmp_path, BENCHMARKS / "plot.py", BENCHMARKS)
    assert done.returncode == 1
    assert done.stderr.startswith("No pictures: no matplotlib")


def test_every_counted_path_runs():
    """Without valgrind: what it would count, once."""
    done = run(BENCHMARKS / "instructions.py", "--run")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("factor, status", [(1.02, 0), (1.04, 1), (0.5, 0)])
def test_a_path_that_became_dearer_fails_the_check(monkeypatch, capsys, factor, status):
    kept = {"d[k]": {"ours": 100.0, "builtin": 90.0}, "l[i], shared": {"ours": 50.0}}
    now = {name: {of: factor * n for of, n in each.items()} for name, each in kept.items()}
    monkeypatch.setattr(instructions, "why_not", lambda: "")
    monkeypatch.setattr(instructions, "here", lambda: {"interpreter": "mine"})
    monkeypatch.setattr(
        instructions, "load", lambda: [{"with": {"interpreter": "mine"}, "paths": kept}]
    )
    monkeypatch.setattr(instructions, "count", lambda: now)
    monkeypatch.setattr(sys, "argv", ["instructions.py", "--check"])
    assert instructions.main() == status
    assert ("dearer: see above" in capsys.readouterr().out) == bool(status)


def test_a_check_with_another_compiler_says_that_it_counts_nothing(monkeypatch, capsys):
    monkeypatch.setattr(instructions, "why_not", lambda: "")
    monkeypatch.setattr(instructions, "here", lambda: {"interpreter": "another"})
    monkeypatch.setattr(sys, "argv", ["instructions.py", "--check"])
    assert instructions.main() == 0
    assert "INSTRUCTIONS NOT COUNTED" in capsys.readouterr().out


def test_the_kept_table_has_all_paths():
    for kept in instructions.load():
        assert set(kept["paths"]) == {route.name for route in instructions.ROUTES}


def test_rounds_end_with_the_time(tmp_path):
    """Three are measured in any case."""
    options = ["--cases", "reached-shared", "--contenders", "ConcurrentDict", "--threads", "1"]
    options += ["--seconds", "0.001", "--rounds", "30", "--minutes", "0.0001"]
    done = run(BENCHMARKS / "suite.py", *options, "--json", "out.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 rounds, not 30" in done.stdout


def test_one_that_fails_is_left_out_loudly(tmp_path):
    """A contender whose container cannot be used: the others' figures are there nevertheless."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import suite, types\n"
        "from results import Cell\n"
        "python = suite.Python(sys.executable); python.introduce()\n"
        "cells = {python.label: [Cell('read-str-int', name, 1, -1 if name == 'dict' else 40)"
        " for name in ('ConcurrentDict', 'dict')]}\n"
        "options = types.SimpleNamespace(rounds=2, seconds=0, minutes=None)\n"
        "run = suite.Run([python], cells, options); run.all_rounds()\n"
        "print(len(run.results[python.label].rounds), run.left_out)\n"
    )
    done = run("-P", "-c", code, BENCHMARKS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "failed: see above" in done.stdout and done.stdout.startswith("1 {")
    assert "!! " in done.stderr

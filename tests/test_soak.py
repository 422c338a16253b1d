"""The machinery of `make soak`: what fails is kept and repeated, the rest goes on; it ends at the
time or when it is told to, with a report; what it is stopped for does not count. And the torture
finds what is broken on purpose.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import TIMEOUT

TESTS = Path(__file__).resolve().parent

# Items as a file of their own: its first argument is the folder, the second the seconds.
BEGIN = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from rotation import Impossible, Item, Job, Rotation

def item(kind, name, source, limit=60.0):
    def make(seed):
        return Job([sys.executable, "-c", source], {{"SEED": str(seed)}}, limit)
    return Item(kind, name, [("one", make), ("two", make)])

def run(*items, **more):
    settings = {{"folder": Path(sys.argv[1]), "seconds": float(sys.argv[2]), "seed": 7}}
    sys.exit(Rotation(list(items), **{{**settings, **more}}).run())
"""


def start(folder, source, seconds):
    script = folder / "script.py"
    script.write_text(BEGIN.format(tests=str(TESTS)) + source)
    command = [sys.executable, "-P", str(script), str(folder / "soak"), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process, folder):
    said, _ = process.communicate(timeout=TIMEOUT)
    report = folder / "soak" / "report.json"
    assert report.exists(), said
    return process.returncode, json.loads(report.read_text()), said


def test_a_failure_is_kept_with_its_command_and_the_rest_goes_on(tmp_path):
    source = """
good = item("good", "counts", "print('counter sum steps: 3\\\\ncounter least age: 5')")
bad = item("bad", "fails", "import os; print('seed', os.environ['SEED']); raise SystemExit(3)")
run(good, bad)
"""
    status, report, said = finish(start(tmp_path, source, 3), tmp_path)
    assert status == 1 and report["ended_by"] == "time"
    good, bad = report["kinds"]["good"], report["kinds"]["bad"]
    assert good["failures"] == 0 and good["runs"] >= 1
    assert good["counters"] == {"steps (sum)": 3 * good["runs"], "age (least)": 5}
    assert good["mean_time_between_failures_above_hours"] == pytest.approx(good["hours"] / 3, 0.01)
    assert bad["failures"] == bad["runs"] == len(report["failures"])
    assert bad["mean_time_between_failures_above_hours"] is None
    assert bad["hours_without_failure"] == 0
    for failure in report["failures"]:
        assert Path(failure["output"]).read_text() == f"seed {failure['seed']}\n"
        again = subprocess.run(failure["command"], shell=True, capture_output=True, text=True)
        assert (again.returncode, again.stdout) == (3, f"seed {failure['seed']}\n")
        assert failure["command"] in said
    assert "FAILURES" in (tmp_path / "soak" / "report.txt").read_text()


def test_what_cannot_be_run_is_said_and_hangs_are_failures(tmp_path):
    source = """
def impossible(seed):
    raise Impossible("no such thing here")
def broken(seed):
    raise ValueError("does not compile")
run(Item("a", "cannot", [("", impossible)]), item("b", "lacks", "raise SystemExit(77)"),
    item("c", "hangs", "import time; print('asleep', flush=True); time.sleep(1000)", 0.5),
    Item("d", "wrong", [("", broken)]), at_once=4)
"""
    status, report, _ = finish(start(tmp_path, source, 4), tmp_path)
    assert status == 1
    assert report["unable"]["cannot"] == "no such thing here"
    assert set(report["unable"]) == {"cannot", "lacks, one", "lacks, two", "wrong"}
    ends = {failure["name"].split(",")[0]: failure["end"] for failure in report["failures"]}
    assert ends == {"hangs": "hangs", "wrong": "could not be made"}


def test_nothing_that_could_be_run_is_no_success(tmp_path):
    source = "run(item('a', 'lacks', 'raise SystemExit(77)'))\n"
    status, report, _ = finish(start(tmp_path, source, 60), tmp_path)
    assert status == 2 and report["ended_by"] == "having nothing to run"


def test_the_same_seed_gives_the_same_seeds_and_order(tmp_path):
    source = "run(*[item('a', str(i), 'raise SystemExit(1)') for i in range(5)])\n"
    found = []
    for name in "first", "second":
        (tmp_path / name).mkdir()
        report = finish(start(tmp_path / name, source, 3), tmp_path / name)[1]
        found.append([(f["name"], f["seed"]) for f in report["failures"]])
    shorter = min(map(len, found))
    assert shorter > 0 and found[0][:shorter] == found[1][:shorter]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_writes_its_report_and_leaves_nothing_behind(tmp_path, number):
    child = tmp_path / "child"
    sleep = f"import os, time; open({str(child)!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    source = f"run(item('a', 'sleeps', {sleep!r}, 1000.0))\n"
    process = start(tmp_path, source, 1000)
    while not child.exists() or not child.read_text():
        time.sleep(0.01)
    process.send_signal(number)
    status, report, said = finish(process, tmp_path)
    assert status == 2 and report["ended_by"] == number.name, said
    with pytest.raises(ProcessLookupError):
        os.kill(int(child.read_text()), 0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc to look in")
def test_what_it_is_stopped_for_does_not_count(tmp_path):
    """Its children are stopped with it; what then ends badly is run again."""
    child, went_on = tmp_path / "child", tmp_path / "went on"
    # The first one fails after the stop, as one whose watchdog has gone on counting does.
    source = f"""
import os, time
first = not os.path.exists({str(child)!r})
if first:
    open({str(child)!r}, "w").write(str(os.getpid()))
    while not os.path.exists({str(went_on)!r}):
        time.sleep(0.01)
raise SystemExit(first)
"""
    process = start(tmp_path, f"run(item('a', 'once', {source!r}))\n", 4)
    while not child.exists() or not child.read_text():
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    while Path(f"/proc/{child.read_text()}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.01)
    time.sleep(5)
    process.send_signal(signal.SIGCONT)
    went_on.touch()
    status, report, said = finish(process, tmp_path)
    assert status == 0, said
    assert report["stopped_hours"] * 3600 > 4
    assert len(report["disturbed"]) == 1 and report["kinds"]["a"]["failures"] == 0
    assert report["kinds"]["a"]["runs"] >= 1


def test_Q1_a_soak_of_what_is_broken_finds_it(tmp_path):
    """A grace period that is left out; the command that it gives finds it again."""
    command = [sys.executable, "-P", str(TESTS / "soak.py"), "--seconds", "200", "--first-failure"]
    command += ["--only", "torture_retire", "--folder", str(tmp_path / "soak")]
    process = subprocess.Popen(
        command,
        env={**os.environ, "QC_BREAK": "FREE_AT_ONCE"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    status, report, said = finish(process, tmp_path)
    assert status == 1 and report["ended_by"] == "the first failure", said
    (failure,) = report["failures"]
    assert failure["kind"] == "engine" and "torture_retire" in failure["name"]
    assert "CHECK failed" in said or "Sanitizer" in said
    assert shlex.split(failure["command"])[-1].endswith("test_torture_retire")

"""The demo, run as a person runs it: on folders of text, stopped, misled, without its extras."""

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest

from qsbrcontainers import __main__ as demo
from qsbrcontainers import _demo_index as index
from qsbrcontainers import _demo_report as report

# -P: the folder the tests run in may hold the package's sources without the extension.
COMMAND = [sys.executable, "-P", "-m", "qsbrcontainers"]


def run_demo(folder, *arguments):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def texts(tmp_path):
    """A folder with words to count, and with everything that has to be skipped."""
    folder = tmp_path / "texts"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.txt").write_text("The cat saw the dog.", encoding="utf-8")
    (folder / "deeper" / "b.txt").write_text("Crème brûlée for the cat", encoding="utf-8")
    (folder / "empty.txt").touch()
    (folder / "latin1.txt").write_bytes("crème".encode("latin-1"))
    (folder / "gone.txt").symlink_to(folder / "nowhere")
    (folder / ".hidden").write_text("hidden", encoding="utf-8")
    os.mkfifo(folder / "pipe")  # opening it would wait for ever
    return folder


def test_counts_what_is_there_and_skips_the_rest(texts, tmp_path):
    done = run_demo(tmp_path, texts, "--no-compare", "--threads", 3, "--json", "out.json")
    assert done.returncode == 0, done.stderr
    assert "1 not UTF-8, 1 unreadable" in done.stdout
    assert "Right: all 7 counts and 9 postings" in done.stdout
    out = json.loads((tmp_path / "out.json").read_text())
    assert out["files"] == {"read": 3, "not_utf8": 1, "unreadable": 1}
    assert (out["words"], out["distinct_words"], out["postings"]) == (10, 7, 9)
    assert (out["writers"], out["readers"], out["correct"]) == (3, out["readers"], True)
    assert out["jobs"]["qsbrcontainers"]["words"] == out["jobs"]["dict + Lock"]["words"] == 10
    assert all(job["words_per_second"] > 0 for job in out["jobs"].values())
    assert out["jobs"]["qsbrcontainers"]["queries_per_second"] > 0
    assert out["stats"]["bytes_held_peak"] >= 0
    assert "reads" not in out


def test_many_files_and_threads(tmp_path):
    """Enough work that the threads meet, on counts, on lists and while both dicts grow."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(200):
        words = " ".join(f"w{(number * step) % 997}" for step in range(300))
        (folder / f"{number}.txt").write_text(f"common {words} common", encoding="utf-8")
    done = run_demo(tmp_path, folder, "--no-compare", "--threads", 6, "--readers", 3)
    assert done.returncode == 0, done.stderr
    assert "Right: all 998 counts" in done.stdout


def test_default_is_the_standard_library():
    files = index.standard_library()
    assert os.__file__ in files and len(files) > 300
    assert all(file.endswith(".py") and "site-packages" not in file for file in files)


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["nowhere"], "no such folder: 'nowhere'"),
        (["a file"], "no such folder: 'a file'"),
        (["empty"], "no files in 'empty'"),
        (["wordless"], "no words to count in 'wordless'"),
        ([".", "--threads", "0"], "--threads"),
        ([".", "--readers", "two"], "--readers"),
        ([".", "--json", "nowhere/out.json"], "no such folder for 'nowhere/out.json'"),
    ],
)
def test_nothing_to_do_is_a_clear_error(tmp_path, arguments, complaint):
    (tmp_path / "a file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "wordless").mkdir()
    (tmp_path / "wordless" / "latin1").write_bytes(b"\xff")
    done = run_demo(tmp_path, *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr and "Traceback" not in done.stderr


def test_help(tmp_path):
    done = run_demo(tmp_path, "--help")
    assert done.returncode == 0
    for piece in ("FOLDER", "--threads", "--json", "--plot", "--no-compare", "examples:", "GIL"):
        assert piece in done.stdout


def test_comparison_and_picture(texts, tmp_path, monkeypatch, capsys):
    """The whole demo in this process, with one short round of the comparison."""
    containers = ["qsbrcontainers.ConcurrentDict", "dict", "dict + Lock"]
    monkeypatch.setattr(demo, "ROUNDS", 1)
    monkeypatch.setattr(demo, "SECONDS", 0.02)
    monkeypatch.setattr(demo, "installed", lambda: containers)
    picture, figures = tmp_path / "reads.svg", tmp_path / "out.json"
    assert demo.main([str(texts), "--plot", str(picture), "--json", str(figures)]) == 0
    reads = json.loads(figures.read_text())["reads"]
    assert [case["container"] for case in reads[::2]] == containers
    assert all(len(case["reads_per_second"]) == 1 for case in reads)
    assert all(case["reads_per_second"][0] > 0 for case in reads)
    printed = capsys.readouterr().out
    assert "million reads/s" in printed
    if "No picture: pygal is not installed" not in printed:
        check_picture(picture)


def check_picture(path):
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = " ".join(root.itertext())
    for piece in (
        "million reads per second",
        "qsbrcontainers.ConcurrentDict",
        "1 thread",
        "Python",
    ):
        assert piece in text


def test_picture_shows_what_failed_as_missing(tmp_path):
    pytest.importorskip("pygal")
    results = [
        {"container": name, "threads": threads, "gil": False, "reads_per_second": rates}
        for name, rates in (("qsbrcontainers.ConcurrentDict", [1e7, 2e7]), ("peer", []))
        for threads in (1, 2)
    ]
    report.save_picture(results, str(tmp_path / "reads.svg"))
    check_picture(tmp_path / "reads.svg")
    assert "failed" in report.reads_table(results)


def test_runs_without_the_extras(texts, tmp_path):
    """tqdm and pygal missing: plain lines, and a sentence in place of the picture."""
    for name in ("tqdm", "pygal"):
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    script = (
        "import sys; from qsbrcontainers import __main__ as demo;"
        "demo.ROUNDS, demo.SECONDS, demo.installed = 1, 0.01, lambda: ['dict'];"
        "sys.exit(demo.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(texts)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "No picture: pygal is not installed" in done.stdout
    assert "counting alone: 5 files ..." in done.stderr


@pytest.mark.parametrize("stage", ["counting", "indexing", "reading"])
def test_ctrl_c_ends_it_cleanly(texts, tmp_path, stage):
    if stage != "reading":  # much to count; else little, so that the comparison comes soon
        for number in range(60):
            (texts / f"{number}").write_text("some more words to count " * 10_000, encoding="utf-8")
    process = subprocess.Popen(
        [*COMMAND, str(texts), "--threads", "2"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.startswith(stage):
            break
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.strip().endswith("Stopped.") and "Traceback" not in errors


def test_the_example_in_the_readme():
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    example = text.split("```python\n")[1].split("```")[0]
    code, promised = example.rsplit("  # ", 1)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == promised


class Snapshot:
    """An index as `differences` sees it."""

    def __init__(self, counts, postings):
        self.snapshot = lambda: (counts, postings)


@pytest.mark.parametrize(
    "counts, postings, complaints",
    [
        ({"a": 2, "b": 1}, {"a": [0, 1], "b": [1]}, []),
        ({"a": 1, "b": 1}, {"a": [0, 1], "b": [1]}, ["'a' was counted 1 times", "counts 2"]),
        ({"a": 2}, {"a": [0, 1], "b": [1]}, ["'b' was counted 0 times", "counts 1"]),
        ({"a": 2, "b": 1, "c": 1}, {"a": [0, 1], "b": [1]}, ["'c' was counted 1 times"]),
        ({"a": 2, "b": 1}, {"a": [0], "b": [1]}, ["'a' was found in 1 files", "1 missing"]),
        ({"a": 2, "b": 1}, {"a": [0, 1, 1], "b": [1]}, ["in 3 files", "1 too many"]),
        ({"a": 2, "b": 1}, {"a": [0, 1], "b": [2]}, ["1 missing, 1 too many"]),
        ({"a": 2, "b": 1}, {"a": [0, 1]}, ["'b' was found in 0 files"]),
    ],
)
def test_a_wrong_number_fails_loudly(capsys, counts, postings, complaints):
    right = index.Reference(Counter(a=2, b=1), {"a": [0, 1], "b": [1]})
    assert demo.checked("an index", right, Snapshot(counts, postings)) == (not complaints)
    errors = capsys.readouterr().err
    assert ("WRONG RESULT of an index: 1 difference" in errors) == bool(complaints)
    assert all(complaint in errors for complaint in complaints)


def test_a_wrong_index_is_exit_status_1(texts, tmp_path, monkeypatch, capsys):
    """The whole way: an index that loses one word makes the demo fail."""
    add = index.ConcurrentIndex.add
    monkeypatch.setattr(
        demo.ConcurrentIndex, "add", lambda self, number, words: add(self, number, words[1:])
    )
    arguments = [str(texts), "--no-compare", "--json", str(tmp_path / "out.json")]
    assert demo.main(arguments) == 1
    printed = capsys.readouterr()
    assert "WRONG RESULT of qsbrcontainers" in printed.err and "Right" not in printed.out
    assert json.loads((tmp_path / "out.json").read_text())["correct"] is False

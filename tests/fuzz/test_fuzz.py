"""Compiles and runs the fuzz targets: fuzz_heap.c with libFuzzer under AddressSanitizer, for
QC_FUZZ_SECONDS (default 4), from the small corpus beside it. QC_BREAK=NAME[,NAME] builds with
QC_BREAK_NAME, to see it found.

Where no clang with libFuzzer works, the same file is compiled with a main of its own that replays
the corpus and random inputs, the same each time; and says so in one loud line.

What a run finds is printed in base64: put it in corpus_heap, and it is replayed for good.
"""

import base64
import os
from pathlib import Path

import fuzz_build
import pytest

HERE = Path(__file__).resolve().parent
SRC = fuzz_build.SRC
SOURCES = sorted(path for layer in ("base", "qsbr", "heap") for path in (SRC / layer).glob("*.c"))
CORPUS = HERE / "corpus_heap"
SECONDS = float(os.environ.get("QC_FUZZ_SECONDS") or "4")
RANDOM_INPUTS = 3000  # without libFuzzer; enough for each of the breaks in the table

FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", *fuzz_build.DEBUG, f"-I{SRC}", "-pthread"]
# The target's own records are reachable to the end; leaks are the engine tests' business.
RUNTIME = {"ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=32"}


def compiled(command):
    try:
        fuzz_build.compiled(command)
    except fuzz_build.Failed as error:
        pytest.fail(str(error), pytrace=False)


def failed(done, artifacts):
    found = [
        f"{path.name}: {base64.b64encode(path.read_bytes()).decode()}"
        for path in sorted(artifacts.glob("*"))
    ]
    pytest.fail("\n".join([(done.stdout + done.stderr)[-6000:], *found]), pytrace=False)


def test_H1_H5_T4_the_heap_against_its_model(tmp_path):
    settings = {**os.environ, **RUNTIME}
    corpus, grown, artifacts = sorted(CORPUS.iterdir()), tmp_path / "grown", tmp_path / "found"
    grown.mkdir()
    artifacts.mkdir()
    program = tmp_path / "fuzz_heap"
    try:
        command, prefix = fuzz_build.libfuzzer(tmp_path)
    except fuzz_build.Impossible as reason:
        print(f"NO LIBFUZZER HERE ({reason}): REPLAYING THE CORPUS AND {RANDOM_INPUTS} INPUTS")
        cc = os.environ.get("CC", "cc").split()
        compiled([*cc, *FLAGS, "-DFUZZ_MAIN", HERE / "fuzz_heap.c", *SOURCES, "-o", program])
        done = fuzz_build.call([program, RANDOM_INPUTS, *corpus], env=settings, timeout=300)
        if done.returncode != 0:
            failed(done, artifacts)
        return
    compiled([*command, *FLAGS, HERE / "fuzz_heap.c", *SOURCES, "-o", program])
    # First the corpus as it is: what was found once.
    done = fuzz_build.call([*prefix, program, *corpus], env=settings, timeout=300)
    if done.returncode != 0:
        failed(done, artifacts)
    # Without len_control: short inputs alone see little.
    limits = [f"-max_total_time={max(1, round(SECONDS))}", "-max_len=1000", "-len_control=0"]
    limits += [f"-seed={os.environ.get('QC_SEED', '0')}"]
    limits += ["-timeout=60", "-rss_limit_mb=2048", f"-artifact_prefix={artifacts}/"]
    done = fuzz_build.call(
        [*prefix, program, *limits, grown, CORPUS], env=settings, timeout=SECONDS + 300
    )
    print(done.stderr[-1500:])
    if done.returncode != 0:
        failed(done, artifacts)

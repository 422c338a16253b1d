"""The whole Python API from random bytes: fuzz_api.py, which says what is checked, for
QC_FUZZ_SECONDS (default 4), with libFuzzer inside the interpreter that runs this, led by the
coverage of our C code, which is a debug build under AddressSanitizer and sleeps at one in
QSBRCONTAINERS_YIELD (default 100) of its published stores. QC_BREAK=NAME[,NAME] builds with
QC_BREAK_NAME, to see it found. QC_FUZZ_KEEP=FOLDER keeps the build and what libFuzzer learns.

Where no clang with libFuzzer works, the installed package replays the corpus and random inputs, and
a loud line says so.

What a run finds is printed in base64: put it in corpus_api, and it is replayed for good. By hand:
`python -P tests/fuzz/fuzz_api.py FILE`.

Caught on 3.15t by the corpus alone: MOVED_BEFORE_COPY, LIST_DRAIN_IN_TWO. (Not within 15 seconds:
INCR_NOT_CAS; with the GIL LIST_INSTALL_BLIND.)
"""

import base64
import os
import sys
from pathlib import Path

import fuzz_build
import pytest
from support import FREE_THREADED

HERE = Path(__file__).resolve().parent
TARGET = HERE / "fuzz_api.py"
CORPUS = HERE / "corpus_api"
SECONDS = float(os.environ.get("QC_FUZZ_SECONDS") or "4")
RANDOM_INPUTS = 400  # without libFuzzer, for 4 seconds
SETTINGS = {
    # The interpreter keeps much to the end of the process.
    "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=32:verify_asan_link_order=0",
    "QSBRCONTAINERS_YIELD": os.environ.get("QSBRCONTAINERS_YIELD", "100"),
    # Every object is a block of libc's, so that AddressSanitizer sees it.
    **({} if FREE_THREADED else {"PYTHONMALLOC": "malloc"}),
}


def judge(done, artifacts):
    print(done.stderr[-1500:])
    if done.returncode != 0:
        found = [
            f"{path.name}: {base64.b64encode(path.read_bytes()).decode()}"
            for path in sorted(artifacts.glob("*"))
        ]
        pytest.fail("\n".join([(done.stdout + done.stderr)[-8000:], *found]), pytrace=False)


def test_K1_A1_the_whole_api_from_bytes(tmp_path):
    folder = Path(os.environ.get("QC_FUZZ_KEEP") or tmp_path)
    grown, artifacts = folder / "grown", tmp_path / "found"
    grown.mkdir(parents=True, exist_ok=True)
    artifacts.mkdir()
    corpus, seed = sorted(CORPUS.iterdir()), os.environ.get("QC_SEED", "0")
    python = [sys.executable, "-P", TARGET]
    try:
        command, prefix = fuzz_build.libfuzzer(tmp_path)
        flags = ["-fsanitize=fuzzer-no-link,address", *fuzz_build.DEBUG]
        fuzz_build.extension(folder, [command[0], *flags])
        library, runtime = fuzz_build.libfuzzer_library(folder, command[0])
    except fuzz_build.Failed as error:
        pytest.fail(str(error), pytrace=False)
    except fuzz_build.Impossible as reason:
        print(f"NO LIBFUZZER HERE ({reason}): REPLAYING THE CORPUS AND RANDOM INPUTS")
        judge(fuzz_build.call([*python, *corpus], timeout=300), artifacts)
        count = int(RANDOM_INPUTS * SECONDS / 4)
        again = [*python, "--random", count, seed, artifacts]
        judge(fuzz_build.call(again, timeout=300 + 20 * SECONDS), artifacts)
        return
    settings = {**os.environ, **SETTINGS}
    # libFuzzer first: the other has empty functions of the same names, for want of it.
    settings |= {"PYTHONPATH": str(folder), "LD_PRELOAD": f"{library} {runtime}"}
    # First the corpus as it is: what was found once.
    done = fuzz_build.call([*prefix, *python, *corpus], env=settings, timeout=300)
    judge(done, artifacts)
    limits = [f"-max_total_time={max(1, round(SECONDS))}", "-max_len=3200", "-len_control=0"]
    limits += ["-timeout=100", "-rss_limit_mb=2048", "-detect_leaks=0", f"-seed={seed}"]
    limits += [f"-artifact_prefix={artifacts}/", grown, CORPUS]
    command = [*prefix, *python, "--libfuzzer", library, *limits]
    judge(fuzz_build.call(command, env=settings, timeout=SECONDS + 300), artifacts)

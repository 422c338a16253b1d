"""Compiles and runs the fuzz targets: fuzz_heap.c with libFuzzer under AddressSanitizer, for
QC_FUZZ_SECONDS (default 4), from the small corpus beside it. QC_BREAK=NAME[,NAME] builds with
QC_BREAK_NAME, to see it found.

Where no clang with libFuzzer works, the same file is compiled with a main of its own that replays
the corpus and random inputs, the same each time; and says so in one loud line.

What a run finds is printed in base64: put it in corpus_heap, and it is replayed for good.
"""

import base64
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
SRC = HERE.parents[1] / "src"
SOURCES = sorted(path for layer in ("base", "qsbr", "heap") for path in (SRC / layer).glob("*.c"))
CORPUS = HERE / "corpus_heap"
SECONDS = float(os.environ.get("QC_FUZZ_SECONDS") or "4")
RANDOM_INPUTS = 3000  # without libFuzzer; enough for each of the breaks in the table

FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-fno-omit-frame-pointer"]
FLAGS += ["-DQC_DEBUG=1", "-DQC_HEAP_LIBC=1", f"-I{SRC}", "-pthread"]
FLAGS += [f"-DQC_BREAK_{name}" for name in os.environ.get("QC_BREAK", "").split(",") if name]
# The target's own records are reachable to the end; leaks are the engine tests' business.
RUNTIME = {"ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=32"}

PROBE = """
#include <stddef.h>
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    return data != 0 && size == 12345;
}
"""


def call(command, **settings):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, **settings)


def compiled(command):
    done = call(command)
    if done.returncode != 0:
        pytest.fail(f"does not compile:\n{done.stderr}", pytrace=False)


def libfuzzer(folder):
    """The command by which a clang of this machine makes fuzzers that run, and what goes before
    a program to run it; or None with the reason."""
    probe = folder / "probe.c"
    probe.write_text(PROBE)
    said = []
    for name in ("clang", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14"):
        if not shutil.which(name):
            continue
        command = [name, "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
        done = call([*command, probe, "-o", folder / "probe"])
        # Address space randomization with many bits is too much for some runtimes.
        for prefix in ([], ["setarch", "-R"]):
            if done.returncode == 0 and shutil.which((prefix or ["env"])[0]):
                if call([*prefix, folder / "probe", "-runs=1"]).returncode == 0:
                    return command, prefix
        said.append(f"{name}: {done.stderr.strip().splitlines()[-1:] or 'does not run'}")
    return None, "; ".join(said) or "there is no clang"


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
    command, prefix = libfuzzer(tmp_path)
    if command is None:
        print(f"NO LIBFUZZER HERE ({prefix}): REPLAYING THE CORPUS AND {RANDOM_INPUTS} INPUTS")
        cc = os.environ.get("CC", "cc").split()
        compiled([*cc, *FLAGS, "-DFUZZ_MAIN", HERE / "fuzz_heap.c", *SOURCES, "-o", program])
        done = call([program, RANDOM_INPUTS, *corpus], env=settings, timeout=300)
        if done.returncode != 0:
            failed(done, artifacts)
        return
    compiled([*command, *FLAGS, HERE / "fuzz_heap.c", *SOURCES, "-o", program])
    # First the corpus as it is: what was found once.
    done = call([*prefix, program, *corpus], env=settings, timeout=300)
    if done.returncode != 0:
        failed(done, artifacts)
    # Without len_control: short inputs alone see little.
    limits = [f"-max_total_time={max(1, round(SECONDS))}", "-max_len=1000", "-len_control=0"]
    limits += ["-timeout=60", "-rss_limit_mb=2048", f"-artifact_prefix={artifacts}/"]
    done = call([*prefix, program, *limits, grown, CORPUS], env=settings, timeout=SECONDS + 300)
    print(done.stderr[-1500:])
    if done.returncode != 0:
        failed(done, artifacts)

"""Builds what the fuzz targets run: programs with libFuzzer, the extension with its coverage and
AddressSanitizer, and libFuzzer as a library that an interpreter loads.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
CLANGS = ["clang", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14"]
COMPILES_AT_ONCE = 2
BREAKS = [f"-DQC_BREAK_{name}" for name in os.environ.get("QC_BREAK", "").split(",") if name]
DEBUG = ["-O1", "-g", "-fno-omit-frame-pointer", "-DQC_DEBUG=1", "-DQC_HEAP_LIBC=1", *BREAKS]

PROBE = """
#include <stddef.h>
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    return data != 0 && size == 12345;
}
"""


class Failed(Exception):
    """Something does not compile."""


class Impossible(Exception):
    """This machine has no libFuzzer that works, and why."""


def call(command, **settings):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, **settings)


def compiled(command):
    done = call(command)
    if done.returncode != 0:
        raise Failed(f"does not compile: {shlex.join(map(str, command))}\n{done.stderr}")


def libfuzzer(folder):
    """The command by which a clang of this machine makes fuzzers that run, and what goes before
    a program to run it."""
    probe = folder / "probe.c"
    probe.write_text(PROBE)
    said = []
    for name in CLANGS:
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
    raise Impossible("; ".join(said) or "there is no clang")


def extension(folder, command):
    """The package with an extension built by `command`, in `folder`, if it is not there."""
    stamp, wanted = folder / "built-from", fingerprint(command)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    package, objects = folder / "qsbrcontainers", folder / "objects"
    shutil.copytree(ROOT / "qsbrcontainers", package, dirs_exist_ok=True)
    objects.mkdir(exist_ok=True)
    include = [SRC, ROOT / "qsbrcontainers" / "include", sysconfig.get_path("include")]
    command = [*command, "-std=c11", "-fPIC", "-pthread", *(f"-I{path}" for path in include)]
    sources = [path for path in SRC.rglob("*.c") if not path.name.startswith("_test")]
    results = [objects / f"{path.stem}.o" for path in sources]

    def compile_one(pair):
        compiled([*command, "-c", pair[0], "-o", pair[1]])

    with ThreadPoolExecutor(COMPILES_AT_ONCE) as pool:
        list(pool.map(compile_one, zip(sources, results, strict=True)))
    target = package / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    # What the runtimes define is there when it is loaded.
    compiled([command[0], "-shared", *results, "-o", target, "-lm"])
    stamp.write_text(wanted)


def fingerprint(command):
    digest = hashlib.sha256(repr([command, sysconfig.get_path("include")]).encode())
    for path in sorted([*SRC.rglob("*.[ch]"), *(ROOT / "qsbrcontainers").rglob("*.[ph]*")]):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def libfuzzer_library(folder, clang):
    """libFuzzer with LLVMFuzzerRunDriver, to be loaded before the extension; and the runtime of
    AddressSanitizer, to be loaded before all."""

    def file_of(name):
        path = Path(call([clang, f"-print-file-name={name}"]).stdout.strip())
        if path.exists():
            return path
        resources = Path(call([clang, "-print-resource-dir"]).stdout.strip())
        found = sorted(resources.glob(f"lib/*/{name}"))
        if not found:
            raise Impossible(f"{clang} has no {name}")
        return found[0]

    machine = os.uname().machine
    archive = file_of(f"libclang_rt.fuzzer_no_main-{machine}.a")
    runtime = file_of(f"libclang_rt.asan-{machine}.so")
    library = folder / "libfuzzer.so"
    link = ["-Wl,--whole-archive", archive, "-Wl,--no-whole-archive", "-lstdc++", "-lm"]
    compiled([clang, "-shared", *link, "-pthread", "-o", library])
    return library, runtime

"""How the C programs of this folder are compiled and run, in each flavour of build and with each
barrier (Q12): for test_engine.py and for tests/mutants.py.

Any test_*.c here is a program; it ends with status 0 if all is well. Comments in it that are read
here:

    modes: one            the barrier makes no difference to it
    flavours: debug asan  it is only for these
    links: alone          it includes the sources it is about; no objects of ours
"""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SRC = ROOT / "src"
SOURCES = sorted(
    path for folder in ("base", "qsbr", "heap", "containers") for path in (SRC / folder).glob("*.c")
)
PROGRAMS = sorted(HERE.glob("test_*.c"))
MODES = ("membarrier", "fence")
CANNOT = 77  # harness.h
COMPILES_AT_ONCE = 2

WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Werror"]
# The sources' allocations go through the harness, which can make them fail.
INJECT = ["-Dmalloc=harness_malloc", "-Dcalloc=harness_calloc"]
INJECT += ["-Dposix_memalign=harness_posix_memalign", "-Dpthread_setspecific=harness_setspecific"]
LIBC = ["-DQC_HEAP_LIBC"]
DEBUG = ["-DQC_DEBUG=1", *LIBC, "-DHARNESS_MALLOC"]

FLAVOURS = {
    # What is shipped: optimized, without assertions, on mimalloc.
    "release": ["-O2"],
    "debug": ["-O1", "-g", *DEBUG],
    "asan": ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"]
    + ["-fno-sanitize-recover=all", *DEBUG],
    # Without QC_DEBUG: what the assertions read would not be there.
    "tsan": ["-O1", "-g", "-fsanitize=thread", *LIBC],
}
COUNTED = os.environ.get("QSBRCONTAINERS_COVERAGE") == "1"  # tests/covered.py
if COUNTED:
    COUNTING = ["-O0", "--coverage", "-fprofile-update=atomic", "-fprofile-abs-path"]
    COUNTING += ["-DQC_COUNTING=1", "-D_GNU_SOURCE=", "-include", str(HERE / "counted_exit.h")]
    FLAVOURS = {name: FLAVOURS[name] + COUNTING for name in ("release", "debug")}
# For test_valgrind.py: optimized, and every block is libc's.
ON_VALGRIND = {"valgrind": ["-O2", "-g", *LIBC]}
INJECTED = {"debug", "asan"}
RUNTIME = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    # The tests fork; the children start threads.
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=1:die_after_fork=0",
}
SETARCH = ["setarch", "-R"]


HANGS = "hangs"


def marked(program, what):
    """The words after `what:` in a program's comments."""
    found = re.search(rf"\b{what}: ([a-z ]+)", program.read_text())
    return found.group(1).split() if found else []


if COUNTED:  # with atomics of one's own branches are not those of src
    PROGRAMS = [program for program in PROGRAMS if marked(program, "links") != ["alone"]]


class Failed(Exception):
    """Something does not compile, or a sanitizer that compiles does not run."""


class Impossible(Exception):
    """This machine cannot do it."""


def call(command, **settings):
    return subprocess.run(command, capture_output=True, text=True, **settings)


def build(command):
    done = call(command)
    if done.returncode != 0:
        raise Failed(f"does not compile: {' '.join(command[-12:])}\n{done.stderr}")


def run(command, mode, timeout, **more):
    """The status of a program, or HANGS, and all that it printed; `more` for its environment."""
    settings = {**os.environ, **RUNTIME, "QSBRCONTAINERS_BARRIER": mode, **more}
    try:
        done = call(command, env=settings, timeout=timeout)
    except subprocess.TimeoutExpired as expired:
        return HANGS, (expired.stdout or b"").decode() + (expired.stderr or b"").decode()
    return done.returncode, f"{done.stdout}\n{done.stderr}"


def read_by(source, seen=None):
    """A source and all of ours that it includes."""
    seen = {source} if seen is None else seen
    for name in re.findall(r'^\s*#\s*include "([^"]+)"', source.read_text(), re.MULTILINE):
        for path in (SRC / name, HERE / name):
            if path.exists() and path not in seen:
                seen.add(path)
                read_by(path, seen)
    return seen


class Builder:
    """Objects and programs of the flavours, each made once. With `breaks`, of a source that is
    broken on purpose; what is not concerned comes from `whole`, the builder of the unbroken."""

    def __init__(self, folder, breaks=(), whole=None):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.made = {}
        self.prefixes = {}
        self.breaks = [f"-DQC_BREAK_{name}" for name in breaks]
        # What a break leaves out may leave something unused.
        self.warnings = WARNINGS + ["-Wno-unused"] * bool(self.breaks)
        self.whole = whole

    def compilers(self, flavour):
        """Those to try, in order of preference."""
        wanted = os.environ.get("CC", "").split()
        names = ["clang", "gcc", "cc"] if flavour == "tsan" else ["cc", "gcc", "clang"]
        return ([wanted] if wanted else []) + [[n] for n in names if shutil.which(n)]

    def prepare(self, flavour):
        """The flavour's compiler with flags, and what goes before a program to run it. A failure
        to prepare is the answer to every test of the flavour."""
        if flavour not in self.prefixes:
            try:
                self.prefixes[flavour] = self.try_compilers(flavour)
            except (Failed, Impossible) as outcome:
                self.prefixes[flavour] = outcome
        if isinstance(self.prefixes[flavour], Exception):
            raise self.prefixes[flavour]
        return self.prefixes[flavour]

    def try_compilers(self, flavour):
        if self.whole is not None:
            compiler, prefix = self.whole.prepare(flavour)
            return compiler + self.breaks, prefix
        flags = {**FLAVOURS, **ON_VALGRIND}[flavour] + self.breaks
        if "-fsanitize" not in " ".join(flags):
            return self.compilers(flavour)[0] + flags, []
        probe = self.folder / f"probe_{flavour}.c"
        probe.write_text(PROBE)
        program = str(probe.with_suffix(""))
        said = []
        for compiler in self.compilers(flavour):
            done = call([*compiler, *FLAVOURS[flavour], str(probe), "-o", program, "-pthread"])
            said.append(f"{compiler[0]}: {done.stderr[-500:]}")
            if done.returncode != 0:
                continue
            # Address space randomization with many bits is too much for some runtimes.
            for prefix in ([], SETARCH):
                if shutil.which((prefix or ["env"])[0]):
                    done = call([*prefix, program])
                    if done.returncode == 0:
                        return compiler + flags, prefix
            said.append(f"its programs do not run: {done.stderr[-500:]}")
        text = f"NO WORKING SANITIZER FOR {flavour.upper()}:\n" + "\n".join(said)
        if any("do not run" in line for line in said):
            raise Failed(text)
        raise Impossible(text)

    def objects(self, flavour):
        if flavour not in self.made:
            compiler, _ = self.prepare(flavour)
            folder = self.folder / flavour
            folder.mkdir(parents=True, exist_ok=True)
            link = []
            if flavour == "release":
                heap, link = self.mimalloc(folder)
                compiler = compiler + heap
            inject = INJECT if flavour in INJECTED else []
            results, jobs = [], []
            for source in [*SOURCES, HERE / "harness.c"]:
                builder = self if self.concerned(source) else self.whole
                result = builder.folder / flavour / f"{source.stem}.o"
                results.append(str(result))
                if builder is self:
                    jobs.append((source, result, inject if source in SOURCES else []))
            if self.whole is not None:
                self.whole.objects(flavour)

            def compile_one(job):
                source, result, more = job
                build(
                    [*compiler, *self.warnings, *more, f"-I{SRC}", f"-I{HERE}"]
                    + ["-pthread", "-c", str(source), "-o", str(result)]
                )

            with ThreadPoolExecutor(COMPILES_AT_ONCE) as pool:
                list(pool.map(compile_one, jobs))
            self.made[flavour] = results, link
        return self.made[flavour]

    def concerned(self, source):
        """Whether the breaks make a difference to it."""
        texts = [path.read_text() for path in read_by(source)]
        return self.whole is None or any(
            re.search(rf"\b{flag[2:]}\b", text) for flag in self.breaks for text in texts
        )

    def mimalloc(self, folder):
        """The release flavour's heap: as the extension's, where mimalloc is to be had here."""
        sys.path.insert(0, str(ROOT / "build_support"))
        try:
            import mimalloc_link

            found = mimalloc_link.prepare(folder)
            return found.compile_args, found.link_args
        except (ImportError, mimalloc_link.MimallocError) as error:
            print(f"The release flavour runs on libc's malloc: {error}")
            return LIBC, []
        finally:
            sys.path.pop(0)

    def program(self, source, flavour):
        key = source, flavour
        if key not in self.made:
            compiler, prefix = self.prepare(flavour)
            objects, link = [], []
            if marked(source, "links") != ["alone"]:
                objects, link = self.objects(flavour)
            result = self.folder / flavour / source.stem
            result.parent.mkdir(parents=True, exist_ok=True)
            build(
                [*compiler, *self.warnings, f"-I{SRC}", f"-I{HERE}", "-pthread"]
                + [str(source), *objects, "-o", str(result), *link, "-lm"]
            )
            self.made[key] = [*prefix, str(result)]
        return self.made[key]


PROBE = """
#include <pthread.h>
static int x;
static void *f(void *a) { x++; return a; }
int main(void)
{
    pthread_t t;
    if (pthread_create(&t, 0, f, 0)) return 1;
    if (pthread_join(t, 0)) return 1;
    return x != 1;
}
"""

"""`make analyze`: clang-tidy, cppcheck and gcc's analyzer over src; anything they say is a failure.

    python tests/analyzed.py [FILE...]

gcc's analyzer reads the headers of the newest free-threaded interpreter that is found, clang-tidy
those of the default one: they see different code. .clang-tidy says which checks are off and why;
what is wrong at one place is suppressed there, with its reason. A tool that is not installed is
said in one loud line and left out, except where QC_ANALYZE_ALL=1 asks for all of them.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import interpreters
import venvs

SRC = venvs.ROOT / "src"
BASE = ["-std=c11", "-Isrc", "-Iqsbrcontainers/include"]
# Macros whose definitions cppcheck does not see: it reads no headers but ours.
UNSEEN = {"Py_TRASHCAN_BEGIN(op, dealloc)": "", "Py_TRASHCAN_END": "", "__linux__": "1"}
LIMIT = 600


class Job(NamedTuple):
    tool: str
    what: str
    command: list[str]


def tool(*names: str) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)


def headers(interpreter: interpreters.Interpreter) -> list[str]:
    """Flags to compile with: the interpreter's headers, and mimalloc's as if they were libc's."""
    python = venvs.ensure(venvs.ROOT / f".venv-{interpreter.name}", "test,demo", interpreter.path)
    asked = "import sysconfig; print(sysconfig.get_path('include'))"
    include = subprocess.check_output([str(python), "-c", asked], text=True).strip()
    link = venvs.ROOT / "build_support" / "mimalloc_link.py"
    work = venvs.ROOT / "build" / "analyze"
    flags = subprocess.check_output([str(python), str(link), "flags", str(work)], text=True)
    return ["-isystem", include, *shlex.split(flags.splitlines()[0])]


def jobs(files: list[Path]) -> tuple[list[Job], list[str]]:
    """What is to be run, and which tools are missing."""
    tidy, cppcheck, gcc = tool("clang-tidy-14", "clang-tidy"), tool("cppcheck"), tool("gcc")
    if gcc and not accepts(gcc, "-fanalyzer"):  # gcc is clang on macOS
        gcc = None
    missing = [
        name
        for name, path in [("clang-tidy", tidy), ("cppcheck", cppcheck), ("gcc -fanalyzer", gcc)]
        if path is None
    ]
    found = []
    if cppcheck:
        command = [cppcheck, "-q", "--error-exitcode=1", "--inline-suppr", "--std=c11", "-j2"]
        command += ["--library=python", "--enable=warning,performance,portability"]
        command += ["--suppress=missingInclude", *BASE[1:]]
        command += [f"-D{name}={value}" for name, value in UNSEEN.items()]
        found.append(Job("cppcheck", "src", [*command, *map(str, files)]))
    if not (tidy or gcc):
        return found, missing
    default = interpreters.probe(sys.executable)
    assert default is not None
    free = [i for i in interpreters.find_all() if i.free_threaded and not i.lacks]
    other = free[0] if free else default
    if tidy:
        flags = [*BASE, *headers(default)]
        for file in files:
            command = [tidy, "--quiet", str(file), "--", *flags]
            found.append(Job("clang-tidy", f"{file} with {default.name}", command))
    if gcc:
        flags = [*BASE, *headers(other)]
        for file in files:
            command = [gcc, "-O2", "-Wall", "-Wextra", "-Werror", "-fanalyzer", *flags]
            command += ["-c", str(file), "-o", os.devnull]
            found.append(Job("gcc", f"{file} with {other.name}", command))
    return found, missing


def accepts(compiler: str, flag: str) -> bool:
    command = [compiler, flag, "-x", "c", "-c", "-", "-o", os.devnull]
    done = subprocess.run(command, input="", text=True, capture_output=True)
    return done.returncode == 0


def run(job: Job) -> tuple[Job, str]:
    """What it has to say; nothing where all is well."""
    try:
        done = subprocess.run(
            job.command, cwd=venvs.ROOT, text=True, capture_output=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return job, f"{job.tool} has not ended after {LIMIT} s"
    if done.returncode == 0:
        return job, ""
    return job, f"{done.stdout}\n{done.stderr}".strip() or f"status {done.returncode}"


def main(arguments: list[str]) -> int:
    began = time.monotonic()
    files = [Path(name) for name in arguments]
    files = files or sorted(path.relative_to(venvs.ROOT) for path in SRC.rglob("*.c"))
    todo, missing = jobs(files)
    for name in missing:
        print("!" * 20 + f" WITHOUT {name}: it is not installed " + "!" * 20, flush=True)
    said = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for done in as_completed([pool.submit(run, job) for job in todo]):
            job, text = done.result()
            if text:
                said += 1
                print(f"{job.tool}, {job.what}:\n{text}\n", flush=True)
    counts = ", ".join(
        f"{name} {sum(job.tool == name for job in todo)}"
        for name in dict.fromkeys(job.tool for job in todo)
    )
    print(f"Runs: {counts or 'none'}; {said} with findings ({time.monotonic() - began:.0f} s)")
    return 1 if said or (missing and os.environ.get("QC_ANALYZE_ALL") == "1") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

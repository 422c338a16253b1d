"""`make test`: the whole suite with the default interpreter, and with every other one found.

    python tests/run_all.py [--only NAME,NAME] [PYTEST_ARGUMENT...]

The default interpreter is the one that runs this. Each has a virtual environment,
.venv-NAME, that lives on between runs; two of them are tested at a time. What does not
depend on the interpreter (the C programs, the structure of the sources) is tested by
the default one alone. Without arguments the race tests also run under ThreadSanitizer,
where there is an interpreter built with it (thread_sanitizer.py), and interpreters between
the oldest and the newest leave out what takes long (AT_THE_ENDS). The outputs are in
build/test-results; the closing summary is pytest's own, over the tests of all of them
(tests/replay.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import interpreters
import thread_sanitizer
import venvs

RESULTS = venvs.ROOT / "build" / "test-results"
ONCE = ["tests/engine", "tests/fuzz/test_fuzz.py", "tests/model"]
ONCE += ["tests/test_structure.py", "tests/test_mutant_table.py", "tests/test_soak.py"]
ONCE += ["tests/test_thread_sanitizer.py", "tests/test_address_sanitizer.py"]
ONCE += ["tests/test_platforms.py"]
# What takes long and hangs on the threads more than on the version: the oldest and the newest
# interpreter with the GIL and the free-threaded ones do it, those between leave it out.
AT_THE_ENDS = ["tests/faults", "tests/races/test_linearizability.py"]
AT_THE_ENDS += ["tests/races/test_list_linearizability.py"]
AT_ONCE = 2
LIMIT = 30 * 60  # seconds for one interpreter's suite: a hang is a failure, not a wait


def main(arguments: list[str]) -> int:
    only: list[str] = []
    chooses = bool(arguments)
    if arguments[:1] == ["--only"]:
        only, arguments = arguments[1].replace(",", " ").split(), arguments[2:]
    default = interpreters.probe(sys.executable)
    if default is None or not default.supported:
        sys.exit("make test needs CPython 3.11 to 3.15: choose one with PYTHON=...")
    found = [default] + [i for i in interpreters.find_all() if i.name != default.name]
    with_tsan = thread_sanitizer.find()
    if with_tsan is None:
        say(thread_sanitizer.NONE_FOUND)
    elif with_tsan.name not in only and (only or arguments):
        with_tsan = None
    chosen = [i for i in found if not only or i.name in only]
    for name in set(only) - {i.name for i in [*found, *filter(None, [with_tsan])]}:
        sys.exit(f"There is no interpreter {name} on this machine.")
    for i in [i for i in chosen if i.lacks]:
        say(f"{i.name:6} left out: {i.path} has no {i.lacks}")
    usable = [i for i in chosen if not i.lacks]
    if not usable and with_tsan is None:
        sys.exit("No interpreter here can make virtual environments and build extensions.")
    say("Testing with " + ", ".join(i.name for i in [*usable, *filter(None, [with_tsan])]))

    shutil.rmtree(RESULTS, ignore_errors=True)
    RESULTS.mkdir(parents=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        # The first one tests what is tested once.
        between = [] if chooses else in_between(usable)
        jobs = [pool.submit(run, i, arguments, i is usable[0], i in between) for i in usable]
        if with_tsan is not None:
            jobs.append(pool.submit(run_under_tsan, with_tsan, default, arguments))
        for job in jobs:
            job.result()
    if not any(i.free_threaded for i in usable):
        say("!" * 20 + " NO FREE-THREADED INTERPRETER TOOK PART IN THESE TESTS " + "!" * 20)
    return replay()


def in_between(usable: list[interpreters.Interpreter]) -> list[interpreters.Interpreter]:
    """Those with the GIL but the oldest, the newest and the default one (the first)."""
    with_gil = [i for i in usable if not i.free_threaded]
    with_gil.sort(key=lambda i: interpreters.NAMES.index(i.name))
    return [i for i in with_gil[1:-1] if i is not usable[0]]


def run(
    interpreter: interpreters.Interpreter, arguments: list[str], once: bool, between: bool
) -> None:
    """One interpreter's suite; what becomes of it is in the results folder."""
    name = interpreter.name
    began = time.monotonic()
    try:
        python = venvs.ensure(venvs.ROOT / f".venv-{name}", "test,demo", interpreter.path)
    except subprocess.CalledProcessError as error:
        say(f"{name:6} COULD NOT BE SET UP")
        write_failure(RESULTS / f"{name}.xml", "setup", f"{error}; see above for what it printed.")
        return
    say(f"{name:6} installed after {time.monotonic() - began:.0f} s, tests begin")
    command = [str(python), "-m", "pytest", *arguments]
    command += [] if once else [f"--ignore={path}" for path in ONCE]
    if not once and not interpreter.free_threaded:  # takes a minute and more in CI
        command += ["--ignore=tests/fuzz/test_fuzz_api.py"]
    if between:
        command += [f"--ignore={path}" for path in AT_THE_ENDS]
    run_pytest(name, command, {})


def run_under_tsan(
    interpreter: interpreters.Interpreter, default: interpreters.Interpreter, arguments: list[str]
) -> None:
    """The race tests; a report about us is a failure of its own."""
    name = interpreter.name
    reported = RESULTS / f"{name}-reports.xml"

    def run_tests(command: list[str], settings: dict[str, str]) -> None:
        say(f"{name} installed, the race tests begin")
        run_pytest(name, [*command, *arguments], settings)

    try:
        pip = venvs.ensure(venvs.ROOT / f".venv-{default.name}", "test,demo", default.path)
        reports = thread_sanitizer.run(interpreter, pip, RESULTS / name, say, run_tests)
    except (subprocess.CalledProcessError, thread_sanitizer.Wrong) as error:
        say(f"{name} FAILED: {error}")
        write_failure(reported, "setup", str(error))
        return
    say(f"{name} {len(reports)} reports of ThreadSanitizer about the extension")
    if reports:
        write_failure(reported, "reports", "\n".join(reports))


def run_pytest(name: str, command: list[str], settings: dict[str, str]) -> None:
    log = RESULTS / f"{name}.log"
    result = RESULTS / f"{name}.xml"
    command = [*command, f"--junitxml={result}"]
    environment = {**os.environ, **settings}
    # Free-threaded means without the GIL, whatever the caller's shell says.
    environment.pop("PYTHON_GIL", None)
    with log.open("w") as out:
        try:
            status: int | str = subprocess.run(
                command, cwd=venvs.ROOT, env=environment, stdout=out, stderr=out, timeout=LIMIT
            ).returncode
        except subprocess.TimeoutExpired:
            status = f"none after {LIMIT} s"
    lines = log.read_text(errors="replace").rstrip().splitlines()
    say(f"{name:6} {lines[-1] if lines else 'no output'}")
    if not result.exists() or (status != 0 and not has_failures(result)):
        write_failure(result, f"exit-status-{status}", "\n".join(lines[-100:]))


def has_failures(result: Path) -> bool:
    cases = ElementTree.parse(result).getroot().iter("testcase")
    return any(outcome.tag in ("failure", "error") for case in cases for outcome in case)


def write_failure(result: Path, name: str, text: str) -> None:
    """A run that did not come to its end counts as one test that failed."""
    suite = ElementTree.Element("testsuite")
    case = ElementTree.SubElement(suite, "testcase", classname="the-whole-suite", name=name)
    printable = "".join(c for c in text if c >= " " or c in "\n\t")
    ElementTree.SubElement(case, "failure").text = printable
    ElementTree.ElementTree(suite).write(result)


def replay() -> int:
    """One pytest run over all results: its closing line is the last one of `make test`."""
    pytests = sorted(venvs.ROOT.glob(".venv-*/bin/pytest"))
    if not pytests:
        say("FAILED: no interpreter could be set up for testing.")
        return 1
    say("\nAll tests of all interpreters, reported together:")
    # Neither the project's settings nor its conftest.py files have a part in this.
    isolated = ["-c", os.devnull, f"--rootdir={RESULTS}", "--noconftest", "-p", "no:cacheprovider"]
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parent))
    command = [str(pytests[0]), "-p", "replay", "--no-header", "-rfE", *isolated, str(RESULTS)]
    return subprocess.run(command, cwd=RESULTS, env=environment).returncode


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The layers and budgets of the C sources: arrows point down, names stay where they belong."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "build_support"))

import mimalloc_link  # noqa: E402

SRC = ROOT / "src"
FILES = {str(path.relative_to(SRC)): path.read_text() for path in sorted(SRC.rglob("*.[ch]"))}
PLAIN_HEADERS = [name for name in FILES if name.endswith(".h") and not name.startswith("py/")]

MAY_INCLUDE = {
    "base": {"base"},
    "qsbr": {"base", "qsbr"},
    "heap": {"base", "qsbr", "heap"},
    "containers": {"base", "qsbr", "heap", "containers"},
    "py": {"base", "qsbr", "heap", "containers", "py"},
}
FILE_LINES = 1000
FUNCTION_LINES = 60

every_file = pytest.mark.parametrize("name", FILES)


def without_comments(text):
    """The code alone, line numbers kept. (No string in the sources contains a comment.)"""
    blank = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
    return blank.sub(lambda found: "\n" * found.group().count("\n"), text)


def lines_with(pattern, name):
    code = without_comments(FILES[name]).splitlines()
    return [f"{name}:{n}: {line.strip()}" for n, line in enumerate(code, 1) if pattern.search(line)]


def functions(text):
    """(name, length, the lines above it) of each function; braces in column 0 delimit a body."""
    lines = text.splitlines()
    for opening in (n for n, line in enumerate(lines) if line == "{"):
        closing = next(n for n in range(opening, len(lines)) if lines[n] == "}")
        start = opening
        while start > 0 and lines[start - 1].strip():
            start -= 1
        head = "\n".join(lines[start:opening])
        called = re.findall(r"^(\w+)\(", head, re.MULTILINE)
        yield called[-1] if called else head, closing - opening - 1, head


def test_there_are_sources():
    assert {name.split("/")[0] for name in FILES} == set(MAY_INCLUDE)
    found = sum(len(list(functions(text))) for text in FILES.values())
    assert found > len(FILES), "functions() does not understand the way the code is written"


@every_file
def test_includes_point_down(name):
    allowed = MAY_INCLUDE[name.split("/")[0]]
    wrong = []
    for included in re.findall(r'^\s*#\s*include\s+"([^"]+)"', FILES[name], re.MULTILINE):
        if included not in FILES or included.split("/")[0] not in allowed:
            wrong.append(included)
    assert not wrong


@every_file
def test_python_and_mimalloc_stay_in_their_layers(name):
    layer = name.split("/")[0]
    included = set(re.findall(r"^\s*#\s*include\s+<([^>]+)>", FILES[name], re.MULTILINE))
    if layer != "py":
        assert not [i for i in included if re.match(r"Python\.h|internal/|cpython/", i)]
    if layer != "heap":
        assert not [i for i in included if "mimalloc" in i]
        assert not lines_with(re.compile(r"\bmi_\w+\("), name)


@every_file
def test_raw_atomics_stay_in_base(name):
    if not name.startswith("base/"):
        raw = re.compile(r"\b(atomic_\w+\(|memory_order_|ATOMIC_VAR_INIT|__atomic_|__sync_)")
        assert not lines_with(raw, name)


@every_file
def test_interpreter_internals_stay_in_py_refs(name):
    if name != "py/py_refs.h":
        internals = re.compile(r"\b(ob_ref_local|ob_ref_shared|ob_refcnt|ob_tid|_Py[A-Z_]\w*)\b")
        assert not lines_with(internals, name)


@every_file
def test_files_are_short(name):
    assert len(FILES[name].splitlines()) <= FILE_LINES


@every_file
def test_functions_are_short_or_say_why(name):
    long = [
        f"{function}: {length} lines"
        for function, length, head in functions(FILES[name])
        if length > FUNCTION_LINES and "/* long: " not in head
    ]
    assert not long


@pytest.mark.parametrize("name", PLAIN_HEADERS)
def test_header_compiles_on_its_own_and_without_python(name):
    command = [*mimalloc_link.compiler(), "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{SRC}"]
    # -Wno-unused-function: some compilers count a header's inline functions.
    command += ["-fsyntax-only", "-Wno-unused-function", "-x", "c", "-"]
    code = f'#include "{name}"\n#include "{name}"\nint qc_not_empty;\n'
    done = subprocess.run(command, input=code, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_cited_guarantees_are_stated_in_a_header():
    """A label like Q1 stands at the beginning of a line of a header's opening comment."""
    stated = set()
    for name, text in FILES.items():
        if name.endswith(".h"):
            stated |= set(re.findall(r"^ \*\s+([QTHKA]\d+)\s", text, re.MULTILINE))
    texts = dict(FILES)
    for path in sorted((ROOT / "tests").rglob("*.[ch]")):
        texts[str(path.relative_to(ROOT))] = path.read_text()
    missing = {}
    for name, text in texts.items():
        for comment in re.findall(r"/\*.*?\*/", text, re.DOTALL):
            for label in set(re.findall(r"\b[QTHKA]\d+\b", comment)) - stated:
                missing.setdefault(label, []).append(name)
    assert not missing


def test_guarantees_have_tests_named_after_them():
    """Q1 to H7, as far as headers state them: a name like test_Q5_… in C, Python or a model."""
    stated = {
        label
        for name, text in FILES.items()
        if name.endswith(".h")
        for label in re.findall(r"^ \*\s+([QTHKA]\d+)\s", text, re.MULTILINE)
    }
    named = set()
    for path in (ROOT / "tests").rglob("*.[cp]*"):
        if path.suffix in (".c", ".py"):
            for name in re.findall(r"\btest_((?:[A-Z]\d+_)+)", path.read_text()):
                named |= set(name.split("_"))
    assert sorted(stated - named) == []


WAITS = re.compile(r"\b(nanosleep|sched_yield|usleep|clock_nanosleep|qsbr_wait)\(")
# The files that may wait; py/py_wait.h says why.
MAY_WAIT = {
    "base/qc_debug.c",  # the yield hook of debug builds
    "base/qc_lock.c",  # where there is no futex
    "heap/heap.c",  # the end of an interpreter, bounded
    "py/py_wait.c",
    "qsbr/qsbr.c",  # qsbr_wait itself, for programs without an interpreter
    "qsbr/qsbr.h",
    "qsbr/records.c",  # forks, bounded
    "qsbr/retire_look.c",  # for the thread that looks; a look is bounded
    "qsbr/retire_run.c",  # the same as qsbr_wait, where the queue has no hook
}


@every_file
def test_T7_waits_that_may_last_are_in_one_place(name):
    if name not in MAY_WAIT:
        assert not lines_with(WAITS, name)

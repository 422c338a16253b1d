"""The header and the import: what compiles, and which versions go together."""

import ctypes
import importlib.metadata
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from building import C11, CXX17, SOURCES, build, compile_extension
from support import run_script

import qsbrcontainers

HEADER = Path(qsbrcontainers.get_include()) / "qsbrcontainers.h"


def test_get_include_names_the_folder_of_the_installed_header():
    assert HEADER.is_file()
    assert HEADER.parent.parent == Path(qsbrcontainers.__file__).parent
    assert "get_include" in qsbrcontainers.__all__


def test_installed_files_include_the_header():
    files = {str(f) for f in importlib.metadata.files("qsbrcontainers")}
    if not any("_native" in f for f in files):
        pytest.skip("an editable installation")
    assert "qsbrcontainers/include/qsbrcontainers.h" in files


COMPILERS = {"gcc": "gcc", "g++": "g++", "clang": "clang", "clang++": "clang++"}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_compiles_without_warnings(compiler, name, tmp_path):
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler} here")
    language = CXX17 if "++" in compiler else C11
    build(tmp_path, name, command=[compiler], language=language)


def test_an_extension_in_cxx_works(tmp_path):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler here")
    build(tmp_path, "chain", command=[compiler], language=CXX17)
    run_script(USE_CHAIN, tmp_path)


USE_CHAIN = """
import sys
sys.path.insert(0, sys.argv[1])
import chain
c = chain.Chain()
c.set(1, "one"), c.set(2, "two"), c.set(1, "uno")
assert c.get(1) == "uno" and c.get(2) == "two" and c.remove(2) and c.walk(3) == 3
assert c.hits() == {1: 1, 2: 1}
chain.collect()
assert chain.held() == (0, 0) and chain.live() == 1
"""


@pytest.mark.parametrize(
    "arguments",
    [["-Wpedantic", "-Wshadow", "-Wstrict-prototypes"], ["-DPy_LIMITED_API=0x030B0000"]],
)
def test_the_header_alone_compiles_twice_over_and_needs_nothing(tmp_path, arguments):
    if "-DPy" in arguments[0] and sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("free-threaded builds have no limited API")
    source = tmp_path / "twice.c"
    source.write_text("#include <qsbrcontainers.h>\n#include <qsbrcontainers.h>\nint none;\n")
    compile_extension(tmp_path, "twice", [source], *arguments)


# Versions: a capsule of another version in place of ours.

FAKE = """
import ctypes, sys
import qsbrcontainers._native as native
sys.path.insert(0, sys.argv[1])
major, minor, larger = map(int, sys.argv[2:])
api = ctypes.pythonapi
api.PyCapsule_GetPointer.restype = ctypes.c_void_p
api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_New.restype = ctypes.py_object
api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
name = b"qsbrcontainers._native._C_API"

class Head(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("size", ctypes.c_size_t)]

real = api.PyCapsule_GetPointer(native._C_API, name)
size = Head.from_address(real).size
table = ctypes.create_string_buffer(ctypes.string_at(real, size), size + 64)
head = Head.from_address(ctypes.addressof(table))
head.major += major
head.minor += minor
head.size += larger
native._C_API = api.PyCapsule_New(ctypes.addressof(table), name, None)
api.Py_IncRef(ctypes.py_object(table))  # for good, as a static variable
try:
    import chain
except ImportError as error:
    print(error)
else:
    chain.Chain().set(1, 1)
    print("imported")
"""


@pytest.mark.parametrize(
    "major, minor, larger, expected",
    [
        (0, 0, 0, "imported"),
        (0, 1, 8, "imported"),
        (1, 0, 0, "qsbrcontainers has version 2.0 of the C API, .* compiled for 1.0"),
        (0, 0, -8, "qsbrcontainers has version 1.0 of the C API, .* compiled for 1.0"),
    ],
)
def test_versions_that_go_together(built, major, minor, larger, expected):
    printed = run_script(FAKE, built, major, minor, larger)
    assert re.fullmatch(expected, printed)


def test_an_older_minor_version_is_refused(tmp_path):
    """As if this header were of a later version than what is installed."""
    newer = tmp_path / "include"
    newer.mkdir()
    text = HEADER.read_text()
    found = re.search(r"#define QSBRC_API_MINOR (\d+)\n", text)
    minor = int(found[1]) + 1
    text = text.replace(found[0], f"#define QSBRC_API_MINOR {minor}\n")
    (newer / "qsbrcontainers.h").write_text(text)
    build(tmp_path, "chain", f"-I{newer}")
    printed = run_script(FAKE, tmp_path, 0, 0, 0)
    assert re.fullmatch(rf"qsbrcontainers has version 1.{found[1]} .* for 1.{minor}", printed)


@pytest.mark.parametrize("broken", ["del native._C_API", "native._C_API = 5"])
def test_without_a_capsule(built, broken):
    printed = run_script(
        f"""
import sys
import qsbrcontainers._native as native
sys.path.insert(0, sys.argv[1])
{broken}
try:
    import chain
except ImportError as error:
    print(error)
""",
        built,
    )
    assert printed == "this qsbrcontainers has no C API"


def test_without_the_package(built):
    """-I: without PYTHONPATH and the user's packages; a finder in front says it is not there."""
    code = f"""
import sys
sys.modules["qsbrcontainers"] = None
sys.path.insert(0, {str(built)!r})
try:
    import chain
except ImportError as error:
    print("ImportError")
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.stdout == "ImportError\n", done.stderr


def test_the_table_ends_where_the_header_says():
    """Append-only: the order of the members is the ABI; whoever changes it changes MAJOR."""
    from qsbrcontainers import _native

    api = ctypes.pythonapi
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    table = api.PyCapsule_GetPointer(_native._C_API, b"qsbrcontainers._native._C_API")
    text = HEADER.read_text()
    struct = text[text.index("typedef struct qsbrc_api {") : text.index("} qsbrc_api;")]
    members = re.findall(r"\(\*(\w+)\)\(", struct)
    size = ctypes.c_size_t.from_address(table + 8).value
    assert size == 16 + ctypes.sizeof(ctypes.c_void_p) * len(members)
    assert all(
        ctypes.c_void_p.from_address(table + 16 + 8 * i).value for i in range(len(members))
    ), "a member of the table is NULL"
    # Each has its macro.
    assert len(re.findall(r"^#define qsbrc_\w+ QSBRC_API_VARIABLE->", text, re.M)) == len(members)
    assert members == (Path(__file__).parent / "abi-1.txt").read_text().split()

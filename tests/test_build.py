"""What was built: one exported name, and no other heap of the process touched (H7)."""

import ctypes
import importlib.machinery
import importlib.metadata
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "build_support"))

import mimalloc_link  # noqa: E402

from qsbrcontainers import _native  # noqa: E402

NATIVE = Path(_native.__file__)
MACOS = sys.platform == "darwin"
# What mimalloc's static library would put in libc's place.
REPLACED = """
    malloc calloc realloc reallocf reallocarray free cfree strdup strndup memalign posix_memalign
    aligned_alloc valloc pvalloc malloc_usable_size _Znwm _Znam _ZdlPv _ZdaPv
""".split()

needs_nm = pytest.mark.skipif(shutil.which("nm") is None, reason="there is no nm here")


def nm(*arguments):
    """(name, type) of each symbol, without macOS's leading underscore."""
    done = subprocess.run(["nm", *map(str, arguments)], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        fields = line.split()
        if len(fields) >= 2 and len(fields[-2]) == 1:
            name = fields[-1].split("@")[0]
            yield name[1:] if MACOS else name, fields[-2]


@pytest.fixture(scope="module")
def mimalloc(tmp_path_factory):
    try:
        link = mimalloc_link.prepare(tmp_path_factory.mktemp("mimalloc"))
    except mimalloc_link.MimallocError as error:
        pytest.fail(str(error))
    if link.archive is None:
        pytest.skip("built with the system's mimalloc, which is a shared library")
    return link


@needs_nm
def test_H7_extension_exports_its_init_function_alone():
    dynamic = [] if MACOS else ["-D"]
    exported = {name for name, kind in nm(*dynamic, "-g", NATIVE) if kind not in "Uvw"}
    if _is_sanitized():
        exported = {n for n in exported if not n.startswith(("__asan", "__tsan", "__odr"))}
    assert exported == {"PyInit__native"}


@needs_nm
def test_H7_every_replacement_of_libc_names_is_local_to_the_extension():
    kinds = {}
    for name, kind in nm(NATIVE):
        kinds.setdefault(name, set()).add(kind)
    assert not {n: k for n, k in kinds.items() if n in REPLACED and k - set("Utwv")}
    # The engine's own allocations go to libc, so the name must be asked of it.
    assert "U" in kinds.get("free", set()), "free is not libc's"


@needs_nm
def test_H7_archive_offers_the_linker_nothing_but_mi_names(mimalloc):
    offered = {name for name, kind in nm("-g", mimalloc.archive) if kind not in "Uvw"}
    assert "mi_malloc" in offered
    assert not [name for name in offered if not name.startswith("mi_")]


def test_H7_code_linked_with_the_archive_keeps_libc_malloc(mimalloc, tmp_path):
    """A library that uses both heaps: what it gets from malloc must not be mimalloc's."""
    source, library = tmp_path / "both.c", tmp_path / "both.so"
    source.write_text(
        """
        #include <mimalloc.h>
        #include <stdlib.h>
        #include <string.h>
        char *strdup(const char *);
        int both(void)
        {
            void *blocks[4] = {malloc(100), calloc(10, 10), strdup("text"), mi_malloc(100)};
            int found = 0;
            for (int i = 0; i < 4; i++)
                found |= mi_is_in_heap_region(blocks[i]) << i;
            for (int i = 0; i < 3; i++)
                free(blocks[i]);
            mi_free(blocks[3]);
            return found;
        }
        """
    )
    command = [*mimalloc_link.compiler(), "-std=c11", "-shared", "-fPIC", *mimalloc.compile_args]
    subprocess.run([*command, source, *mimalloc.link_args, "-o", library], check=True)
    assert ctypes.CDLL(str(library)).both() == 0b1000


@pytest.mark.skipif(shutil.which("readelf") is None, reason="there is no readelf here")
def test_extension_is_hardened():
    """No function pointer of the linker's can be written, no overrun stack returns."""
    command = ["readelf", "--wide", "--program-headers", "--dynamic", NATIVE]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "GNU_RELRO" in shown
    assert re.search(r"BIND_NOW|FLAGS_1.*NOW", shown)
    assert re.search(r"GNU_STACK.* RW +0x", shown), "the stack is executable"
    if not _is_sanitized():
        assert "__stack_chk_fail" in {name for name, _ in nm(NATIVE)}


def test_native_is_an_extension_for_this_interpreter():
    assert isinstance(_native.__spec__.loader, importlib.machinery.ExtensionFileLoader)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    assert NATIVE.name == f"_native{suffix}"


def test_importing_leaves_the_gil_off():
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("a GIL build")
    code = "import sys, qsbrcontainers; assert not sys._is_gil_enabled()"
    # -W error: the interpreter warns when it turns the GIL on for a module.
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_version_is_stated_once():
    import qsbrcontainers

    assert qsbrcontainers.__version__ == importlib.metadata.version("qsbrcontainers")
    stated = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert qsbrcontainers.__version__ == stated[1]


def test_installed_files_include_types_and_licences():
    files = {str(f) for f in importlib.metadata.files("qsbrcontainers")}
    if not any("_native" in f for f in files):
        pytest.skip("an editable installation")
    assert "qsbrcontainers/py.typed" in files
    assert "qsbrcontainers/_native.pyi" in files
    names = {Path(f).name for f in files if ".dist-info/licenses/" in f}
    assert names == {"LICENSE", "LICENSE.mimalloc"}


def _is_sanitized():
    return any(name.startswith(("__asan", "__tsan", "__ubsan")) for name, _ in nm(NATIVE))


def test_a_build_for_free_threaded_3_13_stops_with_one_sentence():
    """As setup.py would there: the function that it calls with what the interpreter is."""
    text = (ROOT / "setup.py").read_text()
    start = text.index("def refuse(")
    scope = {}
    exec(text[start : text.index("def build_base(")], scope)
    with pytest.raises(SystemExit, match="^error: free-threaded CPython 3.13 .* newer.*GIL.$"):
        scope["refuse"]((3, 13, 1), True)
    scope["refuse"]((3, 13, 1), False)
    scope["refuse"]((3, 14, 0), True)


def test_the_sources_refuse_free_threaded_3_13(tmp_path):
    """The same for who compiles them without setup.py."""
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    macros = "#define PY_VERSION_HEX 0x030D0000\n#define Py_GIL_DISABLED 1\n"
    (tmp_path / "Python.h").write_text(macros)
    (tmp_path / "try.c").write_text('#include "py/py_try.h"\n')
    call = [*compiler, "-fsyntax-only", f"-I{tmp_path}", f"-I{ROOT / 'src'}", tmp_path / "try.c"]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode != 0 and "use 3.14t or newer" in done.stderr

"""Builds qsbrcontainers._native from src/. Everything else is in pyproject.toml.

Switches, all environment variables, all empty by default:

QSBRCONTAINERS_MIMALLOC=system      link the distribution's mimalloc (-lmimalloc) instead of
                                    the static one of the build requirement cmeel-mimalloc
QSBRCONTAINERS_NUMBERS=value|object keep exact ints and floats in the slot's word, or as
                                    objects (default: by value on free-threaded builds)
QSBRCONTAINERS_WERROR=1             -Wall -Wextra -Werror
QSBRCONTAINERS_DEBUG=1              assertions, poison, dangerous edges (QC_DEBUG); -O1 -g; at run
                                    time QSBRCONTAINERS_YIELD=N then sleeps at one in N of the
                                    published stores
QSBRCONTAINERS_SANITIZE=LIST        -fsanitize=LIST: "address,undefined" or "thread"; memory
                                    comes from libc then
QSBRCONTAINERS_FREES=at-once|later  with a GIL: when replaced memory is freed (default: at once,
                                    but later in debug and sanitizer builds)
QSBRCONTAINERS_COVERAGE=1           counts lines and branches for gcov, unoptimized
QSBRCONTAINERS_BREAK=NAME[,NAME]    defines QC_BREAK_NAME: a build that is broken on purpose,
                                    to see the race tests fail; never install one
"""

import hashlib
import os
import re
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import SetupError

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "build_support"))

import mimalloc_link  # noqa: E402

os.chdir(ROOT)

if sys.maxsize <= 2**32:
    raise SystemExit("error: qsbrcontainers needs a 64-bit interpreter.")


def switch(name, allowed=None):
    """The value of QSBRCONTAINERS_<name>; `allowed` is a pattern it has to match."""
    value = os.environ.get(f"QSBRCONTAINERS_{name}", "")
    if value and allowed and not re.fullmatch(allowed, value):
        raise SystemExit(f"error: QSBRCONTAINERS_{name} is {value!r}, not one of {allowed}.")
    return value


def compile_args():
    args = ["-std=c11", "-fvisibility=hidden", "-fstack-protector-strong"]
    if switch("WERROR", "0|1") == "1":
        args += ["-Wall", "-Wextra", "-Werror"]
    if switch("DEBUG", "0|1") == "1":
        args += ["-O1", "-g", "-UNDEBUG"]
    elif switch("COVERAGE", "0|1") == "1":
        # Threads count too; and processes that end here and there all add to one file.
        args += ["-O0", "-g", "--coverage", "-fprofile-update=atomic", "-fprofile-abs-path"]
        args += ["-DQC_COUNTING=1"]
    else:
        args += ["-O3"]
        if not sanitizers():  # which check the same, and more
            args += ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
    if sanitizers():
        args += [f"-fsanitize={sanitizers()}", "-fno-omit-frame-pointer", "-g"]
    return args


def link_args():
    args = [f"-fsanitize={sanitizers()}"] if sanitizers() else []
    if switch("COVERAGE") == "1":
        args += ["--coverage", "-Wl,--wrap=_Py_FatalErrorFunc"]  # see coverage_dump.c
    if sys.platform == "darwin":
        args += ["-Wl,-exported_symbol,_PyInit__native"]
    else:
        args += ["-Wl,-z,relro,-z,now"]
    return args


def macros():
    found = []
    numbers = switch("NUMBERS", "value|object")
    if numbers:
        found.append(("QC_NUMBERS_BY_VALUE", "1" if numbers == "value" else "0"))
    frees = switch("FREES", "at-once|later")
    if frees:
        found.append(("QC_FREES_AT_ONCE", "1" if frees == "at-once" else "0"))
    if switch("DEBUG") == "1":
        found.append(("QC_DEBUG", "1"))
    if sanitizers():
        # A sanitizer has to see every block: mimalloc hands freed memory on by atomics of its
        # own, which are not instrumented.
        found.append(("QC_HEAP_LIBC", "1"))
    for name in filter(None, switch("BREAK", r"\w+(,\w+)*").split(",")):
        found.append((f"QC_BREAK_{name.upper()}", "1"))
    return found


def sanitizers():
    return switch("SANITIZE", "address|undefined|address,undefined|thread")


def refuse(version, is_free_threaded):
    """Ends the build where the interpreter lacks what src/py/py_try.h needs."""
    if is_free_threaded and version < (3, 14):
        raise SystemExit(
            "error: free-threaded CPython 3.13 has no PyUnstable_TryIncRef(), which qsbrcontainers "
            "needs: use 3.14t or newer, or an interpreter with a GIL."
        )


def build_base():
    """A build directory for this interpreter and these switches alone.

    setuptools decides by file times whether to compile again: objects made with other
    switches must not be there to be found.
    """
    switches = sorted(i for i in os.environ.items() if i[0].startswith("QSBRCONTAINERS_"))
    made_with = repr((switches, os.environ.get("CC"), os.environ.get("CFLAGS")))
    tag = f"{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')}"
    return f"build/{tag}-{hashlib.sha256(made_with.encode()).hexdigest()[:8]}"


class BuildExt(build_ext):
    def build_extension(self, ext):
        try:
            link = mimalloc_link.prepare(Path(self.build_temp) / "mimalloc")
        except mimalloc_link.MimallocError as error:
            raise SetupError(str(error)) from None
        ext.extra_compile_args += link.compile_args
        ext.extra_link_args += link.link_args
        super().build_extension(ext)


refuse(sys.version_info, bool(sysconfig.get_config_var("Py_GIL_DISABLED")))

if sys.platform == "darwin":
    # The static library is for one architecture; a universal interpreter would ask for two.
    os.environ.setdefault("ARCHFLAGS", f"-arch {os.uname().machine}")

HEADERS = ["src", "qsbrcontainers/include"]
sources = [path for path in Path("src").rglob("*.c") if not path.name.startswith("_test")]
if switch("COVERAGE") == "1":
    sources.append(Path("build_support/coverage_dump.c"))
native = Extension(
    "qsbrcontainers._native",
    sources=sorted(map(str, sources)),
    depends=["setup.py", *sorted(str(p) for d in HEADERS for p in Path(d).rglob("*.h"))],
    include_dirs=HEADERS,
    define_macros=macros(),
    extra_compile_args=compile_args(),
    extra_link_args=link_args(),
)

setup(
    ext_modules=[native],
    cmdclass={"build_ext": BuildExt},
    options={"build": {"build_base": build_base()}},
)

"""Compiles the extensions in tests/capi/extensions against the installed package's header.

QC_CAPI_CFLAGS is added to the compiler's arguments (sanitizers, by hand). Debug builds have tiny
limits, which test_capi_engine.py counts against: give them QSBRCONTAINERS_BATCH_BLOCKS=127 and
QSBRCONTAINERS_BATCH_BYTES=1048576 there.
"""

import importlib.machinery
import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import qsbrcontainers

EXTENSIONS = Path(__file__).parent / "extensions"
SOURCES = {
    "chain": ["chain.c"],
    "foreign": ["foreign.c"],
    "probe": ["probe.c", "probe_containers.c"],
}
C11 = ["-std=c11"]
CXX17 = ["-x", "c++", "-std=c++17"]


def compiler():
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def compile_extension(folder, name, sources, *arguments, command=None, language=C11):
    """Builds `name` from `sources` into `folder`, with warnings as errors."""
    target = Path(folder) / (name + sysconfig.get_config_var("EXT_SUFFIX"))
    call = [*(command or compiler()), *language, "-O2", "-g", "-fPIC"]
    call += ["-Wall", "-Wextra", "-Werror", *arguments]
    call += [f"-I{qsbrcontainers.get_include()}", "-isystem", sysconfig.get_path("include")]
    call += shlex.split(os.environ.get("QC_CAPI_CFLAGS", ""))
    call += ["-shared"] if sys.platform != "darwin" else ["-bundle", "-undefined", "dynamic_lookup"]
    call += [*map(str, sources), "-o", str(target)]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(call)}\n{done.stderr}"
    assert not done.stderr.strip(), done.stderr
    return target


def build(folder, name, *arguments, **options):
    sources = [EXTENSIONS / source for source in SOURCES[name]]
    return compile_extension(folder, name, sources, *arguments, **options)


def load(path):
    name = Path(path).name.partition(".")[0]
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module

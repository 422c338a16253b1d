"""Where mimalloc comes from, and how it is linked so that no other heap is touched (H7).

Used by setup.py, by the build backend and by the C programs in tests/engine:

    python build_support/mimalloc_link.py requirements
    python build_support/mimalloc_link.py flags WORK_DIR

The first prints what to install before building, a line each (possibly nothing); the
second two lines, the flags to compile and the arguments to link with.

The static library is built to replace malloc: besides its `mi_` functions it defines
`malloc`, `free`, `strdup`, `__libc_malloc`, operator new and others. Linked as it is,
those of our objects that call `free` on memory of libc's would get mimalloc's. So its
objects are first joined into one, where their references to each other are settled,
and then everything but `mi_*` is made local; the result goes into an archive of its own
in WORK_DIR. What remains visible to the linker is `mi_*`, and the flags below keep that
inside the extension.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

# 3.x: heaps that any thread may use. The upper bound is there because the archive's
# content is what localize() was tried against.
REQUIREMENT = "cmeel-mimalloc>=3.4,<3.5"
DISTRIBUTION = "cmeel-mimalloc"

# The one object that replaces the process's default zone on macOS, in a constructor:
# making names local would not stop it, and nothing else refers to it.
MACOS_OVERRIDE = "alloc-override-zone.c.o"

NOT_FOUND = (
    "qsbrcontainers needs mimalloc to build: install the Python package"
    f' "{REQUIREMENT}" (pip does it by itself unless build isolation is off),'
    " or install your distribution's mimalloc with its headers (libmimalloc-dev,"
    " mimalloc-devel, mimalloc) and set QSBRCONTAINERS_MIMALLOC=system."
)


class MimallocError(Exception):
    """mimalloc is not to be had; the text says what to install."""


class Link(NamedTuple):
    compile_args: list[str]
    link_args: list[str]  # the archive included; goes after the objects
    archive: Path | None  # None for the system's library


def wants_system() -> bool:
    """Whether the distribution's library is asked for, or the only one there can be."""
    choice = os.environ.get("QSBRCONTAINERS_MIMALLOC", "")
    if choice not in ("", "system"):
        raise MimallocError(f"QSBRCONTAINERS_MIMALLOC is {choice!r}; it can only be 'system'.")
    return choice == "system" or not _has_wheel()


def _has_wheel() -> bool:
    if sys.platform == "darwin":
        return platform.machine() in ("x86_64", "arm64")
    # get_platform() and not machine(): a 32-bit Python may run on a 64-bit kernel.
    return (
        sysconfig.get_platform() in ("linux-x86_64", "linux-aarch64")
        and platform.libc_ver()[0] == "glibc"
    )


def requirements() -> list[str]:
    return [] if wants_system() else [REQUIREMENT]


def prepare(work_dir: str | os.PathLike[str]) -> Link:
    """Gives flags for mimalloc, after making the localized archive in work_dir."""
    work = Path(work_dir).resolve()
    work.mkdir(parents=True, exist_ok=True)
    if wants_system():
        return _system(work)
    header, library = _packaged()
    archive = work / "libqc_mimalloc.a"
    _localize(library, archive)
    if sys.platform == "darwin":
        link_args = [str(archive)]
    else:
        link_args = [str(archive), "-Wl,--exclude-libs,ALL", "-pthread"]
    return Link([f"-isystem{header.parent}", "-DQC_MIMALLOC_OWN=1"], link_args, archive)


def _packaged() -> tuple[Path, Path]:
    """The wheel's header and static library."""
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        raise MimallocError(NOT_FOUND) from None
    found = {f.name: Path(str(f.locate())).resolve() for f in files}
    try:
        return found["mimalloc.h"], found["libmimalloc.a"]
    except KeyError as missing:
        raise MimallocError(f"{DISTRIBUTION} has no {missing}. {NOT_FOUND}") from None


def _localize(library: Path, archive: Path) -> None:
    """Makes `archive` of `library`, with nothing global but mi_*."""
    merged = archive.with_suffix(".o")
    archive.unlink(missing_ok=True)  # `ar r` would add to an older one
    if sys.platform == "darwin":
        members = archive.with_suffix(".members")
        shutil.rmtree(members, ignore_errors=True)
        members.mkdir()
        _call(["ar", "x", str(library)], cwd=members)
        objects = [str(o) for o in sorted(members.glob("*.o")) if o.name != MACOS_OVERRIDE]
        # With -r, ld makes what is not exported static (see -keep_private_externs).
        cc = [*compiler(), "-arch", platform.machine(), "-r", "-nostdlib"]
        _call([*cc, "-Wl,-exported_symbol,_mi_*", *objects, "-o", str(merged)])
    else:
        linker = os.environ.get("LD") or "ld"
        objcopy = shutil.which("objcopy") or shutil.which("llvm-objcopy") or "objcopy"
        whole = ["--whole-archive", str(library)]
        _call([*shlex.split(linker), "-r", *whole, "-o", str(merged)])
        _call([objcopy, "--wildcard", "--keep-global-symbol=mi_*", str(merged)])
    _call(["ar", "rcs", str(archive), str(merged)])


def _system(work: Path) -> Link:
    probe = work / "mimalloc_probe.c"
    probe.write_text("#include <mimalloc.h>\nint main(void) { return mi_version() == 0; }\n")
    command = [*compiler(), str(probe), "-o", str(work / "mimalloc_probe"), "-lmimalloc"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise MimallocError(f"qsbrcontainers needs a C compiler: install {command[0]}.") from None
    if done.returncode != 0:
        raise MimallocError(NOT_FOUND)
    return Link([], ["-lmimalloc"], None)


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def _call(command: list[str], cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    except FileNotFoundError:
        raise MimallocError(
            f"qsbrcontainers needs {command[0]!r} to build: install the C compiler's"
            " tools (binutils, or the command line tools on macOS)."
        ) from None
    if done.returncode != 0:
        raise MimallocError(f"{shlex.join(command)} failed: {done.stderr.strip()}")


def main(arguments: list[str]) -> None:
    try:
        if arguments == ["requirements"]:
            print("".join(line + "\n" for line in requirements()), end="")
        elif len(arguments) == 2 and arguments[0] == "flags":
            link = prepare(arguments[1])
            print(shlex.join(link.compile_args))
            print(shlex.join(link.link_args))
        else:
            sys.exit(__doc__)
    except MimallocError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])

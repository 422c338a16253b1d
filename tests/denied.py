"""For scripts of their own in which the kernel refuses membarrier from some point on."""

import platform
import sys

import pytest
from support import run_script

# A seccomp filter by which the process's membarrier fails from here on. The numbers are the
# kernel's ABI: the audit architecture, and membarrier in its table of system calls.
MACHINES = {"x86_64": (0xC000003E, 324), "aarch64": (0xC00000B7, 283)}
NO_FILTERS = "no seccomp filters here"

DENY = """
import ctypes, errno, os, struct

def deny_membarrier(error, arch={arch}, number={number}):
    load, equal, answer = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    allow, refuse = 0x7FFF0000, 0x00050000 | error  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
    program = [
        (load, 0, 0, 4), (equal, 0, 3, arch),
        (load, 0, 0, 0), (equal, 0, 1, number),
        (answer, 0, 0, refuse), (answer, 0, 0, allow),
    ]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HP", len(program), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privs, set_seccomp, filter_mode = 38, 22, 2
    # TSYNC is not asked for: what other threads do is filtered from their start.
    if (libc.prctl(no_new_privs, 1, 0, 0, 0) != 0
            or libc.prctl(set_seccomp, filter_mode, ctypes.c_char_p(header), 0, 0) != 0):
        print({no_filters!r})
        os._exit(0)
    assert libc.syscall(number, 0, 0, 0) == -1 and ctypes.get_errno() == error
"""


def script(*parts):
    """The parts as one script, which may call deny_membarrier(error number)."""
    arch, number = MACHINES.get(platform.machine(), (0, 0))
    deny = DENY.format(arch=arch, number=number, no_filters=NO_FILTERS)
    return "\n".join([deny, *parts])


def run_filtered(*parts, arguments=(), **environment):
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        pytest.skip("there is no filter for this system")
    said = run_script(script(*parts), *arguments, **environment)
    if said == NO_FILTERS:
        pytest.skip(said)
    return said

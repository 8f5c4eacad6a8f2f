"""The seccomp programs, run by a small BPF interpreter: both architectures are checked on any machine."""

from __future__ import annotations

import struct

import pytest

from rstar_eval.solver.executor.cage import seccomp

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, EPERM, KILL = seccomp.ALLOW, seccomp.EPERM, seccomp.KILL


def decide(program: bytes, arch: int, number: int, *args: int) -> int:
    """Interpret a filter on one call; returns the action."""
    values = [*args, *[0] * (6 - len(args))]
    data = struct.pack(
        "=iIQ6Q", number - (1 << 32) if number >> 31 else number, arch, 0, *(a & (1 << 64) - 1 for a in values)
    )
    position = accumulator = 0
    while True:
        code, true, false, k = struct.unpack_from("HBBI", program, position * 8)
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif code == 0x06:
            return k
        else:
            holds = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[code]
            position += true if holds else false


NUMBERS = {
    "x86_64": {"read": 0, "openat": 257, "open": 2, "socket": 41, "clone": 56, "clone3": 435, "fork": 57, "execve": 59,
               "kill": 62, "ptrace": 101, "mmap": 9, "ioctl": 16, "fcntl": 72, "prlimit64": 302, "io_uring_setup": 425,
               "openat2": 437, "memfd_create": 319, "sendmsg": 46, "write": 1, "unshare": 272, "bpf": 321, "prctl": 157,
               "exit_group": 231, "rename": 82, "seccomp": 317},
    "aarch64": {"read": 63, "openat": 56, "socket": 198, "clone": 220, "clone3": 435, "execve": 221, "kill": 129,
                "ptrace": 117, "mmap": 222, "ioctl": 29, "fcntl": 25, "prlimit64": 261, "io_uring_setup": 425,
                "openat2": 437, "memfd_create": 279, "sendmsg": 211, "write": 64, "unshare": 97, "bpf": 280,
                "prctl": 167, "exit_group": 94, "renameat": 38, "seccomp": 277},
}  # fmt: skip
DENIED = (
    "socket clone fork execve kill ptrace io_uring_setup memfd_create sendmsg unshare bpf prctl rename renameat seccomp"
)
O_PATH, O_TMPFILE = 0o10000000, 0o20000000


@pytest.mark.parametrize("machine", ARCH)
def test_a_worker_may_compute_and_nothing_else(machine: str) -> None:
    program, numbers, arch = seccomp.program("worker", machine=machine), NUMBERS[machine], ARCH[machine]
    for name in ("read", "write", "exit_group"):
        assert decide(program, arch, numbers[name]) == ALLOW
    for name in DENIED.split():
        if name in numbers:
            assert decide(program, arch, numbers[name], 17) == EPERM, name
    assert decide(program, arch, numbers["clone3"]) == seccomp.ENOSYS
    assert decide(program, arch, numbers["openat2"]) == seccomp.ENOSYS


@pytest.mark.parametrize("machine", ARCH)
@pytest.mark.parametrize("role", ["worker", "zygote"])
def test_files_open_for_reading_only(machine: str, role: seccomp.Role) -> None:
    program, numbers, arch = seccomp.program(role, machine=machine), NUMBERS[machine], ARCH[machine]
    for flags in (0, 0o2000000, 0o100000):
        assert decide(program, arch, numbers["openat"], -100, 0, flags) == ALLOW
    for flags in (1, 2, 0o100, 0o1000, 0o2000, O_PATH, O_TMPFILE | 2, 0o101):
        assert decide(program, arch, numbers["openat"], -100, 0, flags) == EPERM, oct(flags)
        if "open" in numbers:
            assert decide(program, arch, numbers["open"], 0, flags) == EPERM


@pytest.mark.parametrize("machine", ARCH)
def test_without_opens_no_file_can_be_opened(machine: str) -> None:
    program = seccomp.program("worker", machine=machine, opens=False)
    assert decide(program, ARCH[machine], NUMBERS[machine]["openat"], -100, 0, 0) == EPERM


@pytest.mark.parametrize("machine", ARCH)
def test_a_foreign_architecture_is_killed(machine: str) -> None:
    program = seccomp.program("worker", machine=machine)
    for arch in (0x40000003, 0xC000003E, 0xC00000B7, 0x40000028):
        if arch != ARCH[machine]:
            assert decide(program, arch, NUMBERS[machine]["read"]) == KILL


def test_the_x32_entry_is_killed() -> None:
    assert decide(seccomp.program("worker", machine="x86_64"), ARCH["x86_64"], 0x40000000 | 39) == KILL


@pytest.mark.parametrize("machine", ARCH)
def test_limits_can_be_read_and_not_set(machine: str) -> None:
    program, number, arch = seccomp.program("worker", machine=machine), NUMBERS[machine]["prlimit64"], ARCH[machine]
    assert decide(program, arch, number, 0, 7, 0, 0x1234) == ALLOW
    assert decide(program, arch, number, 0, 7, 0x1234, 0) == EPERM
    assert decide(program, arch, number, 0, 7, 1 << 40, 0) == EPERM
    assert decide(program, arch, number, 99, 7, 0, 0) == EPERM


@pytest.mark.parametrize("machine", ARCH)
def test_the_zygote_can_fork_and_not_make_namespaces(machine: str) -> None:
    program, number, arch = seccomp.program("zygote", machine=machine), NUMBERS[machine]["clone"], ARCH[machine]
    assert decide(program, arch, number, 0x01200011) == ALLOW
    for flag in (0x10000000, 0x00020000, 0x40000000, 0x00000100, 0x00010000):
        assert decide(program, arch, number, 0x11 | flag) == EPERM
    for name in ("socket", "execve", "unshare", "ptrace", "bpf"):
        assert decide(program, arch, NUMBERS[machine][name]) == EPERM


@pytest.mark.parametrize("machine", ARCH)
def test_an_observed_worker_is_denied_the_same(machine: str) -> None:
    plain, observed = seccomp.program("worker", machine=machine), seccomp.program("observed", machine=machine)
    seal, arch = seccomp.seal(machine), ARCH[machine]
    for number in range(470):
        for first in (0, 1, 17):
            expected = decide(plain, arch, number, first)
            got = decide(observed, arch, number, first)
            if expected == EPERM:
                assert got == seccomp.NOTIFY or decide(seal, arch, number, first) == EPERM
            else:
                assert got == expected
                assert decide(seal, arch, number, first) == ALLOW


def test_an_unknown_architecture_has_no_program() -> None:
    with pytest.raises(OSError, match="table"):
        seccomp.program("worker", machine="riscv64")

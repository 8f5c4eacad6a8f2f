"""Linux calls that the standard library lacks, by ctypes: namespaces, mounts, capabilities, prctl, Landlock.

Every function that the cage rests on raises OSError with the kernel's errno when the call fails; none falls back.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct

_libc = ctypes.CDLL(None, use_errno=True)
MACHINE = platform.machine()

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1, 2, 4, 8, 32, 4096, 16384, 1 << 18,
)  # fmt: skip
MNT_DETACH = 2
MADV_COLLAPSE = 25

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 1, 4, 24, 38, 39
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

SYSCALLS = {
    "x86_64": {"pivot_root": 155, "capset": 126, "capget": 125, "seccomp": 317},
    "aarch64": {"pivot_root": 41, "capset": 91, "capget": 90, "seccomp": 277},
}
# The Landlock calls have the same numbers on every architecture.
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_READ = (1 << 2) | (1 << 3)  # read a file, list a folder


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, what: str, *args: object) -> int:
    """Make one raw system call; OSError named `what` if it fails."""
    return _check(int(_libc.syscall(ctypes.c_long(number), *args)), what)


def native(name: str) -> int:
    """Return this machine's number of a call in `SYSCALLS`; OSError (ENOSYS) on an architecture without a table."""
    if MACHINE not in SYSCALLS:
        raise OSError(38, f"no system call table for {MACHINE}")
    return SYSCALLS[MACHINE][name]


def prctl(option: int, *values: int) -> int:
    """Call prctl with unsigned long arguments."""
    args = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    return _check(int(_libc.prctl(ctypes.c_int(option), *args)), f"prctl({option})")


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags`."""
    _check(int(_libc.unshare(ctypes.c_int(flags))), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Mount `source` on `target`."""

    def encoded(text: str | None) -> bytes | None:
        return None if text is None else os.fsencode(text)

    result = _libc.mount(encoded(source), encoded(target), encoded(kind), ctypes.c_ulong(flags), encoded(data))
    _check(int(result), f"mount {target}")


def pivot_into(root: str) -> None:
    """Make the mount point `root` the root of this process's mount namespace and detach the old one."""
    os.chdir(root)
    dot = ctypes.c_char_p(b".")
    syscall(native("pivot_root"), "pivot_root", dot, dot)
    _check(int(_libc.umount2(dot, ctypes.c_int(MNT_DETACH))), "umount2")
    os.chdir("/")


def drop_capabilities() -> None:
    """Empty the bounding, ambient, inheritable, permitted and effective capability sets of this process."""
    for number in range(64):
        try:
            prctl(PR_CAPBSET_DROP, number)
        except OSError as error:
            # EINVAL: past the last capability. EPERM: without CAP_SETPCAP; the sets below are emptied all the same,
            # and no_new_privs keeps the bounding set from ever being used.
            if error.errno not in (1, 22):
                raise
    try:
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    except OSError as error:
        if error.errno != 22:  # kernels before 4.3 have no ambient set
            raise
    header = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
    syscall(native("capset"), "capset", header, ctypes.create_string_buffer(24))


def capabilities() -> int:
    """Return the union of this process's effective, permitted and inheritable capabilities as a bit mask."""
    header = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
    data = ctypes.create_string_buffer(24)
    syscall(native("capget"), "capget", header, data)
    low_e, low_p, low_i, high_e, high_p, high_i = struct.unpack("6I", data.raw[:24])
    return int(low_e | low_p | low_i | (high_e | high_p | high_i) << 32)


def landlock_abi() -> int:
    """Return the kernel's Landlock ABI version; OSError where there is none (ENOSYS) or it is off (EOPNOTSUPP)."""
    return syscall(_LANDLOCK_CREATE, "landlock_create_ruleset", None, ctypes.c_size_t(0), ctypes.c_uint32(1))


def landlock_restrict(readable: list[str]) -> int:
    """Allow this process and its children to read beneath the paths `readable`, and nothing else of a file system.

    TCP bind and connect, abstract Unix sockets and signals to outside are denied too where the kernel's ABI has them.
    Needs no_new_privs. Returns the ABI used. A path that is missing raises.
    """
    abi = landlock_abi()
    filesystem = (1 << 13) - 1 | (1 << 13 if abi >= 2 else 0) | (1 << 14 if abi >= 3 else 0)
    filesystem |= 1 << 15 if abi >= 5 else 0
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    attributes = struct.pack("QQQ", filesystem, 3, 3)[:size]
    ruleset = syscall(
        _LANDLOCK_CREATE,
        "landlock_create_ruleset",
        ctypes.c_char_p(attributes),
        ctypes.c_size_t(size),
        ctypes.c_uint32(0),
    )
    try:
        for path in readable:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rights = _LANDLOCK_READ if os.path.isdir(path) else 1 << 2
                rule = ctypes.c_char_p(struct.pack("=Qi", rights, handle))
                syscall(
                    _LANDLOCK_ADD, "landlock_add_rule", ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint32(0)
                )
            finally:
                os.close(handle)
        syscall(_LANDLOCK_RESTRICT, "landlock_restrict_self", ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)
    return abi


def set_limit(which: int, value: int) -> None:
    """Set both the soft and the hard value of a resource limit, never above the hard value in force."""
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def use_large_pages() -> int:
    """Have the kernel move this process's private memory into pages of 2 MiB; returns how many it made.

    A fork then copies 500 times fewer page table entries. This is speed only: a kernel that cannot (before 6.1) or
    finds no room leaves the memory as it is.
    """
    size, made = 1 << 21, 0
    with open("/proc/self/maps") as file:
        lines = file.read().splitlines()
    for line in lines:
        place, rights, _, _, inode, *name = line.split()
        if not rights.startswith("rw-p") or inode != "0" or (name and name[0] != "[heap]"):
            continue
        start, end = (int(part, 16) for part in place.split("-"))
        for at in range((start + size - 1) // size * size, end // size * size, size):
            made += _libc.madvise(ctypes.c_void_p(at), ctypes.c_size_t(size), ctypes.c_int(MADV_COLLAPSE)) == 0
    return made

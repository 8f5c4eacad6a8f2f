"""System call filters: an allow-list compiled to BPF, one for the zygote and a tighter one for workers.

What is not listed fails with EPERM (with ENOSYS for two calls that the C library replaces by older ones); a call made
through a foreign architecture's entry kills the process. Numbers: the kernel's tables for x86_64 and aarch64.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Literal

from . import linux

Role = Literal["zygote", "worker", "observed"]

ALLOW, KILL, NOTIFY = 0x7FFF0000, 0x80000000, 0x7FC00000
EPERM, ENOSYS = 0x00050000 | 1, 0x00050000 | 38
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64); -1 where the architecture lacks the call.
_PLAIN = {
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67), "close": (3, 57),
    "stat": (4, -1), "fstat": (5, 80), "lstat": (6, -1), "newfstatat": (262, 79), "statx": (332, 291),
    "access": (21, -1), "faccessat": (269, 48), "faccessat2": (439, 439), "lseek": (8, 62), "getdents64": (217, 61),
    "getcwd": (79, 17), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216), "brk": (12, 214),
    "madvise": (28, 233), "futex": (202, 98), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "sigaltstack": (131, 132), "restart_syscall": (219, 128), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "getcpu": (309, 168), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "nanosleep": (35, 101), "gettimeofday": (96, 169), "time": (201, -1),
    "getrandom": (318, 278), "poll": (7, -1), "ppoll": (271, 73), "select": (23, -1), "pselect6": (270, 72),
    "getrusage": (98, 165), "times": (100, 153), "getrlimit": (97, 163), "uname": (63, 160), "getpid": (39, 172),
    "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176),
    "getegid": (108, 177), "setitimer": (38, 103), "alarm": (37, -1),
    "dup": (32, 23), "dup2": (33, -1), "dup3": (292, 24), "recvfrom": (45, 207), "sendto": (44, 206),
    "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
_ZYGOTE = {
    "wait4": (61, 260), "waitid": (247, 95), "kill": (62, 129), "prctl": (157, 167), "seccomp": (317, 277),
    "setrlimit": (160, 164), "prlimit64": (302, 261), "sendmsg": (46, 211), "recvmsg": (47, 212),
    "close_range": (436, 436), "set_robust_list": (273, 99), "rseq": (334, 293),
    "set_tid_address": (218, 96), "getsockopt": (55, 209), "setsockopt": (54, 208), "socketpair": (53, 199),
}  # fmt: skip
_HAND_OVER = {"sendmsg": (46, 211), "seccomp": (317, 277)}
_LISTEN = (0xC0502100, 0xC0182101)  # receive and answer a report of a denied call
_CLONE, _CLONE3, _OPENAT2 = (56, 220), (435, 435), (437, 437)
_OPEN, _OPENAT, _IOCTL, _FCNTL, _MMAP, _PRLIMIT = (2, -1), (257, 56), (16, 29), (72, 25), (9, 222), (302, 261)
# write-only, read-write, create, truncate, append, path-only handles, nameless temporary files
_OPEN_WRITES = 0x1 | 0x2 | 0x40 | 0x200 | 0x400 | 0x200000 | 0x400000
_IOCTLS = (0x5401, 0x5413, 0x5421, 0x5450, 0x5451)  # is it a terminal, its size, (non-)blocking, close-on-exec
_FCNTLS = (0, 1, 2, 3, 4, 1030)  # duplicate, get and set descriptor and status flags: no locks, leases, owners
_MAP_HUGETLB = 0x40000
_FORK_FLAGS = 0x01200000 | 0xFF  # what the C library's fork sets; no namespace, thread or vfork flag

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def _op(code: int, k: int, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("HBBI", code, true, false, k)


def _argument(index: int, high: bool = False) -> bytes:
    return _op(_LOAD, 16 + 8 * index + (4 if high else 0))


def _when(number: int, block: bytes) -> bytes:
    """Run `block` (which always returns) if the call is `number`. The call's number stays loaded otherwise."""
    return _op(_EQUAL, number, 0, len(block) // 8) + block


def _none_of(index: int, mask: int, deny: int) -> bytes:
    return _argument(index) + _op(_ANY_BIT, mask, 0, 1) + _op(_RETURN, deny) + _op(_RETURN, ALLOW)


def _one_of(index: int, values: tuple[int, ...], deny: int) -> bytes:
    block = _argument(index)
    for value in values:
        block += _op(_EQUAL, value, 0, 1) + _op(_RETURN, ALLOW)
    return block + _op(_RETURN, deny)


def _is_zero(indices: tuple[int, ...], deny: int) -> bytes:
    block = b""
    for index in indices:
        for high in (False, True):
            block += _argument(index, high) + _op(_EQUAL, 0, 1, 0) + _op(_RETURN, deny)
    return block + _op(_RETURN, ALLOW)


def program(role: Role, *, machine: str = linux.MACHINE, opens: bool = True) -> bytes:
    """Return the BPF program of a role. Without `opens`, no file can be opened at all.

    "observed" is "worker" with denials reported to a listener instead of failing at once; it leaves open the two calls
    that handing over the listener takes, which `seal` closes.

    OSError (ENOSYS) on an architecture without a table.
    """
    if machine not in _AUDIT_ARCH:
        raise OSError(38, f"no system call table for {machine}")
    column = 0 if machine == "x86_64" else 1
    deny = NOTIFY if role == "observed" else EPERM
    code = _op(_LOAD, 4) + _op(_EQUAL, _AUDIT_ARCH[machine], 1, 0) + _op(_RETURN, KILL) + _op(_LOAD, 0)
    if machine == "x86_64":  # the x32 entry: same architecture mark, numbers from 2^30
        code += _op(_AT_LEAST, 0x40000000, 0, 1) + _op(_RETURN, KILL)
    rules = [
        (_OPEN, _none_of(1, _OPEN_WRITES, deny) if opens else _op(_RETURN, deny)),
        (_OPENAT, _none_of(2, _OPEN_WRITES, deny) if opens else _op(_RETURN, deny)),
        (_IOCTL, _one_of(1, _IOCTLS + (_LISTEN if role == "zygote" else ()), deny)),
        (_FCNTL, _one_of(1, _FCNTLS, deny)),
        (_MMAP, _none_of(3, _MAP_HUGETLB, deny)),
        (_CLONE3, _op(_RETURN, ENOSYS)),
        (_OPENAT2, _op(_RETURN, ENOSYS)),
    ]
    names = dict(_PLAIN)
    if role == "zygote":
        names |= _ZYGOTE
        rules.append((_CLONE, _none_of(0, 0xFFFFFFFF & ~_FORK_FLAGS, deny)))
    else:
        names |= _HAND_OVER if role == "observed" else {}
        rules.append((_PRLIMIT, _is_zero((0, 2), deny)))
    for numbers in names.values():
        if numbers[column] >= 0:
            code += _when(numbers[column], _op(_RETURN, ALLOW))
    for numbers, block in rules:
        if numbers[column] >= 0:
            code += _when(numbers[column], block)
    return code + _op(_RETURN, deny)


def seal(machine: str = linux.MACHINE) -> bytes:
    """Return the program that closes what the "observed" role left open."""
    column = 0 if machine == "x86_64" else 1
    code = _op(_LOAD, 0)
    for numbers in _HAND_OVER.values():
        code += _when(numbers[column], _op(_RETURN, EPERM))
    return code + _op(_RETURN, ALLOW)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install(code: bytes, *, listener: bool = False) -> int:
    """Put the calling thread under a filter, for good. Needs no_new_privs.

    Returns 0, or with `listener` the descriptor on which denials of an "observed" program arrive. OSError if the kernel
    refuses.
    """
    buffer = ctypes.create_string_buffer(code, len(code))
    filters = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    flags = 1 << 3 if listener else 0
    return linux.syscall(
        linux.native("seccomp"), "seccomp", ctypes.c_uint(1), ctypes.c_uint(flags), ctypes.byref(filters)
    )


def name_of(number: int, machine: str = linux.MACHINE) -> str:
    """Return a readable name of a denied system call, or "syscall N"."""
    return _DENIED.get(machine, {}).get(number, f"syscall {number}")


_DENIED = {
    "x86_64": {
        2: "open for writing", 257: "open for writing", 16: "ioctl", 72: "fcntl", 9: "mmap", 302: "prlimit64",
        22: "pipe", 293: "pipe2", 29: "shmget", 41: "socket", 42: "connect",
        43: "accept", 46: "sendmsg", 47: "recvmsg", 49: "bind", 50: "listen", 53: "socketpair", 54: "setsockopt",
        56: "clone", 57: "fork", 58: "vfork", 59: "execve", 322: "execveat", 62: "kill", 200: "tkill", 234: "tgkill",
        76: "truncate", 77: "ftruncate", 82: "rename", 264: "renameat", 316: "renameat2", 83: "mkdir", 258: "mkdirat",
        84: "rmdir", 85: "creat", 86: "link", 265: "linkat", 87: "unlink", 263: "unlinkat", 88: "symlink",
        266: "symlinkat", 89: "readlink", 267: "readlinkat", 90: "chmod", 91: "fchmod", 268: "fchmodat", 92: "chown",
        133: "mknod", 259: "mknodat", 101: "ptrace", 310: "process_vm_readv", 311: "process_vm_writev", 157: "prctl",
        160: "setrlimit", 141: "setpriority", 165: "mount", 166: "umount2", 155: "pivot_root", 161: "chroot",
        272: "unshare", 308: "setns", 317: "seccomp", 319: "memfd_create", 321: "bpf", 323: "userfaultfd",
        298: "perf_event_open", 248: "add_key", 249: "request_key", 250: "keyctl", 425: "io_uring_setup",
        434: "pidfd_open", 438: "pidfd_getfd", 424: "pidfd_send_signal", 99: "sysinfo",
        80: "chdir", 81: "fchdir", 13: "rt_sigaction", 203: "sched_setaffinity", 149: "mlock", 151: "mlockall",
        105: "setuid", 106: "setgid", 117: "setresuid", 112: "setsid", 109: "setpgid", 235: "utimes", 280: "utimensat",
        213: "epoll_create", 291: "epoll_create1", 290: "eventfd2", 283: "timerfd_create", 222: "timer_create",
        253: "inotify_init", 294: "inotify_init1", 135: "personality", 61: "wait4", 247: "waitid", 68: "msgget",
        64: "semget", 240: "mq_open", 444: "landlock_create_ruleset", 73: "flock", 285: "fallocate", 18: "pwrite64",
    },
    "aarch64": {
        56: "open for writing", 29: "ioctl", 25: "fcntl", 198: "socket", 203: "connect", 220: "clone", 221: "execve",
        129: "kill", 131: "tgkill", 117: "ptrace", 167: "prctl", 35: "unlinkat", 38: "renameat", 52: "fchmod",
        53: "fchmodat", 45: "truncate", 46: "ftruncate", 34: "mkdirat", 270: "process_vm_readv", 279: "memfd_create",
        280: "bpf", 282: "userfaultfd", 425: "io_uring_setup", 219: "keyctl", 434: "pidfd_open", 438: "pidfd_getfd",
        97: "unshare", 40: "mount", 78: "readlinkat", 59: "pipe2",
    },
}  # fmt: skip

"""Checks of the cage by effect: each does what an attacker would and demands that it fails the right way.

A check that finds its layer missing raises `LayerError`; it never repairs, never continues.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import socket
from collections.abc import Callable
from typing import NoReturn

from . import linux
from .confine import LANDLOCK_PROBE, NAMESPACES, LayerError


def expect(layer: str, what: str, act: Callable[[], object], allowed: tuple[int, ...]) -> None:
    """Demand that `act` fails with one of the errno values `allowed`; LayerError otherwise."""
    try:
        act()
    except OSError as error:
        if error.errno not in allowed:
            raise LayerError(layer, f"{what} failed with {error} and should have been denied") from None
        return
    raise LayerError(layer, f"{what} was possible")


def namespaces_differ(outside: dict[str, str]) -> None:
    """Demand that this process is in other namespaces than the harness, and that no network can be reached."""
    for name in NAMESPACES:
        if not outside.get(name) or os.readlink(f"/proc/self/ns/{name}") == outside[name]:
            raise LayerError("namespaces", f"the {name} namespace is the harness's")

    def connect() -> None:
        with socket.socket() as sock:
            sock.settimeout(2)
            sock.connect(("127.0.0.1", 9))

    expect("namespaces", "reaching the network", connect, (errno.ENETUNREACH, errno.EADDRNOTAVAIL))


def root_is_ours(names: list[str]) -> None:
    """Demand that the top folder holds only what was put there, that it is read-only, and no /proc, /etc, /dev."""
    found = sorted(os.listdir("/"))
    if found != names:
        raise LayerError("root", f"the root holds {found}, not {names}")
    for path in ("/proc/self", "/etc/passwd", "/dev/null", "/sys/kernel"):
        if os.path.exists(path):
            raise LayerError("root", f"{path} is there")
    expect("root", "writing to the root", lambda: os.mkdir("/x"), (errno.EROFS, errno.EACCES))


def rights_are_gone() -> None:
    """Demand empty capability sets, no_new_privs, and that root's acts fail."""
    if linux.capabilities():
        raise LayerError("rights", f"capabilities {linux.capabilities():#x} are left")
    if linux.prctl(linux.PR_GET_NO_NEW_PRIVS) != 1:
        raise LayerError("rights", "no_new_privs is off")
    expect("rights", "chroot", lambda: os.chroot("/"), (errno.EPERM, errno.EACCES))
    if os.getuid() != 0:
        expect("rights", "becoming root", lambda: os.setuid(0), (errno.EPERM, errno.EINVAL))


def files_are_closed(probe: str) -> None:
    """Demand that Landlock denies `probe`, a file that was readable before, and listing the top folder."""
    expect("landlock", f"reading {probe}", lambda: os.close(os.open(probe, os.O_RDONLY)), (errno.EACCES,))
    expect("landlock", "listing /", lambda: os.listdir("/"), (errno.EACCES,))


def readable(path: str) -> str:
    """Return `path` if it can be opened now (the check after Landlock means nothing otherwise)."""
    os.close(os.open(path, os.O_RDONLY))
    return path


def probe_path(own_root: bool) -> str:
    """Return a file outside the readable set that can be opened before Landlock is on."""
    return readable(LANDLOCK_PROBE if own_root else os.path.abspath(__file__))


def zygote_is_filtered() -> None:
    """Demand that the zygote itself can open no socket, write no file and run no program."""
    denied = (errno.EPERM,)
    expect("seccomp", "opening a socket", lambda: socket.socket().close(), denied)
    expect("seccomp", "writing a file", lambda: os.close(os.open("/x", os.O_WRONLY | os.O_CREAT)), denied)
    expect("seccomp", "running a program", lambda: os.execv("/bin/true", ["true"]), denied)
    expect("seccomp", "unsharing", lambda: linux.unshare(linux.CLONE_NEWUSER), denied)


def worker_is_filtered() -> None:
    """The check that every single worker makes before it reports: three denied acts."""
    denied = (errno.EPERM,)
    expect("seccomp", "opening a socket", lambda: socket.socket().close(), denied)
    expect("seccomp", "writing a file", lambda: os.close(os.open("/x", os.O_WRONLY | os.O_CREAT)), denied)
    expect("seccomp", "signalling", lambda: os.kill(os.getpid(), 0), denied)


def worker_is_confined(memory: int) -> None:
    """The long check, made once by a trial worker: no process, program, socket or signal; memory and
    descriptors bounded. `memory` is the limit in bytes above what the zygote uses."""
    worker_is_filtered()
    denied = (errno.EPERM,)

    def fork() -> None:
        if os.fork() == 0:
            os._exit(0)

    expect("seccomp", "forking", fork, denied)
    expect("seccomp", "running a program", lambda: os.execv("/bin/true", ["true"]), denied)
    expect("seccomp", "a pipe", os.pipe, denied)
    expect("seccomp", "renaming", lambda: os.rename("/x", "/y"), denied)
    expect("seccomp", "changing a mode", lambda: os.chmod("/x", 0o777), denied)
    expect("seccomp", "killing its parent", lambda: os.kill(os.getppid() or 1, signal.SIGTERM), denied)
    ptrace = {"x86_64": 101, "aarch64": 117}.get(linux.MACHINE, -1)
    expect("seccomp", "ptrace", lambda: linux.syscall(ptrace, "ptrace", 16, os.getppid(), 0, 0), denied)
    expect("limits", f"mapping {memory} bytes more", lambda: mmap.mmap(-1, memory + (64 << 20)), (errno.ENOMEM,))
    handles: list[int] = []
    try:
        while len(handles) < 100:
            handles.append(os.open(os.__file__, os.O_RDONLY))
        raise LayerError("limits", "100 descriptors could be opened")
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.EPERM):
            raise LayerError("limits", f"opening files failed with {error}") from None
    finally:
        for handle in handles:
            os.close(handle)


def report_and_exit(act: Callable[[], None], channel: int) -> NoReturn:
    """Run a check in this (forked) process, write "ok" or "layer: reason" to `channel`, and leave without return."""
    try:
        try:
            act()
            os.write(channel, b"ok")
        except LayerError as error:
            os.write(channel, f"{error.layer}\n{error.detail}".encode())
        except BaseException as error:  # noqa: BLE001 - whatever it is, the cage is not verified
            os.write(channel, f"seccomp\n{type(error).__name__}: {error}".encode())
    finally:
        os._exit(0)

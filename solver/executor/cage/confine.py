"""The layers of the cage: namespaces with an own root, dropped rights, Landlock, seccomp, resource limits.

Each function applies one layer to the calling process or raises `LayerError`; none of them checks itself. The checks
by effect are in `verify`. The order matters and is the zygote's business.
"""

from __future__ import annotations

import os
import resource
import stat
import sys
import sysconfig
from collections.abc import Iterable
from typing import NoReturn

from . import linux, seccomp

NOBODY = 65534
NAMESPACES = {
    "mnt": linux.CLONE_NEWNS, "net": linux.CLONE_NEWNET, "pid": linux.CLONE_NEWPID, "ipc": linux.CLONE_NEWIPC,
    "uts": linux.CLONE_NEWUTS,
}  # fmt: skip
NOT_SHOWN = ("site-packages", "dist-packages", "test", "tests", "idlelib", "ensurepip", "lib2to3", "turtledemo")
LANDLOCK_PROBE = "/landlock-probe"


class LayerError(Exception):
    """A layer that did not take: its name and the reason."""

    def __init__(self, layer: str, detail: str) -> None:
        super().__init__(f"{layer}: {detail}")
        self.layer, self.detail = layer, detail


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor but `keep`, by number, without a path look-up."""
    low = 0
    for number in sorted(set(keep)):
        if low < number:  # os.closerange(0, 0) closes everything: its upper bound wraps around
            os.closerange(low, number)
        low = number + 1
    os.closerange(low, max(4096, low + 1))


def enter_namespaces(control: int) -> None:
    """Continue in a child process inside new mount, net, pid, ipc and uts namespaces (and a user namespace unless root
    can do without). The calling process never returns from here: it waits for the child and exits.

    LayerError "namespaces" if the kernel refuses.
    """
    flags = 0
    for flag in NAMESPACES.values():
        flags |= flag
    uid, gid = os.getuid(), os.getgid()
    try:
        if uid == 0:
            try:
                linux.unshare(flags)
            except PermissionError:
                _unshare_user(flags, uid, gid)
        else:
            _unshare_user(flags, uid, gid)
        linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
        parent = os.getpid()
        child = os.fork()
    except OSError as error:
        raise LayerError("namespaces", str(error)) from None
    if child:
        _wait_and_exit(child)
    # Killed with the launcher; if that died before this line, the control socket's end of file tells the zygote.
    linux.prctl(linux.PR_SET_PDEATHSIG, 9)
    if os.getpid() != 1:
        raise LayerError("namespaces", f"the zygote has pid {os.getpid()}, launcher {parent}")


def _unshare_user(flags: int, uid: int, gid: int) -> None:
    linux.unshare(flags | linux.CLONE_NEWUSER)
    for name, text in [("setgroups", "deny"), ("uid_map", f"{NOBODY} {uid} 1"), ("gid_map", f"{NOBODY} {gid} 1")]:
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _wait_and_exit(child: int) -> NoReturn:
    """The launcher's whole remaining life. It may not do anything else, whatever happens: hence `finally`."""
    code = 71
    try:
        close_all_but(())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF
    finally:
        os._exit(code)


def visible_paths(packages: list[str]) -> list[str]:
    """Return what the cage may read: the entries of the standard library (less tests and third-party packages) and the
    folders of `packages`, as real paths."""
    found: list[str] = []
    folders = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    folders |= {path for path in sys.path if os.path.basename(path) == "lib-dynload"}
    for folder in sorted(os.path.realpath(folder) for folder in folders if folder and os.path.isdir(folder)):
        found += [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name not in NOT_SHOWN]
    found += [os.path.realpath(path) for path in packages]
    kinds = (stat.S_IFREG, stat.S_IFDIR)
    return [
        path
        for path in dict.fromkeys(found)
        if not os.path.islink(path) and stat.S_IFMT(os.stat(path).st_mode) in kinds
    ]


def build_root(packages: list[str]) -> list[str]:
    """Move this process into a read-only root that holds the standard library and `packages` at their usual paths.

    Returns the names in the new root's top folder. LayerError "root" if a mount fails.
    """
    library = _both_spellings([sysconfig.get_path(name) for name in ("stdlib", "platstdlib")])
    packages = _both_spellings(packages)
    sources = library + packages
    spare = [path for path in ("/mnt", "/srv", "/media", "/opt", "/sys", "/var/tmp", "/tmp") if os.path.isdir(path)]
    free = [path for path in spare if not any((source + "/").startswith(path + "/") for source in sources)]
    if not free:
        raise LayerError("root", f"no folder to mount on among {', '.join(spare)}")
    root = free[0]
    try:
        linux.mount("tmpfs", root, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,mode=755")
        for folder in library:
            _bind(folder, root + folder)
            for name in ("site-packages", "dist-packages", "test"):
                if os.path.isdir(root + folder + "/" + name):
                    flags = linux.MS_NOSUID | linux.MS_NODEV
                    linux.mount("tmpfs", f"{root}{folder}/{name}", "tmpfs", flags, "size=1m,mode=755")
        for path in packages:
            _bind(path, root + path)
        with open(root + LANDLOCK_PROBE, "w") as file:
            file.write("readable until Landlock is on")
        os.chmod(root + LANDLOCK_PROBE, 0o644)
        for folder in library:
            for name in ("site-packages", "dist-packages", "test"):
                if os.path.isdir(root + folder + "/" + name):
                    _read_only(f"{root}{folder}/{name}")
        _read_only(root)
        linux.pivot_into(root)
    except OSError as error:
        raise LayerError("root", str(error)) from None
    return sorted({source.split("/")[1] for source in sources} | {LANDLOCK_PROBE[1:]})


def _both_spellings(paths: list[str]) -> list[str]:
    """Return each path as it is written and as it is without symbolic links: imports use the first, the cage has no
    links."""
    return sorted({os.path.abspath(path) for path in paths} | {os.path.realpath(path) for path in paths})


def _bind(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, 0o755, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
        open(target, "x").close()
    linux.mount(source, target, None, linux.MS_BIND)
    _read_only(target)


def _read_only(target: str) -> None:
    # A mount inherited from outside may carry flags that a user namespace may not clear: keep those that are set.
    held = os.statvfs(target).f_flag & (linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC | 1024 | 2048 | (1 << 21))
    keep = held | linux.MS_NOSUID | linux.MS_NODEV
    linux.mount("none", target, None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | keep)


def drop_rights(readable: list[str]) -> str:
    """Give up root for nobody where the Python tree stays readable, then all capabilities, for good.

    Returns a description of the user that remains. LayerError "rights" if something cannot be dropped.
    """
    try:
        if os.getuid() == 0 and _readable_by_nobody(readable):
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        linux.drop_capabilities()
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
        linux.prctl(linux.PR_SET_DUMPABLE, 0)
    except OSError as error:
        raise LayerError("rights", str(error)) from None
    return f"uid {os.getuid()}"


def _readable_by_nobody(paths: list[str]) -> bool:
    if linux.capabilities() & 0xC0 != 0xC0:  # CAP_SETGID and CAP_SETUID, bits 6 and 7
        return False
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            for path in paths:
                if os.path.isdir(path):
                    os.listdir(path)
                else:
                    open(path, "rb").close()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def restrict_files(readable: list[str]) -> str:
    """Put Landlock on this process and all its children. Returns the ABI; LayerError "landlock"."""
    try:
        return f"ABI {linux.landlock_restrict(readable)}"
    except OSError as error:
        raise LayerError("landlock", str(error)) from None


def filter_calls(code: bytes, *, listener: bool = False) -> int:
    """Install a seccomp program; LayerError "seccomp"."""
    try:
        return seccomp.install(code, listener=listener)
    except OSError as error:
        raise LayerError("seccomp", str(error)) from None


def limit_zygote() -> None:
    """Limits that hold for the zygote and, by inheritance, for workers: no file grows, no core, no locked memory."""
    try:
        for which, value in [(resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_MEMLOCK, 0)]:
            linux.set_limit(which, value)
        linux.set_limit(resource.RLIMIT_NOFILE, 1024)
    except (OSError, ValueError) as error:
        raise LayerError("limits", str(error)) from None


def limit_worker(address_space: int) -> None:
    """A worker's own limits: bytes of address space, 64 descriptors, no new process."""
    linux.set_limit(resource.RLIMIT_AS, address_space)
    linux.set_limit(resource.RLIMIT_NOFILE, 64)
    linux.set_limit(resource.RLIMIT_NPROC, 0)


def address_space_in_use() -> int:
    """Return this process's virtual size in bytes. LayerError "limits" without /proc."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError as error:
        raise LayerError("limits", f"cannot read this process's size: {error}") from None

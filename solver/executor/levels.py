"""Isolation levels: what each consists of, and the records that say which layers took effect."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from rstar_eval.errors import UserError, nearest

Level = Literal["strong", "good", "basic", "accidents-only"]
"""How strongly steps are isolated, strongest first; PROMISES says what each one promises."""

LEVELS: tuple[Level, ...] = get_args(Level)

LAYERS: dict[Level, tuple[str, ...]] = {
    "strong": ("namespaces", "root", "rights", "landlock", "seccomp", "limits"),
    "good": ("rights", "landlock", "seccomp", "limits"),
    "basic": ("rights", "seccomp", "limits"),
    "accidents-only": (),
}

PROMISES: dict[Level, str] = {
    "strong": "no writes, no secrets, no network, no processes, bounded CPU and memory",
    "good": "the same by one kernel layer less (no namespaces, no own root; file names can be tested for existence)",
    "basic": "nothing can be written or sent, CPU and memory are bounded; world-readable files can be read",
    "accidents-only": "stops endless loops and survives crashes; NOT a protection against hostile code",
}

PACKAGES = ("sympy", "mpmath", "numpy", "scipy")
"""What steps can import beside the standard library."""


MENDS = {
    "namespaces": "run as root with CAP_SYS_ADMIN, or allow user namespaces (sysctl user.max_user_namespaces > 0, "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container, a seccomp profile that allows unshare and mount), "
    "or ask for a lower level",
    "root": "see namespaces: the container must allow mount and pivot_root; or ask for a lower level",
    "rights": "report this: dropping rights needs no right",
    "landlock": "boot a kernel from 5.13 on with landlock in its lsm= list (in a container, a seccomp profile that "
    "allows the landlock calls), or ask for a lower level",
    "seccomp": "run on Linux x86_64 or aarch64 with CONFIG_SECCOMP_FILTER; or ask for accidents-only",
    "limits": "raise the hard resource limits of the calling shell (ulimit -H)",
    "interpreter": "install the package's dependencies in the running Python",
}
"""By layer: what the user can do when it is missing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a step may use. cpu_seconds: CPU time a step, the verdict. wall_factor: wall time after which a step is
    killed all the same, as a multiple of cpu_seconds. memory_mb: MiB a worker, above what the warm zygote uses.
    nodes: namespaces a worker keeps; older ones are rebuilt when they are needed again."""

    cpu_seconds: float = 5.0
    wall_factor: float = 4.0
    memory_mb: int = 1024
    nodes: int = 1000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise UserError(f"executor limit {name} is {getattr(self, name)}", "give a number above 0")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the cage: whether its effect was verified, what was seen, and the mend if it is missing."""

    name: str
    took: bool
    detail: str = ""
    mend: str = ""


@dataclass(frozen=True, slots=True)
class LevelReport:
    """The strongest level that this machine gives, and every layer with its verdict."""

    level: Level
    promise: str
    layers: tuple[Layer, ...]


def as_level(name: str) -> Level:
    """Return `name` as a level; UserError with the nearest one if it is unknown."""
    for level in LEVELS:
        if name == level or (name == "accidents" and level == "accidents-only"):
            return level
    raise UserError(f"unknown isolation level {name!r}", nearest(name, LEVELS))


def package_folders(names: tuple[str, ...] = PACKAGES) -> tuple[list[str], list[str]]:
    """Find importable packages without importing them.

    Returns (their folders, with the shared libraries that wheels put beside them; the folders to import them from).
    UserError if one is not installed.
    """
    folders: list[str] = []
    sites: list[str] = []
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f"the executor needs {name}, which is not installed", f"pip install {name}")
        folder = Path(next(iter(spec.submodule_search_locations)))
        folders.append(str(folder))
        sites.append(str(folder.parent))
        beside = folder.parent / f"{name}.libs"
        if beside.is_dir():
            folders.append(str(beside))
    return folders, list(dict.fromkeys(sites))


def namespaces_now() -> dict[str, str]:
    """Return this process's namespace ids by name ({} without /proc)."""
    found = {}
    for name in ("mnt", "net", "pid", "ipc", "uts"):
        try:
            found[name] = os.readlink(f"/proc/self/ns/{name}")
        except OSError:
            return {}
    return found

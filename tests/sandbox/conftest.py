"""Tools for tests that attack the cage: unprivileged children, process and descriptor counts."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from rstar_eval.solver.executor import probe_levels

T = TypeVar("T")
REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = ("solver", "training", "tasks", "leaderboards")


@pytest.fixture(scope="session")
def level() -> str:
    """The strongest level here, or skip where there is no cage."""
    found = asyncio.run(probe_levels()).level
    if found == "accidents-only":
        pytest.skip("no cage can be had on this machine (see rstar-eval doctor)")
    return found


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def do(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    return loop.run_until_complete(work)


def zygotes() -> list[int]:
    """Return the pids of live zygotes, launchers and workers that this process started."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
                state = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if b"from cage import zygote" in line and state[0] != "Z" and _descends(int(entry)):
                found.append(int(entry))
    return found


def _descends(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


class Unprivileged:
    """Runs Python programs as the user nobody, with this checkout and this interpreter's packages."""

    def __init__(self, python: str, folder: Path) -> None:
        self.python, self.folder = python, folder

    def run(self, program: str, *args: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        packages = os.pathsep.join(path for path in sys.path if path.endswith("-packages"))
        command = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            self.python,
            "-B",
            "-c",
            program,
            *args,
        ]
        return subprocess.run(
            command,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{self.folder}{os.pathsep}{packages}"},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@pytest.fixture(scope="session")
def unprivileged() -> Iterator[Unprivileged]:
    """A way to run as nobody, or skip: it takes root, setpriv, and a Python of this version that nobody may execute."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to become an unprivileged user")
    # Not in pytest's own folder: every pytest that starts on the machine takes the others' right to enter it away.
    folder = Path(tempfile.mkdtemp(prefix="rstar-eval-as-nobody-"))
    package = folder / "rstar_eval"
    package.mkdir()
    for item in (REPOSITORY / "rstar_eval").iterdir():
        (package / item.name).symlink_to(item)
    for name in FOLDERS:
        (package / name).symlink_to(REPOSITORY / name)
    folder.chmod(0o755)
    version = f"python3.{sys.version_info.minor}"
    # The first exec still has root's right of way, so ask whether the program can start itself once more.
    probe = "import subprocess, sys, scipy, rstar_eval.solver.executor\nsubprocess.check_call([sys.executable, '-V'])"
    try:
        for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
            made = Unprivileged(python, folder)
            if Path(python).exists() and made.run(probe).returncode == 0:
                yield made
                return
        pytest.skip(f"no {version} that the user nobody can execute with these packages")
    finally:
        shutil.rmtree(folder)

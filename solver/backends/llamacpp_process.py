"""Starting llama.cpp in a child process, and stopping it."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import secrets
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rstar_eval.errors import BackendError, UserError

GGUF_MAGIC = b"GGUF"
WAIT_POLICY = {"OMP_WAIT_POLICY": "passive"}
"""Threads that wait for each other sleep. By default they spin, and one other busy process on the machine (the step
executor is one) then costs five to ten times the speed (docs/policies.md)."""
START_SECONDS = 300.0
STOP_SECONDS = 5.0


@dataclass(slots=True)
class LlamaCppProcess:
    """A running llama.cpp server: its address, the key that it asks for, the process, and its log."""

    url: str
    api_key: str
    process: asyncio.subprocess.Process
    log: IO[bytes] = field(repr=False)
    slot_folder: tempfile.TemporaryDirectory[str] = field(repr=False)

    def remove_slot_file(self, name: str) -> None:
        """Remove a slot's saved state: it has some megabytes."""
        Path(self.slot_folder.name, name).unlink(missing_ok=True)

    def failure(self) -> str | None:
        """Return how the process ended, with the last line of its log; None while it runs."""
        if self.process.returncode is None:
            return None
        return f"llama.cpp ended with code {self.process.returncode} ({last_line(self.log)})"

    async def stop(self) -> None:
        """Close the server's standard input, at which it ends; kill it if it does not. May be called twice."""
        if self.process.returncode is None:
            if self.process.stdin is not None:
                self.process.stdin.close()
            try:
                await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        self.log.close()
        self.slot_folder.cleanup()


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_installed() -> None:
    """Raise UserError unless llama.cpp is installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise UserError("llama.cpp (xllamacpp) is not installed", "pip install 'rstar-eval[llamacpp]'")


def check_gguf(path: Path) -> None:
    """Raise UserError unless `path` is a readable GGUF file."""
    if not path.exists():
        raise UserError(f"no model file at {str(path)!r}", "give the path of a .gguf file")
    if path.is_dir():
        raise UserError(
            f"{str(path)!r} is a folder, not a GGUF file", "give the .gguf file itself, or hf:PATH for a folder"
        )
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise UserError(f"cannot read the model {str(path)!r}: {error.strerror}") from None
    if magic != GGUF_MAGIC:
        raise UserError(
            f"{str(path)!r} is no GGUF model", f"a GGUF file begins with {GGUF_MAGIC!r}, this one with {magic!r}"
        )


async def start(model: Path, *, context: int, parallel: int, threads: int) -> LlamaCppProcess:
    """Serve a GGUF model on a free loopback port, `parallel` slots of `context` tokens each.

    UserError if the model does not load, with the reason that llama.cpp logged.
    """
    check_gguf(model)
    check_installed()
    api_key = secrets.token_hex(16)
    settings: dict[str, object] = {
        "model": str(model.resolve()),
        "total_context": context * parallel,
        "parallel": parallel,
        "threads": threads,
        "api_key": api_key,
    }
    slot_folder = tempfile.TemporaryDirectory(prefix="rstar-eval-slots-")
    settings["slot_folder"] = slot_folder.name
    log = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
    # A session of its own: Ctrl-C reaches us, and we stop the server when finished work is stored.
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "rstar_eval.solver.backends.llamacpp_child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        start_new_session=True,
        env={**WAIT_POLICY, **os.environ},
    )
    server = LlamaCppProcess("", api_key, process, log, slot_folder)
    try:
        server.url = await _handshake(process, settings)
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        reason = last_line(log)
        log.close()
        slot_folder.cleanup()
        if isinstance(sys.exception(), ValueError | ConnectionError):
            raise UserError(f"llama.cpp cannot load {str(model)!r}: {reason}") from None
        raise
    return server


async def _handshake(process: asyncio.subprocess.Process, settings: dict[str, object]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(settings).encode() + b"\n")
    await process.stdin.drain()
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
    except TimeoutError:
        raise BackendError(f"llama.cpp did not start within {START_SECONDS:.0f} s", "use a smaller model") from None
    return str(json.loads(line)["url"])


def last_line(log: IO[bytes]) -> str:
    """Return what a llama.cpp log says of a failure: its first error line, without the line's clock, else its last."""
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line.partition(" E ")[2].strip() for line in lines if " E " in line]
    return (errors or lines[-1:] or ["no message"])[0]

"""What a self-evolution has done so far: state.json in its folder, replaced atomically after each stage."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.training.evolve_worker import write_json

STATE, LOCK, SCHEMA = "state.json", "lock", 1


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make and hold an evolution's folder. UserError if another process holds it, or it can't be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UserError(
            f"can't write to {str(folder)!r}: {error.strerror}", "give another folder with --output"
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is at the evolution in {str(folder)!r}", "wait for it or give another folder"
            ) from None
        yield
    finally:
        os.close(lock)


def is_empty(folder: Path) -> bool:
    """Return whether an evolution can begin in a folder: nothing lies there but the lock."""
    return not folder.exists() or all(one.name == LOCK for one in folder.iterdir())


class EvolveState:
    """The finished stages in order, each with its figures. Opened with the settings that the folder must be of."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Open or begin the state in `folder`. UserError if it holds another evolution (naming the settings that
        differ), is full of something else, or can't be written."""
        self.folder, self._path = folder, folder / STATE
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"can't write to {str(folder)!r}: {error.strerror}", "give another folder with --output"
            ) from None
        if not self._path.exists():
            if not is_empty(folder):
                raise UserError(
                    f"{str(folder)!r} is not empty and holds no evolution", "give a new folder with --output"
                )
            self._data: dict[str, Any] = {"schema": SCHEMA, "settings": settings, "stages": {}}
            write_json(self._path, self._data)
            return
        try:
            self._data = json.loads(self._path.read_text(encoding="utf-8"))
            there, schema = self._data["settings"], self._data["schema"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"can't read {str(self._path)!r}: {error}", "give a new folder with --output") from None
        plain = json.loads(json.dumps(settings))
        if schema != SCHEMA or there != plain:
            found = "; ".join(differences(there, plain)) or f"schema {schema}"
            raise UserError(
                f"{str(folder)!r} holds another evolution: {found}",
                "give the same settings, or another folder with --output",
            )

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """The figures of the finished stages by name, in the order in which they ended."""
        stages: dict[str, dict[str, Any]] = self._data["stages"]
        return stages

    def once(self, stage: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the figures of `stage`, doing its work first unless it is done."""
        if stage not in self.stages:
            figures = work()
            self.stages[stage] = figures
            write_json(self._path, self._data)
        return self.stages[stage]


def differences(there: object, here: object, prefix: str = "") -> list[str]:
    """Return "key: A there, B here" for every leaf in which two nested values differ."""
    if isinstance(there, dict) and isinstance(here, dict):
        found: list[str] = []
        for key in sorted({*there, *here}):
            found += differences(there.get(key), here.get(key), f"{prefix}.{key}" if prefix else key)
        return found
    return [] if there == here else [f"{prefix} is {there} there and {here} here"]

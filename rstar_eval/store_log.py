"""The log of a large run as mappings whose records stay on disk: each is read when it is asked for."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from rstar_eval.serial import from_data
from rstar_eval.store_index import Index
from rstar_eval.store_lines import damaged, decode

V = TypeVar("V")


class Stored(MutableMapping[Any, V]):
    """The records of one log (TRAJECTORIES, GRADES) by key, in reading order, each once. It can't be changed.

    UserError, as a record is read, if its line is damaged or does not fit.
    """

    def __init__(self, index: Index, name: str, kind: type[V]) -> None:
        self._index, self._name, self._kind = index, name, kind
        self._open: dict[Path, int] = {}
        weakref.finalize(self, _close, self._open)

    def __getitem__(self, key: Any) -> V:
        place = self._index.place(self._name, key)
        if place is None:
            raise KeyError(key)
        return self._read(*place)

    def in_order(self) -> Iterator[V]:
        """Yield the records by task and the problems' places in it, reading one at a time."""
        return (self._read(*place) for place in self._index.places(self._name))

    def _read(self, file: Path, offset: int, length: int) -> V:
        if file not in self._open:
            self._open[file] = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        record, _, problem = decode(os.pread(self._open[file], length, offset))
        if record is None:
            raise damaged(self._index.run, file, f"byte {offset}", problem)
        return from_data(self._kind, record, f"{file} at byte {offset}")

    def __contains__(self, key: object) -> bool:
        return isinstance(key, tuple) and self._index.place(self._name, key) is not None

    def __iter__(self) -> Iterator[Any]:
        return self._index.keys(self._name)

    def __len__(self) -> int:
        return self._index.count(self._name)

    def __setitem__(self, key: Any, value: V) -> NoReturn:
        raise TypeError("a stored log grows by RunStore alone")

    def __delitem__(self, key: Any) -> NoReturn:
        raise TypeError("a stored log is never cut; see rstar-eval fsck")


def _close(files: dict[Path, int]) -> None:
    for descriptor in files.values():
        os.close(descriptor)
    files.clear()

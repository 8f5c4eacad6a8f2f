"""`rstar-eval compact RUN`: a run's segments as two Parquet files, for analysis and for keeping.

`searches.parquet` and `grades.parquet` hold each search and each grade once (the first search and the last grade of a
key, as everywhere), by task and problem, with columns to filter by. The column `line` is the log's line itself, with
its checksum, so that nothing is lost: `lines` gives a log back. Texts do not count as columns, because Parquet holds
UTF-8 alone and a model may write what is none.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.store import GRADES, TRAJECTORIES, read_manifest, segments, writing_error
from rstar_eval.store_index import Index
from rstar_eval.store_lines import decode

TABLES = {TRAJECTORIES: "searches.parquet", GRADES: "grades.parquet"}
_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Table:
    """A file that was written: its path, rows, bytes, and the bytes of the logs that it was made of."""

    path: Path
    rows: int
    bytes: int
    logs: int


def compact(run: Path, output: Path | None = None) -> list[Table]:
    """Write the Parquet files of a run into the folder `output` (RUN/compact), replacing older ones as a whole, and
    read them back: each line's checksum is compared. Some hundred megabytes of memory do for any run.

    UserError if it is no run, a log is damaged, or the folder can't be written.
    """
    read_manifest(run)
    folder = output or run / "compact"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with Index(run) as index:
            return [_write(run, index, name, folder / table) for name, table in TABLES.items()]
    except OSError as error:
        raise writing_error(folder, error) from None


def lines(file: Path) -> Iterator[bytes]:
    """Yield the log lines of a compacted table, newline included."""
    parquet = _parquet()
    with parquet.ParquetFile(file) as table:
        for batch in table.iter_batches(batch_size=_ROWS, columns=["line"]):
            yield from batch.column(0).to_pylist()


def _write(run: Path, index: Index, name: str, file: Path) -> Table:
    import pyarrow as pa

    parquet, temporary = _parquet(), file.with_name(file.name + ".tmp")
    columns = _SEARCH if name == TRAJECTORIES else _GRADE
    schema = pa.schema([pa.field(key, getattr(pa, kind)()) for key, (kind, _) in columns.items()])
    schema = schema.append(pa.field("line", pa.binary()))
    rows = 0
    places = index.places(name)
    with parquet.ParquetWriter(temporary, schema, compression="zstd") as writer, _Reader() as read:
        while block := list(itertools.islice(places, _ROWS)):
            raws = [read(*place) for place in block]
            records = [_checked(run, name, raw) for raw in raws]
            data = {key: [value(one) for one in records] for key, (_, value) in columns.items()}
            writer.write_table(pa.table({**data, "line": raws}, schema=schema))
            rows += len(block)
    read_back = sum(decode(raw)[0] is not None for raw in lines(temporary))
    if read_back != rows:
        temporary.unlink()
        raise UserError(f"{str(file)!r} was not written as it should be: {read_back} of {rows} lines", "try again")
    with open(temporary, "rb") as written:
        os.fsync(written.fileno())
    os.replace(temporary, file)
    return Table(file, rows, file.stat().st_size, sum(one.stat().st_size for one in segments(run, name)))


class _Reader:
    """Reads pieces of files, keeping each file open."""

    def __init__(self) -> None:
        self._files: dict[Path, int] = {}

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *exception: object) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)

    def __call__(self, file: Path, offset: int, length: int) -> bytes:
        if file not in self._files:
            self._files[file] = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(self._files[file], length, offset)


def _checked(run: Path, name: str, raw: bytes) -> dict[str, Any]:
    record, _, problem = decode(raw)
    if record is None:
        raise UserError(f"a line of {name} of {str(run)!r} is damaged: {problem}", f"look with: rstar-eval fsck {run}")
    return record


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise UserError("Parquet needs pyarrow", "pip install 'rstar-eval[export]'") from None
    return pyarrow.parquet


def _text(key: str) -> tuple[str, Callable[[Mapping[str, Any]], Any]]:
    """A column of text; a lone surrogate of a model's text becomes a question mark in it (not in `line`)."""

    def value(record: Mapping[str, Any]) -> str | None:
        text = record.get(key)
        return None if text is None else str(text).encode("utf-8", "replace").decode()

    return "string", value


def _whole(key: str, part: str | None = None) -> tuple[str, Callable[[Mapping[str, Any]], Any]]:
    return "int64", lambda record: (record[part] if part else record).get(key)


def _number(key: str, part: str) -> tuple[str, Callable[[Mapping[str, Any]], Any]]:
    return "float64", lambda record: record[part].get(key)


_Columns = dict[str, tuple[str, Callable[[Mapping[str, Any]], Any]]]
_SEARCH: _Columns = {
    **{key: _text(key) for key in ("task", "problem")},
    **{key: _whole(key) for key in ("index", "tree")},
    "end": _text("end"),
    "trajectories": ("int64", lambda record: len(record["trajectories"])),
    "answered": ("int64", lambda record: sum(one["answer"] is not None for one in record["trajectories"])),
    **{key: _whole(key, "budget") for key in ("completion_tokens", "prompt_tokens", "policy_calls", "scored_steps")},
    **{key: _whole(key, "budget") for key in ("code_runs", "code_ok")},
    "cpu_seconds": _number("cpu_seconds", "budget"),
    "session": _whole("session", "timing"),
    **{key: _number(key, "timing") for key in ("started", "ended")},
}
_GRADE: _Columns = {
    **{key: _text(key) for key in ("task", "problem")},
    "index": _whole("index"),
    **{key: _text(key) for key in ("grader", "version", "level", "subject", "outcome", "rule", "answer")},
    "trajectories": ("int64", lambda record: len(record["trajectories"])),
    "right": ("int64", lambda record: sum(one["outcome"] == "correct" for one in record["trajectories"])),
}

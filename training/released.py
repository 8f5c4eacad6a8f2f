"""The authors' released data formats, read and written byte for byte.

SFT: a JSON list of {"query", "response"}. PPM: a JSON list of {"prompt", "neg", "pos", "neg_count", "pos_count"}: a
pair of steps has the solution so far in its prompt; a pair of whole solutions has the question alone there, and each
side begins with the assistant's opening words. Files are indented by 4, ASCII, without a newline at the end; files in
other layouts (JSON lines too) are read as well and written back as they were.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rstar_eval.errors import UserError
from rstar_eval.solver.formats.rstar import prompt_text
from rstar_eval.training.files import write_bytes
from rstar_eval.training.rows import PairRow, SftRow

ReleasedKind = Literal["sft", "pairs"]
FIELDS: dict[ReleasedKind, dict[str, type]] = {
    "sft": {"query": str, "response": str},
    "pairs": {"prompt": str, "neg": str, "pos": str, "neg_count": int, "pos_count": int},
}
OPENING = prompt_text("")[len("<|user|>:\n") :]
"""What stands between a question and its solution."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a JSON file is laid out: indentation (None: one line; -1: JSON lines), ASCII escapes, newline at the end."""

    indent: int | None = 4
    ascii: bool = True
    newline: bool = False

    def text(self, records: Sequence[dict[str, Any]]) -> str:
        """Return the records as a file of this layout."""
        if self.indent == -1:
            body = "\n".join(json.dumps(one, ensure_ascii=self.ascii) for one in records)
        else:
            body = json.dumps(list(records), indent=self.indent, ensure_ascii=self.ascii)
        return body + "\n" * self.newline


AUTHORS = Layout()
_LAYOUTS = [
    Layout(indent, ascii, newline)
    for indent in (4, 2, None, -1, 1, 3, 8)
    for ascii in (True, False)
    for newline in (False, True)
]


@dataclass(frozen=True, slots=True)
class Released:
    """A file in one of the authors' formats: its kind, its records as they are, and its layout (None: one that this
    module can't write again)."""

    kind: ReleasedKind
    records: list[dict[str, Any]]
    layout: Layout | None


def read_released(path: Path) -> Released:
    """Read a file in one of the authors' formats. UserError naming the file, the record (0-based) and the field if it
    can't be read, is empty or does not fit."""
    try:
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"no UTF-8 at byte {error.start}"
        raise UserError(f"can't read {str(path)!r}: {why}", "give a readable JSON file") from None
    records = _records(path, text)
    kind = _kind(path, records[0])
    for place, one in enumerate(records):
        _check(path, place, one, kind)
    layout = next((layout for layout in _LAYOUTS if layout.text(records) == text), None)
    return Released(kind, records, layout)


def write_released(path: Path, released: Released) -> None:
    """Write a file in the authors' format: the bytes that `read_released` read, if it came from there. UserError if its
    layout is unknown (the bytes would differ)."""
    if released.layout is None:
        raise UserError(
            f"can't write {str(path)!r}: its source has an unusual layout of blanks", "indent it by 4 first"
        )
    write_bytes(path, released.layout.text(released.records).encode("utf-8"))


def to_rows(released: Released) -> list[Any]:
    """Return the records as rows (SftRow or PairRow); fields that the formats don't have are left out."""
    if released.kind == "sft":
        return [SftRow(one["query"], one["response"]) for one in released.records]
    return [
        PairRow(
            one["prompt"],
            one["pos"],
            one["neg"],
            one["pos_count"],
            one["neg_count"],
            "step" if OPENING.lstrip("\n")[:13] in one["prompt"] else "final",
        )
        for one in released.records
    ]


def from_rows(rows: Sequence[Any]) -> Released:
    """Return rows in the authors' format and layout. What the format has no field for (margins, provenance) is lost.

    UserError if the rows are not all SftRow or all PairRow.
    """
    if rows and all(isinstance(row, SftRow) for row in rows):
        return Released("sft", [{"query": row.question, "response": row.response} for row in rows], AUTHORS)
    if rows and all(isinstance(row, PairRow) for row in rows):
        return Released("pairs", [_pair(row) for row in rows], AUTHORS)
    raise UserError("the authors' formats hold SFT rows or preference pairs", "convert sft.jsonl or pairs.jsonl")


def _pair(row: PairRow) -> dict[str, Any]:
    prompt, lead = row.prompt, ""
    if row.kind == "final" and prompt.endswith(OPENING):
        prompt, lead = prompt[: -len(OPENING)], OPENING
    return {
        "prompt": prompt,
        "neg": lead + row.neg,
        "pos": lead + row.pos,
        "neg_count": row.neg_count,
        "pos_count": row.pos_count,
    }


def _records(path: Path, text: str) -> list[dict[str, Any]]:
    readers: list[Callable[[str], Any]] = [
        json.loads,
        lambda text: [json.loads(one) for one in text.splitlines() if one],
    ]
    found: Any = None
    problem = ""
    for reader in readers if text.lstrip()[:1] != "[" else readers[:1]:
        try:
            found = reader(text)
            break
        except ValueError as error:
            problem = str(error)
    if isinstance(found, dict):
        found = [found]
    if not isinstance(found, list):
        raise UserError(f"{str(path)!r} is no JSON list of records{problem and f': {problem}'}", "mend the file")
    if not found:
        raise UserError(f"{str(path)!r} holds no records", "give a file with at least one")
    for place, one in enumerate(found):
        if not isinstance(one, dict):
            raise UserError(f"{str(path)!r} record {place} is a {type(one).__name__}", "give a list of JSON objects")
    return found


def _kind(path: Path, record: dict[str, Any]) -> ReleasedKind:
    for kind, fields in FIELDS.items():
        if set(fields) <= set(record):
            return kind
    known = "; ".join(", ".join(fields) for fields in FIELDS.values())
    raise UserError(f"{str(path)!r} record 0 has the fields {', '.join(record) or 'none'}", f"known formats: {known}")


def _check(path: Path, place: int, record: dict[str, Any], kind: ReleasedKind) -> None:
    for name, type_ in FIELDS[kind].items():
        value = record.get(name)
        if not isinstance(value, type_) or isinstance(value, bool) or (isinstance(value, int) and value < 0):
            wanted = "text" if type_ is str else "a count of 0 or more"
            raise UserError(f"{str(path)!r} record {place}: {name} is {value!r:.60}", f"it must be {wanted}")

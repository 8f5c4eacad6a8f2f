"""From the authors' released formats to ours and back."""

from __future__ import annotations

from pathlib import Path

from rstar_eval.errors import UserError
from rstar_eval.training.datasets import is_ours, kind_of_file, read_rows, write_rows
from rstar_eval.training.released import FIELDS, from_rows, read_released, write_released


def convert(source: Path, target: Path) -> str:
    """Write `source` as `target`: in the authors' format if that ends in .json, in ours if it ends in .jsonl. Returns a
    line on what was done.

    A file of the authors' comes back byte for byte, directly or by way of ours, in their layout (`released.AUTHORS`).
    UserError for another ending, rows that the authors' formats can't hold, or fields that ours can't.
    """
    if target.suffix not in (".json", ".jsonl"):
        raise UserError(f"can't tell the format of {str(target)!r}", "end it in .json (authors') or .jsonl (ours)")
    kind = kind_of_file(source)
    if target.suffix == ".json":
        released = from_rows(read_rows(source, kind)) if is_ours(source) else read_released(source)
        write_released(target, released)
        return f"{len(released.records)} records in the authors' format ({released.kind}) -> {target}"
    if not is_ours(source):
        released = read_released(source)
        extra = sorted({key for one in released.records for key in one} - set(FIELDS[released.kind]))
        if extra:
            raise UserError(
                f"{str(source)!r} has fields that our rows don't hold: {', '.join(extra)}", "remove them first"
            )
    rows = read_rows(source, kind)
    write_rows(target, rows)
    return f"{len(rows)} rows ({kind}) -> {target}"

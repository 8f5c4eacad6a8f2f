"""What is in a data set: counts by level, depth and kind, pairs a prompt, and how long and how far apart things are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rstar_eval.training.rows import OutcomeRow, PairRow, Row, SftRow, ValueRow

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


def statistics(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the figures of a data set as plain data with stable order.

    rows, problems; per level and round; characters of what is learned, as quantiles; and by kind of row: mean Q, steps
    a solution (sft); step and final pairs, pairs per depth and a prompt, margins (pairs); Q and rows per depth
    (values); right and wrong (outcomes).
    """
    found: dict[str, Any] = {
        "rows": len(rows),
        "problems": len({problem_key(row) for row in rows}),
        "per_level": _counts(row.source.level or "none" for row in rows),
        "per_round": _counts(str(row.source.round) for row in rows),
        "characters": _quantiles([len(_text(row)) for row in rows]),
    }
    sft = [row for row in rows if isinstance(row, SftRow)]
    pairs = [row for row in rows if isinstance(row, PairRow)]
    values = [row for row in rows if isinstance(row, ValueRow)]
    labels = [row for row in rows if isinstance(row, OutcomeRow)]
    if sft:
        found["steps"] = _counts(str(row.steps) for row in sft)
        found["mean_q"] = _quantiles([row.mean_q for row in sft if row.mean_q is not None])
    if pairs:
        prompts = Counter(row.prompt for row in pairs if row.kind == "step")
        found["kinds"] = _counts(row.kind for row in pairs)
        found["per_depth"] = _counts(str(row.depth) for row in pairs if row.kind == "step")
        found["pairs_a_prompt"] = _counts(str(count) for count in prompts.values())
        found["margin"] = _quantiles([row.margin for row in pairs if row.margin is not None])
        found["total_weight"] = round(sum(row.weight for row in pairs), 6)
    if values:
        found["per_depth"] = _counts(str(row.depth) for row in values)
        found["q"] = _quantiles([row.q for row in values])
    if labels:
        found["right"] = sum(row.right for row in labels)
        found["wrong"] = sum(not row.right for row in labels)
    return found


def problem_key(row: Row) -> str:
    """Return what tells a row's problem from others: its id, or its text where the source has no ids."""
    if row.source.problem:
        return f"{row.source.task}/{row.source.problem}"
    return question_of(row)


def question_of(row: Row) -> str:
    """Return a row's question, without the policy's prompt around it."""
    text = row.question if isinstance(row, SftRow) else row.prompt
    text = text.split("\n<|assistant|>", 1)[0]
    return text.removeprefix("<|user|>:\n")


def _text(row: Row) -> str:
    if isinstance(row, SftRow | OutcomeRow):
        return row.response
    return row.step if isinstance(row, ValueRow) else row.pos


def _counts(items: Iterable[str]) -> dict[str, int]:
    counts = Counter(items)
    return {key: counts[key] for key in sorted(counts, key=lambda key: (not key.isdigit(), key.zfill(8)))}


def _quantiles(numbers: Sequence[float]) -> list[float] | None:
    """Return least, quarter points and greatest, or None without numbers."""
    if not numbers:
        return None
    ordered = sorted(numbers)
    return [round(float(ordered[round(share * (len(ordered) - 1))]), 6) for share in QUANTILES]

"""From the bytes of a benchmark file to problems. Nothing is cleaned: what the source writes is what we hold."""

from __future__ import annotations

import json
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.problem import Problem, problem_id
from rstar_eval.tasks.spec import Fields


def read_records(data: bytes, where: str) -> list[dict[str, Any]]:
    """Return the records of a JSON array of objects, or of JSON Lines (one object a line; blank lines are skipped).

    Decimal numbers stay as the file spells them (a gold 0.50 does not become 0.5). UserError naming `where` and the
    line or record if the bytes are no UTF-8, no JSON, or something other than objects.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is no UTF-8 text: byte {error.start}", "save it as UTF-8") from None
    if text.lstrip().startswith("["):
        records = _loads(text, where)
    else:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        records = [_loads(line, f"{where}, line {number}") for number, line in lines]
    for place, record in enumerate(records):
        if not isinstance(record, dict):
            raise UserError(f"{where}: record {place} is {type(record).__name__}", "allowed: a JSON object a record")
    if not records:
        raise UserError(f"{where} holds no records", "give a JSON array of objects, or one JSON object a line")
    return list(records)


def _loads(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is no JSON: {error}", "allowed: a JSON array of objects, or JSON Lines") from None


def gold_strings(value: object, where: str) -> tuple[str, ...]:
    """Return the gold answers that a record's answer means, each of them right: a string as it is, a number as the
    file spells it, a list as its items (the four lists of MATH are alternatives: "either point is a correct answer").

    UserError naming `where` if it is null, a truth value, an object or a nested or empty list.
    """
    if isinstance(value, str):
        return (value,)
    if isinstance(value, int) and not isinstance(value, bool):
        return (str(value),)
    if isinstance(value, list) and value and not any(isinstance(item, list) for item in value):
        return tuple(text for item in value for text in gold_strings(item, where))
    raise UserError(
        f"{where}: the answer is {json.dumps(value)[:60]}", "allowed: a string, a number, or a list of them"
    )


def to_problems(task: str, records: list[dict[str, Any]], keys: Fields, where: str) -> tuple[Problem, ...]:
    """Return one problem a record, in the file's order; `index` is the 0-based place, whatever the record's own
    index field says. UserError naming the record and key if a question or answer is missing or of a wrong kind."""
    problems = []
    for index, record in enumerate(records):
        place = f"{where}: record {index}"
        for key in (keys.question, keys.answer):
            if key not in record:
                raise UserError(f"{place} has no {key!r}", f"it has: {', '.join(record)}; name the keys under `fields`")
        text = record[keys.question]
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{place}: {keys.question}: {json.dumps(text)[:60]}", "allowed: a text that is not empty")
        first, *others = gold_strings(record[keys.answer], place)
        problems.append(
            Problem(
                id=problem_id(task, index, text),
                task=task,
                index=index,
                text=text,
                answer=first,
                level=_label(record, keys.level),
                subject=_label(record, keys.subject),
                alternatives=tuple(others),
            )
        )
    return tuple(problems)


def _label(record: dict[str, Any], key: str | None) -> str | None:
    value = record.get(key) if key else None
    if value is None:
        return None
    label = str(value).removeprefix("Level ")
    return None if label in ("", "?") else label

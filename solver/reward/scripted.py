"""Reward models without a model, for tests and for trying the harness: deterministic, and free.

`scripted` gives each solution prefix a value that depends on the question and its text alone: noise, not judgement.
`scripted:FILE` plays back values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rstar_eval.errors import BackendError, UserError

Judge = Callable[[str, str], float]
"""Maps a question and a solution prefix to a value in [-1, 1]."""


class ScriptedReward:
    """A reward model that asks `judge` for each value."""

    def __init__(self, name: str, judge: Judge, identity: Mapping[str, object] | None = None) -> None:
        self.name = name
        self._judge = judge
        self._identity = identity or {}

    async def score(self, question: str, texts: Sequence[str]) -> list[float]:
        """Return one value in [-1, 1] for each solution prefix."""
        return [self._judge(question, text) for text in texts]

    def describe(self) -> Mapping[str, object]:
        """Return the script's identity."""
        return {"reward": self.name, "engine": "scripted", **self._identity}

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


def noise(question: str, text: str) -> float:
    """Return a value in [-1, 1) that looks random and depends on the two texts alone."""
    digest = hashlib.sha256(f"{question}\x1f{text}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) / 2**63 - 1.0


def table(values: Mapping[str, Mapping[str, float]]) -> Judge:
    """Return a judge that looks values up by question, then by solution prefix. BackendError for what is not there."""

    def judge(question: str, text: str) -> float:
        try:
            return values[question][text]
        except KeyError:
            raise BackendError(f"the script has no value for {question[:40]!r} after {text[-60:]!r}") from None

    return judge


def playback(path: Path) -> Judge:
    """Return a judge that plays back the values in a JSON Lines file: each line holds `question` and `reward`, which
    maps solution prefixes to values in [-1, 1]. UserError if the file is missing or a line is no such record."""
    values: dict[str, dict[str, float]] = {}
    number = 0
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            number += 1
            if line.strip():
                record = json.loads(line)
                values.setdefault(str(record["question"]), {}).update(
                    {str(text): _in_range(float(value)) for text, value in record["reward"].items()}
                )
    except OSError as error:
        raise UserError(f"cannot read the script {str(path)!r}: {error.strerror}", "give a JSON Lines file") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"line {number} of the script {str(path)!r} is no record of a question and its rewards ({error})",
            "each line needs `question` and `reward`, values from -1 to 1",
        ) from None
    return table(values)


def _in_range(value: float) -> float:
    if not -1.0 <= value <= 1.0:
        raise ValueError(f"value {value} is not from -1 to 1")
    return value


def make_scripted(target: str = "") -> ScriptedReward:
    """Return the reward model of the spec `scripted` (no target: noise) or `scripted:FILE`."""
    if not target:
        return ScriptedReward("scripted", noise, {"script": "noise"})
    return ScriptedReward(f"scripted:{target}", playback(Path(target)), {"script": target})

"""Doubles for search tests: an executor for a tiny language, answers grouped by text, and settings of small trees."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from rstar_eval.solver.types import StepRun

_ASSIGN = re.compile(r"(\w+) = (-?\d+)")
_PRINT = re.compile(r"print\((\w+|-?\d+)\)")
_FAILURES = {
    "w = int('a')": ("ValueError", "invalid literal for int() with base 10: 'a'"),
    "y = undefined_name + 1": ("NameError", "name 'undefined_name' is not defined"),
    "z = 1/0": ("ZeroDivisionError", "division by zero"),
    "import nosuchmodule": ("ModuleNotFoundError", "No module named 'nosuchmodule'"),
}


class TinySession:
    """Runs assignments of integers, prints of names or integers, and four known failures; nothing is evaluated."""

    def __init__(self) -> None:
        self.states: list[dict[str, int]] = []
        self.closed = False

    async def run(self, parent: int | None, code: str) -> StepRun:
        assert not self.closed, "run after close"
        names = {} if parent is None else dict(self.states[parent])
        printed: list[str] = []
        for line in code.splitlines():
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            failure = self._line(text, names, printed)
            if failure is not None:
                return StepRun(-1, "error", "".join(printed), *failure, cpu_seconds=0.001)
        self.states.append(names)
        return StepRun(len(self.states) - 1, "ok", "".join(printed), cpu_seconds=0.001)

    def _line(self, text: str, names: dict[str, int], printed: list[str]) -> tuple[str, str] | None:
        if text in _FAILURES:
            return _FAILURES[text]
        if match := _ASSIGN.fullmatch(text):
            names[match[1]] = int(match[2])
        elif match := _PRINT.fullmatch(text):
            if not match[1].lstrip("-").isdigit() and match[1] not in names:
                return "NameError", f"name '{match[1]}' is not defined"
            printed.append(f"{names.get(match[1], match[1])}\n")
        else:
            return "SyntaxError", f"invalid syntax: {text}"
        return None

    async def close(self) -> None:
        self.closed = True


class TinyExecutor:
    """An executor for the tiny language, which runs no Python; it keeps its sessions for inspection."""

    level = "double"

    def __init__(self) -> None:
        self.sessions: list[TinySession] = []

    async def open(self, key: str) -> TinySession:
        self.sessions.append(TinySession())
        return self.sessions[-1]

    def describe(self) -> dict[str, object]:
        return {"level": self.level}

    async def close(self) -> None:
        pass


def by_text(answers: Sequence[str]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(answer, len(numbers)) for answer in answers]


@pytest.fixture
def executor() -> TinyExecutor:
    return TinyExecutor()


@pytest.fixture
def group():
    return by_text

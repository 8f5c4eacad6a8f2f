"""Doubles for search tests: an executor for a tiny language, answers grouped by text, and settings of small trees."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from rstar_eval.solver.choose import Choosing
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.context import SearchContext
from rstar_eval.solver.formats.rstar import RStarFormat
from rstar_eval.solver.search import Tools, search
from rstar_eval.solver.tree import Node
from rstar_eval.solver.types import (
    Completion,
    Question,
    SampleRequest,
    SampleResult,
    SearchResult,
    StepRun,
    Trajectory,
)

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


class World:
    """A policy over a random but fixed space of solutions in the rstar format, for one number `world`.

    What it writes depends on the seed, the place and the candidate's number; shares of failing, cut, unreadable and
    answered steps are as given. Waits a little so that searches interleave; keeps its requests for inspection.
    """

    def __init__(
        self,
        world: int = 0,
        *,
        answers: Sequence[str] = ("1", "2", "3"),
        failing: float = 0.15,
        cut: float = 0.05,
        closing: float = 0.4,
        delay: Callable[[SampleRequest], float] | None = None,
        likely: bool = True,
    ) -> None:
        self.name = "world"
        self.format = RStarFormat()
        self.world, self.answers = world, answers
        self.failing, self.cut, self.closing = failing, cut, closing
        self.delay, self.likely = delay, likely
        self.requests: list[SampleRequest] = []
        self.tokens = 0

    async def sample(self, request: SampleRequest) -> SampleResult:
        self.requests.append(request)
        if self.delay is not None:
            await asyncio.sleep(self.delay(request))
        completions = []
        for i in range(request.n):
            seed = 0 if request.temperature == 0 else request.seed
            rng = random.Random(f"{self.world}|{seed}|{request.question}|{request.prefix}|{i}")
            one = self._one(request, rng)
            if request.logprobs and self.likely:
                one = replace(one, logprob=-random.Random(f"{self.world}|{one.text}").uniform(0, 9))
                one = replace(one, logprob_tokens=one.tokens)
            completions.append(one)
        self.tokens += sum(one.tokens for one in completions)
        return SampleResult(tuple(completions), len(request.prefix) // 4 + 10)

    def _one(self, request: SampleRequest, rng: random.Random) -> Completion:
        tokens = rng.randint(3, 9)
        if tokens > request.max_tokens or rng.random() < self.cut:
            return Completion("\nx = 1", "length", None, min(tokens, request.max_tokens))
        if request.prefix.endswith("<end_of_output>"):
            answer = rng.choice(self.answers)
            return Completion(f"\n<answer>So \\boxed{{{answer}}}.", "stop", "<end_of_answer>", tokens)
        opening = "" if "<code>" in request.prefix else "<code>"
        lines = [self._line(rng)]
        final = rng.random() < self.closing
        while request.until == "block" and not final and len(lines) < 6:
            lines.append(self._line(rng))
            final = rng.random() < self.closing
        text = opening + "\n<end_of_step>".join(f"\n{line}\n" for line in lines)
        if final or request.until == "block":
            return Completion(f"{text}print({rng.randint(0, 9)})\n", "stop", "<end_of_code>", tokens)
        return Completion(text, "stop", "<end_of_step>", tokens)

    def _line(self, rng: random.Random) -> str:
        return "z = 1/0" if rng.random() < self.failing else f"x = {rng.randint(0, 4)}"

    def describe(self) -> dict[str, object]:
        return {"policy": self.name}

    async def close(self) -> None:
        pass


class Judge:
    """A reward model whose values depend on the text alone; counts what it scored."""

    name = "judge"

    def __init__(self, world: int = 0, value: Callable[[str], float] | None = None) -> None:
        self.world, self.value, self.scored = world, value, 0

    async def score(self, question: str, texts: Sequence[str]) -> list[float]:
        self.scored += len(texts)
        if self.value is not None:
            return [self.value(text) for text in texts]
        return [random.Random(f"{self.world}|{text}").uniform(-1, 1) for text in texts]

    def describe(self) -> dict[str, object]:
        return {"reward": self.name}

    async def close(self) -> None:
        pass


class Bench:
    """Builds contexts and runs searches on doubles."""

    World, Judge, TinyExecutor = World, Judge, TinyExecutor

    def tools(self, policy: Any = None, reward: Any = None, outcome: Any = None) -> Tools:
        return Tools(policy or World(), TinyExecutor(), reward, by_text, outcome)

    def run(
        self, config: SearchConfig, tools: Tools | None = None, question: str = "q", **options: Any
    ) -> SearchResult:
        return asyncio.run(search(Question(question, question), tools or self.tools(), config, **options))

    def grow(
        self, config: SearchConfig, tools: Tools, strategy: Any
    ) -> tuple[list[Trajectory], Node, str, SearchContext]:
        """Run a strategy on a bare context, so that the tree itself can be inspected."""

        async def go() -> tuple[list[Trajectory], Node, str, SearchContext]:
            session = await tools.executor.open("q")
            choosing = Choosing("majority", config.top_k, config.seed, by_text)
            context = SearchContext(Question("q", "q"), tools, config, 0, session, choosing)
            return (*await strategy(context), context)

        return asyncio.run(go())


@pytest.fixture(scope="session")
def bench() -> Bench:
    return Bench()

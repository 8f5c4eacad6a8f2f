"""What walking one tree several times at once changes: answers, tokens, and rounds of waiting for the policy.

    python benchmarks/search/walks_at_once.py [--problems 400] [--rollouts 16] [--walks 1 2 4 8]

No model: problems are strings of three hidden digits. The policy proposes the right next digit with probability 0.4,
else one of three wrong ones, in one of four wordings; the reward model says +0.4 for a right beginning and -0.4 for a
wrong one, with noise of standard deviation 0.5. Every number of walks searches the same problems with the same seeds,
so that the differences are paired. "rounds" are requests that have to be waited for one after the other: the latency of
a search whose requests beside each other cost nothing. Without a reward model the walks vote (docs/search.md).
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.formats.rstar import RStarFormat
from rstar_eval.solver.search import Tools, choose_answer, search
from rstar_eval.solver.types import Completion, Question, SampleRequest, SampleResult, StepRun
from rstar_eval.stats import wilson

DIGITS, RIGHT, WRONG, WORDINGS = 3, 0.4, "567", 4


def digits(text: str) -> str:
    """Return the digits that a solution has chosen so far."""
    return "".join(line[-1] for line in text.splitlines() if line.startswith("# digit"))


class Policy:
    """Proposes one digit a step, then prints, then answers; counts rounds by a clock that ticks once a request wave."""

    name, format = "digits", RStarFormat()

    def __init__(self) -> None:
        self.waves = 0
        self._open = False

    async def sample(self, request: SampleRequest) -> SampleResult:
        """Requests that are made before the event loop turns belong to one round."""
        if not self._open:
            self._open, self.waves = True, self.waves + 1
        await asyncio.sleep(0)
        self._open = False
        return SampleResult(tuple(self._one(request, i) for i in range(request.n)), 0)

    def _one(self, request: SampleRequest, i: int) -> Completion:
        rng = random.Random(f"{request.seed}|{request.prefix}|{i}")
        chosen = digits(request.prefix)
        if request.prefix.endswith("<end_of_output>"):
            return Completion(f"\n<answer>\\boxed{{{chosen}}}", "stop", "<end_of_answer>", 10)
        hidden = request.question
        digit = hidden[len(chosen)] if rng.random() < RIGHT else rng.choice(WRONG)
        opening = "<code>" if not request.prefix else ""
        last = len(chosen) == DIGITS - 1
        return Completion(
            f"{opening}\n# digit, way {rng.randrange(WORDINGS)}: {digit}\n",
            "stop",
            "<end_of_code>" if last else "<end_of_step>",
            20,
        )


class Rewards:
    """Judges whether the digits so far are right, with noise that depends on the text alone."""

    name = "digits"

    async def score(self, question: str, texts: Sequence[str]) -> list[float]:
        return [self._one(question, text) for text in texts]

    def _one(self, question: str, text: str) -> float:
        mean = 0.4 if question.startswith(digits(text)) else -0.4
        return max(-1.0, min(1.0, random.Random(f"{question}|{text}").gauss(mean, 0.5)))


class Session:
    """Runs nothing."""

    async def run(self, parent: int | None, code: str) -> StepRun:
        return StepRun(0, "ok")

    async def close(self) -> None:
        pass


class Executor:
    """Opens sessions that run nothing."""

    level = "none"

    async def open(self, key: str) -> Session:
        return Session()


@dataclass(frozen=True, slots=True)
class Row:
    """What one setting gave, a problem each."""

    right: list[bool]
    tokens: list[int]
    rounds: list[int]


def by_text(answers: Sequence[str]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(answer, len(numbers)) for answer in answers]


async def measure(problems: int, rollouts: int, walks: int, scored: bool) -> Row:
    """Search every problem with `walks` walks at once, one problem after the other."""
    row = Row([], [], [])
    config = SearchConfig(rollouts=rollouts, candidates=4, parallel_rollouts=walks)
    for i in range(problems):
        hidden = "".join(random.Random(i).choice("01234") for _ in range(DIGITS))
        policy = Policy()
        tools = Tools(policy, Executor(), Rewards() if scored else None, by_text)  # type: ignore[arg-type]
        result = await search(Question(f"p{i}", hidden), tools, config)
        row.right.append(choose_answer(result.trajectories, config, by_text).answer == hidden)
        row.tokens.append(result.budget.completion_tokens)
        row.rounds.append(policy.waves)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=400)
    parser.add_argument("--rollouts", type=int, default=16)
    parser.add_argument("--walks", type=int, nargs="+", default=[1, 2, 4, 8])
    arguments = parser.parse_args()
    print("reward  walks  right   95 % interval     against the first: better/worse  tokens  rounds")
    for scored in (True, False):
        first: Row | None = None
        for walks in arguments.walks:
            row = asyncio.run(measure(arguments.problems, arguments.rollouts, walks, scored))
            first = first or row
            low, high = wilson(sum(row.right), len(row.right))
            better = sum(here and not there for here, there in zip(row.right, first.right, strict=True))
            worse = sum(there and not here for here, there in zip(row.right, first.right, strict=True))
            share = sum(row.right) / len(row.right)
            print(
                f"{'yes' if scored else 'no':6}  {walks:5}  {share:.3f}  [{low:.3f}, {high:.3f}]"
                f"  {better:27}/{worse:<5}  {statistics.mean(row.tokens):6.0f}  {statistics.mean(row.rounds):6.1f}"
            )


if __name__ == "__main__":
    main()

"""The reference search against a second model of the authors' loop, on random cases with other settings than the public
ones.

The model is built differently on purpose: as the authors do, every rollout is `max_depth` rounds, in each of which the
current node is either expanded or, if it has children already, only left for its best child; values are kept in plain
dicts by tag. Both must agree on every visit, sum, first value, ending and best answer.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest

from rstar_eval.solver.choose import Choosing
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.context import SearchContext, Tools
from rstar_eval.solver.formats.rstar import RStarFormat
from rstar_eval.solver.reference import ReferenceTree, grow
from rstar_eval.solver.tree import prefix_of, walk
from rstar_eval.solver.types import Completion, Question, SampleRequest, SampleResult

LINES = ["x = 1", "x = 2", "print(3)", "z = 1/0", "y = undefined_name + 1", "w = int('a')", "# an error in words"]
MESSAGES = {
    "z = 1/0": "ZeroDivisionError: division by zero",
    "y = undefined_name + 1": "NameError: name 'undefined_name' is not defined",
    "w = int('a')": "ValueError: invalid literal for int() with base 10: 'a'",
}
STEP, CODE, ANSWER = "<end_of_step>", "<end_of_code>", "<end_of_answer>"


def candidates(world: int, prefix: str, n: int) -> list[tuple[str, str]]:
    """What the policy writes after `prefix`: steps, closed blocks, answers, and now and then something odd."""
    rng = random.Random(f"{world}|{prefix}")
    found: list[tuple[str, str]] = []
    for _ in range(n):
        opening = "" if prefix.rfind("<code>") > prefix.rfind(CODE) else "<code>\n"
        line = rng.choice(LINES)
        roll = rng.random()
        if prefix.endswith("<end_of_output>") and roll < 0.6:
            box = rng.choice(["\\boxed{1}", "\\boxed{2}", "\\boxed{}", "boxed 1"])
            found.append((f"\n<answer>It is {box}.", rng.choice([ANSWER, ANSWER, STEP])))
        elif roll < 0.75:
            found.append((f"{opening}{line}\n", STEP))
        else:
            found.append((f"{opening}{line}\nprint(5)\n", CODE))
    return found


def reward(world: int, text: str) -> float:
    return random.Random(f"r{world}|{text}").choice([-0.5, 0.0, 0.25, 0.5, random.Random(text).uniform(-1, 1)])


class Model:
    """The authors' loop on dicts by tag."""

    def __init__(self, world: int, config: SearchConfig, mode: str, right: float, wrong: float) -> None:
        self.world, self.config, self.mode, self.right, self.wrong = world, config, mode, right, wrong
        self.text, self.children, self.errors = {"0": ""}, {"0": []}, {"0": 0}
        self.visits, self.total, self.first = {"0": 0}, {"0": 0.0}, {}
        self.final: dict[str, str] = {}
        self.terminal: set[str] = set()
        self.best: dict[int, tuple[str, float]] = {}

    def prefix(self, tag: str) -> str:
        parts = tag.split(".")
        return "".join(self.text[".".join(parts[: i + 1])] for i in range(len(parts)))

    def give(self, tag: str, value: float, *, upwards: bool) -> None:
        while True:
            self.visits[tag] += 1
            self.total[tag] += value
            self.first.setdefault(tag, value)
            if not upwards or tag == "0":
                return
            tag = tag.rpartition(".")[0]

    def select(self, tag: str) -> str | None:
        options = [child for child in self.children[tag] if child not in self.terminal]
        if not options:
            if self.children[tag] or tag in self.terminal:
                self.terminal.add(tag)
                return None
            return tag

        def puct(child: str) -> float:
            q = self.total[child] / self.visits[child] if self.visits[child] else 0.0
            if not self.visits[child] or not self.visits[tag]:
                return q
            return q + self.config.c_puct * math.sqrt(math.log(self.visits[tag]) / self.visits[child])

        return max(options, key=puct)  # the first of equals

    def run(self) -> None:
        for rollout in range(self.config.rollouts):
            current = self.select("0")
            for _ in range(self.config.max_depth):
                if current is None:
                    break
                if not self.children[current]:
                    self.expand(current, rollout)
                current = self.select(current)

    def expand(self, tag: str, rollout: int) -> None:
        prefix, texts = self.prefix(tag), {}
        for text, stop in candidates(self.world, prefix, self.config.candidates):
            texts.setdefault(text, stop)
        ended = [(text, stop) for text, stop in texts.items() if stop == ANSWER]
        pending: list[str] = []
        answered: list[str] = []
        for text, stop in ended[:1] or list(texts.items()):
            child = f"{tag}.{len(self.children[tag]) + 1}"
            self.children[tag].append(child)
            self.children[child], self.errors[child] = [], 0
            self.visits[child], self.total[child] = 0, 0.0
            self.create(tag, child, text + stop)
            if child not in self.terminal:
                pending.append(child)
            elif self.final[child] in ("errors", "depth"):
                self.give(child, self.wrong, upwards=False)
            elif self.mode == "eval":
                answered.append(child)
            else:
                self.give(child, self.right if self.final[child] == "1" else self.wrong, upwards=True)
        if self.mode == "sample":
            return
        for child in [*answered, *pending]:
            value = reward(self.world, self.prefix(child))
            self.give(child, value, upwards=child in self.terminal)
            if child in self.terminal and (rollout not in self.best or value > self.best[rollout][1]):
                self.best[rollout] = (self.final[child], value)

    def create(self, parent: str, child: str, step: str) -> None:
        self.text[child] = step
        if "boxed" in step:
            content = step.partition("\\boxed{")[2].partition("}")[0] if "\\boxed{" in step else step.strip()
            if content:
                self.final[child] = content
                self.terminal.add(child)
        else:
            output = self.execute(parent, step)
            failed = "error" in output.lower()
            self.errors[child] = self.errors[parent] + 1 if failed else 0
            if CODE in step:
                output = f"<output>{output}<end_of_output>"
                self.text[child] = f"{step}\n{output}"
            if failed and self.errors[child] >= self.config.max_errors:
                closed = step if CODE in step else step + CODE
                self.text[child] = f"{closed}\n<output>{output}<end_of_output>"
                self.final[child] = "errors"
                self.terminal.add(child)
        if child not in self.terminal and child.count(".") > self.config.max_depth:
            self.final[child] = "depth"
            self.terminal.add(child)

    def execute(self, parent: str, step: str) -> str:
        """Run the whole block as one program: the steps since the last that closed one, those with a box left out."""
        block = [step]
        while parent != "0" and CODE not in self.text[parent] and "<end_of_output>" not in self.text[parent]:
            if "boxed" not in self.text[parent]:
                block.insert(0, self.text[parent])
            parent = parent.rpartition(".")[0]
        printed: list[str] = []
        for line in "".join(block).replace(STEP, "").splitlines():
            if line in MESSAGES:
                return MESSAGES[line]
            if line.startswith("print("):
                printed.append(line[6:-1])
        return "\n".join(printed)


class Policy:
    name, format = "model", RStarFormat()

    def __init__(self, world: int) -> None:
        self.world = world

    async def sample(self, request: SampleRequest) -> SampleResult:
        found = candidates(self.world, request.prefix, request.n)
        return SampleResult(tuple(Completion(text, "stop", stop, 1) for text, stop in found))


class Rewards:
    name = "model"

    def __init__(self, world: int) -> None:
        self.world = world

    async def score(self, question: str, texts: Sequence[str]) -> list[float]:
        return [reward(self.world, text) for text in texts]


def ours(world: int, config: SearchConfig, mode: str, right: float, wrong: float, executor: Any) -> ReferenceTree:
    async def is_one(answer: str) -> bool:
        return answer == "1"

    def group(answers: Sequence[str]) -> list[int]:
        return list(range(len(answers)))

    async def go() -> ReferenceTree:
        tools = Tools(
            Policy(world),  # type: ignore[arg-type]
            executor,
            None if mode == "sample" else Rewards(world),  # type: ignore[arg-type]
            group,
            None if mode == "eval" else is_one,
        )
        session = await executor.open("q")
        tree = ReferenceTree(right, wrong)
        context = SearchContext(Question("q", "q"), tools, config, 0, session, Choosing("majority", 8, 0, group))
        await grow(context, tree, config.rollouts)
        return tree

    return asyncio.run(go())


@pytest.mark.parametrize("mode", ["sample", "sft_sample", "eval"])
def test_both_models_of_the_authors_search_agree(mode, executor):
    seen = {"answer": 0, "errors": 0, "depth": 0, "boxed step": 0, "several answers": 0}
    for world in range(120):
        rng = random.Random(f"{mode}{world}")
        config = SearchConfig(
            semantics="reference",
            rollouts=rng.choice([1, 2, 5, 12, 20]),
            candidates=rng.randint(1, 6),
            max_depth=rng.randint(1, 7),
            c_puct=rng.choice([0.0, 0.5, 2.0, 5.0]),
            max_errors=rng.randint(1, 3),
        )
        right, wrong = rng.choice([(1.0, -1.0), (0.5, -0.25), (1.0, 0.0)])
        model = Model(world, config, mode, right, wrong)
        model.run()
        tree = ours(world, config, mode, right, wrong, executor)
        nodes = {node.tag: node for node in walk(tree.root)}
        assert nodes.keys() == model.text.keys()
        for tag, node in nodes.items():
            assert node.text == model.text[tag]
            assert (node.visits, node.total) == (model.visits[tag], pytest.approx(model.total[tag], abs=1e-12)), tag
            assert node.value == model.first.get(tag)
            assert (node.answer if node.end == "answer" else node.end) == model.final.get(tag)
            assert prefix_of(node) == model.prefix(tag)
            if node.end:
                seen[node.end] += 1
            seen["boxed step"] += "boxed" in node.text and node.end is None
        assert {key: (node.answer, node.prior) for key, node in tree.best.items()} == model.best
        seen["several answers"] += sum(node.end == "answer" for node in nodes.values()) > 1
    assert all(seen.values()), seen

"""Replaying scripted searches and comparing every visit, value and answer: `rstar-eval replay`.

A case is one line of JSON: the mode and settings of a search, its candidates by the solution so far, the rewards by the
solution so far, and what the authors' code made of it: the tree by tag, the best answer of each rollout (mode `eval`),
or the trajectories, preference pairs and fine-tuning picks (modes `sample` and `sft_sample`). The candidates' code
runs in the executor, so that outputs and errors are real.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from rstar_eval.errors import BackendError, UserError
from rstar_eval.serial import from_data
from rstar_eval.solver.choose import Choosing
from rstar_eval.solver.concurrent import together
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.context import SearchContext, Tools
from rstar_eval.solver.formats.rstar import RStarFormat
from rstar_eval.solver.protocols import Executor, StepFormat
from rstar_eval.solver.reference import ReferenceTree, grow
from rstar_eval.solver.reference_data import ended_paths, fine_tuning_picks, preference_pairs
from rstar_eval.solver.reward.scripted import ScriptedReward, table
from rstar_eval.solver.tree import Node, walk
from rstar_eval.solver.types import Completion, Question, SampleRequest, SampleResult

DEPTH_MESSAGE = "Fail to sove the problem within limited steps."
ERRORS_MESSAGE = "Too many consecutive steps have code errors."
"""The authors' words (sic) in place of an answer."""
TOLERANCE = 1e-6
"""Cases hold values rounded to six decimals."""
CONCURRENT = 16
"""Cases that are replayed at the same time."""
_UNLIMITED = 1_000_000


@dataclass(frozen=True, slots=True)
class CaseConfig:
    """The settings of a case that its mode does not already imply."""

    n: int
    rollouts: int
    max_depth: int
    c_puct: float
    errors_threshold: int
    positive_reward: float = 1.0
    negative_reward: float = -1.0


@dataclass(frozen=True, slots=True)
class ExpectedNode:
    """A node as the authors' code left it."""

    visits: int
    q: float
    value: float
    final_answer: str
    text: str


@dataclass(frozen=True, slots=True)
class ExpectedPath:
    """A trajectory that the authors' extraction script made: `final_q` is 1 for a right answer, else -1."""

    solution: str
    final_q: float
    q_values: list[float]
    answer: str


@dataclass(frozen=True, slots=True)
class ExpectedPair:
    """A preference pair that the authors' extraction script made."""

    prefix: str
    chosen_step: str
    rejected_step: str
    step_margin: float
    pos_count: int
    neg_count: int


@dataclass(frozen=True, slots=True)
class Case:
    """One scripted search and its expected outcome. See the head of this module."""

    id: str
    mode: Literal["sample", "sft_sample", "eval"]
    config: CaseConfig
    question: str
    ground_truth: str
    policy: dict[str, list[tuple[str, str | None]]]
    reward: dict[str, float]
    tree: dict[str, ExpectedNode]
    rollout_best: dict[int, tuple[str, float]]
    trajectories: list[ExpectedPath] | None = None
    preference_pairs: list[ExpectedPair] | None = None
    sft_top2: list[str] | None = None


def replay_cases(path: Path, semantics: str, out: TextIO, executor: Executor | None = None) -> int:
    """Replay every case of a JSON Lines file; write one JSON line a case {"id", "nodes", "mismatches"} to `out`.

    `mismatches` counts what differs; a case that differs also has `first`, the first difference in words. `executor`
    runs the candidates' code (None: the default sandbox). Return 1 if anything differs, else 0. UserError if the file
    is missing or empty, a line is no case, or `semantics` is not "reference".
    """
    if semantics != "reference":
        raise UserError(
            f"replay compares with trees of the authors' code, which semantics {semantics!r} does not make",
            "use --semantics reference",
        )
    cases = list(read_cases(path))
    if not cases:
        raise UserError(f"{path} holds no cases", "give a JSON Lines file with one scripted search a line")
    return asyncio.run(_replay_all(cases, out, executor))


def read_cases(path: Path) -> Iterator[Case]:
    """Yield the cases of a JSON Lines file. UserError naming the file and the line if it is missing or malformed."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # texts may hold other line separators
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}", "give a JSON Lines file of scripted searches"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text", "give a JSON Lines file of scripted searches") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            data = json.loads(line)
        except ValueError as error:
            raise UserError(f"{where} is not JSON: {error}", "give one JSON object a line") from None
        yield from_data(Case, data, where)


async def _replay_all(cases: Sequence[Case], out: TextIO, executor: Executor | None) -> int:
    failed = False
    async with _executor(executor) as running:
        places = asyncio.Semaphore(CONCURRENT)

        async def one(case: Case) -> tuple[list[str], int]:
            async with places:
                return await replay(case, running)

        for case, (differences, nodes) in zip(cases, await together(one(case) for case in cases), strict=True):
            line: dict[str, Any] = {"id": case.id, "nodes": nodes, "mismatches": len(differences)}
            if differences:
                failed = True
                line["first"] = differences[0]
            out.write(json.dumps(line) + "\n")
    return int(failed)


@asynccontextmanager
async def _executor(given: Executor | None) -> AsyncIterator[Executor]:
    """Yield the given executor, or one that is started here and stopped at the end."""
    if given is not None:
        yield given
        return
    from rstar_eval.solver.executor import start_executor

    started = await start_executor()
    try:
        yield started
    finally:
        await started.close()


async def replay(case: Case, executor: Executor) -> tuple[list[str], int]:
    """Search `case` again by the authors' rules; return the differences in words and the number of nodes.

    A step or a reward that the case does not script is a difference, not an error.
    """
    training = case.mode != "eval"

    async def right(answer: str) -> bool:
        return answer == case.ground_truth

    tools = Tools(
        policy=CasePolicy(case),
        executor=executor,
        reward=None if case.mode == "sample" else ScriptedReward("replay", table({case.question: case.reward})),
        group=_by_text,
        outcome=right if training else None,
    )
    config = SearchConfig(
        semantics="reference",
        rollouts=case.config.rollouts,
        candidates=case.config.n,
        max_depth=case.config.max_depth,
        c_puct=case.config.c_puct,
        max_errors=case.config.errors_threshold,
        max_step_tokens=_UNLIMITED,
    )
    tree = ReferenceTree(case.config.positive_reward, case.config.negative_reward)
    session = await executor.open(case.id)
    try:
        choosing = Choosing("majority", config.top_k, config.seed, _by_text)
        context = SearchContext(Question(case.id, case.question), tools, config, 0, session, choosing)
        await grow(context, tree, config.rollouts)
    except BackendError as error:
        return [f"the search left the script: {error.message}"], sum(1 for _ in walk(tree.root))
    finally:
        await session.close()
    differences = [*_tree_differences(case, tree), *_best_differences(case, tree), *_data_differences(case, tree)]
    return differences, sum(1 for _ in walk(tree.root))


class CasePolicy:
    """Plays a case's candidates back: at each place those that it lists, `n` at most."""

    name = "replay"

    def __init__(self, case: Case) -> None:
        self.format: StepFormat = RStarFormat()
        self._candidates = case.policy

    async def sample(self, request: SampleRequest) -> SampleResult:
        """Return the candidates after `request.prefix`. BackendError if the case does not know that place."""
        if request.prefix not in self._candidates:
            raise BackendError(f"no candidates after {request.prefix[-60:]!r}")
        found = self._candidates[request.prefix][: request.n]
        return SampleResult(tuple(Completion(text, "stop" if stop else "eos", stop) for text, stop in found))

    def describe(self) -> Mapping[str, object]:
        """Return the name."""
        return {"policy": self.name}

    async def close(self) -> None:
        """Do nothing."""


def _by_text(answers: Sequence[str]) -> list[int]:
    numbers: dict[str, int] = {}
    return [numbers.setdefault(answer, len(numbers)) for answer in answers]


def final_answer(node: Node) -> str:
    """Return what the authors store as a node's final answer: the answer, a message for a failure, or nothing."""
    if node.end == "answer":
        return node.answer or ""
    return {"errors": ERRORS_MESSAGE, "depth": DEPTH_MESSAGE}.get(node.end or "", "")


def _tree_differences(case: Case, tree: ReferenceTree) -> Iterator[str]:
    found = {node.tag: node for node in walk(tree.root)}
    for tag in case.tree.keys() - found.keys():
        yield f"node {tag} is missing"
    for tag, node in found.items():
        expected = case.tree.get(tag)
        if expected is None:
            yield f"node {tag} is not in the case"
            continue
        pairs = (
            ("visits", node.visits, expected.visits),
            ("q", node.q, expected.q),
            ("value", node.value or 0.0, expected.value),
            ("final_answer", final_answer(node), expected.final_answer),
            ("text", node.text, expected.text),
        )
        for name, ours, theirs in pairs:
            if not same(ours, theirs):
                yield f"node {tag}: {name} is {ours!r}, not {theirs!r}"


def _best_differences(case: Case, tree: ReferenceTree) -> Iterator[str]:
    ours = {rollout: (final_answer(node), node.prior) for rollout, node in tree.best.items()}
    for rollout in sorted(ours.keys() | case.rollout_best.keys()):
        if not same(ours.get(rollout), case.rollout_best.get(rollout)):
            yield f"rollout {rollout}: best is {ours.get(rollout)}, not {case.rollout_best.get(rollout)}"


def _data_differences(case: Case, tree: ReferenceTree) -> Iterator[str]:
    def right(answer: str) -> bool:
        return answer == case.ground_truth

    if case.trajectories is not None:
        paths = [
            (path.solution, 1.0 if path.right else -1.0, path.values, final_answer(path.steps[-1]))
            for path in ended_paths(tree.root, right)
        ]
        yield from _list_differences(
            "trajectory", paths, [(one.solution, one.final_q, one.q_values, one.answer) for one in case.trajectories]
        )
    if case.preference_pairs is not None:
        pairs = [astuple(pair) for pair in preference_pairs(tree.root, case.question, right)]
        yield from _list_differences("preference pair", pairs, [astuple(pair) for pair in case.preference_pairs])
    if case.sft_top2 is not None:
        yield from _list_differences("fine-tuning pick", fine_tuning_picks(tree.root, right), case.sft_top2)


def _list_differences(name: str, ours: Sequence[object], theirs: Sequence[object]) -> Iterator[str]:
    if len(ours) != len(theirs):
        yield f"{len(ours)} of {name}, not {len(theirs)}"
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if not same(one, other):
            yield f"{name} {number}: {one!r:.200} is not {other!r:.200}"


def same(ours: object, theirs: object) -> bool:
    """Return whether two values are equal, numbers within the rounding of the cases, sequences item by item."""
    if isinstance(ours, (int, float)) and isinstance(theirs, (int, float)):
        return abs(ours - theirs) <= TOLERANCE
    if isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all(same(one, other) for one, other in zip(ours, theirs, strict=True))
    return ours == theirs

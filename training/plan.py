"""What a self-evolution costs, before anything starts: tokens, hours and disk a round, with the arithmetic.

Everything is a product of a few numbers, each with its source, so that a reader can put in their own. Searches are
bounded from above: walks of a tree are taken to part as early as they can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rstar_eval.errors import UserError, nearest
from rstar_eval.training.config import TrainConfig
from rstar_eval.training.evolve_config import EvolveConfig, evolve_preset

BYTES_A_NODE = 31.0
"""Compressed bytes of a stored tree's node: measured on trees of the mini world (docs/training.md)."""

BATCH_FILLED = 0.86
"""Share of a token budget that is filled: measured, 361,675 tokens in 600 batches of 700 (docs/training.md)."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The numbers that a plan is made of and that no setting holds.

    problems: of the pool. solution: tokens of one solution; question: of a question with its prompt; steps: of a
    solution. distinct: share of the sampled candidates that are different, and so nodes. reach: share of the bound on
    expansions that searches really make. unsolved: share of the pool before each round's second search. pairs: pairs a
    solved problem. rate: tokens that one device generates a second; training_rate: tokens it trains on a second.
    parameters: of the policy (the PPM has as many). device: what an hour is an hour of. sources: where each is from.
    """

    problems: int
    solution: float
    question: float
    steps: int
    distinct: float
    reach: float
    unsolved: tuple[float, ...]
    pairs: float
    rate: float
    training_rate: float
    parameters: float
    device: str
    sources: dict[str, str] = field(default_factory=dict)


PAPER_HOURS = (80 * 14 * 24, 60 * 3 * 24, 60 * 3 * 24, 60 * 7 * 24)
"""GPU-hours of data generation that the paper's appendix A states, by round: two weeks on 10 nodes of 8 H100 (80 GB;
with a policy of 236B), then three days, three days and a week on 15 nodes of 4 A100 (40 GB). Quoted from memory,
not checked against a copy."""
PAPER_PROBLEMS = 747_000
PAPER_SOLVED = (0.6017, 0.6660, 0.7786, 0.9025)
"""Share of the problems that were solved after each round (Table 2)."""
PAPER_TOKENS = {"gsm8k": 3299, "math": 5453, "olympiadbench": 7889}
"""Tokens generated a trajectory at test time, with 32 candidates (Table 9)."""
PAPER_MIX = {"gsm8k": 0.13, "math": 0.57, "olympiadbench": 0.30}
"""Share of each level among the problems: least squares on the four rows of Table 2 (residuals up to 4 points)."""


def paper_facts() -> Facts:
    """Return the paper's numbers. The rate is what makes round 2 take the hours that the paper states: rounds 3 and 4
    are then predictions that can be compared."""
    solution = sum(PAPER_MIX[level] * PAPER_TOKENS[level] / 32 for level in PAPER_MIX)
    facts = Facts(
        problems=PAPER_PROBLEMS,
        solution=solution,
        question=120,
        steps=5,
        distinct=1.0,
        reach=1.0,
        unsolved=tuple(1 - share for share in PAPER_SOLVED),
        pairs=4,
        rate=1.0,
        training_rate=7_000,
        parameters=7.6e9,
        device="A100 40 GB",
        sources={
            "problems": "paper, section 3.4",
            "solution": "Table 9 (3299, 5453, 7889 tokens with 32 candidates) weighted by level .13, .57, .30 "
            "(least squares on Table 2)",
            "question": "assumed",
            "steps": "assumed; the authors' released solutions have 3 to 6",
            "distinct": "bound: every candidate differs",
            "reach": "bound: every walk parts as early as it can",
            "unsolved": "Table 2",
            "pairs": "assumed: two against two at one node a problem",
            "rate": "such that round 2 takes the paper's 4,320 GPU-hours (3 days on 60 GPUs, appendix A)",
            "training_rate": "assumed: 6 x 7.6e9 FLOP a token at 320 TFLOP/s, bf16 on a newer GPU of 80 GB",
            "parameters": "Qwen2.5-Math-7B",
        },
    )
    second = evolve_preset("paper").plan(2).search
    samples = facts.problems * expansions(second.rollouts, second.candidates, facts.steps) * second.candidates
    return replace(facts, rate=samples * facts.solution / facts.steps / (PAPER_HOURS[1] * 3600))


def mini_facts(config: EvolveConfig) -> Facts:
    """Return the miniature's numbers (docs/training.md says how they were measured)."""
    return Facts(
        problems=sum(config.pool.values()) + sum(config.plan(1).fresh.values()),
        solution=70,
        question=60,
        steps=5,
        distinct=0.29,
        reach=0.41,
        unsolved=(0.63, 0.49, 0.42, 0.33),
        pairs=1.5,
        rate=3_200,
        training_rate=8_000,
        parameters=0.62e6,
        device="CPU thread",
        sources={
            "problems": "the preset's of rounds 1 and 2, new ones each round; 3 and 4 have 90 more",
            "solution": "14 tokens a step, measured on 368 trees",
            "question": "prototype: 24 to 90 tokens",
            "steps": "the mini world's levels: 1 to 4 operations and the answer",
            "distinct": "measured on 368 trees of 8 candidates",
            "reach": "measured: 370, 437, 429 tokens a problem in rounds 1 to 3, 3,637 in the second search of 4",
            "unsolved": "measured, mean of seeds 0 and 1 (docs/evolve.md)",
            "pairs": "measured: 2.4, 1.5, 0.9 and 1.1 a solved problem in rounds 1 to 4 (seeds 0 and 1)",
            "rate": "measured: 6.9 million in 2,112 s of one core, sandbox and PPM and all (seed 0, docs/evolve.md)",
            "training_rate": "measured: 8.9 thousand tokens a CPU second (docs/training.md)",
            "parameters": "the mini policy",
        },
    )


def expansions(walks: int, candidates: int, levels: int) -> int:
    """Return the most nodes that `walks` walks can expand in a tree of `levels` levels: one at the root, then one a
    walk and level, but no more than there are nodes.

    >>> expansions(16, 8, 5)
    57
    """
    return sum(min(walks, candidates**level) for level in range(levels))


@dataclass(slots=True)
class RoundCost:
    """What one round costs: generated tokens, device hours of search and training, bytes on disk; and the lines that
    say how each comes about."""

    number: int
    tokens: float = 0.0
    search_hours: float = 0.0
    training_tokens: float = 0.0
    training_hours: float = 0.0
    tree_bytes: float = 0.0
    data_bytes: float = 0.0
    checkpoint_bytes: float = 0.0
    lines: list[str] = field(default_factory=list)

    @property
    def disk(self) -> float:
        """All bytes that stay."""
        return self.tree_bytes + self.data_bytes + self.checkpoint_bytes


def plan(config: EvolveConfig, facts: Facts, rounds: int) -> list[RoundCost]:
    """Return the cost of each round, before them (as round 0) of a base that is pretrained. UserError if there is no
    round."""
    if rounds < 1:
        raise UserError(f"the number of rounds is {rounds}", "give at least 1")
    base = [_base(config, facts)] if config.pretrain and not config.base else []
    return [*base, *(_round(config, facts, number) for number in range(1, rounds + 1))]


def _base(config: EvolveConfig, facts: Facts) -> RoundCost:
    """Return the cost of the base model that is pretrained first, as round 0."""
    cost = RoundCost(0)
    for place, phase in enumerate(config.pretrain, start=1):
        name = f"base, phase {place}"
        _train(cost, phase, name, config.demonstrations, facts.question + facts.solution, 1, facts)
    cost.checkpoint_bytes = facts.parameters * 4
    cost.lines.append(f"disk, checkpoint: {_short(facts.parameters)} parameters x 4 bytes = {_bytes(cost.disk)}")
    return cost


def _round(config: EvolveConfig, facts: Facts, number: int) -> RoundCost:
    cost = RoundCost(number)
    say = cost.lines.append
    chosen = config.plan(number)
    before = facts.unsolved[min(number, len(facts.unsolved)) - 2] if number > 1 else 1.0
    after = facts.unsolved[min(number, len(facts.unsolved)) - 1]
    searches = [("all problems", facts.problems, chosen.search)]
    if chosen.more is not None:
        searches.append(("still unsolved", round(facts.problems * before), chosen.more))
    step = facts.solution / facts.steps
    nodes = 0.0
    for label, problems, search in searches:
        per_tree = search.rollouts // search.trees
        bound = expansions(per_tree, search.candidates, facts.steps)
        made = bound * facts.reach * search.trees
        tokens = made * search.candidates * step
        reach = f" x {facts.reach:g} reached" if facts.reach != 1 else ""
        trees = f" x {search.trees} trees" if search.trees > 1 else ""
        say(
            f"search, {label} ({problems:,}): {per_tree} rollouts a tree, {search.candidates} candidates, "
            f"{facts.steps} levels: at most {bound} expansions{trees}{reach} x {search.candidates} candidates x "
            f"{step:.1f} tokens a step = {tokens:,.0f} tokens a problem; x {problems:,} = {_short(tokens * problems)} "
            "tokens"
        )
        cost.tokens += tokens * problems
        nodes += made * search.candidates * facts.distinct * problems
    cost.search_hours = cost.tokens / facts.rate / 3600
    say(
        f"search, time: {_short(cost.tokens)} tokens / {facts.rate:,.0f} tokens a second and {facts.device} / 3600 = "
        f"{_hours(cost.search_hours)} of one {facts.device}"
    )
    rounds = number if chosen.fresh else 1  # data sets are unions over the rounds' problems
    solved = rounds * facts.problems * (1 - after)
    text = facts.question + facts.solution
    _train(cost, config.sft_of(number), "SFT", solved * config.data.solutions, text, 1, facts)
    _train(cost, config.ppm, "PPM", solved * facts.pairs, text, 2, facts)
    cost.tree_bytes = nodes * BYTES_A_NODE
    say(f"disk, trees: {_short(nodes)} nodes x {BYTES_A_NODE:g} bytes (compressed) = {_bytes(cost.tree_bytes)}")
    rows = solved * (config.data.solutions + 2 * facts.pairs)
    cost.data_bytes = rows * text * 4
    say(f"disk, data sets: {_short(rows)} texts x {text:.0f} tokens x 4 bytes = {_bytes(cost.data_bytes)}")
    sizes = {"float32": 4, "bfloat16": 2, "float16": 2}
    ppm = sizes[config.ppm.save_dtype] * (2 if config.ppm.head == "token_logratio" else 1)  # with its reference
    cost.checkpoint_bytes = facts.parameters * (sizes[config.sft.save_dtype] + ppm)
    say(
        f"disk, checkpoints: {_short(facts.parameters)} parameters x ({sizes[config.sft.save_dtype]} bytes policy + "
        f"{ppm} bytes PPM) = {_bytes(cost.checkpoint_bytes)}"
        + (
            f"; while training two resumable ones of 12 bytes a parameter more, {_bytes(facts.parameters * 24)}"
            if config.sft.save_steps
            else ""
        )
    )
    return cost


def _train(
    cost: RoundCost, config: TrainConfig, name: str, rows: float, tokens: float, sides: int, facts: Facts
) -> None:
    if config.max_steps > 0:
        size = config.batch_tokens or config.batch_rows * sides * tokens
        total = config.max_steps * config.accumulate * size * BATCH_FILLED
        how = f"{config.max_steps} steps x {config.accumulate * size:.0f} tokens x {BATCH_FILLED:g} filled"
    else:
        total = rows * sides * tokens * config.epochs
        both = " x 2 sides" if sides == 2 else ""
        how = f"{_short(rows)} rows{both} x {tokens:.0f} tokens x {config.epochs:g} passes"
    hours = total / facts.training_rate / 3600
    cost.lines.append(
        f"training, {name}: {how} = {_short(total)} tokens / {facts.training_rate:,.0f} a second / 3600 = "
        f"{_hours(hours)}"
    )
    cost.training_tokens += total
    cost.training_hours += hours


def check_lines(costs: Sequence[RoundCost], facts: Facts) -> list[str]:
    """Return the comparison of a plan for the paper's pool with the hours that the paper states."""
    lines = [
        f"round 1: the paper's policy has 236B parameters on H100s: {PAPER_HOURS[0]:,} GPU-hours stated; the same "
        f"{_short(costs[0].tokens)} tokens are {costs[0].tokens / PAPER_HOURS[0] / 3600:,.0f} tokens a second and GPU"
    ]
    for cost in costs[1:4]:
        stated = PAPER_HOURS[cost.number - 1]
        note = " (the rate was taken from this)" if cost.number == 2 else ""
        lines.append(
            f"round {cost.number}: {cost.search_hours:,.0f} GPU-hours here, {stated:,} stated: "
            f"{cost.search_hours / stated:.2f} times{note}"
        )
    lines.append(
        f"Table 2: {facts.problems:,} problems x .9025 = {facts.problems * 0.9025:,.0f} solved after round 4, of which "
        f"{facts.problems * (0.9025 - 0.6017):,.0f} were not after round 1"
    )
    return lines


def facts_for(name: str, problems: int | None, rate: float | None) -> tuple[EvolveConfig, Facts]:
    """Return the settings and numbers of a preset (mini, paper), with another pool size or generation rate. UserError
    for an unknown preset, or a number that is not above 0."""
    if name not in ("mini", "paper"):
        raise UserError(f"unknown preset {name!r}", nearest(name, ["mini", "paper"]))
    for what, value in (("problems", problems), ("rate", rate)):
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"{what} is {value}", "give a number above 0")
    config = evolve_preset(name)
    facts = paper_facts() if name == "paper" else mini_facts(config)
    if problems is not None:
        facts = replace(facts, problems=problems, sources={**facts.sources, "problems": "given"})
    if rate is not None:
        facts = replace(facts, rate=rate, sources={**facts.sources, "rate": "given"})
    return config, facts


def machine(costs: Sequence[RoundCost], facts: Facts) -> dict[str, Any]:
    """Return a plan as plain data: the facts, and each round's tokens, hours and bytes."""
    keys = ("tokens", "search_hours", "training_tokens", "training_hours", "tree_bytes", "data_bytes")
    rounds = [
        {"round": cost.number, **{key: getattr(cost, key) for key in (*keys, "checkpoint_bytes")}} for cost in costs
    ]
    numbers = {name: getattr(facts, name) for name in Facts.__slots__ if name != "sources"}
    return {"facts": numbers, "sources": facts.sources, "rounds": rounds}


def text(costs: Sequence[RoundCost], facts: Facts, name: str) -> str:
    """Return a plan to read: the numbers with their sources, the arithmetic of each round, the sums, the check."""
    rounds = sum(cost.number > 0 for cost in costs)
    lines = [f"Plan for preset {name}: {rounds} rounds, {facts.problems:,} problems", "", "Numbers"]
    for key, source in facts.sources.items():
        value = getattr(facts, key)
        shown = ", ".join(f"{one:.2f}" for one in value) if isinstance(value, tuple) else f"{value:,.4g}"
        if isinstance(value, int):
            shown = f"{value:,}"
        lines.append(f"  {key} {shown}: {source}")
    for cost in costs:
        lines += ["", f"Round {cost.number}" if cost.number else "Base", *(f"  {one}" for one in cost.lines)]
        lines.append(
            f"  sum: {_short(cost.tokens)} tokens generated, {_hours(cost.search_hours + cost.training_hours)}, "
            f"{_bytes(cost.disk)} on disk"
        )
    tokens = sum(cost.tokens for cost in costs)
    hours = [sum(cost.search_hours for cost in costs), sum(cost.training_hours for cost in costs)]
    lines += [
        "",
        f"All rounds: {_short(tokens)} tokens generated; {_hours(hours[0])} of search + {_hours(hours[1])} of training "
        f"= {_hours(sum(hours))} of one {facts.device}; {_bytes(sum(cost.disk for cost in costs))} on disk",
        "Not in it: evaluation, the final search and the judges, the PPM's reading (about as many tokens as are "
        "generated, read in batches), and running the code (CPU).",
    ]
    if name == "paper" and facts.sources["problems"] != "given" and facts.sources["rate"] != "given":
        lines += ["", "Checked against the paper", *(f"  {one}" for one in check_lines(costs, facts))]
        lines.append(
            "  Above 1: the bound. Real walks share more of their path than the earliest possible parting allows for."
        )
    return "\n".join(lines)


def _short(number: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _bytes(number: float) -> str:
    return f"{_short(number)}B" if number >= 1000 else f"{number:.0f} B"


def _hours(hours: float) -> str:
    return f"{hours:,.0f} hours" if hours >= 10 else f"{hours * 60:.2g} minutes" if hours < 1 else f"{hours:.2g} hours"

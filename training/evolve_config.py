"""What self-evolution is made of: the settings of its rounds, and the presets `mini` and `paper`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from rstar_eval.errors import UserError, nearest
from rstar_eval.serial import from_data
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.search import check_config
from rstar_eval.solver.seeds import derive_seed
from rstar_eval.training.datasets import MINI_DATA, PAPER_DATA, DataConfig
from rstar_eval.training.teacher import Author
from rstar_eval.training.train import TrainConfig
from rstar_eval.training.train import preset as training_preset

PoolSource = Literal["mini", "gsm8k", "math"]


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """One round. search: how every problem of the pool is searched. guided: whether the last round's PPM guides it
    (paper: rounds 3 and 4). more: a second search of what the first left unsolved (paper: round 4; None: none).
    fresh: how many problems of each level are drawn for this round alone, beside the pool that all rounds search.
    epochs: passes of its SFT (None: as `sft` says)."""

    search: SearchConfig
    guided: bool = False
    more: SearchConfig | None = None
    fresh: Mapping[str, int] = field(default_factory=dict)
    epochs: float | None = None


@dataclass(frozen=True, slots=True)
class FinalPlan:
    """The search after the last round, with the final policy and unguided: its trees hold the mistakes that this policy
    makes, for the judges that are trained after it. Not in the paper, whose PPM learns from the trees of the policies
    before. search, fresh: as in RoundPlan. steps: of each judge's training."""

    search: SearchConfig
    fresh: Mapping[str, int] = field(default_factory=dict)
    steps: int = 1000


@dataclass(frozen=True, slots=True)
class EvolveConfig:
    """A whole self-evolution.

    base: folder of the model that every SFT starts from ("": the mini base is pretrained first). bootstrap: policy spec
    of round 1's search ("": the base itself). source, pool: where the problems come from and how many of each level
    ("" as the level: of all levels) every round searches; a plan may have problems of its own.
    demonstrations, author: the mini base's corpus; pretrain: its phases, each of so many new demonstrations.
    plans: one a round; a round beyond the last repeats the last, its problems included. final: the search after the
    last round (None: none; then no further PPM is trained either).
    data, sft, ppm, pqm, orm: data engine and trainers.
    policy_options, reward_options: of the specs `hf:PATH` and `ppm:PATH`. engine: what serves policies.
    task, greedy_limit: what pass@1 is measured on after each round (greedy). system2, system2_limit: the search with
    the PPM and on how many problems; majority takes as many samples.
    workers: processes that share the machine's cores, one thread each; a training by itself has as many threads.
    """

    name: str = "mini"
    base: str = ""
    bootstrap: str = ""
    source: PoolSource = "mini"
    pool: Mapping[str, int] = field(default_factory=dict)
    demonstrations: int = 0
    author: Author = field(default_factory=Author)
    plans: tuple[RoundPlan, ...] = ()
    final: FinalPlan | None = None
    data: DataConfig = MINI_DATA
    pretrain: tuple[TrainConfig, ...] = ()
    sft: TrainConfig = field(default_factory=TrainConfig)
    ppm: TrainConfig = field(default_factory=TrainConfig)
    pqm: TrainConfig = field(default_factory=TrainConfig)
    orm: TrainConfig = field(default_factory=TrainConfig)
    engine: Literal["hf", "vllm"] = "hf"
    policy_options: str = ""
    reward_options: str = ""
    task: str = "mini_validation"
    greedy_limit: int = 500
    system2: SearchConfig = field(default_factory=SearchConfig)
    system2_limit: int = 200
    workers: int = 2
    seed: int = 0

    def plan(self, number: int) -> RoundPlan:
        """Return the plan of round `number` (1, 2, ...)."""
        return self.plans[min(number, len(self.plans)) - 1]

    def corpus_seeds(self) -> list[int]:
        """Return the seed of the mini base's corpus of each pretraining phase."""
        return [derive_seed(self.seed, *["corpus"] * phase) for phase in range(1, len(self.pretrain) + 1)]

    def sft_of(self, number: int) -> TrainConfig:
        """Return how a round's policy is trained."""
        epochs = self.plan(number).epochs
        return self.sft if epochs is None else replace(self.sft, epochs=epochs)

    def greedy(self) -> SearchConfig:
        """Return how pass@1 is measured."""
        return replace(self.system2, strategy="greedy", rollouts=1, trees=1, rollouts_per_trajectory=1, choose="auto")

    def policy(self, folder: str) -> str:
        """Return the spec of the policy whose checkpoint lies in `folder`."""
        return f"{self.engine}:{folder}{self.policy_options}"

    def reward(self, kind: str, folder: str) -> str:
        """Return the spec of a reward model whose checkpoint lies in `folder`."""
        return f"{kind}:{folder}{self.reward_options}"


def _mini() -> EvolveConfig:
    """The miniature: 2120 generated problems a round, a model of 0.6 million parameters, two CPU cores.

    Every round has problems of its own: a model this small learns its solutions by heart, and searching what it was
    trained on teaches neither the policy nor the PPM anything. Many problems with few walks each give several times the
    rows that few problems with many walks give for the same tokens, and how many different problems the policy has seen
    solved is what decides how well it does. The first round's are short, since a rare trap is cheapest to find in a
    problem of one step; the later ones' are those that are still hard.
    """
    # Temperature and nucleus are wide open: a right reading of a rare trap is one sample in ten or twenty.
    search = SearchConfig(
        rollouts=4,
        trees=1,
        candidates=4,
        max_depth=8,
        max_step_tokens=64,
        max_block_tokens=160,
        temperature=1.0,
        top_p=1.0,
    )
    wide = replace(search, candidates=8)
    easy = {"1": 180, "drill": 600, "2": 480, "3": 300, "4": 40, "5": 40, "chain": 180, "college": 150, "gaokao": 150}
    hard = {"1": 40, "drill": 90, "2": 420, "3": 540, "4": 300, "5": 300, "chain": 130, "college": 150, "gaokao": 150}
    hardest = {**hard, "aime": 90}
    more = replace(wide, rollouts=12, trees=2, temperature=1.1)
    final = {"2": 200, "3": 450, "4": 400, "5": 450, "college": 200, "gaokao": 150, "aime": 150}
    pretrain = training_preset(
        "mini", "sft", learning_rate=6e-3, epochs=1, batch_tokens=1400, save_steps=200, max_length=512
    )
    return EvolveConfig(
        name="mini",
        demonstrations=36_000,
        plans=(
            RoundPlan(search, fresh=easy),
            RoundPlan(search, fresh=hard),
            RoundPlan(search, guided=True, fresh=hardest, epochs=6),
            RoundPlan(search, guided=True, more=more, fresh=hardest, epochs=4),
        ),
        final=FinalPlan(replace(wide, rollouts=8), fresh=final, steps=2000),
        data=MINI_DATA,
        pretrain=(pretrain,),
        sft=training_preset("mini", "sft", optimizer="adamw", learning_rate=1e-3, epochs=8, max_length=512),
        ppm=training_preset("mini", "ppm", max_steps=1000, held_out=0.1, max_length=512),
        pqm=training_preset("mini", "pqm", max_steps=1000, held_out=0.1, max_length=512),
        orm=training_preset("mini", "orm", max_steps=1000, held_out=0.1, max_length=512),
        policy_options="?format=rstar&threads=1&parallel=64",
        reward_options="?threads=1",
        system2=replace(wide, rollouts=8, choose="share_weighted"),
        greedy_limit=400,
        system2_limit=150,
    )


def _paper() -> EvolveConfig:
    """The paper's settings (arXiv 2501.04519, section 3.4 and appendix A): 7B models, vLLM, training problems."""
    search = SearchConfig(rollouts=8, candidates=8, max_depth=16, temperature=0.8, top_p=0.95)
    more_rollouts = replace(search, rollouts=16)
    last = replace(search, rollouts=16, candidates=16)
    return EvolveConfig(
        name="paper",
        base="Qwen2.5-Math-7B",
        source="math",
        pool={"": 7500},
        plans=(
            RoundPlan(search),
            RoundPlan(more_rollouts),
            RoundPlan(more_rollouts, guided=True),
            RoundPlan(last, guided=True, more=replace(last, rollouts=128, trees=2)),
        ),
        data=PAPER_DATA,
        sft=training_preset("paper", "sft"),
        ppm=training_preset("paper", "ppm"),
        pqm=training_preset("paper", "pqm"),
        orm=training_preset("paper", "orm"),
        engine="vllm",
        policy_options="?format=rstar&memory=0.55",  # both on one GPU (docs/vllm.md)
        reward_options="?engine=vllm&memory=0.35",
        task="math500",
        system2=SearchConfig(rollouts=8, trees=8, rollouts_per_trajectory=4, candidates=32),
        workers=1,
    )


PRESETS = {"mini": _mini, "paper": _paper}


def evolve_preset(name: str, changes: Mapping[str, object] | None = None, seed: int = 0) -> EvolveConfig:
    """Return a preset with `changes`: keys as in EvolveConfig, those of nested settings with dots ("sft.max_steps").

    UserError for an unknown preset or key (with the nearest one), or a value of the wrong type or out of range.
    """
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r} of evolve", nearest(name, PRESETS))
    data: dict[str, Any] = {**asdict(PRESETS[name]()), "seed": seed}
    for key, value in (changes or {}).items():
        where: Any = data
        *path, last = key.split(".")
        for part in path:
            where = (
                where[int(part)]
                if isinstance(where, (list, tuple)) and part.isdigit() and int(part) < len(where)
                else _inside(where, part, key)
            )
        counts = bool(path) and path[-1] in ("pool", "fresh")  # their keys are levels, and any may be added
        if not isinstance(where, dict) or (last not in where and not counts):
            raise UserError(f"unknown setting {key!r} of evolve", nearest(last, list(where)))
        where[last] = value
    config = from_data(EvolveConfig, data, "settings of evolve")
    for plan in config.plans:
        for search in filter(None, (plan.search, plan.more)):
            check_config(search, scored=True)
    if config.final is not None:
        check_config(config.final.search, scored=True)
        if config.final.steps < 1:
            raise UserError(f"final.steps is {config.final.steps}", "give at least 1")
        if not any(config.final.fresh.values()):
            raise UserError("final.fresh names no problems", "name some, or give --set final=null for no search there")
    for place, plan in enumerate(config.plans):
        if plan.epochs is not None and not 0 < plan.epochs < float("inf"):
            raise UserError(f"plans.{place}.epochs is {plan.epochs}", "give a number above 0")
    if config.workers < 1:
        raise UserError(f"workers is {config.workers}", "give at least 1")
    return config


def _inside(where: object, part: str, key: str) -> Any:
    if not isinstance(where, dict) or part not in where:
        known = list(where) if isinstance(where, dict) else []
        raise UserError(f"unknown setting {key!r} of evolve", nearest(part, known))
    return where[part]

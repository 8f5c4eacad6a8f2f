"""The problems that a self-evolution searches, and the trees that it found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rstar_eval.errors import UserError
from rstar_eval.problem import Problem, problem_id
from rstar_eval.records import read_log
from rstar_eval.solver.seeds import derive_seed
from rstar_eval.tasks.mini import as_problems, generate
from rstar_eval.training.evolve_config import EvolveConfig
from rstar_eval.training.outcomes import judge
from rstar_eval.training.rows import Provenance
from rstar_eval.training.trees import TrainingTree, training_tree
from rstar_eval.trees import read_tree

TASK = "pool"


def make_pool(config: EvolveConfig) -> list[Problem]:
    """Return the pool's problems, levels in turn as far as they go. A function of the settings.

    UserError for a level that the source has not, or too few problems of it.
    """
    seed = derive_seed(config.seed, "pool")
    if config.source == "mini":
        items = [item for level, count in config.pool.items() for item in generate("train", level, count, seed)]
        return list(as_problems(TASK, items))
    from rstar_eval.tasks import load_wheel_split

    found = load_wheel_split(config.source)
    problems: list[Problem] = []
    for level, count in config.pool.items():
        fitting = [one for one in found if level in ("", one.level)]
        if not fitting:
            known = ", ".join(sorted({str(one.level) for one in found}))
            raise UserError(f"the training problems of {config.source} have no level {level!r}", f"known: {known}")
        fitting.sort(key=lambda one: derive_seed(seed, one.id))
        problems += fitting[:count]
    return [
        replace(one, id=problem_id(TASK, index, one.text), task=TASK, index=index) for index, one in enumerate(problems)
    ]


def pool_trees(pool: Sequence[Problem], stores: Sequence[Path], run: str, number: int) -> Iterator[TrainingTree]:
    """Yield the trees in the run folders `stores`, problem by problem in the pool's order.

    UserError if a finished search's tree is gone.
    """
    where: dict[str, list[tuple[Path, int]]] = {}
    for store in stores:
        for record in read_log(store).searches.values():
            where.setdefault(record.problem, []).append((store, record.tree))
    right = judge()
    for problem in pool:
        for place, (store, tree) in enumerate(
            sorted(where.get(problem.id, []), key=lambda each: (str(each[0]), each[1]))
        ):
            data = read_tree(store, problem.id, tree)
            if data is None:
                raise UserError(f"{str(store)!r} lacks the tree of problem {problem.id}", "remove its folder and go on")
            source = Provenance(run, number, TASK, problem.id, place, level=problem.level or "")
            yield training_tree(problem.text, data, lambda answer, one=problem: right(one, answer), source)  # type: ignore[misc]

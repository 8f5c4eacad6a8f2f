"""The problems that a self-evolution searches, and the trees that it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from rstar_eval.errors import UserError
from rstar_eval.problem import Problem, problem_id
from rstar_eval.records import read_log
from rstar_eval.serial import line, to_data
from rstar_eval.solver.seeds import derive_seed
from rstar_eval.tasks.mini import as_problems, generate
from rstar_eval.training.evolve_config import EvolveConfig
from rstar_eval.training.evolve_worker import read_problems
from rstar_eval.training.outcomes import judge
from rstar_eval.training.rows import Provenance
from rstar_eval.training.teacher import corpus_texts
from rstar_eval.training.trees import TrainingTree, training_tree
from rstar_eval.trees import read_tree

TASK = "pool"
FINAL = 0
"""What `drawn_for` says of the problems of the search after the last round."""


def make_pool(config: EvolveConfig) -> list[Problem]:
    """Return the problems that every round searches, then those of each plan alone, then those of the final search
    (`own_problems`); all have different texts, and none is among the demonstrations that the mini base learns from. A
    function of the settings.

    UserError for a level that the source has not, or too few problems of it for the plans' own.
    """
    wanted = {"pool": config.pool, **{f"plans.{place}.fresh": one.fresh for place, one in enumerate(config.plans)}}
    if config.final is not None:
        wanted["final.fresh"] = config.final.fresh
    draw = _generated if config.source == "mini" else _of_wheel
    seed = derive_seed(config.seed, "pool")
    sources = {level: draw(config.source, level, seed) for counts in wanted.values() for level in counts}
    taken: set[str] = set()
    if config.source == "mini" and not config.base:
        for each in config.corpus_seeds():
            taken |= corpus_texts(config.demonstrations, each, config.author)
    pool: list[Problem] = []
    for setting, counts in wanted.items():
        for level, count in counts.items():
            found = list(islice(_new(sources[level], taken), count))
            if setting != "pool" and len(found) < count:
                raise UserError(
                    f"{config.source} has {count - len(found)} training problems of level {level!r} too few "
                    f"for {setting}",
                    "ask for fewer there or in an earlier plan",
                )
            pool += found
    return [
        replace(one, id=problem_id(TASK, index, one.text), task=TASK, index=index) for index, one in enumerate(pool)
    ]


def drawn_for(pool: Sequence[Problem], config: EvolveConfig) -> list[int | None]:
    """Return for each problem of a pool (`make_pool`) the number of the plan that it was drawn for; None: for all
    rounds; FINAL: for the search after the last."""
    sizes = [sum(plan.fresh.values()) for plan in config.plans]
    own: list[int | None] = [number for number, size in enumerate(sizes, start=1) for _ in range(size)]
    own += [FINAL] * (sum(config.final.fresh.values()) if config.final is not None else 0)
    return [None] * (len(pool) - len(own)) + own


def own_problems(pool: Sequence[Problem], config: EvolveConfig, number: int) -> list[Problem]:
    """Return those problems of a pool that round `number` searches; FINAL: the search after the last round."""
    searched = (FINAL,) if number == FINAL else (None, min(number, len(config.plans)))
    return [problem for problem, drawn in zip(pool, drawn_for(pool, config), strict=True) if drawn in searched]


def _new(problems: Iterable[Problem], taken: set[str]) -> Iterator[Problem]:
    for problem in problems:
        if problem.text not in taken:
            taken.add(problem.text)
            yield problem


def _generated(_: str, level: str, seed: int) -> Iterator[Problem]:
    """Yield problems of the mini world without end: more of them begin with the same ones."""
    done, size = 0, 64
    while True:
        yield from as_problems(TASK, generate("train", level, size, seed))[done:]
        done, size = size, 2 * size


def _of_wheel(source: str, level: str, seed: int) -> Iterator[Problem]:
    """Return the training problems of a source in an order of the seed."""
    from rstar_eval.tasks import load_wheel_split

    found = load_wheel_split(source)
    fitting = [one for one in found if level in ("", one.level)]
    if not fitting:
        known = ", ".join(sorted({str(one.level) for one in found}))
        raise UserError(f"the training problems of {source} have no level {level!r}", f"known: {known}")
    return iter(sorted(fitting, key=lambda one: derive_seed(seed, one.id)))


def stored_problems(path: Path, make: Callable[[], list[Problem]]) -> list[Problem]:
    """Return the problems in a JSON lines file, made first if it is missing. They hold gold answers: training only."""
    if not path.exists():
        text = "".join(line(to_data(one)) + "\n" for one in make())
        temporary = path.with_suffix(".tmp")
        temporary.write_text(text, encoding="ascii")
        temporary.replace(path)
    return read_problems(path)


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

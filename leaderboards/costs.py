"""The plan of a reproduction: what it needs, what of it is there, and what the rest costs, with the arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rstar_eval.leaderboards.experiments import Experiment, Model
from rstar_eval.leaderboards.measure import Measurement, Needed, Run
from rstar_eval.leaderboards.models import DONE, Models, NotHere
from rstar_eval.leaderboards.published import benchmarks, published_table
from rstar_eval.training.config import preset as training_preset

GPUS = 8
"""GPUs that the plan's days are for."""
REFERENCE_PARAMETERS = 7.6e9
UNKNOWN_TRAJECTORY = 7889
"""Tokens a trajectory where Table 9 has none (Omni-MATH): those of OlympiadBench."""


@dataclass(slots=True)
class Plan:
    """What is to be done. lines: to read. runs, tokens, hours: of what is missing; hosted: tokens of hosted models.
    Hours are GPU-hours at preset paper, hours of one CPU core at mini."""

    lines: list[str] = field(default_factory=list)
    runs: int = 0
    tokens: float = 0.0
    hosted: float = 0.0
    hours: float = 0.0


def make_plan(
    experiments: Sequence[Experiment], wanted: Needed, measurement: Measurement, evolutions: Sequence[int]
) -> Plan:
    """Return the plan for `experiments`. evolutions: the seeds that an evolution is still to be made for."""
    models, plan = measurement.models, Plan()
    preset, say = models.preset, plan.lines.append
    say(f"Plan of {', '.join(one.id for one in experiments)}, preset {preset.name}: {len(wanted.runs)} runs")
    say(f"Hardware: {preset.hardware}")
    _say_models(wanted, models, plan)
    say("")
    say("Searches")
    for name in dict.fromkeys(run.search for run in wanted.runs):
        say(f"  {name}: " + ", ".join(f"{key} {value}" for key, value in preset.searches[name].items()))
    for seed in evolutions:
        _say_evolution(seed, models, plan)
    _say_trainings(wanted, models, plan)
    say("")
    say("Runs")
    for run, judges in wanted.runs.items():
        _say_run(run, judges, measurement, plan)
    unit = "GPU-hours" if preset.name == "paper" else "hours of one CPU core"
    days = f" = {plan.hours / GPUS / 24:.1f} days on {GPUS} GPUs" if preset.name == "paper" else ""
    cores = f", about {plan.hours * 30:.0f} minutes on two cores" if preset.name == "mini" else ""
    say("")
    say(f"To do: {plan.runs} runs, {short(plan.tokens)} tokens, {plan.hours:,.1f} {unit}{days}{cores}"
        + (f"; {short(plan.hosted)} tokens of hosted models" if plan.hosted else ""))  # fmt: skip
    return plan


def _say_models(wanted: Needed, models: Models, plan: Plan) -> None:
    plan.lines += ["", "Models"]
    for name in dict.fromkeys(name for _, name in wanted.models):
        model = models.model(name)
        facts = [describe(name, models)]
        if model.prompt:
            facts.append(f"prompt {model.prompt}")
        if model.parameters:
            facts.append(f"{model.parameters / 1e9:.3g}B parameters")
        hardware = model.hardware or (f"{model.gpus} GPU(s)" if model.gpus else "")
        plan.lines.append(f"  {name}: " + "; ".join(one for one in (*facts, hardware) if one))
    for key, text in models.preset.prompts.items():
        plan.lines.append(f"  prompt {key}: {text}")


def describe(name: str, models: Models) -> str:
    """Return where a model comes from, in words."""
    model = models.model(name)
    if name in models.given:
        return f"given: {models.given[name]}"
    if model.train:
        rows = f"{model.data} rows" + (" of the evolution" if model.base is None or model.evolution else "")
        base = model.base or ("its last policy" if model.train == "ppm" else "the evolution's base")
        changes = "".join(f", {key} {value}" for key, value in model.set.items())
        return f"train {model.train} on {rows}, from {base}{changes}"
    if model.evolve:
        where = model.evolve if model.evolve in ("base", "final") else model.evolve.format(last="N")
        return f"{'control ' if model.control else ''}evolution, {where}"
    return model.policy or model.folder or ("must be given: --model " + name + "=SPEC" if model.reward else "?")


def _say_evolution(seed: int, models: Models, plan: Plan) -> None:
    from rstar_eval.training import plan as plans

    config, facts = plans.facts_for(models.preset.name, None, None)
    costs = plans.plan(config, facts, models.rounds)
    hours = sum(cost.search_hours + cost.training_hours for cost in costs)
    tokens = sum(cost.tokens for cost in costs)
    plan.lines += [
        "",
        f"Evolution of seed {seed}: {models.rounds} rounds, {facts.problems:,} problems, {short(tokens)} tokens, "
        f"{hours:,.1f} hours of one {facts.device} (rstar-eval plan --preset {models.preset.name})",
    ]
    plan.hours += hours
    plan.tokens += tokens


def _say_trainings(wanted: Needed, models: Models, plan: Plan) -> None:
    needed = {(seed, step) for seed, name in wanted.models for step in models.trainings(name)}
    todo = sorted(one for one in needed if not (models.trained(one[1], one[0]) / DONE).exists())
    if todo:
        plan.lines += ["", "Trainings"]
    cost = models.preset.costs["train"]
    for seed, name in todo:
        model = models.model(name)
        if "seconds" in cost:
            hours = float(cost["seconds"]) / 3600
            plan.lines.append(f"  seed{seed}/{name}: about {cost['seconds']} s")
        else:
            rows, tokens = float(cost["rows"][model.data]), float(cost["tokens"])
            passes = training_preset(models.preset.name, model.train or "sft").epochs
            rate = float(cost["rate"]) * REFERENCE_PARAMETERS / model.parameters
            hours = rows * tokens * passes / rate / 3600
            plan.lines.append(
                f"  {name}: {short(rows)} texts x {tokens:.0f} tokens x {passes:g} passes / {rate:,.0f} tokens a "
                f"second and GPU / 3600 = {hours:,.1f} GPU-hours"
            )
        plan.hours += hours


def _say_run(run: Run, judges: frozenset[str], measurement: Measurement, plan: Plan) -> None:
    if measurement.stored(run, judges) is not None:
        plan.lines.append(f"  {run.key}: stored")
        return
    models = measurement.models
    preset, search = models.preset, models.preset.searches[run.search]
    strategy, count = str(search["strategy"]), int(search["rollouts"])
    cost = preset.costs[strategy]
    problems, model = measurement.problems(run.task), models.model(run.policy)
    each = _trajectory_tokens(run.task) if cost["tokens"] == "table9" else float(cost["tokens"])
    tokens = problems * count * each
    arithmetic = f"{problems:,} problems x {count} trajectories x {each:,.0f} tokens = {short(tokens)} tokens"
    blocked = measurement.blocked(run)
    blocked = "" if models.needs_evolution(run.policy) or _to_be_trained(run, models) else blocked
    if model.hardware == "hosted":
        plan.hosted += tokens
    elif "rate" in cost:
        rate = float(cost["rate"]) * REFERENCE_PARAMETERS / _active(model)
        hours = tokens / rate / 3600
        arithmetic += f" / {rate:,.0f} a second and GPU = {hours:,.1f} GPU-hours"
        plan.hours += hours
    else:
        judging = len(judges) * float(preset.costs["judge"]["seconds"])
        seconds = problems * count * (float(cost["seconds"]) + judging)
        plan.hours += seconds / 3600
        arithmetic += f", about {seconds:,.0f} s"
    plan.runs += 1
    plan.tokens += tokens
    plan.lines.append(f"  {run.key}: {arithmetic}" + (f"; can't be run: {blocked}" if blocked else ""))
    if judges:
        plan.lines[-1] += f"; then scored by {', '.join(sorted(judges))}"


def _to_be_trained(run: Run, models: Models) -> bool:
    """Return whether a model of the run is missing only because its training is still to come."""
    names = [name for name in (run.policy, run.reward) if name]
    steps = [step for name in names for step in models.trainings(name)]
    try:
        for step in steps:
            model = models.model(step)
            if model.base is not None and model.data not in models.data and not model.evolution:
                return False
            models.folder(step, run.seed)
    except NotHere:
        return False
    return bool(steps)


def _active(model: Model) -> float:
    return model.active or model.parameters or REFERENCE_PARAMETERS


def _trajectory_tokens(task: str) -> float:
    row = published_table(9).rows[0].values
    by_task: dict[str, Any] = {one.task: row.get(name) for name, one in benchmarks().items()}
    return float(by_task.get(task) or UNKNOWN_TRAJECTORY)


def short(value: float) -> str:
    """Return a large number in a short form.

    >>> short(1_234_000_000)
    '1.23G'
    """
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.0f}"

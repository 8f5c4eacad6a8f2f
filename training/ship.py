"""From a finished evolution to checkpoints that a package can carry: half precision, a model card each.

python -m rstar_eval.training.ship EVOLUTION DESTINATION
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rstar_eval.config import RunConfig
from rstar_eval.errors import UserError
from rstar_eval.evaluation import run_config
from rstar_eval.serial import from_data
from rstar_eval.solver.reward.logratio import REFERENCE
from rstar_eval.tasks import load_task
from rstar_eval.training.evolve_config import EvolveConfig
from rstar_eval.training.evolve_figures import read_runs, round_figures
from rstar_eval.training.evolve_worker import LogProgress, write_json

FIGURES = "figures.json"
"""What a shipped policy does, greedily and searched with its round's PPM, measured with the weights as shipped."""

_KEPT = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "reward.json")
_WAYS = {
    "greedy": "greedy",
    "system2": "searched with its round's PPM ({} rollouts)",
    "final": "searched with the final PPM ({} rollouts)",
}
_HEADS = {
    "token_bilinear": "Its head sums a bilinear score over a solution's tokens; the paper's reads the last one.",
    "token_logratio": "Its head sums how much likelier a solution's tokens are under it than under the policy in\n"
    "`reference/`, which it was trained from; the paper's reads the last token.",
}
_KINDS = {"ppm": "process preference model", "pqm": "process Q-value model", "orm": "outcome reward model"}


def ship(evolution: Path, destination: Path) -> list[str]:
    """Write the checkpoints of the evolution in folder `evolution` into `destination`, weights as float16: the policies
    of every round (r0: the base), the PPMs of every round (ppm1, ...), and the final policy's judges: `ppm` (after a
    final search), `pqm` and `orm`. Returns their names.

    UserError if the folder holds no evolution with a finished round.
    """
    try:
        state = json.loads((evolution / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{str(evolution)!r} holds no evolution: {error}", "give the folder of rstar-eval evolve"
        ) from None
    rounds = [one for one in round_figures(state["stages"]) if one["pass1"]]
    if len(rounds) < 2:
        raise UserError(f"the evolution in {str(evolution)!r} has no finished round", "let it run on")
    last = rounds[-1]["round"]
    folders = {f"r{one['round']}": evolution / f"round{one['round']}" / "policy" for one in rounds[1:]}
    folders["r0"] = Path(state["settings"]["base"] or evolution / "base" / "policy")
    folders |= {f"ppm{one['round']}": evolution / f"round{one['round']}" / "ppm" for one in rounds[1:]}
    if f"round{last}/judges" in state["stages"]:
        judges = evolution / f"round{last}" / "judges"
        folders |= {kind: judges / kind for kind in _KINDS if (judges / kind).is_dir()}
    config = from_data(EvolveConfig, state["settings"], "state.json")
    for name, folder in sorted(folders.items()):  # reward models come first: policies are searched with them
        _copy(folder, destination / name)
        figures = None
        if _kind(name) is None:
            figures = {"greedy": measure(destination / name, config, config.greedy_limit)}
            if int(name[1:]):
                reward = config.reward("ppm", str(destination / f"ppm{name[1:]}"))
                figures["system2"] = measure(destination / name, config, config.system2_limit, reward)
            if "ppm" in folders and int(name[1:]) == last:
                reward = config.reward("ppm", str(destination / "ppm"))
                figures["final"] = measure(destination / name, config, config.system2_limit, reward)
            write_json(destination / name / FIGURES, figures)
        card = model_card(name, state, rounds, figures)
        (destination / name / "README.md").write_text(card, encoding="utf-8")
    return sorted(folders)


def measure(policy: Path, config: EvolveConfig, limit: int, reward: str | None = None) -> dict[str, Any]:
    """Return how a policy does on the first `limit` problems of the evolution's task: `task`, `n`, `correct`, and
    `verdicts`, a 1 or 0 for each problem in order.

    Without `reward` greedily (pass@1), else by the evolution's search with the reward model of this spec.
    """
    search = config.greedy() if reward is None else config.system2
    spec = config.policy(str(policy))
    run = RunConfig(tasks=(config.task,), limit=limit, policy=spec, reward=reward, search=search)
    with tempfile.TemporaryDirectory() as folder:
        store = run_config(run, Path(folder) / "run", LogProgress()).path
        grades = read_runs([store]).grades
    asked = load_task(config.task).problems[:limit]
    verdicts = "".join(str(int(grades[problem.id].outcome == "correct")) for problem in asked)
    return {"task": config.task, "n": len(verdicts), "correct": verdicts.count("1"), "verdicts": verdicts}


def model_card(
    name: str, state: Mapping[str, Any], rounds: list[dict[str, Any]], shipped: Mapping[str, Any] | None = None
) -> str:
    """Return a checkpoint's card: what it is, the command that makes it, its figures. shipped: of `measure`."""
    settings = state["settings"]
    seed, last = settings["seed"], rounds[-1]["round"]
    kind = _kind(name)
    of = int(name.removeprefix("ppm") or last) if kind == "ppm" else last
    what = f"the policy of round {name[1:]}" if kind is None else f"the {_KINDS[kind]} of round {of}"
    if name in _KINDS:
        what = f"the {_KINDS[name]} of the final policy"
    if name == "r0":
        what = "the base policy (round 0), pretrained on scripted solutions with systematic mistakes"
    lines = [
        f"# Miniature of rStar-Math: {what}",
        "",
        f"Made by `rstar-eval evolve --preset {settings['name']} --output DIR --seed {seed} --rounds {last}"
        f" --set workers={settings['workers']}`,",
        "stored as float16. Qwen2 architecture, about 0.6 million parameters, step format `rstar`. It solves the",
        "generated word problems of the mini world, nothing else. How often these hold traps, and how often the",
        "base was taught to fall for them, are design choices: the figures compare methods, not mathematics.",
        "",
    ]
    if kind is not None:
        stage = state["stages"][f"round{of}/{'judges' if name in _KINDS else 'train'}"]
        lines += [f"Measured on held-out problems: `{json.dumps(stage[kind].get('held_out', {}))}`", ""]
        if settings[kind]["head"] != "last_token":
            lines += [_HEADS[settings[kind]["head"]], ""]
    else:
        one = next(figures for figures in rounds if figures["round"] == int(name[1:]))
        low, high = one["pass1"]["interval"]
        lines += [
            f"pass@1 (greedy) on the first {one['pass1']['n']} problems of `{settings['task']}`, float32 weights:"
            f" {one['pass1']['accuracy']:.3f}",
            f"(95 % interval {low:.3f} to {high:.3f}); by level: "
            + ", ".join(f"L{level} {share:.3f}" for level, share in one["pass1"]["levels"].items()),
        ]
        for way, figure in (shipped or {}).items():
            how = _WAYS[way].format(settings["system2"]["rollouts"])
            lines.append(f"As shipped, {how}: {figure['correct']} of {figure['n']} right.")
        lines.append("")
    return "\n".join([*lines, "MIT licence, part of rstar-eval.", ""])


def _kind(name: str) -> str | None:
    """Return which reward model a checkpoint's name says it is (None: it is a policy)."""
    return next((kind for kind in _KINDS if name.startswith(kind)), None)


def _copy(source: Path, target: Path) -> None:
    from safetensors.torch import load_file, save_file

    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.suffix == ".safetensors":
            tensors = {key: one.half() if one.is_floating_point() else one for key, one in load_file(file).items()}
            save_file(tensors, target / file.name, metadata={"format": "pt"})
            (target / file.name).chmod(0o644)
        elif file.name in _KEPT:
            shutil.copy(file, target / file.name)
        elif file.name == REFERENCE:
            _copy(file, target / REFERENCE)


if __name__ == "__main__":
    print(" ".join(ship(Path(sys.argv[1]), Path(sys.argv[2]))))

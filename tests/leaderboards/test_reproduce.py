"""`rstar-eval reproduce`: plan, what is run and what is reused, and the mistakes that a user can make."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rstar_eval.cli import app
from rstar_eval.config import identity
from rstar_eval.errors import UserError
from rstar_eval.leaderboards.evolution import Evolution, read_evolution
from rstar_eval.leaderboards.experiments import load_experiment, load_preset
from rstar_eval.leaderboards.measure import Measurement, Run, needed, parse_only
from rstar_eval.leaderboards.models import Models, NotHere, parse_pairs
from rstar_eval.leaderboards.scores import read_scores
from rstar_eval.solver.backends.hf import weights_hash
from rstar_eval.solver.config import SearchConfig
from rstar_eval.tasks import load_task
from rstar_eval.training.evolve_config import FinalPlan

SCRIPTED = ("r0", "r1", "ppm1", "orm", "ppm-last-token", "sft-random", "sft-rejection")


def reproduce(*arguments: str) -> Any:
    """Run the command in this process; a user's mistake is the result's exception."""
    return CliRunner().invoke(app, ["reproduce", *arguments])


def scripted(evolution: Path, output: Path, *more: str) -> list[str]:
    """Arguments that put the scripted models in place of an evolution's."""
    models = [word for name in SCRIPTED for word in ("--model", f"{name}=scripted")]
    return ["--evolve", str(evolution), "--rounds", "1", "--output", str(output), *models, *more]


def test_a_cell_is_measured_judged_stored_rendered_and_then_reused(evolution_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = scripted(evolution_folder, output, "--limit", "2", "--workers", "1", "--only", "orm/mini_math")
    first = reproduce("table8", *arguments)
    assert first.exit_code == 0, first.exception
    assert "to do 1" in first.stdout
    (file,) = (output / "results" / "seed3").glob("*/mini_math.jsonl.zst")
    assert file.parent.name == "r1+sample128"  # the policy of the one round is the final one
    scores = read_scores(file)
    assert [len(one.judges["orm"]) for one in scores.problems] == [128, 128]
    assert scores.config["candidates"] == 8  # the settings that the evolution evaluates with
    rendered = json.loads((output / "rendered" / "table8.json").read_text())
    cells = {row["id"]: row["cells"] for row in rendered["rows"]}
    assert cells["orm"][0]["n"] == 2
    assert cells["orm"][0]["trajectories"] == 16
    assert cells["pqm"][0]["agree"] == "not run"
    stored = file.stat().st_mtime_ns
    again = reproduce("table8", *arguments)
    assert "stored 1, to do 0" in again.stdout
    assert file.stat().st_mtime_ns == stored


@pytest.mark.slow
def test_a_larger_limit_goes_on_with_what_is_there(evolution_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for limit in ("1", "2"):
        arguments = scripted(
            evolution_folder, output, "--limit", limit, "--workers", "1", "--only", "policy-slm-r1/mini_aime"
        )
        assert reproduce("table3", *arguments).exit_code == 0
    (file,) = (output / "results" / "seed3").glob("r1+greedy/mini_aime.jsonl.zst")
    assert [one.index for one in read_scores(file).problems] == [0, 1]
    manifest = json.loads((output / "runs" / "seed3" / "r1+greedy" / "mini_aime" / "manifest.json").read_text())
    assert len(manifest["sessions"]) == 2


def test_results_of_other_settings_are_refused_naming_the_difference(
    evolution_folder: Path, tmp_path: Path, made_up_results: Callable[..., Path]
) -> None:
    models = Models(load_preset("mini"), tmp_path, {3: read_evolution(evolution_folder)}, given={"r1": "scripted"})
    made_up_results([load_experiment("table3", "mini")], seeds=(3,))
    measurement = Measurement(models, 2, None, 1)
    with pytest.raises(UserError, match=r"of another measurement: .*candidates|max_depth.*are others"):
        measurement.stored(Run(3, "r1", "", "greedy", "mini_math"))


def test_a_result_is_of_the_reward_models_weights_and_its_references(evolution_folder: Path, tmp_path: Path) -> None:
    """A log-ratio head's weights are two models'; a stored result names both."""
    hashes = {}
    for part in ("policy", "ppm", "ppm/reference"):
        folder = evolution_folder / "round1" / part
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_text(part)
        hashes[part] = weights_hash(folder)
    models = Models(load_preset("mini"), tmp_path, {3: read_evolution(evolution_folder)})
    measurement, run = Measurement(models, 2, None, 1), Run(3, "r1", "ppm1", "search8", "mini_math")
    manifest = {
        "config": identity(measurement.config(run)),
        "data": {"mini_math": {"source": {"sha256": load_task("mini_math").provenance["sha256"]}}},
        "policy": {"sha256": hashes["policy"]},
        "reward": {"sha256": hashes["ppm"], "reference": hashes["ppm/reference"]},
    }
    measurement._check(run, manifest, tmp_path / "file")
    for other in ({"sha256": hashes["ppm"]}, {**manifest["reward"], "reference": hashes["policy"]}):
        with pytest.raises(UserError, match="the weights of ppm1 are others"):
            measurement._check(run, {**manifest, "reward": other}, tmp_path / "file")


def test_the_plan_names_models_settings_hardware_and_cost() -> None:
    done = reproduce("table5", "--preset", "paper", "--dry-run")
    assert done.exit_code == 0, done.exception
    for part in (
        "gpt-4o: openai:gpt-4o-2024-08-06", "Qwen/Qwen2.5-Math-72B-Instruct", "4 GPU(s)", "train sft on sft rows",
        "search64: ", "rollouts_per_trajectory 4", "GPU-hours = ", "days on 8 GPUs", "tokens of hosted models",
        "seed0/rstar-7b+ppm-7b+search64/aime2024: 30 problems x 64 trajectories x 15,693 tokens",
    ):  # fmt: skip
        assert part in done.stdout, part
    assert "To do: 203 runs" in done.stdout


def test_a_dry_run_makes_nothing(tmp_path: Path) -> None:
    done = reproduce("all", "--dry-run", "--seeds", "0", "--output", str(tmp_path / "out"))
    assert done.exit_code == 0, done.exception
    assert "Evolution of seed 0: 4 rounds" in done.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("table11",), ("'table11'", "table1")),
        (("table5", "--preset", "papr"), ("'papr'", "paper")),
        (("table5", "--only", "gpt4"), ("'gpt4'", "gpt-4o")),
        (("table5", "--only", "gpt-4o/mathe"), ("mathe", "columns")),
        (("table5", "--limit", "0"), ("limit is 0", "at least 1")),
        (("table5", "--seeds", "a"), ("'a'", "0,1,2")),
        (("table5", "--evolve", "/nowhere"), ("'/nowhere'", "rstar-eval evolve")),
        (("table5", "--model", "r0"), ("'r0'", "NAME=VALUE")),
        (("table5", "--model", "r9=scripted"), ("'r9'", "mini")),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], parts: tuple[str, ...], tmp_path: Path) -> None:
    done = reproduce(*arguments, "--output", str(tmp_path / "out"))
    assert isinstance(done.exception, UserError), done.exception
    assert len(str(done.exception).splitlines()) == 1
    assert all(part in str(done.exception) for part in parts), done.exception


def test_a_folder_of_something_else_is_left_alone(evolution_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thing").touch()
    done = reproduce("table3", *scripted(evolution_folder, tmp_path / "other"))
    assert "holds no reproduction" in str(done.exception)
    assert [one.name for one in (tmp_path / "other").iterdir()] == ["thing"]


def test_an_unfinished_evolution_has_what_its_rounds_have(evolution_folder: Path) -> None:
    state = json.loads((evolution_folder / "state.json").read_text())
    del state["stages"]["round1/judges"]
    (evolution_folder / "state.json").write_text(json.dumps(state))
    models = Models(load_preset("mini"), evolution_folder, {3: read_evolution(evolution_folder)})
    assert models.reward("ppm-rounds", 3).startswith("ppm:")
    with pytest.raises(NotHere, match="no judges after round 1"):
        models.reward("orm", 3)
    del state["stages"]["round1/gate"]
    (evolution_folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match="let rstar-eval evolve run on"):
        read_evolution(evolution_folder)


def with_final_search(evolution: Evolution) -> Evolution:
    final = FinalPlan(SearchConfig(), {"1": 2}, steps=77)
    return dataclasses.replace(evolution, config=dataclasses.replace(evolution.config, final=final))


def test_models_resolve_to_the_evolutions_folders(evolution_folder: Path, tmp_path: Path) -> None:
    evolution = with_final_search(read_evolution(evolution_folder))
    models = Models(load_preset("mini"), tmp_path, {3: evolution})
    assert models.canonical("final", 3) == "r1"
    assert models.canonical("ppm-rounds", 3) == "ppm1"
    assert models.canonical("ppm", 3) == "ppm", "the final policy's"
    assert models.policy("final", 3).startswith(f"hf:{evolution_folder.resolve()}/round1/policy?")
    for kind in ("orm", "ppm"):
        assert models.reward(kind, 3).startswith(f"{kind}:{evolution_folder.resolve()}/round1/judges/{kind}?")
    with pytest.raises(NotHere, match="no search after its last round"):
        Models(load_preset("mini"), tmp_path, {3: read_evolution(evolution_folder)}).reward("ppm", 3)
    assert models.folder("r0", 3) == evolution_folder.resolve() / "base" / "policy"
    with pytest.raises(NotHere, match="round 2 was not made"):
        models.policy("r2", 3)
    with pytest.raises(NotHere, match="seed 4"):
        models.policy("final", 4)
    evolution.stages["round1/gate"]["kept"] = False
    assert models.canonical("final", 3) == "r0"
    assert models.canonical("last", 3) == "r1"


def test_a_control_evolution_has_models_of_its_own(evolution_folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(evolution_folder, tmp_path / "control")
    control = dataclasses.replace(read_evolution(tmp_path / "control"), last=4)
    models = Models(load_preset("mini"), tmp_path, {3: read_evolution(evolution_folder)}, {3: control})
    assert models.folder("c4", 3) == tmp_path / "control" / "round4" / "policy"
    with pytest.raises(NotHere, match="--control DIR"):
        Models(load_preset("mini"), tmp_path, {3: control}).folder("c4", 3)


def test_ablations_train_from_the_base_with_the_settings_of_the_last_round(
    evolution_folder: Path, tmp_path: Path
) -> None:
    from rstar_eval.solver.seeds import derive_seed
    from rstar_eval.training.datasets import write_rows
    from rstar_eval.training.rows import Provenance, SftRow

    evolution = with_final_search(read_evolution(evolution_folder))
    row = SftRow("q", "<code>", source=Provenance("run", 1, "pool", "p", 0, level="1"))
    write_rows(evolution_folder / "round1" / "data" / "random.jsonl", [row])
    models = Models(load_preset("mini"), tmp_path, {3: evolution})
    job = models.training_job("sft-random", 3).data
    assert job["base"] == str(evolution.base)
    assert job["config"]["max_steps"] == evolution.config.sft.max_steps
    assert job["config"]["seed"] == derive_seed(3, "train", "sft", 1)
    assert Path(job["rows"]).read_text() == (evolution_folder / "round1" / "data" / "random.jsonl").read_text()
    job = models.training_job("ppm-last-token", 3).data
    assert (job["config"]["head"], job["config"]["max_steps"]) == ("last_token", 77), "as long as the final PPM"
    assert job["rows"] == str(evolution.folder / "round1" / "judges" / "pairs.jsonl")


def test_what_cells_need_is_listed_once(tmp_path: Path) -> None:
    models = Models(load_preset("mini"), tmp_path, rounds=4)
    table, figure = load_experiment("table8", "mini"), load_experiment("figure3", "mini")
    both = needed([table, figure], models, [0])
    samples = [run for run in both.runs if run.search == "sample128"]
    assert len(samples) == 5  # one a task, for eight rows and two curves
    assert both.runs[samples[0]] == {"orm", "pqm", "ppm", "ppm-last-token"}
    only = needed([table], models, [0], parse_only("pqm/mini_aime", [table]))
    assert [run.key for run in only.runs] == ["seed0/r4+pqm+search16/mini_aime"]


def test_pairs_of_options() -> None:
    assert parse_pairs("--model", ["a=b=c"]) == {"a": "b=c"}
    for bad in (["a"], ["=b"], ["a="], ["a=1", "a=2"]):
        with pytest.raises(UserError, match="NAME=VALUE"):
            parse_pairs("--model", bad)


def test_at_the_papers_preset_a_row_runs_when_its_model_is_there_and_says_why_when_not(
    tmp_path: Path, shared_data: Path
) -> None:
    """The same command that somebody with GPUs gives, with a scripted model in the place of theirs."""
    common = ["--preset", "paper", "--limit", "2", "--workers", "1", "--output", str(tmp_path / "out")]
    common += ["--data-dir", str(shared_data / "benchmarks")]
    done = reproduce("table5", *common, "--only", "gpt-4o/aime2024", "--model", "gpt-4o=scripted")
    assert done.exit_code == 0, done.exception
    rows = json.loads((tmp_path / "out" / "rendered" / "table5.json").read_text())["rows"]
    (cell,) = (one for one in rows[0]["cells"] if one["column"] == "aime2024")
    assert (cell["published"], cell["n"], cell["trajectories"]) == (9.3, 2, 1)
    assert cell["agree"] in ("yes", "no")
    row = "qwen2.5-math-7b-rstar-math-7b-slm-7b-ppm"
    done = reproduce("table5", *common, "--only", f"{row}/aime2024")
    assert done.exit_code == 0, done.exception
    assert "rstar-7b: not trained: its training rows are not given (--data sft=FILE)" in done.stdout
    assert "not run: 1 runs: rstar-7b was not trained" in done.stdout

"""Self-evolution: settings, state, jobs and figures. Whole rounds are in test_evolve_rounds.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rstar_eval.errors import BackendError, UserError
from rstar_eval.problem import Problem
from rstar_eval.solver.config import SearchConfig
from rstar_eval.training.evolve_branch import branch
from rstar_eval.training.evolve_command import check_until, plan_text, stage_names
from rstar_eval.training.evolve_config import FinalPlan, evolve_preset
from rstar_eval.training.evolve_figures import paired_difference, share_by_level, summary_text
from rstar_eval.training.evolve_jobs import Job, idle_cores, run_jobs, wait_policy
from rstar_eval.training.evolve_pool import FINAL, make_pool, own_problems
from rstar_eval.training.evolve_state import EvolveState, alone, differences, is_empty


def test_presets_follow_the_schedule_of_the_paper() -> None:
    for name in ("mini", "paper"):
        config = evolve_preset(name)
        assert [config.plan(number).guided for number in (1, 2, 3, 4)] == [False, False, True, True]
        assert [config.plan(number).more is not None for number in (1, 2, 3, 4)] == [False, False, False, True]
        assert config.plan(9) == config.plan(4)
        more = config.plan(4).more
        assert more is not None
        assert more.rollouts > config.plan(4).search.rollouts
        assert more.trees > 1
    paper = evolve_preset("paper")
    assert [paper.plan(number).search.rollouts for number in (1, 2, 3)] == [8, 16, 16]
    assert [paper.plan(number).search.candidates for number in (1, 2, 3, 4)] == [8, 8, 8, 16]
    assert paper.plan(4).more.rollouts == 128  # type: ignore[union-attr]
    assert paper.ppm.head == "last_token"


def test_settings_reach_into_nested_ones() -> None:
    changes = {"sft.max_steps": 3, "plans.3.more.rollouts": 48, "pool": {"1": 4}, "author.misread.A": 0.5, "seed": 9}
    config = evolve_preset("mini", changes)
    assert config.sft.max_steps == 3
    assert config.plan(4).more.rollouts == 48  # type: ignore[union-attr]
    assert config.pool == {"1": 4}
    assert config.author.misread["A"] == 0.5
    assert evolve_preset("mini", {"pool.6": 3}).pool["6"] == 3
    assert evolve_preset("mini", {"plans.1.fresh.aime": 3}).plan(2).fresh["aime"] == 3
    passes = evolve_preset("mini", {"sft.epochs": 6, "plans.1.epochs": 2})
    assert [passes.sft_of(number).epochs for number in (1, 2)] == [6, 2]
    assert passes.sft_of(2).learning_rate == passes.sft.learning_rate


@pytest.mark.parametrize(
    ("name", "changes", "match"),
    [
        ("tiny", {}, "unknown preset 'tiny' of evolve.*mini, paper"),
        ("mini", {"sft.max_step": 3}, "unknown setting 'sft.max_step'.*max_steps"),
        ("mini", {"plans.7.search.rollouts": 3}, "unknown setting 'plans.7.search.rollouts'"),
        ("mini", {"rounds": 3}, "unknown setting 'rounds'"),
        ("mini", {"demonstrations": "many"}, "demonstrations.*'many'"),
        ("mini", {"plans.0.search.rollouts": 0}, "rollouts is 0"),
        ("mini", {"workers": 0}, "workers is 0"),
        ("mini", {"plans.2.epochs": 0}, "plans.2.epochs is 0"),
        ("mini", {"final.steps": 0}, "final.steps is 0"),
        ("mini", {"final.search.rollouts": 0}, "rollouts is 0"),
        ("mini", {"final.fresh": {}}, "final.fresh names no problems.*final=null"),
    ],
)
def test_bad_settings_are_user_errors(name: str, changes: dict[str, object], match: str) -> None:
    with pytest.raises(UserError, match=match):
        evolve_preset(name, changes)


def test_stages_and_until() -> None:
    stages = stage_names(evolve_preset("mini"), 4)
    assert stages[:3] == ["base", "round0/evaluate", "round1/search"]
    assert "round4/more" in stages
    assert "round3/more" not in stages
    assert stages[-2:] == ["round4/final", "round4/judges"]
    assert "round4/final" not in stage_names(evolve_preset("paper"), 4)
    assert "base" not in stage_names(evolve_preset("mini", {"base": "x"}), 1)
    for good in (None, "base", "round1", "round2/data"):
        check_until(good, stages)
    for bad in ("round5", "round0", "round1/more", "basis"):
        with pytest.raises(UserError, match="no stage"):
            check_until(bad, stages)
    assert "plans.3.more.rollouts: 12" in plan_text(evolve_preset("mini"), stages)


def test_pool_is_made_of_training_problems_of_the_wanted_levels() -> None:
    changes = {
        "demonstrations": 50,
        "final": None,
        "pool": {"1": 3, "4": 2},
        **{f"plans.{place}.fresh": {} for place in range(4)},
    }
    config = evolve_preset("mini", changes, seed=5)
    pool = make_pool(config)
    assert [one.level for one in pool] == ["1", "1", "1", "4", "4"]
    assert pool == make_pool(config)
    assert pool != make_pool(evolve_preset("mini", changes, seed=6))
    assert len({one.id for one in pool}) == 5
    assert own_problems(pool, config, 1) == own_problems(pool, config, 9) == pool


def test_rounds_have_problems_of_their_own_that_are_all_different() -> None:
    fresh = {"plans.0.fresh": {"1": 300, "drill": 50}, "plans.1.fresh": {"1": 300}, "plans.2.fresh": {}}
    config = evolve_preset(
        "mini",
        {"demonstrations": 50, "pool": {"1": 40}, "plans.3.fresh": {"2": 5}, "final.fresh": {"1": 6}, **fresh},
        seed=5,
    )
    pool = make_pool(config)
    assert len({one.text for one in pool}) == len({one.id for one in pool}) == len(pool) == 701
    assert own_problems(pool, config, FINAL) == pool[695:], "the final search comes after all rounds"
    assert make_pool(replace(config, final=None)) == pool[:695]
    rounds = [own_problems(pool, config, number) for number in (1, 2, 3, 4, 5)]
    assert [len(one) for one in rounds] == [390, 340, 40, 45, 45]
    assert rounds[3] == rounds[4], "a round beyond the last plan repeats it"
    assert all(one[:40] == pool[:40] for one in rounds)
    assert not {one.id for one in rounds[0][40:]} & {one.id for one in rounds[1]}
    assert [one.level for one in rounds[3][40:]] == ["2"] * 5


def test_no_problem_of_the_pool_is_among_the_bases_demonstrations(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = {f"plans.{place}.fresh": {} for place in range(4)}
    config = evolve_preset("mini", {"pool": {"1": 8}, "demonstrations": 50, "final": None, **fresh})
    free = make_pool(config)
    monkeypatch.setattr("rstar_eval.training.evolve_pool.corpus_texts", lambda *_: {free[2].text})
    assert [one.text for one in make_pool(config)][:7] == [one.text for one in free if one is not free[2]]
    assert len(make_pool(config)) == 8


def test_a_source_that_runs_out_of_problems_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Problem(str(i), "t", i, f"text {i}", "1", level="5") for i in range(10)]
    monkeypatch.setattr("rstar_eval.tasks.load_wheel_split", lambda _: found)
    changes = {"source": "math", "final": None, "pool": {"": 6}, **{f"plans.{place}.fresh": {} for place in range(4)}}
    pool = make_pool(evolve_preset("mini", {**changes, "plans.0.fresh": {"5": 4}}))
    assert {one.text for one in pool} == {one.text for one in found}
    with pytest.raises(UserError, match=r"1 training problems of level '5' too few for plans\.1\.fresh"):
        make_pool(evolve_preset("mini", {**changes, "plans.1.fresh": {"5": 5}}))
    final = FinalPlan(SearchConfig(), {"5": 6})
    with pytest.raises(UserError, match=r"2 training problems of level '5' too few for final\.fresh"):
        make_pool(replace(evolve_preset("mini", changes), final=final))
    assert len(make_pool(evolve_preset("mini", {**changes, "pool": {"": 99}}))) == 10, "the pool takes what there is"
    with pytest.raises(UserError, match=r"no level '7'.*5"):
        make_pool(evolve_preset("mini", {**changes, "pool": {"7": 1}}))


def test_finished_stages_are_done_once_and_survive(tmp_path: Path) -> None:
    calls: list[int] = []

    def work() -> dict[str, object]:
        calls.append(1)
        return {"x": 1.5}

    state = EvolveState(tmp_path / "e", {"seed": 1})
    assert state.once("base", work) == {"x": 1.5}
    assert EvolveState(tmp_path / "e", {"seed": 1}).once("base", work) == {"x": 1.5}
    assert len(calls) == 1


def test_folder_of_another_evolution_is_refused_naming_the_difference(tmp_path: Path) -> None:
    EvolveState(tmp_path / "e", {"seed": 1, "sft": {"epochs": 8}})
    with pytest.raises(UserError, match=r"seed is 1 there and 2 here; sft.epochs is 8 there and 4 here"):
        EvolveState(tmp_path / "e", {"seed": 2, "sft": {"epochs": 4}})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thing").touch()
    with pytest.raises(UserError, match="not empty"):
        EvolveState(tmp_path / "other", {})
    (tmp_path / "e" / "state.json").write_text("{")
    with pytest.raises(UserError, match="can't read"):
        EvolveState(tmp_path / "e", {})


def test_settings_survive_the_state_file(tmp_path: Path) -> None:
    config = evolve_preset("mini", seed=4)
    EvolveState(tmp_path / "e", asdict(config))
    EvolveState(tmp_path / "e", asdict(config))
    assert differences({"a": [1]}, {"a": [2]}) == ["a is [1] there and [2] here"]


def test_failed_job_names_its_last_line_and_the_other_is_ended(tmp_path: Path) -> None:
    broken = Job(
        "broken", {"job": "train", "kind": "sft", "rows": str(tmp_path / "none"), "rows_kind": "sft", "threads": 1}
    )
    with pytest.raises(UserError, match=r"can't read .*none"):
        run_jobs(tmp_path / "jobs", [broken], 1)
    with pytest.raises(
        BackendError, match=r"job odd ended with code 1: KeyError: 'nothing'.*the same command continues"
    ):
        run_jobs(tmp_path / "jobs", [Job("odd", {"job": "nothing"})], 2)


def test_job_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """A parent that dies without a word leaves no job behind: its end of the pipe closes."""
    job = tmp_path / "job.json"
    job.write_text(json.dumps({"job": "search", "mine": [0], "shards": 1, "runs": []}))
    code = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {WAITING!r}], stdin=subprocess.PIPE)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or " Z " in Path(f"/proc/{child}/stat").read_text():
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the job outlived its parent")


WAITING = (
    "import os, time; from rstar_eval.training.evolve_worker import _end_with_parent; _end_with_parent(); "
    "print(os.getpid(), flush=True); time.sleep(60)"
)


def test_paired_difference_and_its_standard_error() -> None:
    new, old = {"a": True, "b": True, "c": False, "d": True}, {"a": False, "b": True, "c": False, "d": False, "e": True}
    mean, error = paired_difference(new, old)
    assert mean == 0.5
    assert error == pytest.approx(((0.25 * 4) / 3 / 4) ** 0.5)
    assert paired_difference({"a": True}, {"b": True}) == (0.0, 0.0)


def test_shares_by_level_and_summary_table() -> None:
    figures = share_by_level({"a": True, "b": False, "c": True}, {"a": "1", "b": "1", "c": "2"})
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["levels"] == {"1": 0.5, "2": 1.0}
    text = summary_text(
        [
            {"round": 0, "pass1": figures, "kept": None, "gain": None},
            {"round": 1, "pass1": figures, "kept": True, "gain": [0.1, 0.02], "pool": figures, "ppm_pairs": 0.8}
            | {"final": figures},
        ],
        "X",
    )
    assert "| 1 | 0.500 | 1.000 | 0.667 [" in text
    assert "+0.100 +- 0.020" in text
    assert "| 0.800 |" in text
    assert text.count("\n| 1 |") == 2  # the rounds, and the pool by level
    assert "round 1 with the final PPM, of 3 problems: 0.667 [" in text


def evolve(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command; it must not take long, since nothing is to be done."""
    command = [sys.executable, "-m", "rstar_eval.cli", "evolve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_dry_run_of_the_paper_preset_shows_stages_and_settings_and_makes_nothing(tmp_path: Path) -> None:
    done = evolve("--preset", "paper", "--output", str(tmp_path / "e"), "--dry-run", "--rounds", "4")
    assert done.returncode == 0, done.stderr
    assert "round4/more" in done.stdout
    assert "plans.3.more.rollouts: 128" in done.stdout
    assert "engine: vllm" in done.stdout
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--rounds", "0"), ("rounds is 0", "at least 1")),
        (("--preset", "papr"), ("'papr'", "did you mean paper?")),
        (("--until", "round9"), ("'round9'", "round1")),
        (("--set", "base=/no/such/model"), ("/no/such/model", "--set base=PATH")),
        (("--set", "sft.epoch=3"), ("sft.epoch", "epochs")),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(
    tmp_path: Path, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    done = evolve("--output", str(tmp_path / "e"), *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(part in done.stderr for part in parts), done.stderr
    assert not (tmp_path / "e").exists()


def test_a_folder_is_one_evolutions_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "e"
    with alone(folder):
        done = evolve("--output", str(folder), "--until", "base")
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            f"error: another process is at the evolution in {str(folder)!r}. wait for it or give another folder"
        ]
        assert is_empty(folder)
    with alone(folder):
        EvolveState(folder, {"seed": 1})
    assert not is_empty(folder)


def test_a_folder_that_can_not_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "e").write_text("a file")
    with pytest.raises(UserError, match="can't write to"), alone(tmp_path / "e"):
        pass


def _evolution(folder: Path, config: object, stages: list[str]) -> None:
    for part in ("base/policy", "round0/greedy", "round1/policy", "round1/final", "round1/judges", "round2/policy"):
        (folder / part).mkdir(parents=True)
        (folder / part / "weights").write_text(part)
    for part in ("pool.jsonl", "validation.jsonl"):
        (folder / part).write_text(part)
    state = {"schema": 1, "settings": asdict(config), "stages": {name: {"n": name} for name in stages}}  # type: ignore[call-overload]
    (folder / "state.json").write_text(json.dumps(state))


STAGES = ["base", "round0/evaluate", "round1/search", "round1/gate", "round1/final", "round1/judges", "round2/search"]


def test_a_branch_begins_with_the_rounds_of_another_evolution(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    _evolution(first, evolve_preset("mini"), STAGES)
    config = evolve_preset("mini", {"plans.2.guided": False})
    for _ in range(2):  # the second time it continues
        branch(config, second, f"{first}:1")
    state = EvolveState(second, asdict(config))
    assert list(state.stages) == STAGES[:4]
    assert (second / "round1/policy/weights").read_text() == "round1/policy"
    assert (second / "pool.jsonl").exists()
    assert not any((second / part).exists() for part in ("round2", "round1/final", "round1/judges"))
    with pytest.raises(UserError, match="did not begin with"):
        branch(config, second, f"{first}:0")


@pytest.mark.parametrize(
    ("changes", "origin", "match"),
    [
        ({}, "first", "can't read --branch.*FOLDER:ROUNDS"),
        ({}, "nowhere:1", "no evolution in .*nowhere"),
        ({}, "first:2", "has not finished round 2"),
        ({"sft.epochs": 1}, "first:1", "other settings: sft.epochs is 8.0 there and 1.0 here"),
        ({"plans.0.guided": True}, "first:1", "plans.0.guided is False there and True here"),
    ],
)
def test_a_branch_that_can_not_be(tmp_path: Path, changes: dict[str, object], origin: str, match: str) -> None:
    _evolution(tmp_path / "first", evolve_preset("mini"), STAGES)
    with pytest.raises(UserError, match=match):
        branch(evolve_preset("mini", changes), tmp_path / "second", str(tmp_path / origin) if ":" in origin else origin)
    assert not (tmp_path / "second" / "state.json").exists()


@pytest.mark.parametrize(
    ("threads", "idle", "policy"),
    [
        (2, 2.0, {}),
        (2, 1.6, {}),
        (2, 1.2, {"OMP_WAIT_POLICY": "passive"}),
        (2, 0.0, {"OMP_WAIT_POLICY": "passive"}),
        (8, 7.6, {}),
        (8, 7.0, {"OMP_WAIT_POLICY": "passive"}),
    ],
)
def test_threads_spin_only_where_each_has_a_core(threads: int, idle: float, policy: dict[str, str]) -> None:
    found, note = wait_policy(threads, idle)
    assert found == policy
    assert note.startswith(f"{threads} threads on {idle:.1f} idle cores")
    assert note.count("\n") == 1
    assert ("sleep" in note) == bool(policy)


def test_idle_cores_are_counted() -> None:
    import os

    assert 0 <= idle_cores() <= (os.cpu_count() or 1)


def test_the_ppm_starts_from_the_new_policy_once_that_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rstar_eval.training import evolve, evolve_folder

    asked: list[tuple[str, str, float, int]] = []

    def run(folder: Path, jobs: list[Job], workers: int) -> evolve.Cost:
        for job in jobs:
            start = Path(job.data["base"]).relative_to(tmp_path)
            asked.append((job.name, start.as_posix(), job.data["config"]["epochs"], job.data["threads"]))
        return evolve.Cost(1.0, 1.0, len(jobs))

    monkeypatch.setattr(evolve_folder, "run_jobs", run)
    monkeypatch.setattr(evolve, "training_metrics", lambda folder: {})
    config = evolve_preset("mini", {"pool": {"1": 2}, **{f"plans.{n}.fresh": {} for n in range(4)}})
    evolution = evolve.Evolution(config, tmp_path, print)
    cost = evolution._train(3)
    assert asked == [("policy-sft", "base/policy", 6, 2), ("ppm-ppm", "round3/policy", config.ppm.epochs, 2)]
    assert (cost["seconds"], cost["peak_mb"]) == (2.0, 1)
    settings = config.sft
    pair = [evolution._training("sft", tmp_path, tmp_path, tmp_path / name, settings, 1) for name in ("a", "b")]
    evolution._train_all(tmp_path, pair)
    assert [threads for *_, threads in asked[2:]] == [1, 1], "trainings side by side share the workers' cores"

"""The untrained mini model, shipping an evolution's checkpoints, and specs that name embedded ones."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from rstar_eval import embedded
from rstar_eval.errors import UserError

pytest.importorskip("torch")

from rstar_eval.solver.formats.rstar import prompt_text
from rstar_eval.training.evolve_config import evolve_preset
from rstar_eval.training.mini_base import bootstrap_rows, write_untrained
from rstar_eval.training.rows import PairRow, Provenance
from rstar_eval.training.ship import ship
from rstar_eval.training.teacher import Author
from rstar_eval.training.train import preset, train

PASS1 = {"n": 400, "accuracy": 0.25, "interval": [0.21, 0.295], "levels": {"1": 0.5, "2": 0.1}, "tokens": 9}


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mini") / "untrained"
    assert write_untrained(folder, 7) == 618_752
    return folder


def test_untrained_model_is_a_plain_qwen2_checkpoint_made_by_its_seed(untrained: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rstar_eval.solver.backends.hf import weights_hash

    model = AutoModelForCausalLM.from_pretrained(untrained, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(untrained, local_files_only=True)
    assert type(model).__name__ == "Qwen2ForCausalLM"
    # Loaded beside a Qwen2 configuration a tokenizer gets Qwen2's rules; ours must mean the same under them.
    assert len(tokenizer("Ben has 12 coins.<code>\nben = 12\n<end_of_step>")["input_ids"]) == 12
    assert model.config.eos_token_id == tokenizer.eos_token_id
    write_untrained(tmp_path / "same", 7)
    write_untrained(tmp_path / "other", 8)
    assert weights_hash(tmp_path / "same") == weights_hash(untrained)
    assert weights_hash(tmp_path / "other") != weights_hash(untrained)


def test_bootstrap_rows_say_where_they_come_from() -> None:
    rows = bootstrap_rows(40, 1, Author())
    assert {row.source.run for row in rows} == {"bootstrap author"}
    assert all(row.response.startswith(("<code>\n# Find", "<code>\n# Take", "<code>\n# Write")) for row in rows)


KINDS = ("ppm", "pqm", "orm")


@pytest.fixture(scope="module")
def judge(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PPM after one step of training."""
    row = PairRow(prompt_text("How many?"), "<code>\na = 1\n", "<code>\na = 2\n", 1, 1, source=Provenance(problem="0"))
    output = tmp_path_factory.mktemp("judge") / "ppm"
    return train("ppm", [row], untrained, output, preset("mini", "ppm", max_steps=1)).path


@pytest.fixture
def evolution(untrained: Path, judge: Path, tmp_path: Path) -> Path:
    """A folder that looks like a finished evolution of one round, with an untrained model in every place."""
    folder = tmp_path / "evolution"
    for place in ("base/policy", "round1/policy", "round1/ppm", *(f"round1/judges/{kind}" for kind in KINDS)):
        shutil.copytree(judge if place.endswith("ppm") else untrained, folder / place)
        (folder / place / "training.json").write_text("{}")
    settings = asdict(evolve_preset("mini", {"greedy_limit": 2, "system2_limit": 2}, seed=5))
    held = {"held_out": {"accuracy": 0.75}}
    stages = {
        "base": {}, "round0/evaluate": {"pass1": {**PASS1, "accuracy": 0.125}}, "round1/evaluate": {"pass1": PASS1},
        "round1/train": {"ppm": held}, "round1/judges": dict.fromkeys(KINDS, held),
    }  # fmt: skip
    (folder / "state.json").write_text(json.dumps({"schema": 1, "settings": settings, "stages": stages}))
    return folder


def test_shipped_checkpoints_are_half_precision_with_cards(
    evolution: Path, untrained: Path, tmp_path: Path, nothing_runs: None
) -> None:
    import torch
    from safetensors.torch import load_file

    names = ["orm", "ppm", "ppm1", "pqm", "r0", "r1"]
    assert ship(evolution, tmp_path / "out") == names
    for name in names:
        folder = tmp_path / "out" / name
        weights = list(folder.rglob("*.safetensors"))
        assert len(weights) == (2 if name.startswith("ppm") else 1), "a log ratio has its reference beside it"
        assert {tensor.dtype for file in weights for tensor in load_file(file).values()} == {torch.float16}
        assert sum(file.stat().st_size for file in folder.rglob("*")) < 1_500_000 * len(weights)
        assert not (folder / "training.json").exists()
        command = "rstar-eval evolve --preset mini --output DIR --seed 5 --rounds 1 --set workers=2"
        assert command in (folder / "README.md").read_text()
    original, shipped = load_file(untrained / "model.safetensors"), load_file(tmp_path / "out/r1/model.safetensors")
    for key, tensor in original.items():
        assert torch.allclose(tensor, shipped[key].float(), atol=1e-3)
    assert "0.250" in (tmp_path / "out/r1/README.md").read_text()
    assert "0.125" in (tmp_path / "out/r0/README.md").read_text()
    none_right = {"task": "mini_validation", "n": 2, "correct": 0, "verdicts": "00"}
    figures = {name: json.loads((tmp_path / f"out/{name}/figures.json").read_text()) for name in ("r0", "r1")}
    assert figures == {"r0": {"greedy": none_right}, "r1": dict.fromkeys(("greedy", "system2", "final"), none_right)}
    for name, what in (("ppm1", "of round 1"), ("ppm", "of the final policy")):
        card = (tmp_path / "out" / name / "README.md").read_text()
        assert '"accuracy": 0.75' in card
        assert f"process preference model {what}" in card
    assert "`reference/`, which it was trained from" in (tmp_path / "out/ppm1/README.md").read_text()


def test_an_evolution_without_a_finished_round_is_not_shipped(evolution: Path, tmp_path: Path) -> None:
    state = json.loads((evolution / "state.json").read_text())
    del state["stages"]["round1/evaluate"]
    (evolution / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match="no finished round"):
        ship(evolution, tmp_path / "out")
    with pytest.raises(UserError, match="holds no evolution"):
        ship(tmp_path, tmp_path / "out")


def test_specs_name_embedded_checkpoints(untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r0").symlink_to(untrained)
    monkeypatch.setattr(embedded, "_folder", lambda: tmp_path)
    assert embedded.checkpoints() == ("r0",)
    assert embedded.model_path("embedded/r0") == tmp_path / "r0"
    assert embedded.model_path("some/where") == Path("some/where")
    with pytest.raises(UserError, match=r"no embedded checkpoint 'r9'.*r0"):
        embedded.model_path("embedded/r9")

"""Trainings: what is learned, the same bits again, going on after a kill, and plain checkpoints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rstar_eval.errors import UserError
from rstar_eval.training.config import TrainConfig, make_config, preset
from rstar_eval.training.rows import OutcomeRow, PairRow, Provenance, Row, SftRow, ValueRow
from rstar_eval.training.train import train

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PROMPT = "<|user|>:\n{}\n<|assistant|>: Let's think step by step and solve the problem with code."
GOOD, BAD = "<code>\nx = a\n<end_of_step>", "<code>\nx = b\n<end_of_step>"
QUICK = TrainConfig(epochs=6, learning_rate=1e-2, batch_tokens=1200, max_length=400)


def rows_of(kind: str, problems: int = 12) -> list[Row]:
    found: list[Row] = []
    for number in range(problems):
        source = Provenance(problem=f"{number:016x}")
        prompt = PROMPT.format(f"q{number}")
        if kind == "sft":
            found.append(SftRow(f"q{number}", GOOD, source=source))
        elif kind == "ppm":
            found.append(PairRow(prompt, GOOD, BAD, source=source))
        elif kind == "pqm":
            found += [ValueRow(prompt, GOOD, 0.8, source=source), ValueRow(prompt, BAD, -0.6, source=source)]
        else:
            found += [OutcomeRow(prompt, GOOD, True, source), OutcomeRow(prompt, BAD, False, source)]
    return found


def weights(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.safetensors")))


def test_no_more_held_out_rows_are_measured_than_that(base: Path, tmp_path: Path, monkeypatch) -> None:
    from rstar_eval.training import train as module

    config = replace(QUICK, head="token_bilinear", held_out=0.3, max_steps=1)
    every = train("pqm", rows_of("pqm"), base, tmp_path / "every", config).manifest["rows"]
    monkeypatch.setattr(module, "_HELD", 2)
    some = train("pqm", rows_of("pqm"), base, tmp_path / "some", config).manifest["rows"]
    assert every["held_out"] > 2
    assert some == {**every, "held_out": 2}


@pytest.mark.parametrize(
    ("kind", "head", "figure", "least"),
    [
        ("sft", "last_token", "token_accuracy", 0.6),
        ("ppm", "last_token", "accuracy", 1.0),
        ("ppm", "token_bilinear", "accuracy", 1.0),
        ("ppm", "token_logratio", "accuracy", 1.0),
        ("pqm", "token_logratio", "correlation", 0.99),
        ("pqm", "token_bilinear", "correlation", 0.99),
        ("orm", "token_bilinear", "auc", 1.0),
    ],
)
def test_each_kind_learns_and_saves_a_plain_checkpoint(
    base: Path, tmp_path: Path, kind, head: str, figure: str, least: float
) -> None:
    out = tmp_path / "model"
    config = replace(QUICK, head=head, held_out=0.3, epochs=30 if kind == "sft" else QUICK.epochs)
    trained = train(kind, rows_of(kind), base, out, config, facts={"round": 3})
    held_out = trained.manifest["metrics"]["held_out"]
    assert held_out[figure] >= least
    assert json.loads((out / "training.json").read_text()) == trained.manifest
    assert trained.manifest["round"] == 3
    assert not (out / "checkpoints").exists()
    assert not list(out.glob("*.bin")), "no pickles"
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    ids = torch.tensor([tokenizer(PROMPT.format("q1") + GOOD)["input_ids"]])
    if kind == "sft":
        model = transformers.AutoModelForCausalLM.from_pretrained(out)
        assert model(input_ids=ids).logits.shape[:2] == ids.shape
        assert model.config.use_cache
    else:
        card = json.loads((out / "reward.json").read_text())
        assert (card["kind"], card["head"]) == (kind, head)
        if head == "last_token":
            model = transformers.AutoModelForSequenceClassification.from_pretrained(out)
            bad = torch.tensor([tokenizer(PROMPT.format("q1") + BAD)["input_ids"]])
            with torch.no_grad():
                assert float(model(input_ids=ids).logits) > float(model(input_ids=bad).logits)
        elif head == "token_logratio":
            assert card["beta"] == config.beta
            reference = transformers.AutoModelForCausalLM.from_pretrained(out / "reference").state_dict()
            start = transformers.AutoModelForCausalLM.from_pretrained(base).state_dict()
            mine = transformers.AutoModelForCausalLM.from_pretrained(out).state_dict()
            assert all(torch.equal(start[name], one) for name, one in reference.items()), "the reference stays"
            assert not all(torch.equal(start[name], one) for name, one in mine.items())
        else:
            from rstar_eval.solver.reward.bilinear import load_head

            assert float(load_head(out, 16).abs().sum()) > 0
            transformers.AutoModelForCausalLM.from_pretrained(out)


def test_the_same_training_gives_the_same_bits_and_another_seed_others(base: Path, tmp_path: Path) -> None:
    config = replace(QUICK, epochs=2)
    first = train("sft", rows_of("sft"), base, tmp_path / "a", config)
    second = train("sft", rows_of("sft"), base, tmp_path / "b", config)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert first.manifest["metrics"] == second.manifest["metrics"]
    train("sft", rows_of("sft"), base, tmp_path / "c", replace(config, seed=1))
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


@pytest.mark.parametrize(
    ("head", "optimizer"),
    [("last_token", "adamw"), ("token_bilinear", "adamw"), ("token_bilinear", "muon"), ("token_logratio", "adamw")],
)
def test_a_stopped_training_goes_on_and_ends_with_the_same_bits(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str, optimizer: str
) -> None:
    from rstar_eval.training import trainer

    config = replace(QUICK, epochs=3, save_steps=2, head=head, optimizer=optimizer)
    rows = rows_of("ppm")
    train("ppm", rows, base, tmp_path / "whole", config)
    step = trainer.StepTrainer.training_step

    def stop(self, *given, **named):  # stops within the sixth step
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return step(self, *given, **named)

    monkeypatch.setattr(trainer.StepTrainer, "training_step", stop)
    with pytest.raises(KeyboardInterrupt):
        train("ppm", rows, base, tmp_path / "stopped", config)
    monkeypatch.undo()
    checkpoints = tmp_path / "stopped" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["checkpoint-2", "checkpoint-4"]
    (checkpoints / "checkpoint-4" / "complete").unlink()  # as if it had been killed while this one was written
    taken: list[str] = []
    begin = trainer.StepTrainer.train
    monkeypatch.setattr(
        trainer.StepTrainer,
        "train",
        lambda self, resume_from_checkpoint=None: (
            taken.append(Path(resume_from_checkpoint).name),
            begin(self, resume_from_checkpoint=resume_from_checkpoint),
        ),
    )
    train("ppm", rows, base, tmp_path / "stopped", config)
    assert taken == ["checkpoint-2"]
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")


def test_muon_updates_matrices_and_adamw_the_rest(base: Path) -> None:
    from rstar_eval.training.optimizers import muon_adamw

    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    optimizer = muon_adamw(model, lr=0.01, weight_decay=0.0, beta2=0.95)
    matrices = {id(one) for one in optimizer.param_groups[0]["params"]}
    names = {name for name, one in model.named_parameters() if id(one) in matrices}
    assert names
    assert all(name.endswith("_proj.weight") for name in names)
    tokens = torch.arange(12).view(1, -1)
    model(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    changes = {name: one.detach() - before[name] for name, one in model.named_parameters()}
    assert all(float(change.abs().max()) > 0 for name, change in changes.items() if "k_proj.bias" not in name)
    spread = torch.linalg.svdvals(changes["model.layers.0.mlp.gate_proj.weight"])
    assert float(spread[8] / spread[0]) > 0.5, "a gradient's weak directions move by about as much as its strong ones"
    optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 0.0  # as a schedule does
    frozen = {name: one.detach().clone() for name, one in model.named_parameters()}
    optimizer.step()
    assert all(torch.equal(one, frozen[name]) for name, one in model.named_parameters())


@pytest.mark.parametrize("shape", [(6, 6), (4, 12), (12, 4)])
def test_muon_steps_as_torch_does_but_for_its_bfloat16(shape: tuple[int, int]) -> None:
    from rstar_eval.training.optimizers import Muon

    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
    mine = Muon([ours], lr=0.01, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        ours.grad = theirs.grad = torch.randn(shape)
        mine.step()
        reference.step()
    moved, expected = (one.detach().flatten() - 1 for one in (ours, theirs))
    assert float(torch.cosine_similarity(moved, expected, dim=0)) > 0.99
    assert float(moved.norm() / expected.norm()) == pytest.approx(1, abs=0.03)


def test_a_finished_training_is_not_done_again_and_another_is_refused(base: Path, tmp_path: Path) -> None:
    config = replace(QUICK, max_steps=1)
    train("sft", rows_of("sft"), base, tmp_path / "a", config)
    before = (tmp_path / "a" / "training.json").stat().st_mtime_ns
    train("sft", rows_of("sft"), base, tmp_path / "a", replace(config, log_steps=5))
    assert (tmp_path / "a" / "training.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="learning_rate"):
        train("sft", rows_of("sft"), base, tmp_path / "a", replace(config, learning_rate=1e-5))
    with pytest.raises(UserError, match="data_sha256"):
        train("sft", rows_of("sft")[1:], base, tmp_path / "a", config)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="holds no training"):
        train("sft", rows_of("sft"), base, tmp_path / "b", config)


def test_adapters_are_merged_into_a_plain_checkpoint(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    trained = train("ppm", rows_of("ppm"), base, tmp_path / "a", replace(QUICK, lora_rank=4, head="last_token"))
    assert trained.manifest["metrics"]["train"]["accuracy"] == 1.0
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "a")
    assert not any("lora" in name for name in model.state_dict())
    for head in ("token_bilinear", "token_logratio"):
        with pytest.raises(UserError, match=head):
            train("ppm", rows_of("ppm"), base, tmp_path / "b", replace(QUICK, lora_rank=4, head=head))


def test_memory_savers_marks_logs_and_dtypes(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = replace(
        QUICK, max_steps=2, precision="bf16", gradient_checkpointing=True, add_marks=True, save_dtype="float16",
        log_steps=1, batch_tokens=None, batch_rows=2, step_rows=4,
    )  # fmt: skip
    manifest = train("sft", rows_of("sft"), base, tmp_path / "a", config).manifest
    assert manifest["steps"] == 2
    assert list((tmp_path / "a" / "logs").glob("events*"))
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "a", dtype="auto")
    assert model.dtype == torch.float16
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "a")
    (mark,) = tokenizer("<|user|>")["input_ids"]
    assert tokenizer.decode([mark], skip_special_tokens=True) == "<|user|>", "marks must survive decoding"
    assert model.get_input_embeddings().weight.shape[0] >= len(tokenizer)


def test_a_killed_command_is_continued(base: Path, tmp_path: Path) -> None:
    from rstar_eval.training.datasets import write_rows

    write_rows(tmp_path / "sft.jsonl", rows_of("sft", 20))
    command = [
        sys.executable, "-m", "rstar_eval.cli", "train", "sft", "--data", str(tmp_path / "sft.jsonl"),
        "--base", str(base), "--set", "max_steps=40", "--set", "save_steps=2", "--set", "batch_tokens=300",
        "--output", str(tmp_path / "killed"),
    ]  # fmt: skip
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 200
    while not list((tmp_path / "killed").glob("checkpoints/*/complete")) and killed.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "training.json").exists(), "killed before it ended"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        config = preset("mini", "sft", max_steps=40, save_steps=2, batch_tokens=300)
        train("sft", rows_of("sft", 20), base, tmp_path / "killed", config)
        train("sft", rows_of("sft", 20), base, tmp_path / "whole", config)
    finally:
        torch.set_num_threads(threads)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"lerning_rate": 1}, "did you mean learning_rate"),
        ({"head": "middle_token"}, "head"),
        ({"held_out": 1.0}, "held_out"),
        ({"max_steps": 0}, "max_steps"),
        ({"step_rows": 8, "batch_tokens": 100}, "step_rows and batch_tokens"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object], word: str) -> None:
    with pytest.raises(UserError, match=word):
        make_config(change)


def test_presets_state_the_papers_numbers() -> None:
    sft, ppm = preset("paper", "sft"), preset("paper", "ppm")
    assert (sft.epochs, sft.learning_rate, sft.step_rows, sft.max_length, sft.schedule) == (
        2,
        7e-6,
        128,
        4096,
        "linear",
    )
    assert (ppm.epochs, ppm.learning_rate, ppm.step_rows, ppm.head, ppm.reduction) == (
        1,
        7e-6,
        512,
        "last_token",
        "sum",
    )
    assert preset("mini", "ppm").head == "token_logratio"
    with pytest.raises(UserError, match="mini"):
        preset("minni", "sft")


def test_rows_that_do_not_fit_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no rows"):
        train("sft", [], base, tmp_path / "a", QUICK)
    with pytest.raises(UserError, match="PairRow, got SftRow"):
        train("ppm", rows_of("sft"), base, tmp_path / "a", QUICK)
    with pytest.raises(UserError, match="no model"):
        train("sft", rows_of("sft"), tmp_path / "none", tmp_path / "a", QUICK)
    with pytest.raises(UserError, match="no multiple"):
        train("sft", rows_of("sft"), base, tmp_path / "b", replace(QUICK, batch_tokens=None, batch_rows=3, step_rows=4))

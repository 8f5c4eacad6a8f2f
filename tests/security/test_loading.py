"""Nothing that lies in a checkpoint, a task or a data file is run: by every call in the sources, and by trying it."""

from __future__ import annotations

import ast
import logging
import sys
from pathlib import Path

import pytest

from rstar_eval.errors import UserError
from rstar_eval.solver.backends.spec import parse_policy_spec

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = ("rstar_eval", "solver", "training", "tasks", "leaderboards")
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
RUNS_SOURCE = {  # our own text, or the purpose of the process: a step's code inside its cage
    "solver/executor/cage/warmup.py",
    "solver/executor/cage/worker.py",
    "training/teacher.py",
    "tasks/mini/relations.py",
}
WORDS = (*UNPICKLERS, "from_pretrained", "torch.load", "yaml", "shell", "os.system", "exec(", "eval(")
TRUSTS_A_FLAG = {"solver/backends/hf.py"}
"""May load code of a checkpoint, if the user's option says so."""


def sources() -> list[Path]:
    found = [file for folder in FOLDERS for file in (REPOSITORY / folder).rglob("*.py")]
    assert len(found) > 150
    return found


def value(call: ast.Call, keyword: str) -> str | None:
    return next((ast.unparse(one.value) for one in call.keywords if one.arg == keyword), None)


def checked_call(name: str, called: str, call: ast.Call) -> bool:
    """Whether a call loads a model; fails if it may run what it reads."""
    where = f"{name}:{call.lineno}"
    assert called not in {"yaml.load", "yaml.full_load", "yaml.unsafe_load"}, where
    assert value(call, "allow_pickle") in {None, "False"}, where
    assert value(call, "shell") in {None, "False"}, where
    if called == "os.system":  # the grader's probe of what its own audit hook must refuse
        assert name == "rstar_eval/grading/symbolic.py", where
    if called in {"exec", "eval"}:
        assert name in RUNS_SOURCE, where
    if called == "torch.load":
        assert value(call, "weights_only") == "True", where
    if called.endswith(".from_pretrained"):
        assert value(call, "trust_remote_code") in ({"False", "trusted"} if name in TRUSTS_A_FLAG else {"False"}), where
        if "Model" in called or called.startswith("loader"):
            assert value(call, "weights_only") == "True", where
    return called == "torch.load" or called.endswith(".from_pretrained")


def test_no_source_unpickles_or_runs_what_it_reads() -> None:
    checked = 0
    for file in sources():
        name, text = file.relative_to(REPOSITORY).as_posix(), file.read_text(encoding="utf-8")
        if not any(word in text for word in WORDS):
            continue
        for node in ast.walk(ast.parse(text)):
            modules = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {one.split(".")[0] for one in modules} & UNPICKLERS, name
            if isinstance(node, ast.Call):
                checked += checked_call(name, ast.unparse(node.func), node)
    assert checked >= 8


CODE = """
import pathlib
pathlib.Path(__file__).with_name("ran").touch()
from transformers import Qwen2Config, Qwen2ForCausalLM
class OwnConfig(Qwen2Config):
    model_type = "rstar_own"
class OwnModel(Qwen2ForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small checkpoint that brings code of its own."""
    transformers = pytest.importorskip("transformers")
    import json

    import torch

    from rstar_eval.embedded import model_path

    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_path("embedded/r4"), local_files_only=True)
    config = transformers.Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128,
    )  # fmt: skip
    transformers.Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "own.py").write_text(CODE)
    data = json.loads((tmp_path / "config.json").read_text())
    data |= {
        "model_type": "rstar_own",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},
    }
    (tmp_path / "config.json").write_text(json.dumps(data))
    return tmp_path


@pytest.mark.slow
def test_code_in_a_checkpoint_runs_with_the_option_alone_and_that_is_said(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rstar_eval.solver.backends import hf

    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for options in ("?device=cpu", "?device=cpu&trust_remote_code=false"):
        with pytest.raises(UserError, match=r"trust_remote_code=true\b.*outside of the sandbox"):
            hf.load(parse_policy_spec(f"hf:{checkpoint}{options}"))
    assert not list(tmp_path.rglob("ran"))
    with caplog.at_level(logging.WARNING):
        hf.load(parse_policy_spec(f"hf:{checkpoint}?device=cpu&trust_remote_code=true"))
    assert "run in this process, outside of the sandbox" in caplog.text
    assert list(tmp_path.rglob("ran"))


def test_pickled_weights_are_read_as_tensors_alone_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch = pytest.importorskip("torch")
    from rstar_eval.solver.backends.hf import warn_of_pickles
    from rstar_eval.solver.reward.hf_weights import read_tensors, value_head

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, (f"touch {tmp_path}/ran",)

    torch.save({"v_head.summary.weight": torch.ones(1, 4), "x": Evil()}, tmp_path / "value_head.bin")
    torch.save({"score.weight": torch.ones(1, 4), "x": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="holds more than tensors"):
        value_head(tmp_path)
    with pytest.raises(UserError, match="holds more than tensors"):
        read_tensors(tmp_path, ["score.weight"])
    assert not (tmp_path / "ran").exists()
    with caplog.at_level(logging.WARNING):
        warn_of_pickles(tmp_path)
    assert "are pickles, read as plain tensors alone" in caplog.text


def test_a_task_file_builds_no_objects(tmp_path: Path) -> None:
    from rstar_eval.tasks import load_task

    file = tmp_path / "own.yaml"
    file.write_text(f'name: own\nfile: !!python/object/apply:os.system ["touch {tmp_path}/ran"]\n')
    with pytest.raises(UserError):
        load_task(str(file))
    assert not (tmp_path / "ran").exists()

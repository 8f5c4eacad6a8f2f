"""Do TRL's trainers take our exports as they are? One training step of each on the embedded policy.

python benchmarks/training/trl_formats.py DATA_FOLDER

DATA_FOLDER: what `rstar-eval data build` wrote. Needs `pip install trl 'rstar-eval[train,export]'`. Every file is
exported as Parquet, loaded with `datasets`, checked for the columns of its dataset type, and given to its trainer for a
step on the CPU. TRL has a PRMTrainer (stepwise supervision) up to version 1.13; where it is missing this is said.
Prints one line a file; exit code 1 if a trainer refuses one.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rstar_eval.embedded import checkpoint
from rstar_eval.exporting import export

COLUMNS = {
    "sft": {"prompt", "completion"},
    "pairs": {"prompt", "chosen", "rejected"},
    "outcomes": {"prompt", "completion", "label"},
    "stepwise": {"prompt", "completions", "labels"},
}


def main() -> int:
    folder = Path(sys.argv[1])
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        for name, kind, trainer in JOBS:
            file = Path(scratch) / f"{name}.parquet"
            source = folder / ("values.jsonl" if kind == "stepwise" else f"{kind}.jsonl")
            if not file.exists():
                export(source, file, stepwise=kind == "stepwise")
            try:
                loss = trainer(load(file, scratch, COLUMNS[kind]), str(Path(scratch) / f"out-{name}"))
            except ImportError as error:
                print(f"{name}: not in this TRL ({error})", flush=True)
                continue
            except Exception as error:  # noqa: BLE001  whatever a trainer raises is the finding
                print(f"{name}: REFUSED {type(error).__name__}: {error}"[:400], flush=True)
                good = False
                continue
            print(f"{name}: taken, loss {loss:.3f}", flush=True)
    return 0 if good else 1


def load(file: Path, cache: str, columns: set[str]) -> Any:
    """The file as a dataset of at most 8 rows, with all its columns."""
    import datasets

    rows = datasets.load_dataset("parquet", data_files=str(file), split="train", cache_dir=cache)
    assert columns <= set(rows.column_names), rows.column_names
    return rows.select(range(min(8, len(rows))))


def model(name: str, kind: str = "AutoModelForCausalLM", **options: Any) -> Any:
    import transformers

    return getattr(transformers, kind).from_pretrained(checkpoint(name), **options)


def tokenizer() -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(checkpoint("r4"))


def step(trainer: Any) -> float:
    """Train one step; the loss."""
    return float(trainer.train().training_loss)


def arguments(config: Any, output: str, **options: Any) -> Any:
    return config(
        output_dir=output, max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True, bf16=False,
        save_strategy="no", **options,
    )  # fmt: skip


def sft(rows: Any, output: str) -> float:
    from trl import SFTConfig, SFTTrainer

    args = arguments(SFTConfig, output, max_length=256)
    return step(SFTTrainer(model("r4"), args=args, train_dataset=rows, processing_class=tokenizer()))


def dpo(rows: Any, output: str) -> float:
    from trl import DPOConfig, DPOTrainer

    args = arguments(DPOConfig, output, max_length=256)
    return step(DPOTrainer(model("r4"), args=args, train_dataset=rows, processing_class=tokenizer()))


def reward(rows: Any, output: str) -> float:
    from trl import RewardConfig, RewardTrainer

    judge = model("r4", "AutoModelForSequenceClassification", num_labels=1)
    args = arguments(RewardConfig, output, max_length=256)
    return step(RewardTrainer(judge, args=args, train_dataset=rows, processing_class=tokenizer()))


def kto(rows: Any, output: str) -> float:
    from trl import KTOConfig, KTOTrainer

    args = arguments(KTOConfig, output, max_length=256)
    return step(KTOTrainer(model("r4"), args=args, train_dataset=rows, processing_class=tokenizer()))


def prm(rows: Any, output: str) -> float:
    from trl.experimental.prm import PRMConfig, PRMTrainer

    judge = model("r4", "AutoModelForTokenClassification", num_labels=2)
    args = arguments(PRMConfig, output, max_length=256)
    return step(PRMTrainer(judge, args=args, train_dataset=rows, processing_class=tokenizer()))


JOBS: list[tuple[str, str, Callable[[Any, str], float]]] = [
    ("SFTTrainer", "sft", sft),
    ("DPOTrainer", "pairs", dpo),
    ("RewardTrainer", "pairs", reward),
    ("KTOTrainer", "outcomes", kto),
    ("PRMTrainer", "stepwise", prm),
]

if __name__ == "__main__":
    sys.exit(main())

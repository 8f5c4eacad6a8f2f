"""What it saves that a pair of a log-ratio PPM shares a row, in CPU time.

    OMP_NUM_THREADS=1 python benchmarks/training/forked_pairs.py PAIRS POLICY [STEPS]

Trains preset mini's PPM for some steps with both texts of a pair in one row and in two, in turn, five times each, e.g.
on an evolution's round1/data/pairs.jsonl and round1/policy. Before and after the loop nothing is counted.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers

from rstar_eval.training import trainer
from rstar_eval.training.config import preset
from rstar_eval.training.datasets import read_rows
from rstar_eval.training.encode import encode
from rstar_eval.training.models import load_model, load_tokenizer

ROUNDS = 5
FORMS = {"one row": trainer.MASKS, "two rows": ()}


class Clock(transformers.TrainerCallback):
    """CPU seconds of the trainer's loop."""

    seconds = 0.0

    def on_train_begin(self, *_: object, **__: object) -> None:
        self.seconds = -time.process_time()

    def on_train_end(self, *_: object, **__: object) -> None:
        self.seconds += time.process_time()


def main(pairs: Path, policy: Path, steps: int) -> None:
    torch.set_num_threads(1)
    config = preset("mini", "ppm", max_steps=steps, max_length=512)
    tokenizer = load_tokenizer(policy)
    examples = encode(read_rows(pairs, "pairs"), tokenizer, 512, judge_outputs=False).examples
    found: dict[str, list[float]] = {form: [] for form in FORMS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            for form, masks in FORMS.items():
                trainer.MASKS = masks  # without a mask a pair takes two rows
                model = load_model("ppm", policy, tokenizer, config)
                made = trainer.make_trainer("ppm", model, examples, 1, Path(folder), config, False)
                clock = Clock()
                made.add_callback(clock)
                made.train()
                found[form].append(clock.seconds / steps)
    for form, seconds in found.items():
        print(f"{form}: median {1000 * statistics.median(seconds):.0f} ms of CPU a step (of {len(seconds)})")
    ratio = statistics.median(a / b for a, b in zip(found["two rows"], found["one row"], strict=True))
    print(f"two rows / one row: {ratio:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 60)

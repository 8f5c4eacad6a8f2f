"""What transformers' Trainer costs beside a plain loop of the same batches, losses and optimizer, in CPU time.

    OMP_NUM_THREADS=1 python benchmarks/training/trainer_speed.py [STEPS]

Fine-tunes a random Qwen2 of the mini policy's size (0.56M parameters, 344 tokens) on random rows, 700 tokens a batch;
the two take turns, five times each.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import torch
import transformers

from rstar_eval.training.batches import Planned, collate
from rstar_eval.training.config import preset
from rstar_eval.training.encode import IGNORED, Example, Text
from rstar_eval.training.losses import token_loss
from rstar_eval.training.trainer import make_trainer, planned

ROUNDS, VOCABULARY = 5, 344


def examples() -> list[Example]:
    random = Random(0)
    found = []
    for _ in range(1200):
        prompt, response = random.randint(24, 90), random.randint(37, 124)
        tokens = tuple(random.randrange(2, VOCABULARY) for _ in range(prompt + response))
        found.append(Example((Text(tokens, prompt, (*[IGNORED] * prompt, *tokens[prompt:])),)))
    return found


def model() -> object:
    torch.manual_seed(0)
    return transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(
            vocab_size=VOCABULARY, hidden_size=128, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=320, tie_word_embeddings=True, use_cache=False, pad_token_id=1,
        )
    )  # fmt: skip


class Clock(transformers.TrainerCallback):
    """CPU time at the beginning and the end of the trainer's loop."""

    start = end = 0.0

    def on_train_begin(self, *_: object, **__: object) -> None:
        self.start = time.process_time()

    def on_train_end(self, *_: object, **__: object) -> None:
        self.end = time.process_time()


def main(steps: int) -> None:
    torch.set_num_threads(1)
    rows, config = examples(), preset("mini", "sft", max_steps=steps)
    batches = Planned(rows, planned(rows, config, 1))
    rates: dict[str, list[float]] = {"trainer": [], "plain loop": []}
    around: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            trainer = make_trainer("sft", model(), rows, 1, Path(folder), config, False)
            clock = Clock()
            trainer.add_callback(clock)
            start = time.process_time()
            trainer.train()
            loop = clock.end - clock.start
            rates["trainer"].append(batches.tokens / loop)
            around.append(time.process_time() - start - loop)
            rates["plain loop"].append(batches.tokens / plain(model(), batches))
    for name, found in rates.items():
        print(f"{name}: median {statistics.median(found):,.0f} tokens a CPU second (of {len(found)})")
    ratio = statistics.median(a / b for a, b in zip(rates["trainer"], rates["plain loop"], strict=True))
    print(f"trainer / plain loop: {ratio:.2f}; before and after its loop {statistics.median(around):.2f} CPU seconds")


def plain(network: torch.nn.Module, batches: Planned) -> float:
    """Return the CPU seconds of the plain loop."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    start = time.process_time()
    for at in range(len(batches)):
        batch = collate(batches[at], 1)
        loss = token_loss(network, batch) / (batch["labels"][:, 1:] != IGNORED).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.process_time() - start


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)

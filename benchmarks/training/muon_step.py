"""Seconds of an optimizer step of the miniature: our Muon, torch's (bfloat16), and the forward and backward pass.

    python benchmarks/training/muon_step.py [--rounds 9]

CPU seconds on one thread, medians; the three take turns. Whether bfloat16 costs more depends on the CPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from rstar_eval.training.optimizers import Muon

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=690, intermediate_size=320, tie_word_embeddings=True, **shape))
    matrices = [one for name, one in model.named_parameters() if one.ndim == 2 and "embed" not in name]
    ours = Muon(matrices, lr=1e-3, weight_decay=0.0)
    reference = torch.optim.Muon(matrices, lr=1e-3, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    tokens = torch.randint(0, 690, (8, 96))
    works = {
        "forward and backward, 768 tokens": lambda: model(tokens, labels=tokens).loss.backward(),
        "our Muon, float32": ours.step,
        "torch.optim.Muon": reference.step,
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            times[name].append(seconds(work))
    for name, taken in times.items():
        print(f"{name:34} {1000 * statistics.median(taken[1:]):7.1f} ms")  # the first round warms up


if __name__ == "__main__":
    main()

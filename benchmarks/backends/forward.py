"""Our forward pass of small decoders (hf_forward) against transformers' own, by sequences in the batch.

    python benchmarks/backends/forward.py [POLICY FOLDER] [--rows 1 16 64 128] [--repeats 7]

One decoding step of every sequence, 180 tokens before it, one thread: milliseconds of both, measured in turn; medians,
smallest and largest, and the median of the rounds' ratios. Without a folder: the embedded base.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from rstar_eval.embedded import model_path
from rstar_eval.solver.backends.hf_cache import Slots, register_attention

LENGTH = 180
STEPS = 20


def milliseconds(slots: Slots, rows: int) -> float:
    """Return the mean time of a step."""
    tokens, starts = torch.zeros((rows, 1), dtype=torch.long), torch.full((rows,), LENGTH)
    start = time.perf_counter()
    for _ in range(STEPS):
        slots.forward(tokens, starts, 1, LENGTH + 1)
    return (time.perf_counter() - start) / STEPS * 1e3


def shown(values: list[float]) -> str:
    """Return the median with the smallest and largest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="embedded/r0")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16, 64, 128])
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model: Any = AutoModelForCausalLM.from_pretrained(model_path(args.folder), dtype=torch.float32).eval()
    model.set_attn_implementation(register_attention())
    print("| sequences | ours, ms | transformers, ms | ratio |\n|---|---|---|---|")
    with torch.inference_mode():
        for rows in args.rows:
            both = [Slots(model, rows), Slots(model, rows, own_forward=False)]
            for slots in both:
                milliseconds(slots, rows)
            found = [[milliseconds(slots, rows) for slots in both] for _ in range(args.repeats)]
            ours, theirs = (list(column) for column in zip(*found, strict=True))
            ratio = statistics.median(b / a for a, b in found)
            print(f"| {rows} | {shown(ours)} | {shown(theirs)} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()

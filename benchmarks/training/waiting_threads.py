"""How fast a small policy's training is on one thread, and on two that spin or sleep while they wait for each other.

    python benchmarks/training/waiting_threads.py [--steps 60] [--rounds 5] [--busy]

Wall time of a step (the model and rows of trainer_speed.py), in turn, each in a process of its own. --busy: beside a
process that takes a core.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAYS: dict[str, dict[str, str]] = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "two that spin": {"OMP_NUM_THREADS": "2"},
    "two that sleep": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
}


def child(steps: int) -> None:
    """Train for some steps and print the seconds of the loop."""
    import transformers
    from trainer_speed import examples, model

    from rstar_eval.training.config import preset
    from rstar_eval.training.trainer import make_trainer

    class Clock(transformers.TrainerCallback):
        def on_train_begin(self, *_: object, **__: object) -> None:
            self.seconds = -time.perf_counter()

        def on_train_end(self, *_: object, **__: object) -> None:
            self.seconds += time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        config = preset("mini", "sft", max_steps=steps)
        trainer, clock = make_trainer("sft", model(), examples(), 1, Path(folder), config, False), Clock()
        trainer.add_callback(clock)
        trainer.train()
    print(clock.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.steps)
        return
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if options.busy else None
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    try:
        for _ in range(options.rounds):
            for way, variables in WAYS.items():
                done = subprocess.run(
                    [sys.executable, __file__, "--child", "--steps", str(options.steps)],
                    env={**os.environ, **variables}, capture_output=True, text=True, check=True,
                )  # fmt: skip
                found[way].append(float(done.stdout.split()[-1]) / options.steps)
    finally:
        if busy is not None:
            busy.kill()
    for way, seconds in found.items():
        ratio = statistics.median(a / b for a, b in zip(found["one thread"], seconds, strict=True))
        print(f"{way}: median {1000 * statistics.median(seconds):.0f} ms a step (of {len(seconds)}), {ratio:.2f} times")


if __name__ == "__main__":
    main()

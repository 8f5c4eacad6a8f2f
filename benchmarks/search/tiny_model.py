"""A tiny policy that writes steps, and a tiny reward model, for benchmarks of real backends.

    python benchmarks/search/tiny_model.py FOLDER [--steps 400]

writes FOLDER/policy and FOLDER/reward: Qwen2 checkpoints of about one million parameters with a byte-level tokenizer
of their own. The policy is trained for minutes on made-up solutions, until its samples follow the step grammar
(`<code> ... <end_of_step> ... <end_of_code><output>...<answer>`). It is no good at arithmetic and need not be: what is
measured with it is how fast a search runs. The reward model has the policy's layers under a random head. Both have
heads of 32, which vLLM's CPU attention demands.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rstar_eval.solver.formats.rstar import prompt_text

END = "<|end|>"
MARKS = ["<code>", "<end_of_step>", "<end_of_code>", "<output>", "<end_of_output>", "<answer>", "<end_of_answer>"]
NAMES = ["Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana", "Ivo", "June"]
THINGS = ["marbles", "pencils", "apples", "stamps", "shells", "cards", "buttons", "coins"]
MOVES = [
    ("{name} buys {n} more {thing}.", "Add the {n} {thing} that {name} buys", "+"),
    ("{name} gives away {n} {thing}.", "Subtract the {n} {thing} that {name} gives away", "-"),
    ("Then {name} has {n} times as many {thing}.", "Multiply the number of {thing} by {n}", "*"),
    ("{name} packs the {thing} into {n} equal bags.", "Divide the {thing} of {name} among {n} bags", "//"),
]
OPENINGS = ["", "We know that ", "From the question, ", "Now ", "Next, "]


def problem(rng: random.Random) -> tuple[str, str]:
    """Return a question and a solution of it in the step grammar: three to six steps of 25 to 60 tokens."""
    name, thing, start = rng.choice(NAMES), rng.choice(THINGS), rng.randint(12, 99)
    question = [f"{name} has {start} {thing}."]
    value, variable = start, "count"
    steps = [f"# Step 1: {rng.choice(OPENINGS)}{name} starts with {start} {thing}.\n{variable} = {start}\n"]
    for number in range(2, rng.randint(3, 6)):
        told, comment, sign = rng.choice(MOVES)
        n = rng.randint(2, 9) if sign in "*//" else rng.randint(2, 60)
        question.append(told.format(name=name, n=n, thing=thing))
        words = comment.format(name=name, n=n, thing=thing)
        later = f"{variable[:5]}_{number}"
        steps.append(f"# Step {number}: {rng.choice(OPENINGS)}{words}.\n{later} = {variable} {sign} {n}\n")
        value, variable = {"+": value + n, "-": value - n, "*": value * n, "//": value // n}[sign], later
    question.append(f"How many {thing} does {name} have in the end?")
    last = f"# Step {len(steps) + 1}: Print the number of {thing}.\nprint({variable})\n"
    code = "<code>\n" + "<end_of_step>\n".join([*steps, last]) + "<end_of_code>"
    answer = f"<answer>In the end {name} has $\\boxed{{{value}}}$ {thing}.<end_of_answer>"
    return " ".join(question), f"{code}\n<output>{value}<end_of_output>\n{answer}"


def solved(rng: random.Random) -> str:
    """Return one training text: prompt, solution, end."""
    question, solution = problem(rng)
    return prompt_text(question, solution) + END


def make_tokenizer(vocabulary: int = 512) -> Any:
    """Return a byte-level tokenizer trained on made-up solutions, digits apart, each mark of the grammar one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    raw.decoder = decoders.ByteLevel()
    rng = random.Random(1)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, *MARKS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator((solved(rng) for _ in range(2000)), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=END, pad_token=END)


def batches(tokenizer: Any, rows: int, steps: int, seed: int) -> Iterator[Any]:
    """Yield padded token batches of fresh texts."""
    rng = random.Random(seed)
    for _ in range(steps):
        texts = [solved(rng) for _ in range(rows)]
        yield tokenizer(texts, return_tensors="pt", padding=True)


def make(folder: Path, steps: int, rows: int = 16, *, quiet: bool = False) -> None:
    """Train the policy for `steps` steps of `rows` texts and write both checkpoints."""
    import torch
    import transformers

    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": True,
    }
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**shape))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=max(steps, 2), pct_start=0.1)
    began = time.perf_counter()
    for number, batch in enumerate(batches(tokenizer, rows, steps, seed=2)):
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if not quiet and number % 50 == 0:
            print(f"step {number}: loss {float(loss.detach()):.3f}, {time.perf_counter() - began:.0f} s", flush=True)
    model.eval()
    model.save_pretrained(folder / "policy")
    tokenizer.save_pretrained(folder / "policy")
    judge = transformers.Qwen2ForSequenceClassification(transformers.Qwen2Config(**shape, num_labels=1))
    judge.model.load_state_dict(model.model.state_dict())
    torch.nn.init.normal_(judge.score.weight, std=0.3)
    judge.eval().save_pretrained(folder / "reward")
    tokenizer.save_pretrained(folder / "reward")
    size = sum(one.numel() for one in model.parameters())
    if not quiet:
        print(json.dumps({"folder": str(folder), "parameters": size, "tokens": len(tokenizer)}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    make(arguments.folder, arguments.steps)

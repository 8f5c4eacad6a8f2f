"""How probable a policy finds the right and the misread first step of one-step problems, by kind of sentence.

    python benchmarks/training/right_readings.py CHECKPOINT [CHECKPOINT ...] [--problems 260] [--seed 77]

It shows whether a base can bootstrap: what it never samples no search finds. It reads plans, of problems of the
validation split.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict

from rstar_eval.solver.formats.rstar import END_CODE, prompt_text
from rstar_eval.tasks.mini import MiniItem, PlanStep, generate


def probability(model, tokenizer, item: MiniItem, way: PlanStep) -> float:
    """The policy's probability of the whole first block that goes this way."""
    import torch

    prompt = prompt_text(item.text)
    block = f"<code>\n# {way.comment}\n{way.code}\nprint({way.result})\n{END_CODE}"
    start, ids = len(tokenizer(prompt)["input_ids"]), tokenizer(prompt + block)["input_ids"]
    with torch.no_grad():
        logs = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), dim=-1)
    return math.exp(sum(float(logs[at - 1, ids[at]]) for at in range(start, len(ids))))


def main() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--problems", type=int, default=260)
    parser.add_argument("--seed", type=int, default=77)
    options = parser.parse_args()
    torch.set_num_threads(1)
    items = generate("validation", 1, options.problems, options.seed)
    for folder in options.checkpoints:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
        found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        for item in items:
            step = item.steps[0]
            wrong = probability(model, tokenizer, item, step.wrong) if step.wrong else 0.0
            found[step.tier, step.relation].append((probability(model, tokenizer, item, step.right), wrong))
        print(f"{folder}\n| tier | relation | n | right | misread | anything else |\n|---|---|---|---|---|---|")
        for (tier, relation), pairs in sorted(found.items()):
            right, wrong = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
            print(f"| {tier} | {relation} | {len(pairs)} | {right:.3f} | {wrong:.3f} | {1 - right - wrong:.3f} |")


if __name__ == "__main__":
    main()

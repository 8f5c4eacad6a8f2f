"""The rounds of several evolutions of the same settings together: their tables, and each step's mean over the seeds.

    python benchmarks/training/seeds_together.py DIR [DIR ...] [--checkpoints training/checkpoints]

DIR: a folder of `rstar-eval evolve`. --checkpoints: shipped checkpoints, whose stored verdicts count as one more seed
in the greedy figures. Standard errors are over problems, of each problem's mean over the seeds.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rstar_eval.training.evolve_figures import read_runs, round_figures

Verdicts = dict[str, bool]


def verdicts(folder: Path) -> Verdicts:
    """Return by problem whether the chosen answer of a search of an evolution is right."""
    grades = read_runs(sorted(folder.glob("shard*"))).grades
    return {key: one.outcome == "correct" for key, one in grades.items()}


def mean_and_error(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    variance = sum((one - mean) ** 2 for one in values) / (len(values) - 1)
    return f"{mean:+.3f} +- {math.sqrt(variance / len(values)):.3f}"


def difference(new: Sequence[Verdicts], old: Sequence[Verdicts]) -> str:
    """Return the mean over seeds and problems, new less old, with its standard error over problems."""
    keys = [key for key in new[0] if all(key in one for one in [*new, *old])]
    pairs = list(zip(new, old, strict=True))
    return mean_and_error([sum(int(a[key]) - int(b[key]) for a, b in pairs) / len(pairs) for key in keys])


def table(folder: Path) -> list[str]:
    """Return an evolution's rounds as Markdown lines."""
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    rounds = round_figures(state["stages"])
    plans = state["settings"]["plans"]
    head = ["round", "L1", "L2", "L3", "L4", "L5", "pass@1 (95 %)", "against the round before", "its problems solved"]
    head += ["system 2", "majority", "PPM, held-out pairs", "SFT rows", "pairs"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for one in rounds:
        number, pass1 = one["round"], one["pass1"]
        plan = plans[min(number, len(plans)) - 1] if number else {}
        mark = " (PPM, more rollouts)" if plan.get("more") else " (PPM-guided)" if plan.get("guided") else ""
        cells = [f"{number}{mark}", *(f"{pass1['levels'][level]:.3f}" for level in "12345")]
        cells.append(f"{pass1['accuracy']:.3f} [{pass1['interval'][0]:.3f}, {pass1['interval'][1]:.3f}]")
        cells.append(f"{one['gain'][0]:+.3f} +- {one['gain'][1]:.3f}" if one["gain"] else "")
        cells += [f"{one[key]['accuracy']:.3f}" if one[key] else "" for key in ("pool", "system2", "majority")]
        cells.append(f"{one['ppm_pairs']:.3f}" if one["ppm_pairs"] else "")
        data = state["stages"].get(f"round{number}/data", {})
        cells += [f"{data[key]:,}" if data else "" for key in ("sft_union", "pairs_union")]
        lines.append("| " + " | ".join(cells) + " |")
    judges = state["stages"].get(f"round{rounds[-1]['round']}/judges", {})
    if "system2" in judges:
        cells = [f"{rounds[-1]['round']}, its final PPM", *[""] * 8, f"{judges['system2']['accuracy']:.3f}", ""]
        lines.append("| " + " | ".join([*cells, f"{judges['ppm']['held_out']['accuracy']:.3f}", "", ""]) + " |")
    return lines


def times(folder: Path) -> str:
    """Return the minutes of an evolution: of each round, of the final search, of the judges."""
    stages: Mapping[str, Mapping[str, float]] = json.loads((folder / "state.json").read_text(encoding="utf-8"))[
        "stages"
    ]
    found: dict[str, float] = {}
    for name, figures in stages.items():
        part = name if name.endswith(("/final", "/judges")) else name.split("/")[0].replace("base", "round0")
        found[part] = found.get(part, 0) + figures.get("seconds", 0) / 60
    return ", ".join(f"{part} {minutes:.1f}" for part, minutes in found.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evolutions", type=Path, nargs="+")
    parser.add_argument("--checkpoints", type=Path)
    options = parser.parse_args()
    evolutions: list[Path] = options.evolutions
    for folder in evolutions:
        print(f"{folder}:\n", *table(folder), f"\nminutes: {times(folder)}\n", sep="\n")
    rounds = len(list(evolutions[0].glob("round[1-9]*")))
    greedy = [[verdicts(one / f"round{n}" / "greedy") for n in range(rounds + 1)] for one in evolutions]
    if options.checkpoints:
        problems = (evolutions[0] / "validation.jsonl").read_text(encoding="utf-8").splitlines()
        order = [json.loads(one)["id"] for one in problems[: len(greedy[0][0])]]
        stored = [
            json.loads((options.checkpoints / f"r{n}" / "figures.json").read_text(encoding="utf-8"))["greedy"]
            for n in range(rounds + 1)
        ]
        greedy.append([{k: v == "1" for k, v in zip(order, one["verdicts"], strict=True)} for one in stored])
    by_round = list(zip(*greedy, strict=True))
    shares = [[sum(one.values()) / len(one) for one in seeds] for seeds in by_round]
    print("greedy, mean of the seeds:", ", ".join(f"{sum(one) / len(one):.3f}" for one in shares))
    for n in range(1, rounds + 1):
        print(f"round {n} less {n - 1}:", difference(by_round[n], by_round[n - 1]))
    print(f"round {rounds} less 1:", difference(by_round[rounds], by_round[1]))
    print(f"round {rounds} less 0:", difference(by_round[rounds], by_round[0]))
    places = [f"round{n}" for n in range(1, rounds + 1)]
    for place, search in [*((one, "system2") for one in places), (places[-1], "judges/system2")]:
        pairs = [(verdicts(one / place / search), verdicts(one / place / "majority")) for one in evolutions]
        if not all(new for new, _ in pairs):
            continue
        each = ", ".join(difference([new], [old]) for new, old in pairs)
        together = difference([new for new, _ in pairs], [old for _, old in pairs])
        print(f"{place}/{search} less majority: {each}; together {together}")


if __name__ == "__main__":
    main()

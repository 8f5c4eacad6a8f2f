"""Graders side by side on labelled pairs: accuracy by kind, speed in one run, hostile pairs, memory.

    python benchmarks/grading/compare_graders.py PAIRS.jsonl [--graders default,math_verify] [--limit N]

PAIRS.jsonl: lines with gold, pred, label, kind (kind "hostile" is reported apart). Prints Markdown. Graders take turns
pair by pair, so that a loaded machine slows all alike; math-verify's time is that of its worker's work.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections import defaultdict
from pathlib import Path

from rstar_eval.grading import GraderPool, grade


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--graders", default="default,math_verify,official,string")
    parser.add_argument("--limit", type=int, default=None, help="only N ordinary pairs, evenly spread")
    options = parser.parse_args()
    names = options.graders.split(",")
    pairs = [json.loads(line) for line in options.pairs.read_text().splitlines() if line.strip()]
    ordinary = [pair for pair in pairs if pair["kind"] != "hostile"]
    ordinary = ordinary[:: max(1, len(ordinary) // (options.limit or len(ordinary)))]
    hostile = [pair for pair in pairs if pair["kind"] == "hostile"]
    with GraderPool(workers=1, seconds=5.0) as pool:
        pool.start()
        report_ordinary(ordinary, names, pool)
        if hostile:
            report_hostile(hostile, names, pool)
    report_exact()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    print(f"\nPeak memory: {peak} MiB in this process, {workers} MiB in a worker.")


def report_ordinary(pairs: list[dict[str, object]], names: list[str], pool: GraderPool) -> None:
    times: dict[str, list[float]] = defaultdict(list)
    wrong: dict[str, dict[str, list[int]]] = {name: defaultdict(lambda: [0, 0, 0, 0, 0]) for name in names}
    rules: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for pair in pairs:
        for name in names:
            given = grade(str(pair["gold"]), str(pair["pred"]), grader=name, pool=pool)
            times[name].append(given.ms)
            correct = given.outcome == "correct"
            for kind in (str(pair["kind"]), "all"):
                row = wrong[name][kind]
                row[0] += 1
                row[1] += correct and not pair["label"]
                row[2] += bool(pair["label"]) and not correct
                row[3] += not pair["label"]
                row[4] += given.outcome == "grader_error"
            if name == "default":
                rules[given.rule][0] += 1
                rules[given.rule][1] += correct != pair["label"]
    print(f"## {len(pairs)} ordinary pairs\n")
    print("| kind | pairs | " + " | ".join(f"{name}: accuracy, false +, false -" for name in names) + " |")
    print("|---|---|" + "---|" * len(names))
    kinds = sorted({str(pair["kind"]) for pair in pairs})
    for kind in [*kinds, "all"]:
        cells = []
        for name in names:
            count, positive, negative, *_ = wrong[name][kind]
            cells.append(f"{100 * (1 - (positive + negative) / count):.1f} %, {positive}, {negative}")
        print(f"| {kind} | {wrong[names[0]][kind][0]} | " + " | ".join(cells) + " |")
    print(
        "\n| grader | false + of the unequal | false - of the equal | errors | median ms | p99 ms | max ms | pairs/s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        count, positive, negative, unequal, errors = wrong[name]["all"]
        taken = times[name]
        print(
            f"| {name} | {100 * positive / unequal:.2f} % | {100 * negative / (count - unequal):.2f} % | {errors} | "
            f"{statistics.median(taken):.3f} | {percentile(taken, 0.99):.2f} | {max(taken):.1f} | "
            f"{1000 * len(taken) / sum(taken):.0f} |"
        )
    if "default" in times and "math_verify" in times:
        print(f"\ndefault is {sum(times['math_verify']) / sum(times['default']):.0f} times as fast as math-verify.")
    if rules:
        print("\n| rule that decided (default) | pairs | of these wrong |\n|---|---|---|")
        for rule, (count, mistakes) in sorted(rules.items(), key=lambda item: -item[1][0]):
            print(f"| {rule} | {count} | {mistakes} |")


def report_hostile(pairs: list[dict[str, object]], names: list[str], pool: GraderPool) -> None:
    print(f"\n## {len(pairs)} hostile pairs\n")
    print("| grader | right | grader_error | slowest s | over 1 s |\n|---|---|---|---|---|")
    for name in [name for name in names if name in ("default", "math_verify")]:
        right = errors = 0
        taken = []
        for pair in pairs:
            start = time.perf_counter()
            given = grade(str(pair["gold"]), str(pair["pred"]), grader=name, pool=pool)
            taken.append(time.perf_counter() - start)
            errors += given.outcome == "grader_error"
            right += given.outcome != "grader_error" and (given.outcome == "correct") == pair["label"]
        print(f"| {name} | {right} | {errors} | {max(taken):.3f} | {sum(item > 1 for item in taken)} |")
    planted = sorted(Path("/tmp").glob("grading_pwned*"))
    print(f"\nFiles planted by a payload: {', '.join(map(str, planted)) or 'none'}.")


def report_exact(count: int = 20_000) -> None:
    grade(r"\frac{1}{2}", r"\frac{1}{2}")
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(count):
            grade(r"\frac{1}{2}", r"\frac{1}{2}")
        rounds.append((time.perf_counter() - start) / count * 1e6)
    print(f"\nA warm exact match: {statistics.median(rounds):.2f} microseconds (median of 5 rounds of {count}).")


if __name__ == "__main__":
    main()

"""Grouping 64 answers into classes: `group_answers` against comparing all pairs. Prints paired ratios.

python benchmarks/grading/group_votes.py
"""

from __future__ import annotations

import random
import statistics
import time

from rstar_eval.grading import group_answers
from rstar_eval.grading.group import _compare, forget
from rstar_eval.grading.read import clear_cache

SPELLINGS = [
    [r"\frac{3}{4}", "3/4", "0.75", r"\dfrac34", r"\frac{6}{8}", "Rational(3, 4)"],
    [r"2\sqrt{3}", "2*sqrt(3)", r"\sqrt{12}", "3.4641016151377544"],
    ["x^2-1", "(x-1)(x+1)", "x**2 - 1"],
    ["(1, 2)", r"\left(1,2\right)"],
    ["1,2,3", r"\{3,2,1\}", "1, 2 and 3"],
    ["x>2", r"(2,\infty)"],
    [r"\text{(B)}", "B", "(B)"],
]


def answers(seed: int, distinct: int) -> list[str]:
    """64 answers: a third from the classes above in mixed spelling, the rest numbers of `distinct` values."""
    source = random.Random(seed)
    found = [source.choice(source.choice(SPELLINGS)) for _ in range(21)]
    found += [
        source.choice([f"{n}", f"{n}.0", f"x={n}", rf"\boxed{{{n}}}"])
        for n in source.choices(range(5, 5 + distinct), k=43)
    ]
    source.shuffle(found)
    return found


def pairwise(texts: list[str]) -> list[int]:
    """The plain way: compare each answer with every earlier one."""
    classes: list[int] = []
    for index, text in enumerate(texts):
        same = [classes[other] for other in range(index) if _compare(texts[other], text, True)]
        classes.append(same[0] if same else max(classes, default=-1) + 1)
    return classes


def timed(function: object, texts: list[str]) -> tuple[float, list[int]]:
    clear_cache()
    forget()
    start = time.perf_counter()
    classes = function(texts)  # type: ignore[operator]
    return time.perf_counter() - start, classes


def main() -> None:
    group_answers(["1", r"\sqrt2", "1.5x"])  # load mpmath
    print("| distinct numbers | classes | group_answers ms | all pairs ms | ratio |\n|---|---|---|---|---|")
    for distinct in (3, 12, 40):
        ratios, fast, slow = [], [], []
        for seed in range(7):
            texts = answers(seed, distinct)
            one, classes = timed(group_answers, texts)
            other, expected = timed(pairwise, texts)
            assert classes == expected, "the two ways disagree"
            ratios.append(other / one)
            fast.append(one)
            slow.append(other)
        one, other = (1000 * statistics.median(times) for times in (fast, slow))
        print(f"| {distinct} | {max(classes) + 1} | {one:.1f} | {other:.1f} | {statistics.median(ratios):.1f} |")


if __name__ == "__main__":
    main()

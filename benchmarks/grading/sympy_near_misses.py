"""References of benchmark files against near-misses that sympy makes: false positives without hand-made labels.

    python benchmarks/grading/sympy_near_misses.py FOLDER [--limit N]

FOLDER holds JSON files of records with an `answer`. A reference that math-verify reads as the default grader does is
changed in one place (a number, sign, function, exponent, factor, variable, end of an interval); changes whose values to
40 digits differ from the reference's are near-misses. Prints how many were accepted, and each of them.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sympy as sp
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

from rstar_eval.grading.ladder import Passed, decide

CHANGES = 6


def references(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.glob("*.json")):
        records = json.loads(path.read_text())
        for record in records if isinstance(records, list) else records.values():
            answers = record["answer"] if isinstance(record["answer"], list) else [record["answer"]]
            found.extend(str(answer) for answer in answers)
    return sorted({answer for answer in found if answer.strip() and "%" not in answer})


def changed(part: Any, source: random.Random) -> Any:
    """Another thing in the place of a part of an expression, or None."""
    if isinstance(part, sp.Integer):
        return part + source.choice([1, -1, 2, 10])
    if isinstance(part, sp.Rational):
        return source.choice([-part, part + 1, sp.Rational(part.p + 1, part.q)])
    if isinstance(part, sp.sin | sp.cos):
        return (sp.cos if isinstance(part, sp.sin) else sp.sin)(part.args[0])
    if part == sp.I or part == sp.pi:
        return source.choice([sp.Integer(1), 2 * part])
    if isinstance(part, sp.Pow):
        return source.choice([sp.Pow(part.base, part.exp + 1), sp.Pow(part.base, -part.exp), part.base])
    if isinstance(part, sp.Add):
        return part - source.choice([1, 2]) * source.choice(part.args)
    if isinstance(part, sp.Mul) and len(part.args) > 1:
        return sp.Mul(*source.sample(part.args, len(part.args) - 1))
    if isinstance(part, sp.Interval) and part.start.is_finite:
        return sp.Interval(part.start, part.end, not part.left_open, part.right_open)
    if isinstance(part, sp.Symbol):
        return sp.Symbol(source.choice([name for name in "abxyznt" if name != part.name]))
    return None


def near_misses(expression: Any, source: random.Random) -> Iterator[Any]:
    parts = list(sp.preorder_traversal(expression))
    source.shuffle(parts)
    for part in parts:
        other = changed(part, source)
        made = expression.xreplace({part: other}) if other is not None else expression
        if differ(expression, made, source):
            yield made


def differ(one: Any, other: Any, source: random.Random) -> bool:
    """Whether two expressions surely differ: by their values at two random points, or by structure if they are sets."""
    if not isinstance(one, sp.Expr) or not isinstance(other, sp.Expr):
        return type(one) is type(other) and one != other
    for _ in range(2):
        at = {name: sp.Rational(source.randrange(3, 400), 13) for name in one.free_symbols | other.free_symbols}
        left, right = sp.N(one.subs(at), 40), sp.N(other.subs(at), 40)
        if not (left.is_number and right.is_number and left.is_finite and right.is_finite):
            return False
        if abs(left - right) <= abs(left) * sp.Float("1e-12"):
            return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=500)
    options = parser.parse_args()
    source = random.Random(0)
    golds = references(options.folder)
    counts: Counter[str] = Counter()
    for gold in source.sample(golds, min(options.limit, len(golds))):
        try:
            read = parse(f"${gold}$", (LatexExtractionConfig(), ExprExtractionConfig()), parsing_timeout=2)
            expressions = [item for item in read if not isinstance(item, str)]
            same = decide(gold, sp.latex(expressions[0])) if expressions else None
            if same is None or isinstance(same, Passed) or same.outcome != "correct":
                continue
            texts = [
                sp.latex(made) for made, _ in zip(near_misses(expressions[0], source), range(CHANGES), strict=False)
            ]
        except Exception as error:  # noqa: BLE001  sympy's failures on odd references are counted, not hidden
            counts[f"skipped: {type(error).__name__}"] += 1
            continue
        for text in texts:
            verdict = decide(gold, text)
            outcome = "passed" if isinstance(verdict, Passed) else verdict.outcome
            counts[outcome] += 1
            if outcome == "correct":
                print(f"accepted: {gold!r} | {text!r}")
    print(dict(counts))


if __name__ == "__main__":
    main()

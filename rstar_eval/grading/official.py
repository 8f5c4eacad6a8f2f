"""The `official` grader: verdicts like those of the rStar authors' checker, with which the paper's numbers were read.

Their checker takes the OR over several lenient checkers, each in both directions. This module doesn't contain their
code; it
adds to the default ladder the leniencies that were measured on theirs (see docs/grading.md), each one a rule:

  official.tolerance   numbers within 1e-4 relative, integers too: 70000 = 70001
  official.hundred     a number times or over 100: 20 = 2000, 0.2
  official.first_item  lists and sets by their first item: 1,2 = 1,3
  official.relation    inequalities without their direction: x > 5 = x < 5
  official.brackets    intervals without their brackets: [6, oo) = (6, oo)

Too lenient for training labels and for comparing models; use it to compare with published figures only.
"""

from __future__ import annotations

from collections.abc import Sequence

from rstar_eval.grading import tree
from rstar_eval.grading.brackets import as_set
from rstar_eval.grading.compare import same
from rstar_eval.grading.fingerprint import Undecided, proportional, real_value
from rstar_eval.grading.limits import Tolerance
from rstar_eval.grading.read import read
from rstar_eval.grading.types import Verdict
from rstar_eval.grading.values import Either, Expr, Inequality, Items, Labelled, RealSet, Value

RELATIVE = 1e-4
_STRICT = Tolerance()


def lenient(gold: str, pred: str) -> Verdict | None:
    """Return the verdict of the first leniency that accepts a pair, or None if none does."""
    want, have = read(gold), read(pred)
    for one in want.values:
        for other in have.values:
            for left, right in ((one, other), (other, one)):
                rule = _accepts(_bare(left), _bare(right))
                if rule:
                    return Verdict("correct", f"official.{rule}")
    return None


def _bare(value: Value) -> Value:
    """The value behind a name, or the last of several ways to write it."""
    while isinstance(value, Labelled | Either):
        value = value.value if isinstance(value, Labelled) else value.options[-1]
    return value


def _accepts(gold: Value, pred: Value) -> str:
    """The name of the leniency that accepts two values, or ""."""
    if isinstance(gold, Expr) and isinstance(pred, Expr):
        return _numbers(gold, pred)
    if isinstance(gold, Inequality) and isinstance(pred, Inequality):
        return "relation" if _without_direction(gold, pred) else ""
    if _is_set(gold) and _is_set(pred):
        rule = _intervals(as_set(gold), as_set(pred))
        if rule:
            return rule
    if isinstance(gold, Items) and isinstance(pred, Items):
        return _collections(gold, pred)
    return ""


def _is_set(value: Value) -> bool:
    return isinstance(value, RealSet) or (isinstance(value, Items) and value.kind in ("tuple", "bracket"))


def _numbers(gold: Expr, pred: Expr) -> str:
    one, other = real_value(gold.node), real_value(pred.node)
    if one is None or other is None:
        return ""
    for factor, rule in ((1, "tolerance"), (100, "hundred"), (0.01, "hundred")):
        if abs(one * factor - other) <= RELATIVE * max(abs(one * factor), abs(other)):
            return rule
    return ""


def _quiet(gold: Value, pred: Value) -> str:
    """Equal by the default comparison or by a leniency: the rule's name ("equal" for the former)."""
    try:
        if same(gold, pred, _STRICT):
            return "equal"
    except Undecided:
        return ""
    return _accepts(_bare(gold), _bare(pred))


def _collections(gold: Items, pred: Items) -> str:
    if not gold.items or not pred.items:
        return ""
    if gold.kind in ("list", "set") or pred.kind in ("list", "set"):
        return "first_item" if _quiet(gold.items[0], pred.items[0]) else ""
    if len(gold.items) != len(pred.items):
        return ""
    rules = [_quiet(one, other) for one, other in zip(gold.items, pred.items, strict=True)]
    return next((rule for rule in rules if rule != "equal"), "brackets") if all(rules) else ""


def _without_direction(gold: Inequality, pred: Inequality) -> bool:
    if len(gold.relations) != len(pred.relations):
        return False
    try:
        return all(
            proportional(one, other) for (_, one), (_, other) in zip(gold.relations, pred.relations, strict=True)
        )
    except Undecided:
        return False


def _ends(real_set: RealSet) -> Sequence[tree.Node]:
    return [end for part in real_set.parts for end in (part.low, part.high)]


def _intervals(gold: RealSet | None, pred: RealSet | None) -> str:
    """Same ends in order: brackets don't matter. Same finite ends, infinite ones left out: the direction doesn't."""
    if gold is None or pred is None:
        return ""
    one, other = _ends(gold), _ends(pred)
    if len(one) == len(other) and all(_same_end(a, b) for a, b in zip(one, other, strict=True)):
        return "brackets" if _closed(gold) != _closed(pred) else "tolerance"
    if not gold.variable or not pred.variable:
        return ""
    one, other = [[end for end in ends if not tree.is_infinite(end)] for ends in (one, other)]
    if one and len(one) == len(other) and all(_same_end(a, b) for a, b in zip(one, other, strict=True)):
        return "relation"
    return ""


def _closed(real_set: RealSet) -> Sequence[bool]:
    return [closed for part in real_set.parts for closed in (part.low_closed, part.high_closed)]


def _same_end(left: tree.Node, right: tree.Node) -> bool:
    if tree.is_infinite(left) or tree.is_infinite(right):
        return tree.is_infinite(left) == tree.is_infinite(right)
    return bool(_quiet(Expr(left), Expr(right)))

"""Comparison of two values in full structure: every item of a list, both ends of an interval, every entry of a matrix.

`same` is symmetric except for the percent and decimal conventions of `scalars` and the leniency that a prediction
may use
a looser notation than the reference (a printed list for a set, say).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rstar_eval.grading import tree
from rstar_eval.grading.brackets import as_set
from rstar_eval.grading.fingerprint import Undecided, equal, free, proportional, rational, real_value
from rstar_eval.grading.limits import Tolerance
from rstar_eval.grading.relations import same_set
from rstar_eval.grading.scalars import same_equation, same_expr
from rstar_eval.grading.values import (
    Choice,
    Clock,
    Either,
    Equation,
    Expr,
    Inequality,
    Interval,
    Items,
    Labelled,
    Matrix,
    Opaque,
    Ratio,
    RealSet,
    Value,
    Words,
)

_MOST_PAIRS = 10_000  # of single values, however they are nested
_HALF_DAY = 43_200
_FUNCTION = re.compile(r"y?[fghpqFGHPQ](\^\{-1\})?\([a-z]\)y?")


def same(gold: Value, pred: Value, tolerance: Tolerance) -> bool:
    """Whether a prediction's value is the reference's. Raises Undecided if only the symbolic stage can tell."""
    if isinstance(gold, Either) and isinstance(pred, Either) and len(gold.options) == len(pred.options):
        return _ordered(gold.options, pred.options, tolerance)
    if isinstance(gold, Either):
        return _any(gold.options, (pred,), tolerance)
    if isinstance(pred, Either):
        return _any((gold,), pred.options, tolerance)
    if isinstance(gold, Labelled) or isinstance(pred, Labelled):
        return _labelled(gold, pred, tolerance)
    if isinstance(gold, Opaque) or isinstance(pred, Opaque):
        if isinstance(gold, Opaque) and isinstance(pred, Opaque) and gold == pred:
            return True
        raise Undecided
    if isinstance(gold, Expr) and isinstance(pred, Expr):
        return same_expr(gold, pred, tolerance)
    if isinstance(gold, Items) and isinstance(pred, Items) and not _interval_like(gold, pred):
        return _items(gold, pred, tolerance)
    if isinstance(gold, RealSet | Interval) or isinstance(pred, RealSet | Interval):
        return _sets(gold, pred)
    if isinstance(gold, Items) and len(gold.items) == 1:
        return same(gold.items[0], pred, tolerance)
    if isinstance(pred, Items) and len(pred.items) == 1:
        return same(gold, pred.items[0], tolerance)
    return _others(gold, pred, tolerance)


def _any(golds: Sequence[Value], preds: Sequence[Value], tolerance: Tolerance) -> bool:
    undecided: Undecided | None = None
    for gold in golds:
        for pred in preds:
            try:
                if same(gold, pred, tolerance):
                    return True
            except Undecided as error:
                undecided = error
    if undecided is not None:
        raise undecided
    return False


def _labelled(gold: Value, pred: Value, tolerance: Tolerance) -> bool:
    """x = 5 against 5, against x = 5, or as an equation against an equation."""
    one = gold.equation if isinstance(gold, Labelled) else gold if isinstance(gold, Equation) else None
    other = pred.equation if isinstance(pred, Labelled) else pred if isinstance(pred, Equation) else None
    if isinstance(gold, Labelled) and isinstance(pred, Labelled):
        if _same_label(gold, pred) and same(gold.value, pred.value, tolerance):
            return True
        renamed = _renamed(pred, gold)
        if renamed is not None and same(gold.value, renamed, tolerance):
            return True
        return one is not None and other is not None and same_equation(one, other)
    if isinstance(gold, Equation) or isinstance(pred, Equation):
        return one is not None and other is not None and same_equation(one, other)
    if isinstance(gold, Labelled):
        return not _otherwise_named(gold, pred) and same(gold.value, pred, tolerance)
    assert isinstance(pred, Labelled)
    return not _otherwise_named(pred, gold) and same(gold, pred.value, tolerance)


def _otherwise_named(one: Labelled, other: Value) -> bool:
    """Whether a value is a collection whose items carry names that the labelled value's name doesn't contain."""
    if not isinstance(other, Items):
        return False
    names = [item.label.partition("\x1f_")[0] for item in other.items if isinstance(item, Labelled)]
    return any(name not in one.label for name in names)


def _same_label(gold: Labelled, pred: Labelled) -> bool:
    """Equal names; none; or y against f(x) where the value is a function."""
    one, other = _name(gold.label), _name(pred.label)
    if one == other or not one or not other:
        return True
    return isinstance(gold.value, Expr) and "y" in (one, other) and bool(_FUNCTION.fullmatch(one + other))


def _renamed(function: Labelled, like: Labelled) -> Value | None:
    """The value of f(t) with t renamed to x, the argument of another label f(x); None if they are no such labels."""
    one, other = function.label.split("\x1f"), like.label.split("\x1f")
    if len(one) != 4 or one[1::2] != ["(", ")"] or other[1::2] != ["(", ")"] or one[0] != other[0]:
        return None
    old, new, value = one[2], other[2], function.value
    if not isinstance(value, Expr) or not (old.isalpha() and new.isalpha()) or new in free(value.node):
        return None
    return replace(value, node=tree.substitute(value.node, old, tree.symbol(new)))


def _name(label: str) -> str:
    return label.replace("\x1f", "")


# collections


def _interval_like(gold: Items, pred: Items) -> bool:
    """Two pairs in different brackets, of which one is surely an interval, never match as lists."""
    return (
        {gold.kind, pred.kind} == {"tuple", "bracket"}
        and len(gold.items) == len(pred.items) == 2
        and _may_be_interval(gold)
    )


def _may_be_interval(items: Items) -> bool:
    if len(items.items) != 2:
        return False
    ends: list[Any] = [
        real_value(item.node) if isinstance(item, Expr) and not item.unit else None for item in items.items
    ]
    return None not in ends and bool(ends[0] < ends[1])


def _items(gold: Items, pred: Items, tolerance: Tolerance) -> bool:
    one, other = gold.items, pred.items
    if gold.kind == "list" and len(one) == 1 and pred.kind != "list":
        return same(one[0], pred, tolerance)
    if (
        pred.kind in ("list", "bracket", "set")
        and len(other) == 1
        and isinstance(other[0], Items)
        and gold.kind != "list"
    ):
        return same(gold, other[0], tolerance)
    if gold.kind == "set" or pred.kind == "set" or (one and all(isinstance(item, Items) for item in (*one, *other))):
        one, other = _distinct(one, tolerance), _distinct(other, tolerance)
    if len(one) != len(other):
        return False
    mapping = all(isinstance(item, Labelled) for item in (*one, *other)) and bool(one)
    if mapping and gold.kind == pred.kind == "tuple":
        return _unordered(one, other, tolerance)
    if gold.kind in ("list", "set"):
        if pred.kind == "tuple" and len(one) > 1:
            return gold.kind == "list" and not _may_be_interval(pred) and _ordered(one, other, tolerance)
        return _unordered(one, other, tolerance)
    if gold.kind in ("bracket", "tuple") and pred.kind in ("list", "set") and _may_be_interval(gold):
        return False
    if gold.kind == "tuple" and pred.kind == "set":
        return False
    return _ordered(one, other, tolerance)


def _distinct(items: Sequence[Value], tolerance: Tolerance) -> tuple[Value, ...]:
    kept: list[Value] = []
    if len(items) > 60 or _weight(items) ** 2 > _MOST_PAIRS:
        return tuple(items)
    for item in items:
        if not any(_quiet(item, other, tolerance) for other in kept):
            kept.append(item)
    return tuple(kept)


def _quiet(one: Value, other: Value, tolerance: Tolerance) -> bool:
    try:
        return same(one, other, tolerance)
    except Undecided:
        return one == other


def _ordered(gold: Sequence[Value], pred: Sequence[Value], tolerance: Tolerance) -> bool:
    return all(same(one, other, tolerance) for one, other in zip(gold, pred, strict=True))


def _unordered(gold: Sequence[Value], pred: Sequence[Value], tolerance: Tolerance) -> bool:
    """Whether the items can be paired off. Equality is transitive up to tolerance, so the first match will do."""
    one, other = _rationals(gold), _rationals(pred)
    if one is not None and other is not None:
        return one == other
    if _weight(gold) * _weight(pred) > _MOST_PAIRS:
        raise Undecided("items")
    left = list(pred)
    undecided: Undecided | None = None
    for item in gold:
        for index, candidate in enumerate(left):
            try:
                if same(item, candidate, tolerance):
                    del left[index]
                    break
            except Undecided as error:
                undecided = error
        else:
            if undecided is not None:
                raise undecided
            return False
    return True


def _weight(items: Sequence[Value]) -> int:
    """The number of single values in a collection, those of the collections inside counted one by one."""
    total = 0
    for item in items:
        held = item.value if isinstance(item, Labelled) else item
        total += _weight(held.items) if isinstance(held, Items) else 1
    return total


def _rationals(items: Sequence[Value]) -> Counter[object] | None:
    """Count plain rational items; None if one is anything else."""
    found: Counter[object] = Counter()
    for item in items:
        if not isinstance(item, Expr) or item.unit or item.percent or item.base or item.digits >= 6:
            return None
        value = rational(item.node)
        if value is None:
            return None
        found[value] += 1
    return found


def _sets(gold: Value, pred: Value) -> bool:
    if isinstance(pred, Items) and any(isinstance(item, RealSet) and item.variable for item in pred.items):
        return False  # "x < 1 and x > 2" says no number; of a reference it is read as meant, a union
    one, other = _set_of(gold), _set_of(pred)
    if one is None or other is None:
        return False
    if one.variable and other.variable and one.variable != other.variable:
        return False
    return same_set(one, other)


def _set_of(value: Value) -> RealSet | None:
    """A set of reals; a list of sets or of pairs is their union, a number is a point."""
    if isinstance(value, Expr) and value.unit is None and not value.percent:
        return as_set(Items("set", (value,)))
    if (
        isinstance(value, Items)
        and value.kind == "list"
        and any(isinstance(item, RealSet | Items) for item in value.items)
    ):
        sets = [as_set(item) for item in value.items]
        return RealSet(tuple(part for item in sets if item for part in item.parts)) if all(sets) else None
    return as_set(value)


# the rest


def _others(gold: Value, pred: Value, tolerance: Tolerance) -> bool:
    if isinstance(gold, Choice) and isinstance(pred, Choice):
        return gold.letters == pred.letters
    if isinstance(gold, Equation) and isinstance(pred, Equation):
        return same_equation(gold, pred)
    if isinstance(gold, Matrix) or isinstance(pred, Matrix):
        return _matrices(gold, pred, tolerance)
    if isinstance(gold, Inequality) and isinstance(pred, Inequality):
        return _inequalities(gold, pred)
    if isinstance(gold, Clock) and isinstance(pred, Clock):
        if gold.half and pred.half:
            return gold.seconds == pred.seconds
        return gold.seconds % _HALF_DAY == pred.seconds % _HALF_DAY
    if isinstance(gold, Ratio) or isinstance(pred, Ratio):
        return _ratios(gold, pred)
    if isinstance(gold, Words) and isinstance(pred, Words):
        return gold.text == pred.text
    if isinstance(gold, Choice) and isinstance(pred, Words):
        return len(gold.letters) > 1 and pred.raw.isupper() and Counter(pred.raw) == Counter(gold.letters)
    if isinstance(gold, Words) and isinstance(pred, Choice):
        return len(pred.letters) > 1 and gold.raw.isupper() and Counter(gold.raw) == Counter(pred.letters)
    return False


def _matrices(gold: Value, pred: Value, tolerance: Tolerance) -> bool:
    """Entry by entry; a column or a row agrees with the tuple of its entries."""
    if isinstance(gold, Matrix) and isinstance(pred, Matrix):
        if len(gold.rows) != len(pred.rows) or len(gold.rows[0]) != len(pred.rows[0]):
            return False
        pairs = zip(
            (cell for row in gold.rows for cell in row), (cell for row in pred.rows for cell in row), strict=True
        )
        return all(same_expr(Expr(one), Expr(other), tolerance) for one, other in pairs)
    one, other = _vector(gold), _vector(pred)
    return one is not None and other is not None and len(one) == len(other) and _ordered(one, other, tolerance)


def _vector(value: Value) -> tuple[Value, ...] | None:
    if isinstance(value, Matrix):
        if len(value.rows[0]) == 1:
            return tuple(Expr(row[0]) for row in value.rows)
        return tuple(Expr(cell) for cell in value.rows[0]) if len(value.rows) == 1 else None
    return value.items if isinstance(value, Items) and value.kind in ("tuple", "bracket") else None


def _inequalities(gold: Inequality, pred: Inequality) -> bool:
    left = list(pred.relations)
    if len(left) != len(gold.relations):
        return False
    for sign, node in gold.relations:
        for index, (other_sign, other) in enumerate(left):
            if sign == other_sign and free(node) == free(other) and proportional(node, other, positive=sign != "!="):
                del left[index]
                break
        else:
            return False
    return True


def _ratios(gold: Value, pred: Value) -> bool:
    if isinstance(gold, Ratio) and gold.time:
        return False
    one, other = _terms(gold), _terms(pred)
    if one is None or other is None or len(one) != len(other):
        return False
    return all(
        equal(tree.mul(one[0], b), tree.mul(other[0], a)) for a, b in zip(one[1:], other[1:], strict=True)
    ) and not equal(other[0], tree.ZERO)


def _terms(value: Value) -> tuple[tree.Node, ...] | None:
    if isinstance(value, Ratio):
        return value.terms
    return (value.node, tree.ONE) if isinstance(value, Expr) and not value.unit and not value.percent else None

"""Comparison of single expressions with what stands around them: units, percent signs, bases, tolerances."""

from __future__ import annotations

import re

from rstar_eval.grading import tree
from rstar_eval.grading.fingerprint import Undecided, equal, free, proportional, rational
from rstar_eval.grading.limits import Tolerance
from rstar_eval.grading.tree import Node, has, walk
from rstar_eval.grading.units import CENT, DEGREE, DOLLAR, RADIAN, agree
from rstar_eval.grading.values import Equation, Expr

_CONSTANT_NAMES = frozenset(["C", "c", "K", "k"])
_CONSTANT = re.compile(r"[cCkK]_(\d)")
_HUNDRED = tree.number(100)


def same_expr(gold: Expr, pred: Expr, tolerance: Tolerance) -> bool:
    """Whether a prediction has the value that the reference asks for. Not symmetric: see percent and decimals.

    Raises Undecided if a side can't be evaluated.
    """
    if gold.base or pred.base:
        return _same_base(gold.base, pred.base) and _numeral(gold) == _numeral(pred)
    relative = _relative(gold, pred, tolerance)
    if (gold.unit is None) != (pred.unit is None) and (gold.loose or pred.loose):
        return _loosely(gold, pred, relative)
    if gold.unit != pred.unit and {gold.unit, pred.unit} & {DEGREE, DOLLAR, CENT}:
        converted = _converted(gold, pred)
        if converted is not None:
            return same_node(*converted, relative)
    if not agree(gold.unit, pred.unit):
        return False
    if gold.percent != pred.percent:
        if gold.unit or pred.unit:
            return False
        return _percent(gold, pred, relative)
    return same_node(gold.node, pred.node, relative)


def _same_base(gold: int | None, pred: int | None) -> bool:
    """A number without a base is decimal; only a reference may have left out the base that its question names."""
    return gold == pred or gold is None or (gold == 10 and pred is None)


def _numeral(side: Expr) -> str:
    """The digits as written: a number in a base is compared by its digits."""
    return str(side.node.value)


def _relative(gold: Expr, pred: Expr, tolerance: Tolerance) -> float:
    """The tolerance that the written digits of both sides allow."""
    relative = tolerance.decimal_relative if gold.digits else 0.0
    if max(gold.digits, pred.digits) >= tolerance.float_digits:
        relative = max(relative, tolerance.float_relative)
    return relative


def _converted(gold: Expr, pred: Expr) -> tuple[Node, Node] | None:
    """Degrees against radians, dollars against cents."""
    if {gold.unit, pred.unit} == {DOLLAR, CENT}:
        return (
            (tree.mul(gold.node, _HUNDRED), pred.node)
            if gold.unit == DOLLAR
            else (gold.node, tree.mul(pred.node, _HUNDRED))
        )
    if {gold.unit, pred.unit} in ({DEGREE, None}, {DEGREE, RADIAN}):
        degrees, other = (gold.node, pred.node) if gold.unit == DEGREE else (pred.node, gold.node)
        if not _has_pi(degrees) and _has_pi(other):
            return Node("deg", (degrees,)), other
    return None


def _loosely(gold: Expr, pred: Expr, relative: float) -> bool:
    """One side has a unit, the other ends in letters that may be one (`3 h`): they are if they are the same."""
    named, plain = (gold, pred) if gold.unit else (pred, gold)
    if plain.loose is None:
        return same_node(gold.node, pred.node, relative)
    node, unit = plain.loose
    if named.unit is None or unit.parts != named.unit.parts:
        return same_node(gold.node, pred.node, relative)
    return same_node(named.node, node, relative) if named is gold else same_node(node, named.node, relative)


def _has_pi(node: Node) -> bool:
    return any(part == tree.PI for part in walk(node))


def _percent(gold: Expr, pred: Expr, relative: float) -> bool:
    """25% is also given as 25 or 0.25; 25 as 25%; 0.25 as 25%, but not as 0.25%."""
    if gold.percent:
        return same_node(gold.node, pred.node, relative) or same_node(
            tree.div(gold.node, _HUNDRED), pred.node, relative
        )
    if same_node(gold.node, tree.div(pred.node, _HUNDRED), relative):
        return True
    value = rational(gold.node)
    return value is not None and abs(value) > 1 and same_node(gold.node, pred.node, relative)


def same_node(gold: Node, pred: Node, relative: float = 0.0) -> bool:
    """Whether two expressions are equal. A plain `log` may have base e or 10, a constant of integration any name."""
    if equal(gold, pred, relative):
        return True
    if not free(gold) and not free(pred):
        return _has_log(gold, pred) and equal(gold, pred, relative, log10=True)
    if _has_log(gold, pred) and equal(gold, pred, relative, log10=True):
        return True
    meant = _printed_constants(gold, pred) or _arbitrary_constants(gold, pred)
    return equal(*meant, relative) if meant is not None else _antiderivatives(gold, pred)


def _arbitrary_constants(gold: Node, pred: Node) -> tuple[Node, Node] | None:
    """Both with c_1 and C_1, the constants of a general solution, written alike, if only their letters differ."""
    if free(gold) == free(pred):
        return None
    renamed = []
    for node in (gold, pred):
        for name in free(node):
            match = _CONSTANT.fullmatch(name)
            if match:
                node = tree.substitute(node, name, tree.symbol(f"c_{match[1]}"))
        renamed.append(node)
    return (renamed[0], renamed[1]) if free(renamed[0]) == free(renamed[1]) else None


def _printed_constants(gold: Node, pred: Node) -> tuple[Node, Node] | None:
    """Both with sympy's E and I read as e and i on the side that uses them, where only the other one has e or i."""
    changed = False
    for name, constant in (("E", tree.EULER), ("I", tree.IMAGINARY)):
        if (name in free(gold)) != (name in free(pred)):
            other = pred if name in free(gold) else gold
            if any(part == constant for part in walk(other)):
                gold, pred = tree.substitute(gold, name, constant), tree.substitute(pred, name, constant)
                changed = True
    return (gold, pred) if changed else None


def _has_log(*nodes: Node) -> bool:
    return any(part.op == "fn" and part.value == "log" for node in nodes for part in walk(node))


def _antiderivatives(gold: Node, pred: Node) -> bool:
    """Whether both end in a constant of integration and differ by a constant."""
    one, other = _without_constant(gold), _without_constant(pred)
    if one is None or other is None or not free(one):
        return False
    difference = tree.sub(one, other)
    return equal(difference, tree.primed(difference))  # the same whatever the variables are: a constant


def _without_constant(node: Node) -> Node | None:
    if node.op != "add":
        return None
    rest = tuple(term for term in node.args if not (term.op == "sym" and term.value in _CONSTANT_NAMES))
    if len(rest) != len(node.args) - 1 or not rest:
        return None
    return tree.add(*rest)


def same_equation(gold: Equation, pred: Equation) -> bool:
    """Whether two equations have the same solutions, as far as a non-zero factor or solving for a variable shows."""
    one, other = tree.sub(gold.left, gold.right), tree.sub(pred.left, pred.right)
    if has(one, "pm", "mp") or has(other, "pm", "mp"):
        raise Undecided
    if free(one) != free(other):
        return False
    if proportional(one, other):
        return True
    return _solved(gold, other) or _solved(pred, one)


def _solved(solved: Equation, other: Node) -> bool:
    """Whether `solved` is variable = value and `other` = 0 is linear in that variable with the same solution."""
    for left, right in ((solved.left, solved.right), (solved.right, solved.left)):
        if left.op != "sym" or left.value in free(right):
            continue
        name = str(left.value)
        try:
            if not equal(tree.substitute(other, name, right), tree.ZERO):
                continue
            at_zero, at_one, at_two = (tree.substitute(other, name, tree.number(value)) for value in (0, 1, 2))
            slope = tree.sub(at_one, at_zero)
            if equal(tree.sub(at_two, at_one), slope) and not equal(slope, tree.ZERO):
                return True
        except Undecided:
            continue
    return False

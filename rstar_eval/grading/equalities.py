"""Relations: equations, approximations, membership, inequalities, and chains of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rstar_eval.grading import tree
from rstar_eval.grading.brackets import as_set
from rstar_eval.grading.expressions import node_of
from rstar_eval.grading.labels import after_is, is_label, label_of
from rstar_eval.grading.relations import solve_chain
from rstar_eval.grading.scan import split
from rstar_eval.grading.tokens import Token, spelled
from rstar_eval.grading.units import split_unit
from rstar_eval.grading.values import Either, Equation, Expr, Items, Labelled, Matrix, RealSet, Value

Read = Callable[[Sequence[Token]], Value]
_FUNCTIONS = frozenset("fghPQ")
_ASKED = frozenset(["lim", "int"])
RELATIONS = ("<", "<=", ">", ">=", "!=")


def related(tokens: Sequence[Token], read: Read) -> Value | None:
    """Read =, approx, in, inequalities, and `f: x \\mapsto x^2`."""
    arrow = split(tokens, "mapsto")
    if len(arrow) == 2 and all(arrow):
        *named, variable = split(arrow[0], ":")
        name = named[0] if named else [Token("name", "f")]
        if len(named) < 2 and is_label(variable) and is_label(name):
            function = [*name, Token("open", "("), *variable, Token("close", ")")]
            return Labelled(label_of(function), read(arrow[1]))
    member = split(tokens, "in")
    if len(member) == 2 and all(member):
        return _member(member[0], member[1], read)
    signs, sides = _sides(tokens)
    if not signs:
        return None
    if all(sign in RELATIONS for sign in signs):
        nodes = [node_of(_without_unit(side)) for side in sides]
        if all(nodes):
            return solve_chain([node for node in nodes if node], signs)
        return None
    if any(sign in RELATIONS for sign in signs) or not all(sides):
        return None
    return _equality(sides, signs, read)


def _member(name: Sequence[Token], held: Sequence[Token], read: Read) -> Value | None:
    """Read `x in S`. None if what stands before isn't a name."""
    if not is_label(name):
        return None
    value = read(held)
    inner = as_set(value)
    return RealSet(inner.parts, label_of(name)) if inner is not None else value


def _without_unit(tokens: Sequence[Token]) -> Sequence[Token]:
    return split_unit(tokens)[0] if any(token.text for token in tokens) else tokens


def _sides(tokens: Sequence[Token]) -> tuple[list[str], list[Sequence[Token]]]:
    """Split at relation signs outside of brackets."""
    sides = split(tokens, *RELATIONS, "=", "approx", "equiv")
    signs = []
    position = 0
    for side in sides[:-1]:
        position += len(side)
        signs.append(tokens[position].value)
        position += 1
    return signs, sides


def _equality(sides: Sequence[Sequence[Token]], signs: Sequence[str], read: Read) -> Value | None:
    sides = (after_is(sides[0]), *sides[1:])
    if any(sign == "equiv" for sign in signs):
        function = len(sides) == 2 and is_label(sides[0]) and sides[0][0].value in _FUNCTIONS
        return Labelled(label_of(sides[0]), read(sides[1])) if function else None
    if len(sides) == 2 and not is_label(sides[0]) and is_label(sides[1]) and "=" in signs:
        sides = (sides[1], sides[0])
    stated = _stated(sides, read) if len(sides) == 2 and "=" in signs and not is_label(sides[0]) else None
    if stated is not None:
        return stated
    if len(sides) > 2 and all(sign == "=" for sign in signs) and all(is_label(side) for side in sides[:-1]):
        return _same_value(sides, read)
    if is_label(sides[0]):
        options = [read(side) for side in sides[1:]]
        value = options[0] if len(options) == 1 else Either(tuple(options))
        equation = None
        if len(sides) == 2 and isinstance(value, Expr) and value.unit is None and signs[0] == "=":
            left = node_of(sides[0])
            equation = Equation(left, value.node) if left is not None else None
        return Labelled(label_of(sides[0]), value, equation)
    nodes = [node_of(_without_unit(side)) for side in sides]
    if all(nodes) and len(sides) == 2 and signs[0] == "=" and any(tree.symbols(node) for node in nodes if node):
        return Equation(nodes[0], nodes[1])  # type: ignore[arg-type]
    if all(side for side in sides) and all(nodes) and not any(tree.symbols(node) for node in nodes if node):
        return Either(tuple(read(side) for side in sides))
    if len(sides) == 2 and "approx" in signs:
        return Either(tuple(read(side) for side in sides))
    return None


def _stated(sides: Sequence[Sequence[Token]], read: Read) -> Labelled | None:
    """Read `A^{-1} = ` a matrix and `\\lim ... = 3`: what stands before is only what was asked for."""
    if any(token.value in ("begin", "Matrix") for token in sides[0]):
        return None
    value = read(sides[1])
    asked = isinstance(value, Matrix) or (
        sides[0][0].value in _ASKED and isinstance(value, Expr) and node_of(sides[0]) is None
    )
    return Labelled(spelled(list(sides[0])), value) if asked else None


def _same_value(sides: Sequence[Sequence[Token]], read: Read) -> Value:
    """Read `a = b = 5` as a = 5, b = 5 or just 5; `x = y = z` as the set of these names, in any order."""
    if is_label(sides[-1]) and all(len(side) == 1 for side in sides):
        return Labelled("equal", Items("set", tuple(read(side) for side in sides)))
    value = read(sides[-1])
    named = tuple(Labelled(label_of(side), value) for side in sides[:-1])
    return Either((Items("tuple", named), Labelled(label_of(sides[0]), value)))

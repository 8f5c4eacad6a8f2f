"""What commas, `and` and `or` join: lists, solutions under one name, systems, unions and intersections of sets."""

from __future__ import annotations

from collections.abc import Sequence

from rstar_eval.grading.brackets import as_set, filled_in
from rstar_eval.grading.fingerprint import Undecided
from rstar_eval.grading.limits import TOLERANCE
from rstar_eval.grading.relations import complement, intersect, ordered
from rstar_eval.grading.scalars import same_expr
from rstar_eval.grading.tokens import Token
from rstar_eval.grading.values import Either, Expr, Inequality, Items, Labelled, RealSet, Value, Words
from rstar_eval.grading.words import words_of


def collect(values: list[Value], word: str, tokens: Sequence[Token]) -> Value:
    """Put together what commas, `and` or `or` join."""
    variables = {value.variable for value in values if isinstance(value, RealSet) and value.variable}
    sets = [_solved_set(value, variables) for value in values]
    if all(sets):
        return _join_sets([item for item in sets if item], word)
    if all(isinstance(value, Words) for value in values):
        return words_of(tokens)
    if word == "or" and _one_value(values):
        return Either(tuple(values))
    flat: list[Value] = []
    for value in values:
        flat.extend(_spread(value))
    flat = filled_in(flat)
    first = flat[0]
    labels = [value.label if isinstance(value, Labelled) else "" for value in flat]
    if isinstance(first, Labelled) and all(label in ("", first.label) for label in labels):
        items = [value.value if isinstance(value, Labelled) else value for value in flat]
        spread = [
            part
            for item in items
            for part in (item.items if isinstance(item, Items) and item.kind == "list" else (item,))
        ]
        return Labelled(first.label, Items("list", tuple(spread)))
    if all(labels) and len(set(labels)) == len(labels) and word != "or":
        return Items("tuple", tuple(flat))
    relations = [value.relations for value in flat if isinstance(value, Inequality)]
    if len(relations) == len(flat) and word == "and":
        return Inequality(tuple(part for parts in relations for part in parts))
    if isinstance(first, RealSet) and len(first.parts) == 2 and first.parts[0].high == first.parts[1].low:
        points = [as_set(Items("set", (value,))) for value in flat[1:]]
        left = _excluded(first, [item for item in points if item]) if all(points) else None
        if left is not None:
            return left
    return Items("list", tuple(flat))


def _one_value(values: list[Value]) -> bool:
    """Whether `or` joins spellings of one number: `1048577 or 2^{20}+1`."""
    first, *rest = values
    try:
        return isinstance(first, Expr) and all(
            isinstance(value, Expr) and same_expr(first, value, TOLERANCE) for value in rest
        )
    except Undecided:
        return False


def _solved_set(value: Value, variables: set[str]) -> RealSet | None:
    """A set of reals; beside inequalities in x also `x = 2`, a point."""
    if isinstance(value, Labelled) and value.label in variables and isinstance(value.value, Expr):
        return as_set(Items("set", (value.value,)))
    return as_set(value) if isinstance(value, RealSet) else None


def _spread(value: Value) -> Sequence[Value]:
    """The items that a value adds to a list: its own if it is a list, or the names of `a = b = 5`."""
    if isinstance(value, Items) and value.kind == "list":
        return value.items
    if isinstance(value, Either) and isinstance(value.options[0], Items):
        named = value.options[0].items
        return named if all(isinstance(item, Labelled) for item in named) else (value,)
    return (value,)


def _excluded(first: RealSet, points: list[RealSet]) -> RealSet | None:
    """`x != -1, 4`: the reals without these points. None if they have no order."""
    result: RealSet | None = first
    for item in points:
        other = complement(item)
        result = intersect(result, other) if result and other else None
    return result


def _join_sets(sets: list[RealSet], word: str) -> Value:
    merged = RealSet(tuple(part for item in sets for part in item.parts), sets[0].variable)
    if word != "or" and not any(item.variable for item in sets):
        return Items("list", tuple(sets))
    if word == "or" or not all(item.variable for item in sets):
        return merged
    common: RealSet | None = sets[0]
    for item in sets[1:]:
        common = intersect(common, item) if common is not None else None
    if common is None:
        return merged
    if word == "and" and not ordered(common):
        return Items("list", tuple(sets))
    return common if word == "and" or ordered(common) else merged

"""What sympy and Python print for sets, relations, intervals and matrices: `Interval(6, oo)`, `Eq(x, 3)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rstar_eval.grading.brackets import endpoint, point_set
from rstar_eval.grading.matrices import rows_of
from rstar_eval.grading.relations import intersect
from rstar_eval.grading.scan import enclosed, split
from rstar_eval.grading.tokens import Token
from rstar_eval.grading.tree import is_infinite
from rstar_eval.grading.values import Interval, Items, RealSet, Value
from rstar_eval.grading.words import EMPTY, REALS

Read = Callable[[Sequence[Token]], Value]


def printed(tokens: Sequence[Token], read: Read) -> Value | None:
    """Read what sympy and Python print for sets, relations and matrices: `Interval(6, oo)`, `Eq(x, 3)`."""
    if not tokens or tokens[0].kind != "name":
        return None
    name = tokens[0].value
    if len(tokens) == 1 or (len(tokens) == 3 and tokens[1].value == "."):
        return REALS if tokens[-1].value == "Reals" else EMPTY if tokens[-1].value == "EmptySet" else None
    method = ""
    rest = tokens[1:]
    if rest[0].value == "." and len(rest) > 2:
        method, rest = rest[1].value, rest[2:]
    if name in ("np", "numpy", "sp", "sympy", "S", "math") and method:
        return read([Token("name", method), *rest])
    if enclosed(rest) != "(":
        return None
    pieces = split(rest[1:-1], ",")
    if name in ("FiniteSet", "set", "frozenset"):
        if name != "FiniteSet":
            return EMPTY if not rest[1:-1] else read(rest[1:-1])
        return Items("set", tuple(read(piece) for piece in pieces if piece))
    if name == "Interval" and len(pieces) >= 2:
        return _printed_interval(pieces, method)
    if name in ("Union", "Or", "And", "Intersection"):
        sets = [point_set(read(piece), piece) for piece in pieces]
        result = sets[0]
        for item in sets[1:]:
            if result is None or item is None:
                return None
            result = RealSet(result.parts + item.parts) if name in ("Union", "Or") else intersect(result, item)
        return result
    if name in ("Eq", "Ne", "Lt", "Le", "Gt", "Ge") and len(pieces) == 2:
        sign = {"Eq": "=", "Ne": "!=", "Lt": "<", "Le": "<=", "Gt": ">", "Ge": ">="}[name]
        return read([*pieces[0], Token("sign", sign), *pieces[1]])
    if name in ("Matrix", "ImmutableMatrix", "MutableDenseMatrix", "ImmutableDenseMatrix", "array", "Array"):
        return _printed_matrix(pieces[0], read)
    if name in ("Tuple", "Point", "Point2D", "Point3D", "Vector", "tuple", "list", "dict"):
        if len(pieces) == 1:
            return read(pieces[0])
        return Items("tuple", tuple(read(piece) for piece in pieces))
    return None


def _printed_interval(pieces: Sequence[Sequence[Token]], method: str) -> Value | None:
    low, high = endpoint(pieces[0]), endpoint(pieces[1])
    if low is None or high is None:
        return None
    opens = ["".join(token.value for token in piece).split("=")[-1] == "True" for piece in pieces[2:4]] + [False, False]
    low_open = opens[0] or method in ("open", "Lopen")
    high_open = opens[1] or method in ("open", "Ropen")
    return RealSet(
        (Interval(low, high, not low_open and not is_infinite(low), not high_open and not is_infinite(high)),)
    )


def _printed_matrix(tokens: Sequence[Token], read: Read) -> Value | None:
    if enclosed(tokens) != "[":
        return None
    rows = split(tokens[1:-1], ",")
    if all(enclosed(row) == "[" for row in rows):
        return rows_of([split(row[1:-1], ",") for row in rows])
    return rows_of([[row] for row in rows])

"""Canonical keys: equal keys mean equal answers. Unequal keys mean nothing; then the ladder compares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

from rstar_eval.grading.fingerprint import free, rational
from rstar_eval.grading.functions import Undefined, Unsupported, context
from rstar_eval.grading.limits import LimitExceeded
from rstar_eval.grading.numeric import evaluate, sample
from rstar_eval.grading.read import Reading
from rstar_eval.grading.relations import ordered
from rstar_eval.grading.tree import Node, walk
from rstar_eval.grading.values import Expr, Items, RealSet, Value

_BITS = 120
_POINTS = (0, 4, 8)
_STEPPED = frozenset(["abs", "sign", "max", "min", "floor", "ceiling", "mod", "gcd", "lcm"])


def key_of(reading: Reading) -> Hashable:
    """Return a key of an answer's likeliest meaning, or None if it has none that is safe."""
    return _key(reading.values[0]) if len(reading.values) == 1 else None


def _key(value: Value) -> Hashable:
    if isinstance(value, Expr):
        if value.base or value.digits >= 14:
            return None
        node = node_key(value.node)
        return None if node is None else ("expr", node, value.unit, value.percent)
    if isinstance(value, Items):
        keys = [_key(item) for item in value.items]
        if any(key is None for key in keys):
            return None
        if value.kind in ("list", "set"):
            return (value.kind, frozenset(Counter(keys).items()))
        return (value.kind, tuple(keys))
    if isinstance(value, RealSet):
        parts = ordered(value)
        if parts is None:
            return None
        ends = [(node_key(part.low), node_key(part.high), part.low_closed, part.high_closed) for part in parts]
        return None if any(None in (end[0], end[1]) for end in ends) else ("reals", value.variable, tuple(ends))
    return None


def node_key(node: Node) -> Hashable:
    """The exact rational value, or the values at fixed points to 120 bits, with the variables' names."""
    exact = rational(node)
    if exact is not None:
        return (exact.numerator, exact.denominator)
    if node.op == "const":
        return str(node.value)
    if node.op == "neg" and node.args[0].op == "const":
        return f"-{node.args[0].value}"
    if any(part.op == "series" or (part.op == "fn" and part.value in _STEPPED) for part in walk(node)):
        return None
    names = tuple(sorted(free(node)))
    values = []
    for point in _POINTS if names else _POINTS[:1]:
        try:
            value = evaluate(node, {name: sample(name, point) for name in names})
        except (Undefined, Unsupported, LimitExceeded):
            return None
        values.append(_rounded(value))
    return (names, tuple(values))


def _rounded(value: Any) -> Hashable:
    """Real and imaginary part to 120 bits relative to the magnitude (what is smaller is rounding of zero)."""
    ctx = context(256)
    if not value:
        return (0, 0, 0)
    scale = int(ctx.mag(value))
    parts = [int(ctx.nint(ctx.ldexp(part, _BITS - scale))) for part in (ctx.re(value), ctx.im(value))]
    return (*parts, scale)

"""The expression tree: our own, exact, and never Python code."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple


class Node(NamedTuple):
    """One node.

    `op` is one of num (value: Fraction), sym (value: name), const (value: pi, e, i, oo, nan), add, mul, div,
    neg, pow, root, fn (value: function name), call (value: letter), deg, pct, pm, mp, series (value: sum or prod; args
    variable, first, last, body), matrix (value: number of columns).
    """

    op: str
    args: tuple[Node, ...] = ()
    value: Fraction | str | int | None = None


def number(value: int | Fraction) -> Node:
    """A rational number."""
    return Node("num", (), Fraction(value))


ZERO, ONE, MINUS_ONE = number(0), number(1), number(-1)
PI, EULER, IMAGINARY = Node("const", (), "pi"), Node("const", (), "e"), Node("const", (), "i")
INFINITY, NAN = Node("const", (), "oo"), Node("const", (), "nan")
MINUS_INFINITY = Node("neg", (INFINITY,))


def symbol(name: str) -> Node:
    """A variable."""
    return Node("sym", (), name)


def add(*terms: Node) -> Node:
    """A sum."""
    return terms[0] if len(terms) == 1 else Node("add", terms)


def mul(*factors: Node) -> Node:
    """A product."""
    return factors[0] if len(factors) == 1 else Node("mul", factors)


def neg(node: Node) -> Node:
    """The negative; of a number it is a number."""
    return Node("num", (), -node.value) if isinstance(node.value, Fraction) else Node("neg", (node,))


def sub(left: Node, right: Node) -> Node:
    """A difference."""
    return Node("add", (left, neg(right)))


def div(top: Node, bottom: Node) -> Node:
    """A quotient."""
    return Node("div", (top, bottom))


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and everything under it."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(current.args)


def height(node: Node) -> int:
    """The number of nodes on the longest way down."""
    level, count = [node], 0
    while level:
        level = [arg for part in level for arg in part.args]
        count += 1
    return count


def symbols(node: Node) -> frozenset[str]:
    """Return the names of the free variables: a series' own variable is not free in its body."""
    if node.op == "sym":
        return frozenset([str(node.value)])
    if not node.args:
        return frozenset()
    if node.op == "series":
        variable, first, last, body = node.args
        return symbols(first) | symbols(last) | (symbols(body) - {str(variable.value)})
    return frozenset().union(*[symbols(arg) for arg in node.args])


def has(node: Node, *ops: str) -> bool:
    """Whether a node of one of these kinds occurs."""
    return any(part.op in ops for part in walk(node))


def is_infinite(node: Node) -> int:
    """1 for infinity, -1 for minus infinity, 0 for anything else."""
    if node.op == "const" and node.value == "oo":
        return 1
    return -1 if node.op == "neg" and is_infinite(node.args[0]) == 1 else 0


def substitute(node: Node, name: str, value: Node) -> Node:
    """Replace a variable where it is free."""
    if node.op == "sym":
        return value if node.value == name else node
    if not node.args:
        return node
    if node.op == "series" and node.args[0].value == name:
        variable, first, last, body = node.args
        first, last = substitute(first, name, value), substitute(last, name, value)
        return Node("series", (variable, first, last, body), node.value)
    return Node(node.op, tuple(substitute(arg, name, value) for arg in node.args), node.value)


def primed(node: Node) -> Node:
    """The same tree in other variables: every name, bound ones too, with a mark of our own."""
    if node.op == "sym":
        return symbol(f"{node.value}\x1f'")
    return Node(node.op, tuple(primed(arg) for arg in node.args), node.value) if node.args else node


def choose_sign(node: Node, sign: int) -> Node:
    """Replace every plus-minus by `sign` and every minus-plus by its opposite."""
    if node.op in ("pm", "mp"):
        inner = choose_sign(node.args[0], sign)
        return inner if (sign > 0) == (node.op == "pm") else neg(inner)
    if not node.args:
        return node
    return Node(node.op, tuple(choose_sign(arg, sign) for arg in node.args), node.value)

"""Matrices: LaTeX environments, sums and multiples of matrices, printed rows; vectors written with i, j and k."""

from __future__ import annotations

from collections.abc import Sequence

from rstar_eval.grading import tree
from rstar_eval.grading.cursor import ParseError
from rstar_eval.grading.fingerprint import Undecided, equal, free
from rstar_eval.grading.names import VECTORS
from rstar_eval.grading.parse import parse
from rstar_eval.grading.scan import closing_index, split
from rstar_eval.grading.tokens import UNIT_VECTORS, Token
from rstar_eval.grading.tree import Node
from rstar_eval.grading.values import Expr, Items, Matrix

_MATRIX = frozenset(["pmatrix", "bmatrix", "matrix", "array", "vmatrix", "Bmatrix", "smallmatrix"])
_SYSTEMS = frozenset(["cases", "dcases", "rcases", "aligned", "align", "gathered", "gather", "split"])
_LETTERS = frozenset("ijk")


def environment(tokens: Sequence[Token]) -> tuple[str, list[list[Sequence[Token]]]] | None:
    """The name and the cells, row by row, of a LaTeX environment that holds all tokens. None if none does."""
    if len(tokens) < 8 or tokens[0].value != "begin" or tokens[1].value != "{":
        return None
    name = "".join(token.value for token in tokens[2 : closing_index(tokens, 1)]).rstrip("*")
    start = closing_index(tokens, 1) + 1
    if name == "array" and start < len(tokens) and tokens[start].value == "{":
        start = closing_index(tokens, start) + 1
    ends = [index for index, token in enumerate(tokens) if token.value == "end" and token.kind == "command"]
    if len(ends) != 1 or closing_index(tokens, min(ends[0] + 1, len(tokens) - 1)) != len(tokens) - 1:
        return None
    return name, [split(row, "&") for row in split(tokens[start : ends[0]], r"\\") if row]


def system_of(tokens: Sequence[Token]) -> list[list[Sequence[Token]]] | None:
    """The rows of `\\begin{cases}` and its like, without the brace of `\\left\\{` before it; None for anything else."""
    found = environment(tokens[1:] if tokens[0].value == r"\{" else tokens)
    return found[1] if found is not None and (found[0] in _SYSTEMS or tokens[0].value == r"\{") else None


def matrix(tokens: Sequence[Token]) -> Node | None:
    """Read a LaTeX matrix environment that holds all tokens, as a matrix node. None if it is none."""
    held = environment(strip_brackets(tokens))
    if held is None or held[0] not in _MATRIX:
        return None
    found = rows_of(held[1])
    if found is None:
        return None
    return Node("matrix", tuple(node for row in found.rows for node in row), len(found.rows[0]))


def strip_brackets(tokens: Sequence[Token]) -> Sequence[Token]:
    """Remove brackets around an environment: \\left[ \\begin{array} ... \\end{array} \\right]."""
    if (
        len(tokens) > 2
        and tokens[0].value in ("(", "[")
        and tokens[1].value == "begin"
        and tokens[-1].value in (")", "]")
    ):
        return tokens[1:-1]
    return tokens


def rows_of(rows: Sequence[Sequence[Sequence[Token]]]) -> Matrix | None:
    """Parse cells; None if one isn't an expression or rows differ in length."""
    parsed: list[tuple[Node, ...]] = []
    for row in rows:
        cells = []
        for cell in row:
            try:
                cells.append(parse([token for token in cell if token.value != "hline"], True))
            except ParseError:
                return None
        parsed.append(tuple(cells))
    if not parsed or len({len(row) for row in parsed}) != 1 or not parsed[0]:
        return None
    return Matrix(tuple(parsed))


def matrix_value(node: Node) -> Matrix | None:
    """Work out sums, differences and multiples of matrices. None if the tree isn't one."""
    if node.op == "matrix" and isinstance(node.value, int):
        cells, width = node.args, node.value
        return Matrix(tuple(cells[index : index + width] for index in range(0, len(cells), width)))
    if node.op == "neg":
        inner = matrix_value(node.args[0])
        return None if inner is None else _scaled(inner, tree.MINUS_ONE)
    if node.op == "div":
        inner = matrix_value(node.args[0])
        return None if inner is None else _scaled(inner, tree.div(tree.ONE, node.args[1]))
    if node.op == "mul":
        matrices = [found for found in (matrix_value(arg) for arg in node.args) if found is not None]
        if len(matrices) != 1:
            return None
        return _scaled(matrices[0], tree.mul(*[arg for arg in node.args if matrix_value(arg) is None]))
    if node.op == "add":
        terms = [matrix_value(arg) for arg in node.args]
        first = terms[0]
        if first is None or any(
            term is None or len(term.rows) != len(first.rows) or len(term.rows[0]) != len(first.rows[0])
            for term in terms
        ):
            return None
        return Matrix(
            tuple(
                tuple(
                    tree.add(*[term.rows[row][column] for term in terms if term])
                    for column in range(len(first.rows[0]))
                )
                for row in range(len(first.rows))
            )
        )
    return None


def _scaled(inner: Matrix, factor: Node) -> Matrix:
    return Matrix(tuple(tuple(tree.mul(factor, cell) for cell in row) for row in inner.rows))


def vector_of(tokens: Sequence[Token]) -> Items | None:
    """Read `3\\mathbf{i} - 2\\mathbf{j}`, or the same with plain or hatted letters, as the tuple of its components.

    Two components unless k occurs. None if it isn't one; plain letters count only if two of them occur.
    """
    names = {token.value for token in tokens if token.kind == "name"}
    bold = names & VECTORS
    if not bold and len(names & _LETTERS) < 2:
        return None
    label = next((index for index, token in enumerate(tokens) if token.value == "="), -1)
    letters = [
        token._replace(value=f"{token.value}-vector") if not bold and token.value in _LETTERS else token
        for token in tokens[label + 1 :]
    ]
    try:
        node = parse(letters, False)
    except ParseError:
        return None
    used = free(node)
    if not used & VECTORS or any(part.op == "const" and part.value == "i" for part in tree.walk(node)):
        return None
    axes = [UNIT_VECTORS[letter] for letter in ("ijk" if UNIT_VECTORS["k"] in used else "ij")]
    components = []
    for axis in axes:
        component = node
        for other in VECTORS:
            component = tree.substitute(component, other, tree.ONE if other == axis else tree.ZERO)
        components.append(component)
    rebuilt = tree.add(*[tree.mul(part, tree.symbol(axis)) for part, axis in zip(components, axes, strict=True)])
    try:
        return Items("tuple", tuple(map(Expr, components))) if equal(node, rebuilt) else None
    except Undecided:
        return None

"""What stands in brackets: intervals, tuples, sets, set-builders, matrices, and forms that Python prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rstar_eval.grading import tree
from rstar_eval.grading.cursor import ParseError
from rstar_eval.grading.parse import parse
from rstar_eval.grading.relations import complement, intersect, position
from rstar_eval.grading.tokens import Token, spelled
from rstar_eval.grading.tree import Node, is_infinite
from rstar_eval.grading.values import Expr, Interval, Items, Labelled, Matrix, Opaque, RealSet, Value
from rstar_eval.grading.words import EMPTY, REALS

Read = Callable[[Sequence[Token]], Value]
_PAIRS = {"(": ")", "[": "]", "{": "}", r"\{": r"\}", "<": ">", "floor": "floor", "ceil": "ceil"}
_SETS = {"setR": REALS, "Reals": REALS}
_MATRIX = frozenset(["pmatrix", "bmatrix", "matrix", "array", "vmatrix", "Bmatrix", "smallmatrix"])


def split(tokens: Sequence[Token], *values: str) -> list[Sequence[Token]]:
    """Split tokens at signs, commands or joining names with one of these values, outside of all brackets."""
    parts: list[Sequence[Token]] = []
    start = depth = 0
    wanted = frozenset(values)
    environments = 0
    for index, token in enumerate(tokens):
        if token.kind == "open":
            depth += 1
        elif token.kind == "close":
            depth -= 1
        elif token.kind == "command" and token.value in ("begin", "end"):
            environments += 1 if token.value == "begin" else -1
        elif depth == 0 and environments == 0 and token.value in wanted and token.kind != "number":
            parts.append(tokens[start:index])
            start = index + 1
    parts.append(tokens[start:])
    return parts


def enclosed(tokens: Sequence[Token]) -> str:
    """Return the opening bracket if one pair of brackets holds all tokens ("(" and "]" may pair), else ""."""
    if len(tokens) < 2 or tokens[0].kind != "open" or tokens[-1].kind != "close":
        return ""
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.kind == "open") - (token.kind == "close")
        if depth == 0 and index < len(tokens) - 1:
            return ""
    if depth:
        return ""
    opening, closing = tokens[0].value, tokens[-1].value
    if _PAIRS.get(opening) == closing or (opening in "([" and closing in ")]"):
        return opening
    return ""


def bracketed(tokens: Sequence[Token], read: Read) -> Value | None:
    """Read tokens that one pair of brackets holds; None if they are no collection (a bracketed expression)."""
    opening = enclosed(tokens)
    if not opening or opening in ("floor", "ceil"):
        return None
    inner = tokens[1:-1]
    closing = tokens[-1].value
    if opening in ("{", r"\{"):
        return _braces(inner, read, opening)
    pieces = split(inner, ",", ";")
    if len(pieces) == 1:
        return _single(inner, opening, closing, read)
    if len(pieces) == 2 and all(pieces):
        low, high = (_endpoint(piece) for piece in pieces)
        if low is not None and high is not None and _in_order(low, high):
            half_open = closing != _PAIRS[opening]
            if half_open or is_infinite(low) or is_infinite(high):
                return RealSet((Interval(low, high, opening == "[", closing == "]"),))
    if closing != _PAIRS[opening]:
        return Opaque(spelled(list(tokens)))
    if opening == "[" and all(enclosed(piece) == "[" for piece in pieces) and len(pieces) > 1:
        matrix = _rows([split(piece[1:-1], ",") for piece in pieces])
        if matrix is not None:
            return matrix
    values = tuple(read(piece) for piece in pieces if piece)
    if any(isinstance(value, Items) and value.kind == "list" for value in values):
        return _spread(values)
    return Items("tuple" if opening in ("(", "<") else "bracket", values)


def _spread(values: tuple[Value, ...]) -> Value:
    """A tuple with plus-minus inside: all the tuples that it stands for."""
    rows: list[tuple[Value, ...]] = [()]
    for value in values:
        options = value.items if isinstance(value, Items) and value.kind == "list" else (value,)
        rows = [(*row, option) for row in rows for option in options][:256]
    return Items("list", tuple(Items("tuple", row) for row in rows))


def _single(inner: Sequence[Token], opening: str, closing: str, read: Read) -> Value | None:
    if closing != _PAIRS.get(opening) or not inner:
        return Items("bracket", ()) if opening == "[" and not inner else None
    if opening == "[" and inner[0].kind == "open":
        value = read(inner)
        if isinstance(value, Items | RealSet):
            return value if not isinstance(value, Items) or value.kind != "bracket" else None
    if opening == "[" and any(token.value == ":" for token in inner):
        return read(inner)
    value = read(inner)
    return None if isinstance(value, Expr) else value


def _endpoint(tokens: Sequence[Token]) -> Node | None:
    try:
        return parse(tokens, True)
    except ParseError:
        return None


def _braces(inner: Sequence[Token], read: Read, opening: str) -> Value | None:
    if not inner:
        return EMPTY
    bars = split(inner, "|", ":") if not any(token.value == "," for token in inner) or opening == r"\{" else [inner]
    if opening == "{" and any(len(split(piece, ":")) == 2 for piece in split(inner, ",")):
        return _mapping(inner, read)
    if len(bars) == 2 and all(bars) and any(token.kind == "name" for token in bars[0]):
        condition = read(bars[1])
        name = next(token.value for token in bars[0] if token.kind == "name")
        if isinstance(condition, RealSet) and condition.variable in ("", name):
            return RealSet(condition.parts)
        return Opaque(spelled(list(inner))) if isinstance(condition, RealSet) else condition
    pieces = split(inner, ",", ";")
    if opening == "{" and len(pieces) == 1:
        value = read(inner)
        return None if isinstance(value, Expr) else value
    values: list[Value] = []
    for piece in pieces:
        value = read(piece)
        values.extend(value.items if isinstance(value, Items) and value.kind == "list" else [value])
    return Items("set", tuple(values))


def _mapping(inner: Sequence[Token], read: Read) -> Value:
    """A printed dictionary {x: 2, y: 4}."""
    found: list[Value] = []
    for piece in split(inner, ","):
        key, _, *rest = (*split(piece, ":"), (), ())
        value = piece[len(key) + 1 :] if rest else piece
        found.append(Labelled(spelled(list(key)), read(value)))
    return found[0] if len(found) == 1 else Items("tuple", tuple(found))


# sets of reals


def union(tokens: Sequence[Token], read: Read) -> Value | None:
    """Read unions, intersections and differences of sets."""
    pieces = split(tokens, "cup", "U") if any(token.value in ("cup", "U") for token in tokens) else [tokens]
    if len(pieces) > 1 and all(pieces):
        if not all(piece[0].kind in ("open", "command") or piece[-1].kind == "close" for piece in pieces):
            return None
        sets = [as_set(read(piece)) for piece in pieces]
        if all(sets):
            return RealSet(tuple(part for item in sets if item for part in item.parts))
        values = [read(piece) for piece in pieces]
        if all(isinstance(value, Items) for value in values):
            return Items("set", tuple(item for value in values if isinstance(value, Items) for item in value.items))
        return None
    for sign in ("cap", "setminus", "-"):
        pieces = split(tokens, sign)
        if len(pieces) == 2 and all(pieces) and (sign != "-" or pieces[0][-1].value in ("setR",)):
            left, right = as_set(read(pieces[0])), as_set(read(pieces[1]))
            if left is None or right is None:
                return None
            other = right if sign == "cap" else complement(right)
            return None if other is None else intersect(left, other)
    return None


def as_set(value: Value) -> RealSet | None:
    """Read a value as a set of reals where it can be one: (a, b) and [a, b] as intervals, {a} as points."""
    if isinstance(value, RealSet):
        return value
    if isinstance(value, Interval):
        return RealSet((value,))
    if isinstance(value, Items):
        nodes = [item.node for item in value.items if isinstance(item, Expr) and item.unit is None]
        if len(nodes) != len(value.items):
            return None
        if value.kind in ("set", "list"):
            return RealSet(tuple(Interval(node, node, True, True) for node in nodes))
        if len(nodes) == 2 and _in_order(nodes[0], nodes[1]):
            closed = value.kind == "bracket"
            return RealSet((Interval(nodes[0], nodes[1], closed, closed),))
    return None


def _in_order(low: Node, high: Node) -> bool:
    """Whether two ends may be those of an interval: not known to be out of order."""
    one, other = position(low), position(high)
    return one is None or other is None or bool(one < other)


# matrices


def matrix(tokens: Sequence[Token]) -> Node | None:
    """Read a LaTeX matrix environment that holds all tokens, as a matrix node. None if it is none."""
    tokens = strip_brackets(tokens)
    if len(tokens) < 8 or tokens[0].value != "begin" or tokens[1].value != "{":
        return None
    name = "".join(token.value for token in tokens[2 : _close(tokens, 1)])
    if name.rstrip("*") not in _MATRIX:
        return None
    start = _close(tokens, 1) + 1
    if name == "array" and start < len(tokens) and tokens[start].value == "{":
        start = _close(tokens, start) + 1
    end = next(
        (
            index
            for index in range(start, len(tokens))
            if tokens[index].value == "end" and tokens[index].kind == "command"
        ),
        len(tokens),
    )
    if end + 3 + 1 != len(tokens) and end + 4 != len(tokens):
        return None
    rows = [split(row, "&") for row in split(tokens[start:end], r"\\") if row]
    found = _rows(rows)
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


def _close(tokens: Sequence[Token], start: int) -> int:
    depth = 0
    for index in range(start, len(tokens)):
        depth += (tokens[index].kind == "open") - (tokens[index].kind == "close")
        if depth == 0:
            return index
    return len(tokens) - 1


def _rows(rows: Sequence[Sequence[Sequence[Token]]]) -> Matrix | None:
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


# printed forms


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
        sets = [as_set(read(piece)) for piece in pieces]
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
    low, high = _endpoint(pieces[0]), _endpoint(pieces[1])
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
        return _rows([split(row[1:-1], ",") for row in rows])
    return _rows([[row] for row in rows])

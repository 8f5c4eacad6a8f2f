"""Tokens to an expression tree: a recursive-descent parser for LaTeX, plain and printed (Python, sympy) expressions.

Covers arithmetic, implied products, mixed numbers, powers, roots, factorials, binomials, absolute values, floor and
ceiling, sums and products, plus-minus, degrees, percents; names and functions are in `names`. Doesn't cover integrals,
limits, derivatives, relations, collections (see `read`).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from rstar_eval.grading import tree
from rstar_eval.grading.cursor import END, ParseError
from rstar_eval.grading.limits import LIMITS, LimitExceeded
from rstar_eval.grading.names import NameParser
from rstar_eval.grading.scan import PAIRS
from rstar_eval.grading.tokens import Token
from rstar_eval.grading.tree import Node
from rstar_eval.grading.vocabulary import FUNCTIONS


def parse(tokens: Sequence[Token], printed: bool = False) -> Node:
    """Return the tree of an expression.

    printed: the text has no LaTeX command, so that I and E are what sympy prints for i and e.

    Raises ParseError if the tokens are not one expression, LimitExceeded if they nest too deep.
    """
    if len(tokens) > LIMITS.tokens:
        raise LimitExceeded("tokens")
    parser = _Parser(tokens, printed)
    node = parser.expression()
    if parser.position != len(parser.tokens):
        raise ParseError(f"unexpected {parser.peek().value!r}")
    if len(tokens) > LIMITS.height and tree.height(node) > LIMITS.height:  # x/x/x/...: deep without a bracket
        raise LimitExceeded("nesting")
    return node


class _Parser(NameParser):
    """Arithmetic: sums, products, powers, and what LaTeX commands stand for."""

    # sums and products

    def expression(self) -> Node:
        self.deeper()
        terms = [self.signed_term()]
        while self.at("+", "-", "pm", "mp"):
            if self.at("+") and self.peek(1).value == "ldots" and self.peek(2).value == "+":
                self.position += 3
                terms = [_progression("sum", terms, self.term())]
            else:
                terms.append(self.signed_term())
        self.depth -= 1
        return tree.add(*terms)

    def signed_term(self) -> Node:
        negative = False
        plusminus = ""
        while self.at("+", "-", "pm", "mp"):
            sign = self.take().value
            if sign == "-":
                negative = not negative
            elif sign != "+":
                plusminus = sign
        node = self.term()
        if plusminus:
            node = Node(plusminus, (node,))
        return tree.neg(node) if negative else node

    def term(self) -> Node:
        node = self.factor()
        factors = [node]
        literal = self.is_integer(self.position - 1) and node.op == "num"
        while True:
            if self.at("ldots") and len(factors) > 1:
                self.take()
                if self.at("*"):
                    self.take()
                factors = [_progression("prod", factors, self.factor())]
            elif self.at("*") and self.peek(1).value == "ldots":
                self.take()
            elif self.at("*"):
                self.take()
                factors.append(self.signed_factor())
            elif self.at("/"):
                self.take()
                factors = [tree.div(tree.mul(*factors), self.signed_factor())]
            elif self.at("bmod", "mod") or (self.peek().value == "mod" and self.peek().kind == "name"):
                self.take()
                factors = [Node("fn", (tree.mul(*factors), self.signed_factor()), "mod")]
            elif self.starts_factor():
                mixed = self.mixed(factors, literal)
                if mixed:
                    factors = mixed
                else:
                    if self.peek().kind == "number" and factors[-1].op == "num" and self.after_number():
                        raise ParseError("two numbers side by side")
                    factors.append(self.factor())
            else:
                return tree.mul(*factors)
            literal = False

    def signed_factor(self) -> Node:
        negative = False
        while self.at("-", "+"):
            negative ^= self.take().value == "-"
        node = self.factor()
        return tree.neg(node) if negative else node

    def starts_factor(self) -> bool:
        token = self.peek()
        if token.kind in ("number", "name"):
            return True
        if token.kind == "open":
            return token.value not in (r"\{", "<")
        if token.kind == "command":
            return token.value in FUNCTIONS or (token.value in (
                "frac", "sqrt", "cbrt", "binom", "infty", "sum", "prod", "max", "min", "gcd", "lcm", "det", "emptyset",
            ) and token.value != "emptyset")  # fmt: skip
        return token.value == "|" and not self.bars

    def after_number(self) -> bool:
        """Whether the token before is a number: two side by side are no product."""
        return self.tokens[self.position - 1].kind == "number"

    def is_integer(self, index: int) -> bool:
        token = self.tokens[index] if 0 <= index < len(self.tokens) else END
        return token.kind == "number" and token.value.isdecimal()

    def mixed(self, factors: list[Node], literal: bool) -> list[Node]:
        """Read `3\\frac{3}{8}` or `3 3/8` as 3 + 3/8, `3\\frac{x}{8}` as a product; nothing if neither stands here."""
        if not literal or len(factors) != 1:
            return []
        start = self.position
        if self.at("frac"):
            fraction = self.factor()
        elif self.is_integer(start) and self.peek(1).value == "/" and self.is_integer(start + 2) and self.peek().spaced:
            fraction = tree.div(self.numeral(self.peek()), self.numeral(self.peek(2)))
            self.position += 3
        else:
            return []
        if fraction.op == "div":
            top, bottom = (arg.value for arg in fraction.args)
            if (
                isinstance(top, Fraction)
                and isinstance(bottom, Fraction)
                and 0 <= top < bottom
                and self.peek().value != "^"
            ):
                return [tree.add(factors[0], fraction)]
        if self.tokens[start].value == "frac":
            return [*factors, fraction]  # read once: reading it again would double the time with every level
        self.position = start
        return []

    # powers and postfixes

    def factor(self) -> Node:
        self.deeper()
        node = self.postfix(self.atom())
        self.depth -= 1
        return node

    def postfix(self, node: Node) -> Node:
        while True:
            if self.at("^"):
                self.take()
                if self.at("'"):
                    self.take()
                    node = self.primed(node, 1)
                else:
                    node = Node("pow", (node, self.exponent()))
            elif self.at("!"):
                count = 0
                while self.at("!"):
                    self.take()
                    count += 1
                if count > 2:
                    raise ParseError("repeated factorial")
                node = Node("fn", (node,), "factorial" if count == 1 else "factorial2")
            elif self.at("degree"):
                self.take()
                node = Node("deg", (node,))
            elif self.at("%"):
                self.take()
                node = Node("pct", (node,))
            elif self.at("'"):
                self.take()
                node = self.primed(node, 1)
            elif self.at("_"):
                raise ParseError("subscript of an expression")
            else:
                return node

    def exponent(self) -> Node:
        self.deeper()
        negative = False
        while self.at("-", "+"):
            negative ^= self.take().value == "-"
        node = self.atom()
        if self.at("^"):
            self.take()
            node = Node("pow", (node, self.exponent()))
        elif self.at("!"):
            self.take()
            node = Node("fn", (node,), "factorial")
        self.depth -= 1
        return tree.neg(node) if negative else node

    # atoms

    def atom(self) -> Node:
        token = self.take()
        if token.kind == "number":
            return self.numeral(token)
        if token.kind == "name":
            return self.named(token)
        if token.kind == "open" and token.value not in (r"\{", "<"):
            return self.bracket(token.value)
        if token.kind == "command":
            return self.command(token.value)
        if token.value == "|":
            self.bars += 1
            node = self.expression()
            self.bars -= 1
            self.expect("|")
            return Node("fn", (node,), "abs")
        raise ParseError(f"unexpected {token.value!r}")

    def bracket(self, opening: str) -> Node:
        bars, self.bars = self.bars, 0
        node = self.expression()
        self.bars = bars
        token = self.take()
        if token.kind != "close" or token.value != PAIRS[opening]:
            raise ParseError(f"expected the end of {opening!r}, found {token.value!r}")
        if opening == "floor":
            return Node("fn", (node,), "floor")
        return Node("fn", (node,), "ceiling") if opening == "ceil" else node

    def command(self, name: str) -> Node:
        if name == "frac":
            top = self.group()
            return tree.div(top, self.group())
        if name in ("sqrt", "cbrt"):
            return self.root(name)
        if name == "binom":
            top = self.group()
            return Node("fn", (top, self.group()), "binomial")
        if name == "infty":
            return tree.INFINITY
        if name in ("sum", "prod"):
            return self.series(name)
        if name in FUNCTIONS:
            return self.function(FUNCTIONS[name])
        raise ParseError(f"\\{name} is not part of an expression")

    def root(self, name: str) -> Node:
        index = tree.number(3) if name == "cbrt" else tree.number(2)
        if self.at("["):
            self.take()
            index = index if self.at("]") else self.expression()
            self.expect("]")
        if self.peek().kind == "number":
            return Node("root", (self.numeral(self.take()), index))
        return Node("root", (self.group(), index))

    def series(self, name: str) -> Node:
        self.expect("_")
        self.expect("{")
        variable = self.take()
        if variable.kind != "name" or len(variable.value) > 1:
            raise ParseError("a sum without a variable")
        self.expect("=")
        first = self.expression()
        self.expect("}")
        self.expect("^")
        last = self.exponent()
        self.bound.append(variable.value)
        body = self.term()
        self.bound.pop()
        return Node("series", (tree.symbol(variable.value), first, last, body), name)


def _progression(kind: str, first: Sequence[Node], last: Node) -> Node:
    """The series of `1 + 2 + ... + n` or `1 * 3 * 5 ... (2n-1)`: terms in arithmetic progression.

    ParseError for any other, or if the last term doesn't fit.
    """
    values = [node.value for node in first if isinstance(node.value, Fraction)]
    steps = {after - before for before, after in pairwise(values)}
    if len(values) != len(first) or len(steps) != 1 or 0 in steps:
        raise ParseError("terms that are no arithmetic progression")
    start, step = tree.number(values[0]), tree.number(steps.pop())
    count = tree.add(tree.div(tree.sub(last, start), step), tree.ONE)
    index = tree.symbol("\x1fk")
    body = tree.add(start, tree.mul(step, tree.sub(index, tree.ONE)))
    return Node("series", (index, tree.ONE, count, body), kind)

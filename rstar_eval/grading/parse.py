"""Tokens to an expression tree: a recursive-descent parser for LaTeX, plain and printed (Python, sympy) expressions.

Covers arithmetic, implied products, mixed numbers, powers, roots, named functions with and without brackets,
factorials,
binomials, absolute values, floor and ceiling, finite sums and products, plus-minus, degrees, percents, subscripts.
Doesn't
cover integrals, limits, derivatives, case distinctions, relations, collections (see `read`).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from rstar_eval.grading import tree
from rstar_eval.grading.cursor import END, Cursor, ParseError
from rstar_eval.grading.limits import LIMITS, LimitExceeded
from rstar_eval.grading.numerals import numeral_value
from rstar_eval.grading.tokens import Token
from rstar_eval.grading.tree import Node
from rstar_eval.grading.vocabulary import CONSTANTS, FUNCTIONS, GREEK, MANY_ARGUMENTS, TRANSPARENT

_CLOSE = {"(": ")", "[": "]", "{": "}", "floor": "floor", "ceil": "ceil", r"\{": r"\}"}
_SHORT_FUNCTIONS = tuple(
    sorted(
        (
            name
            for name in FUNCTIONS
            if name
            in {
                "sin",
                "cos",
                "tan",
                "cot",
                "sec",
                "csc",
                "ln",
                "log",
                "lg",
                "sqrt",
                "exp",
                "arcsin",
                "arccos",
                "arctan",
                "sinh",
                "cosh",
                "tanh",
            }
        ),
        key=len,
        reverse=True,
    )
)
_LONGEST_PRODUCT = 4
_OPAQUE = frozenset("fgFG")


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
    return node


class _Parser(Cursor):
    """The state of one parse: tokens, place, depth, the names bound by sums."""

    def __init__(self, tokens: Sequence[Token], printed: bool) -> None:
        super().__init__(tokens)
        self.printed = printed
        self.bound: list[str] = []
        self.bars = 0
        values = {token.value for token in self.tokens}
        self.used = {token.value for token in self.tokens if token.kind == "name"}
        self.numbered = printed and ("*" in values or "^" not in values)

    # sums and products

    def expression(self) -> Node:
        self.deeper()
        terms = [self.signed_term()]
        while self.at("+", "-", "pm", "mp"):
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
            if self.at("*"):
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
                if mixed is not None:
                    factors = [mixed]
                else:
                    if self.peek().kind == "number" and self.tokens[self.position - 1].kind == "number":
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
            return token.value != r"\{"
        if token.kind == "command":
            return token.value in FUNCTIONS or (token.value in (
                "frac", "sqrt", "cbrt", "binom", "infty", "sum", "prod", "max", "min", "gcd", "lcm", "det", "emptyset",
            ) and token.value != "emptyset")  # fmt: skip
        return token.value == "|" and not self.bars

    def is_integer(self, index: int) -> bool:
        token = self.tokens[index] if 0 <= index < len(self.tokens) else END
        return token.kind == "number" and token.value.isdigit()

    def mixed(self, factors: list[Node], literal: bool) -> Node | None:
        """Read `3\\frac{3}{8}` or `3 3/8` as 3 + 3/8, if that is what stands here."""
        if not literal or len(factors) != 1:
            return None
        start = self.position
        fraction: Node | None = None
        if self.at("frac"):
            fraction = self.factor()
        elif self.is_integer(start) and self.peek(1).value == "/" and self.is_integer(start + 2) and self.peek().spaced:
            fraction = tree.div(tree.number(int(self.peek().value)), tree.number(int(self.peek(2).value)))
            self.position += 3
        if fraction is not None and fraction.op == "div":
            top, bottom = (arg.value for arg in fraction.args)
            if (
                isinstance(top, Fraction)
                and isinstance(bottom, Fraction)
                and 0 <= top < bottom
                and self.peek().value != "^"
            ):
                return tree.add(factors[0], fraction)
        self.position = start
        return None

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

    def primed(self, node: Node, count: int) -> Node:
        if node.op != "sym":
            raise ParseError("prime of an expression")
        return tree.symbol(f"{node.value}'" * count)

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
        if token.kind == "open" and token.value != r"\{":
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

    def numeral(self, token: Token) -> Node:
        return tree.number(numeral_value(token.value))

    def bracket(self, opening: str) -> Node:
        bars, self.bars = self.bars, 0
        node = self.expression()
        self.bars = bars
        token = self.take()
        if token.kind != "close" or token.value != _CLOSE[opening]:
            raise ParseError(f"expected the end of {opening!r}, found {token.value!r}")
        if opening == "floor":
            return Node("fn", (node,), "floor")
        return Node("fn", (node,), "ceiling") if opening == "ceil" else node

    def group(self) -> Node:
        """The argument of a LaTeX command: a {group}, one digit, or one atom."""
        token = self.peek()
        if token.kind == "number" and len(token.value) > 1:
            digit, rest = token.value[0], token.value[1:]
            if not digit.isdigit():
                raise ParseError("an argument without digits")
            self.tokens[self.position] = Token("number", rest)
            return tree.number(int(digit))
        if token.kind == "name" and len(token.value) > 1 and token.value not in GREEK and token.value != "pi":
            self.tokens[self.position] = Token("name", token.value[1:])
            return self.letter(token.value[0])
        return self.atom()

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
            index = self.expression()
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

    def function(self, name: str) -> Node:
        """A function, its optional power and base, and its argument with or without brackets."""
        power: Node | None = None
        base: Node | None = None
        while self.at("^", "_"):
            if self.take().value == "^":
                power = self.exponent()
            else:
                base = self.group() if self.peek().kind != "number" else self.numeral(self.take())
        if power == tree.MINUS_ONE and name in ("sin", "cos", "tan", "cot", "sec", "csc"):
            name, power = f"arc{name}", None
        argument, extra = self.argument()
        if name == "log" and base is None and extra is not None:
            base = extra
        elif extra is not None:
            raise ParseError(f"two arguments of {name}")
        if base is not None:
            if name != "log":
                raise ParseError(f"{name} with a base")
            node = Node("fn", (argument, base), "logbase")
        else:
            node = Node("fn", (argument,), name)
        return node if power is None else Node("pow", (node, power))

    def argument(self) -> tuple[Node, Node | None]:
        if self.at("("):
            arguments = self.arguments()
            if len(arguments) > 2:
                raise ParseError("too many arguments")
            return arguments[0], arguments[1] if len(arguments) == 2 else None
        if self.at("{", "[", "|"):
            return self.factor(), None
        negative = self.at("-") and bool(self.take())
        factors = [self.factor()]
        while self.starts_factor() and not self.starts_function() and not (self.at("(") and factors[-1].op != "num"):
            factors.append(self.factor())
        node = tree.mul(*factors)
        return (tree.neg(node) if negative else node), None

    def starts_function(self) -> bool:
        token = self.peek()
        return token.value in FUNCTIONS and token.value not in ("sqrt", "cbrt") and token.kind in ("name", "command")

    def arguments(self) -> list[Node]:
        self.expect("(")
        bars, self.bars = self.bars, 0
        found = [self.expression()]
        while self.at(","):
            self.take()
            found.append(self.expression())
        self.expect(")")
        self.bars = bars
        return found

    # names

    def named(self, token: Token) -> Node:
        name = token.value
        if name == "log" and self.at("_"):
            return self.function(name)
        if self.at("_"):
            return self.subscripted(name)
        if len(name) == 1:
            return self.letter(name)
        if name in CONSTANTS:
            return tree.PI if name == "pi" else tree.NAN if name == "nan" else tree.INFINITY
        if name in GREEK:
            return tree.symbol(name)
        if name in FUNCTIONS and (self.starts_factor() or self.at("^", "_")):
            return self.root_call() if name in ("sqrt", "cbrt") and not self.at("(") else self.function(FUNCTIONS[name])
        if name in MANY_ARGUMENTS and self.at("("):
            return self.many(MANY_ARGUMENTS[name])
        if name in TRANSPARENT and self.at("("):
            return self.arguments()[0]
        for prefix in _SHORT_FUNCTIONS:
            if name.startswith(prefix) and len(name) == len(prefix) + 1:
                return Node("fn", (self.letter(name[-1]),), FUNCTIONS[prefix])
        return self.letters(name)

    def root_call(self) -> Node:
        return Node("root", (self.factor(), tree.number(2)))

    def letters(self, name: str) -> Node:
        """A run of letters as a product, if it is short enough not to be a word."""
        if len(name) > _LONGEST_PRODUCT:
            raise ParseError(f"the word {name!r}")
        for index in range(len(name) - 1):
            if name[index:] in ("pi", "sin", "cos", "tan", "ln", "log"):
                rest = [Token("name", char) for char in name[:index]] + [Token("name", name[index:])]
                self.tokens[self.position - 1 : self.position] = rest
                self.position -= 1
                return self.letter(self.take().value)
        # The last letter may carry the power or subscript that follows.
        self.tokens[self.position - 1 : self.position] = [Token("name", char) for char in name]
        self.position -= 1
        return self.letter(self.take().value)

    def letter(self, name: str) -> Node:
        if name in self.bound:
            return tree.symbol(name)
        if name == "e":
            return tree.EULER
        if name == "i" or (name == "I" and self.printed):
            return tree.IMAGINARY
        if name == "j" and self.printed and self.used == {"j"}:  # Python's imaginary unit
            return tree.IMAGINARY
        if name == "E" and self.printed and len(self.tokens) > 1:
            return tree.EULER
        if name in _OPAQUE and self.at("(") and not self.peek().spaced:
            return Node("call", tuple(self.arguments()), name)
        token = self.peek()
        if token.kind == "number" and not token.spaced and token.value.isdigit() and self.numbered:
            self.take()
            return tree.symbol(f"{name}_{token.value}")
        return tree.symbol(name)

    def subscripted(self, name: str) -> Node:
        """A name with a subscript is one variable; the subscript's spelling is part of its name."""
        self.take()
        prefix = name[:-1] if len(name) > 1 and name not in GREEK else ""
        if prefix:
            raise ParseError("a subscript after several letters")
        parts = []
        if self.at("{"):
            level = 0
            while True:
                token = self.take()
                if token.kind == "end":
                    raise ParseError("an open subscript")
                level += (token.value == "{") - (token.value == "}")
                if level == 0:
                    break
                if token.value != "{":
                    parts.append(token.value)
        else:
            parts.append(self.take().value)
        return tree.symbol(f"{name}_{''.join(parts)}")

    def many(self, name: str) -> Node:
        arguments = self.arguments()
        if name == "divide":
            return tree.div(arguments[0], arguments[1]) if len(arguments) == 2 else arguments[0]
        if name in ("power", "root"):
            if len(arguments) != 2:
                raise ParseError(f"{name} of {len(arguments)} arguments")
            return Node("pow" if name == "power" else "root", tuple(arguments))
        if name == "sum":
            return tree.add(*arguments)
        return tree.mul(*arguments) if name == "product" else Node("fn", tuple(arguments), name)

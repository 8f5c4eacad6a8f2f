"""What letters, names and words stand for in an expression: functions, constants, variables, products of letters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from rstar_eval.grading import tree
from rstar_eval.grading.cursor import Cursor, ParseError
from rstar_eval.grading.numerals import numeral_value
from rstar_eval.grading.scan import PAIRS
from rstar_eval.grading.tokens import UNIT_VECTORS, Token
from rstar_eval.grading.tree import Node, symbols
from rstar_eval.grading.vocabulary import CONSTANTS, FUNCTIONS, GREEK, MANY_ARGUMENTS, TRANSPARENT, words

_SHORT_FUNCTIONS = tuple(
    sorted(
        words("sin cos tan cot sec csc ln log lg sqrt exp arcsin arccos arctan sinh cosh tanh"), key=len, reverse=True
    )
)
_LONGEST_PRODUCT = 4
_TWO_ARGUMENTS = frozenset(["power", "root", "binomial", "permutations", "mod", "atan2"])
_OPAQUE = frozenset("fgFG")
VECTORS = frozenset(UNIT_VECTORS.values())


class NameParser(Cursor, ABC):
    """The state of one parse (the names bound by sums, the bars that are open) and the reading of names.

    `printed`: the text has no LaTeX command, so that I and E are what sympy prints for i and e.
    """

    def __init__(self, tokens: Sequence[Token], printed: bool) -> None:
        super().__init__(tokens)
        self.printed = printed
        self.bound: list[str] = []
        self.bars = 0
        values = {token.value for token in self.tokens}
        self.used = {token.value for token in self.tokens if token.kind == "name"}
        self.numbered = printed and ("*" in values or "^" not in values)

    @abstractmethod
    def expression(self) -> Node:
        """Read a sum."""

    @abstractmethod
    def factor(self) -> Node:
        """Read an atom with the powers and signs after it."""

    @abstractmethod
    def atom(self) -> Node:
        """Read a number, a name, a bracket or a command."""

    @abstractmethod
    def exponent(self) -> Node:
        """Read what stands after ^."""

    @abstractmethod
    def starts_factor(self) -> bool:
        """Whether a factor can begin here without a sign."""

    def numeral(self, token: Token) -> Node:
        """The exact value of a number as written."""
        return tree.number(numeral_value(token.value))

    def group(self) -> Node:
        """The argument of a LaTeX command: a {group}, one digit, or one atom."""
        token = self.peek()
        if token.kind == "number" and len(token.value) > 1:
            digit, rest = token.value[0], token.value[1:]
            if not digit.isdecimal():
                raise ParseError("an argument without digits")
            self.tokens[self.position] = Token("number", rest)
            return tree.number(int(digit))
        if token.kind == "name" and len(token.value) > 1 and token.value not in GREEK and token.value != "pi":
            self.tokens[self.position] = Token("name", token.value[1:])
            return self.letter(token.value[0])
        self.deeper()
        node = self.atom()
        self.depth -= 1
        return node

    # functions

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
        """The argument of a function, with or without brackets, and a second one in the same brackets."""
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
            if self.peek().spaced == "~" and any(symbols(factor) for factor in factors):
                break  # a thin space after a variable ends the argument
            factors.append(self.factor())
        node = tree.mul(*factors)
        return (tree.neg(node) if negative else node), None

    def starts_function(self) -> bool:
        """Whether the name of a function is next: it ends the argument of the one before."""
        token = self.peek()
        return token.value in FUNCTIONS and token.value not in ("sqrt", "cbrt") and token.kind in ("name", "command")

    def arguments(self) -> list[Node]:
        """Expressions in brackets, set apart by commas. The opening bracket is next."""
        closing = PAIRS[self.take().value]
        bars, self.bars = self.bars, 0
        found = [self.expression()]
        while self.at(","):
            self.take()
            found.append(self.expression())
        self.expect(closing)
        self.bars = bars
        return found

    # names

    def primed(self, node: Node, count: int) -> Node:
        """A variable with primes is another variable."""
        if node.op != "sym":
            raise ParseError("prime of an expression")
        return tree.symbol(f"{node.value}'" * count)

    def named(self, token: Token) -> Node:
        """What a name means: constant, function, variable, or a product of letters."""
        name = token.value
        if name == "log" and self.at("_"):
            return self.function(name)
        if self.at("_"):
            return self.subscripted(name) if len(name) == 1 or name in GREEK else self.letters(name)
        if len(name) == 1:
            return self.letter(name)
        if name in VECTORS:
            return tree.symbol(name)
        if name in ("Gamma", "gamma") and self.at("(") and (name == "Gamma" or self.printed):
            return Node("fn", (self.arguments()[0],), "gamma")
        if name in CONSTANTS:
            return tree.PI if name == "pi" else tree.NAN if name == "nan" else tree.INFINITY
        if name in GREEK:
            return tree.symbol(name)
        if name in FUNCTIONS and (self.starts_factor() or self.at("^", "_")):
            return self.root_call() if name in ("sqrt", "cbrt") and not self.at("(") else self.function(FUNCTIONS[name])
        if name in MANY_ARGUMENTS and self.at("(", r"\{"):
            return self.many(MANY_ARGUMENTS[name])
        if name in TRANSPARENT and self.at("("):
            return self.arguments()[0]
        for prefix in _SHORT_FUNCTIONS:
            if name.startswith(prefix) and len(name) == len(prefix) + 1:
                return Node("fn", (self.letter(name[-1]),), FUNCTIONS[prefix])
        return self.letters(name)

    def root_call(self) -> Node:
        """The root of the factor that follows without brackets."""
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
        """One letter: a constant, an unknown function of what follows in brackets, or a variable."""
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
        if token.kind == "number" and not token.spaced and token.value.isdecimal() and self.numbered:
            self.take()
            return tree.symbol(f"{name}_{token.value}")
        return tree.symbol(name)

    def subscripted(self, name: str) -> Node:
        """A name with a subscript is one variable; the subscript's spelling is part of its name."""
        self.take()
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
        """A printed function of several arguments."""
        arguments = self.arguments()
        if name == "divide":
            return tree.div(arguments[0], arguments[1]) if len(arguments) == 2 else arguments[0]
        if name in _TWO_ARGUMENTS and len(arguments) != 2:
            raise ParseError(f"{name} of {len(arguments)} arguments")
        if name in ("power", "root"):
            return Node("pow" if name == "power" else "root", tuple(arguments))
        if name == "sum":
            return tree.add(*arguments)
        if name == "complex":
            return tree.add(arguments[0], tree.mul(tree.IMAGINARY, *arguments[1:])) if arguments[1:] else arguments[0]
        return tree.mul(*arguments) if name == "product" else Node("fn", tuple(arguments), name)

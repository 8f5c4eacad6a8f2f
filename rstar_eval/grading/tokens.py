"""Tokens of the answer language. One pass, linear, nothing is evaluated."""

from __future__ import annotations

import re
from typing import NamedTuple

from rstar_eval.grading.latex import matching_brace
from rstar_eval.grading.vocabulary import COMMANDS, GLUED, NAMED, TEXT_COMMANDS, WRAPPERS


class Token(NamedTuple):
    """`kind` is number, name (letters: a variable, function or word), command (LaTeX, without backslash), open, close,
    or sign. `spaced`: "" if it touches its left neighbour, " " after a space, "~" after a thin space. `text`: it stood
    inside \\text{} or \\mathrm{}."""

    kind: str
    value: str
    spaced: str = ""
    text: bool = False


_PATTERN = re.compile(
    r"""(?P<space>[ ~\t\n]+)
    |(?P<number>(?:\d+(?:\.\d*\\overline\s*\{\d+\}|\.\d+|\.(?![\d.]))?|\.\d*\\overline\s*\{\d+\}|\.\d+)(?:[eE][+-]?\d+(?![\dA-Za-z.]))?)
    |(?P<name>Point[23]D|(?:log1?[02]|atan2|float64|float32|int64|int32|real_root)(?=\()|[A-Za-z]+)
    |\\(?P<command>[A-Za-z]+)
    |(?P<escaped>\\[^A-Za-z])
    |(?P<sign>\*\*|<=|>=|!=|==|=<|=>|->|:=|\.\.\.|&&|\|\||[^\s])""",
    re.VERBOSE,
)
_ESCAPED = {
    r"\{": ("open", r"\{"), r"\}": ("close", r"\}"), r"\%": ("sign", "%"), r"\$": ("sign", "$"), r"\|": ("sign", "|"),
    r"\&": ("sign", "&"), r"\#": ("sign", "#"), r"\_": ("sign", "_"), r"\\": ("sign", r"\\"), r"\.": ("sign", "."),
}  # fmt: skip
_SIGN = {"**": "^", "=<": "<=", "=>": ">=", "==": "=", ":=": "=", "&&": "&", "||": "|"}
_SIGN_COMMANDS = {
    "le": "<=", "leq": "<=", "leqslant": "<=", "leqq": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=", "geqq": ">=",
    "lt": "<",
    "gt": ">", "ne": "!=", "neq": "!=", "times": "*", "cdot": "*", "ast": "*", "div": "/", "colon": ":", "mid": "|",
    "lvert": "|", "rvert": "|", "vert": "|", "lVert": "|", "rVert": "|", "Vert": "|", "backslash": "setminus",
    "land": "&", "wedge": "&",
    "lor": "or", "vee": "or", "prime": "'", "lbrack": "[", "rbrack": "]", "simeq": "approx", "cong": "approx",
    "doteq": "=",
    "lparen": "(", "rparen": ")", "percent": "%", "bullet": "*", "star": "*",
}  # fmt: skip
_SAME = {
    "infin": "infty", "varnothing": "emptyset", "oslash": "emptyset", "O": "emptyset", "varphi": "phi", "varepsilon":
    "epsilon",
    "vartheta": "theta", "isin": "in", "bigcup": "bigcup", "union": "cup", "dots": "ldots", "cdots": "ldots",
    "textdegree": "degree",
    "tg": "tan", "ctg": "cot", "cosec": "csc", "arctg": "arctan", "dbinom": "binom", "tbinom": "binom", "choose":
    "choose",
    "implies": "to", "Rightarrow": "to", "rightarrow": "to", "Leftrightarrow": "iff",
}  # fmt: skip
_BASIS = {"i": "i", "j": "j", "k": "k", r"\imath": "i", r"\jmath": "j"}
_BOLD = frozenset(["mathbf", "bm", "boldsymbol", "pmb", "vec", "hat", "overrightarrow", "widehat"])
_INNER_BOLD = re.compile(r"\\(?:mathbf|bm|boldsymbol|pmb)\s*\{\s*(\\?[a-z]+)\s*\}")
_BARE = re.compile(r"[ijk](?![A-Za-z])|\\[ij]math(?![A-Za-z])")
UNIT_VECTORS = {"i": "i-vector", "j": "j-vector", "k": "k-vector"}
_BRACKETS = {"lbrace": r"\{", "lfloor": "floor", "lceil": "ceil", "langle": "<"}
_CLOSERS = {"rbrace": r"\}", "rfloor": "floor", "rceil": "ceil", "rangle": ">"}


def tokenise(text: str, in_text: bool = False) -> list[Token]:
    """Split a string normal form into tokens. Glued commands are separated: `\\lnx` gives `\\ln`, `x`."""
    tokens: list[Token] = []
    spaced = ""
    position = 0
    scan = _PATTERN.match
    while match := scan(text, position):
        kind, value, position = str(match.lastgroup), match[0], match.end()
        if kind == "space":
            spaced = "~" if "~" in value else " "
            continue
        if kind == "command":
            value = match["command"]
            if value in TEXT_COMMANDS or value in WRAPPERS:
                position = _group(tokens, text, position, value, spaced)
            else:
                _command(tokens, value, spaced, in_text)
        elif kind == "escaped":
            kind, value = _ESCAPED.get(value, ("sign", value[1:]))
            tokens.append(Token(kind, value, spaced, in_text))
        elif kind == "sign":
            value = _SIGN.get(value, value)
            kind = "open" if value in "([{" else "close" if value in ")]}" else "sign"
            tokens.append(Token(kind, value, spaced, in_text))
        else:
            tokens.append(Token(kind, value, spaced, in_text))
        spaced = ""
    return tokens


def _group(tokens: list[Token], text: str, position: int, command: str, spaced: str) -> int:
    """Append what a \\text{} or \\mathbf{} group holds; return the position after it."""
    while position < len(text) and text[position] in " ~":
        position += 1
    if position >= len(text) or text[position] != "{":
        bare = _BARE.match(text, position) if command in _BOLD else None
        if bare is None:
            return position
        tokens.append(Token("name", UNIT_VECTORS[_BASIS[bare[0]]], spaced))
        return bare.end()
    end = matching_brace(text, position)
    inner = text[position + 1 : end]
    if command in _BOLD:
        letter = _BASIS.get(_INNER_BOLD.sub(r"\1", inner).strip())
        if letter:
            tokens.append(Token("name", UNIT_VECTORS[letter], spaced))
            return end + 1
    as_text = command in TEXT_COMMANDS
    if command == "mathbb":
        tokens.append(Token("command", f"set{inner.strip()}", spaced))
    elif command in ("hat", "bar", "tilde", "widehat", "dot") and len(inner.strip()) == 1:
        tokens.append(Token("name", f"{inner.strip()}", spaced))
        tokens.append(Token("sign", "_"))
        tokens.append(Token("name", command))
    else:
        held = tokenise(inner.replace("$", "") if "\\$" not in inner else inner, as_text)
        if held:
            edge = "~" if inner[:1] == "~" else " " if inner[:1] == " " else spaced
            held[0] = held[0]._replace(spaced=edge or held[0].spaced)
            tokens.extend(held)
    return end + 1


def _command(tokens: list[Token], name: str, spaced: str, in_text: bool) -> None:
    """Append a command, splitting the letters that lost their space: the longest known command is the command."""
    if name not in COMMANDS:
        for length in range(len(name) - 1, 1, -1):
            if name[:length] in GLUED:
                _command(tokens, name[:length], spaced, in_text)
                tokens.append(Token("name", name[length:]))
                return
    name = _SAME.get(name, name)
    if name in _SIGN_COMMANDS:
        value = _SIGN_COMMANDS[name]
        kind = "open" if value in ("(", "[") else "close" if value in (")", "]") else "sign"
        tokens.append(Token(kind, value, spaced, in_text))
    elif name in _BRACKETS:
        tokens.append(Token("open", _BRACKETS[name], spaced, in_text))
    elif name in _CLOSERS:
        tokens.append(Token("close", _CLOSERS[name], spaced, in_text))
    elif name in NAMED:
        tokens.append(Token("name", name, spaced, in_text))
    else:
        tokens.append(Token("command", name, spaced, in_text))


def spelled(tokens: list[Token] | tuple[Token, ...]) -> str:
    """Write tokens without spaces and without braces around one token: texts that differ in these only give the same
    string."""
    values = [token.value for token in tokens]
    if "{" not in values:
        return "\x1f".join(values)
    kept = []
    for index, value in enumerate(values):
        if (value == "{" and values[index + 2 : index + 3] == ["}"]) or (
            value == "}" and index > 1 and values[index - 2] == "{"
        ):
            continue
        kept.append(value)
    return "\x1f".join(kept)

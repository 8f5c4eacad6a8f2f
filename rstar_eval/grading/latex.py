"""The string normal form: one spelling for what LaTeX writes in many ways, before any reading."""

from __future__ import annotations

import re

from rstar_eval.grading.characters import clean
from rstar_eval.grading.limits import check, collapse_brackets

_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\[", r"\]"), (r"\(", r"\)"), ("```", "```"), ("`", "`"), ("**", "**"))
_BOX = re.compile(r"\\(?:f?boxed|fbox)\s*\{")
_SIZES = re.compile(r"\\(?:left|right|[bB]igg?[lrm]?|middle)(?![A-Za-z])\s*(\.(?![\d]))?")
_STYLES = re.compile(
    r"\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|rm|bf|it|nonumber|notag|centering|large|Large)(?![A-Za-z])"
)
_FRACTION = re.compile(r"\\[dtc]frac(?![a-z])")
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|\s*,\s*\\!\s*|\\,\s*|\\!\s*,\s*|\\ )(?=\d{3}(?!\d))")
_THIN = re.compile(
    r"(?<!\\)\\[,;:> ]|~|\\(?:q?quad|(?:enspace|thinspace|medspace|thickspace)(?![a-z]))|\\!|\\hspace\*?\{[^{}]*\}"
)
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z{}(\[%$ ])")
_CIRCLE = re.compile(
    r"(?:\^\s*|(?<!\s)\s+)?(?:\{\s*(?:\\circ|\\degree)\s*\}|\\circ(?![a-z])|\\degree(?![a-z]))|\\degree(?![a-z])"
)
_LETTER_O = re.compile(r"(?<=\d)\s*\^\s*(?:\{\s*(?:\\(?:text|mathrm)\s*\{\s*)?o\s*\}(?:\s*\})?|o(?![A-Za-z]))")
_LOST_DOLLAR = re.compile(r"(?<!\\)\\(?=\d)")
_ROW_SPACE = re.compile(r"(\\\\)\s*\[-?[\d.]+ ?(?:ex|em|pt|mm|cm|in)\]")
_REPEATING = re.compile(r"(?<=\d)(\.\d*)(?:\\(?:bar|dot|overline)\s*(?:\{\s*(\d+)\s*\}|(\d))|\((\d+)\)(?!\s*[\^(]))")
_NOT_EQUAL = re.compile(r"\\not\s*=")
_SPACE = re.compile(r"[ \t\r\n]+")
_TEXTUAL = re.compile(r"\\(?:begin|text|mbox|frac)")
_MARKED = re.compile(r"[\\$*`~]|\{,\}")
_DOLLARS = re.compile(r"(?<![\w\\])\$(?=\S)([^$]*?)(?<=[^\s\\])\$(?!\w)")
_INLINE = re.compile(r"(?<!\\)\\\(((?:(?!\\\().)*?)(?<!\\)\\\)")
_OVER = re.compile(r"\{([^{}]*)\\(over|choose)(?![a-z])([^{}]*)\}")
_CHOOSE = re.compile(
    r"(?:\{\})?[\^_]\s*\{?(\d+|[a-z])\}?\s*C_\s*\{?(\d+|[a-z])\}?(?![\d\w])|(?<![A-Za-z\\])C_\{?(\d+)\}?\^\{?(\d+)\}?(?!\d)"
)
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_READ_AT_MOST = 1_000_000
THIN_SPACE = "~"


def normal_form(text: str) -> str:
    """Map a raw answer to its string normal form.

    Removes math delimiters, \\boxed, sizes and styles, joins thousands that are set with {,} or ,\\!, writes every thin
    space as "~" (a reader needs to know where an author set one: before units) and every degree sign as \\degree, and
    removes one full stop at the end.

    Raises LimitExceeded if the text is over a cap.

    >>> normal_form("\\\\boxed{\\\\dfrac{1}{2}}")
    '\\\\frac{1}{2}'
    """
    text = clean(text[:_READ_AT_MOST]).strip()
    text = collapse_brackets(text) if len(text) > 60 else text
    check(text)
    text = _LETTER_O.sub(r"\\degree ", text) if "^" in text else text
    if "C_" in text:
        text = _CHOOSE.sub(lambda match: rf"\binom{{{match[1] or match[3]}}}{{{match[2] or match[4]}}}", text)
    text = _REPEATING.sub(lambda match: f"{match[1]}\\overline{{{match[2] or match[3] or match[4]}}}", text)
    if not _MARKED.search(text):
        return _end(_SPACE.sub(" ", text))
    if r"\begin" not in text and r"\\" in text:
        text = _DOUBLED.sub(r"\\", text)
    text = unwrap(text)
    if text.count("$") > 1:
        text = _DOLLARS.sub(r" \1 ", text)
    if "\\(" in text:
        text = _INLINE.sub(r" \1 ", text)
    if "\\" in text or "~" in text or "{,}" in text:
        text = _SIZES.sub("", _STYLES.sub("", text))
        text = _FRACTION.sub(r"\\frac", text)
        text = _NOT_EQUAL.sub(r"\\ne ", text)
        text = _ROW_SPACE.sub(r"\1", _LOST_DOLLAR.sub(r"\\$", text))
        text = _THOUSANDS.sub("", text)
        text = _CIRCLE.sub(r"\\degree ", text)
        text = _THIN.sub(THIN_SPACE, text)
        if r"\over" in text or r"\choose" in text:
            text = _OVER.sub(
                lambda match: rf"\{'frac' if match[2] == 'over' else 'binom'}{{{match[1]}}}{{{match[3]}}}", text
            )
    return _closed(_end(_SPACE.sub(" ", unwrap(collapse_brackets(text)))))


def _closed(text: str) -> str:
    """Add the closing braces that are missing at the end."""
    missing = (text.count("{") - text.count(r"\{")) - (text.count("}") - text.count(r"\}")) if "\\" in text else 0
    return text + "}" * missing if 0 < missing < 5 else text


def _end(text: str) -> str:
    text = text.strip(" ~")
    while text and text[-1] in ".,;" and not text.endswith(r"\."):
        if text.endswith("..."):
            break
        text = text[:-1].rstrip(" ~")
    return text


def unwrap(text: str) -> str:
    """Remove math delimiters and boxes that hold the whole text, and inner boxes in place."""
    for _ in range(6):
        before = text
        text = text.strip().strip("\n")
        stop = text.rstrip(".,; ")
        for start, end in _WRAPPERS:
            if len(stop) > len(start) + len(end) - 1 and stop.startswith(start) and stop.endswith(end):
                inner = stop[len(start) : len(stop) - len(end)]
                if start not in inner.replace(r"\$", "") and inner.strip() and not inner.endswith("\\"):
                    text = inner
                    break
        match = _BOX.search(text)
        if match:
            end_at = matching_brace(text, match.end() - 1)
            inner = text[match.end() : end_at]
            rest = text[end_at + 1 :] if end_at < len(text) else ""
            text = f"{text[: match.start()]} {inner} {rest}"
        if text == before:
            break
    return text


def matching_brace(text: str, start: int) -> int:
    """Return the index of the brace that closes the one at `start`, or len(text) if none does."""
    depth = 0
    for match in _BRACE.finditer(text, start):
        depth += (match[0] == "{") - (match[0] == "}")
        if depth == 0 and match[0] == "}":
            return match.start()
    return len(text)


def closing_braces(text: str) -> dict[int, int]:
    """Map the index of every brace that is closed to that of the one that closes it. One pass."""
    open_braces: list[int] = []
    partners: dict[int, int] = {}
    for match in _BRACE.finditer(text):
        if match[0] == "{":
            open_braces.append(match.start())
        elif match[0] == "}" and open_braces:
            partners[open_braces.pop()] = match.start()
    return partners

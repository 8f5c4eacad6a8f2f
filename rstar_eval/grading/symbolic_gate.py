"""What may go to the symbolic stage: short mathematics that no rule reads; never something that looks like code."""

from __future__ import annotations

import re

from rstar_eval.grading.read import Reading
from rstar_eval.grading.vocabulary import COMMANDS, GLUED

_LONGEST = 400
_CODE = re.compile(
    r"__|[\"`;@#]|\b(?:lambda|import|eval|exec|open|os|sys|exit|quit|print|getattr|class|def|globals|locals)\b"
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_WORD = re.compile(r"(?<!\\)\b[A-Za-z]{5,}")
_NEEDED = re.compile(
    r"\\(?:int|iint|oint|lim|sum|prod|partial|frac\s*\{\s*d)(?![a-z])|\b(?:Integral|Limit|Sum|Product)\b"
)
# Lists and sums with dots, and a sum without summands: math-verify reads a part of them and drops the rest.
_PARTIAL = re.compile(r"\\[lc]?dots|\\(?:sum|prod)\s*_\s*\{[^{}]*\}\s*\^\s*(?:\{[^{}]*\}|\w)\s*=")
_LARGE = re.compile(r"\d{7,}|!\s*\)*\s*!|\^\s*\{[^{}]*\^|\^\s*\w+\s*\^|\^\s*\{?\s*-?\d{4,}")


def needs_symbolic(gold: Reading, pred: Reading) -> bool:
    """Whether a side holds what only the symbolic stage reads: integrals, limits, derivatives, infinite sums.

    Whatever else no rule reads is compared by its spelling alone: math-verify's reading of broken or unknown LaTeX
    makes equal what isn't (`63^{\\circ}45'` and `45'`).
    """
    return bool(_NEEDED.search(gold.normal) or _NEEDED.search(pred.normal))


def may_be_symbolic(reading: Reading) -> bool:
    """Whether a reading may be handed to math-verify and sympy."""
    text = reading.normal
    if (
        not text
        or len(text) > _LONGEST
        or _CODE.search(text)
        or _LARGE.search(text)
        or _PARTIAL.search(text)
        or text.count("^") > 12
        or text.count("!") > 3
    ):
        return False
    for name in _COMMAND.findall(text):
        if name not in COMMANDS and not any(name.startswith(known) for known in GLUED if len(known) > 1):
            return False
    plain = re.sub(r"\\(?:begin|end)\s*\{[a-z*]+\}|\\(?:text|mathrm|operatorname)\s*\{[^{}]*\}", "", text)
    return not _WORD.search(plain)

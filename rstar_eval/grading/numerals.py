"""The exact value of a number as written."""

from __future__ import annotations

from fractions import Fraction

from rstar_eval.grading.limits import LIMITS, LimitExceeded


def numeral_value(text: str) -> Fraction:
    """Return the exact value of a numeral: digits, point, exponent, or a repeating part \\overline{}.

    >>> numeral_value("1.4e-3"), numeral_value(r"0.\\overline{3}")
    (Fraction(7, 5000), Fraction(1, 3))
    """
    if len(text) > LIMITS.digits:
        raise LimitExceeded("digits")
    if "\\" in text:
        head, _, tail = text.partition("\\overline")
        whole, _, fixed = head.strip().partition(".")
        repeat, _, exponent = tail.strip(" {").partition("}")
        scale = 10 ** len(fixed)
        written = Fraction(int(whole or "0") * scale + int(fixed or "0"), scale)
        value = written + Fraction(int(repeat), scale * (10 ** len(repeat) - 1))
        return value * Fraction(10) ** _exponent(exponent[1:])
    mantissa, _, exponent = text.lower().partition("e")
    return Fraction(f"{mantissa.rstrip('.') or '0'}e{_exponent(exponent)}")


def _exponent(written: str) -> int:
    """The power of ten that stands behind an e, 0 if none does."""
    if written and abs(int(written)) > LIMITS.digits:
        raise LimitExceeded("exponent")
    return int(written or "0")

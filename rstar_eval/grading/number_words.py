"""Numbers in English words: `twenty-one`, `nine hundred million`, `two thirds`, `one and a half`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

_ONES = {
    word: value
    for value, word in enumerate(
        str.split(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen"
        )
    )
}
_TENS = {
    word: 10 * value
    for value, word in enumerate(str.split("twenty thirty forty fifty sixty seventy eighty ninety"), start=2)
}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {
    "half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9, "tenth": 10, "hundredth": 100, "thousandth": 1000,
}  # fmt: skip


def number_in_words(words: Sequence[str]) -> Fraction | None:
    """Return the value of casefolded words, all of which must belong to one number; else None.

    >>> number_in_words("nine hundred million".split()), number_in_words("two thirds".split())
    (Fraction(900000000, 1), Fraction(2, 3))
    """
    if not words:
        return None
    if "and" in words:
        cut = len(words) - 1 - list(reversed(words)).index("and")
        part = _fraction(words[cut + 1 :])
        if part is not None:
            whole = _whole(words[:cut])
            return None if whole is None else whole + part
    part = _fraction(words)
    if part is not None:
        return part
    return _whole(words)


def _fraction(words: Sequence[str]) -> Fraction | None:
    """`one half`, `a third`, `three quarters`, `half`."""
    if not words:
        return None
    bottom = _PARTS.get(words[-1]) or _PARTS.get(words[-1].removesuffix("s"))
    if bottom is None:
        return None
    if len(words) == 1:
        return Fraction(1, bottom) if words[-1] == "half" else None
    top = Fraction(1) if list(words[:-1]) in (["a"], ["an"]) else _whole(words[:-1])
    return None if top is None else top / bottom


def _whole(words: Sequence[str]) -> Fraction | None:
    """A whole number; the order of its words is that of its digits."""
    total = group = 0
    last = 10**15
    room = 1000
    for index, word in enumerate(words):
        if word == "and" and 0 < index < len(words) - 1:
            continue
        if word in _SCALES:
            if not group or _SCALES[word] >= last:
                return None
            total, group, last, room = total + group * _SCALES[word], 0, _SCALES[word], 1000
        elif word == "hundred":
            if not 0 < group < 10:
                return None
            group, room = group * 100, 100
        else:
            value = _ONES.get(word, _TENS.get(word, -1))
            if value < 0 or value >= room or (value == 0 and len(words) > 1):
                return None
            group += value
            room = 10 if value >= 20 else 1
    return Fraction(total + group) if words[0] != "and" else None

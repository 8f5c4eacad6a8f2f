"""Words: plain text, options of a multiple choice, yes and no, clock times, and phrases that mean a set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from rstar_eval.grading import tree
from rstar_eval.grading.number_words import number_in_words
from rstar_eval.grading.tokens import Token
from rstar_eval.grading.values import Choice, Clock, Expr, Interval, Items, RealSet, Value, Words
from rstar_eval.grading.vocabulary import FUNCTIONS, MANY_ARGUMENTS

_NONE = re.compile(
    r"(thereare|thereis|it(has|is)|has)?(no|none|nil|empty|nonereal)(real|integer|integral|such|positiveinteger|possible)?"
    r"(number|solution|value|root|answer|integer|function|set|pair|triple)?s?(exists?|ofx)?"
)
_ALL = re.compile(
    r"(for)?(all|any|every|setofall|thesetofall|x?isall)?(real(number|value)?s?|reals|setofreals)(ofx|x)?"
)
_WHOLE = re.compile(
    r"(?:the)?(?:setof)?(?:all|any|every)?(?:the)?(?:setz|(integer|naturalnumber|rationalnumber)s?)|set([nq])"
)
_CLOCK = re.compile(
    r"(?:at)?(\d{1,2})(?::(\d\d))?(?::(\d\d))?\(?(a\.?m\.?|p\.?m\.?|noon|midnight|o'?clock)?\)?\.?(?:on([a-z]+))?"
)
_NAMED_HOURS = {"noon": Clock(43_200, "pm"), "midday": Clock(43_200, "pm"), "midnight": Clock(0, "am")}
_CHOICE = re.compile(r"(?i:(?:the)?(?:correct)?(?:answer|option|choice)s?(?:is|:)?)?[(\[]?([A-Za-z])[)\]]?[.):]?")
_CHOICE_TEXT = re.compile(r"(?:\(([A-H])\)|([A-H])[.):])\s*(\S.*)", re.DOTALL)
_OTHER_OPTION = re.compile(r"\b[A-Z][}\s]*[:=]|\([A-H]\)")
_CHOICE_LIST = re.compile(r"\(?[A-Z](?:\)?(?:,|and|&)\(?[A-Z]){1,9}\)?")
_LOWER_OPTIONS = frozenset("bd")  # a, c and e are also variables and constants
_YES_NO = re.compile(r"(yes|no|true|false)\b[\s.,;:!]+(?=[a-z])", re.IGNORECASE)
_SHORT_WORDS = frozenset(str.split("yes no odd one two six ten all any sun mon tue wed thu fri sat not"))
_CALLED = frozenset(FUNCTIONS) | frozenset(MANY_ARGUMENTS)
_TEXT_COMMAND = re.compile(r"^\\(?:text|mathrm|textbf|mbox)\s*\{\s*")
_MARKS = re.compile(r"[\s.,;:!?'\"`{}$~\\]+")
REALS = RealSet((Interval(tree.MINUS_INFINITY, tree.INFINITY, False, False),))
EMPTY = Items("set", ())


def plain_text(tokens: Sequence[Token]) -> str:
    """Write tokens as text, with single spaces where there were any."""
    return "".join((" " if token.spaced else "") + token.value for token in tokens).strip()


def compact(text: str) -> str:
    """Casefold and remove spaces, punctuation and brackets: what two spellings of the same words share.

    >>> compact("\\\\text{Not  invertible.}") == compact("notinvertible"), compact("a.m.")
    (False, 'am')
    """
    return _MARKS.sub("", text).casefold()


def phrase(words: str) -> Value | None:
    """Return the value that a compacted phrase means (no solution, all real numbers, a number word), or None."""
    if words in ("emptyset", "theemptyset", "nullset", "noneexist", "none", "nosolutions") or (
        words and _NONE.fullmatch(words) and words != "no"
    ):
        return EMPTY
    if words in ("setr", "setreals", "r") or _ALL.fullmatch(words):
        return REALS
    if words in ("dne", "doesnotexist", "itdoesnotexist"):
        return Words("doesnotexist")
    whole = _WHOLE.fullmatch(words)
    if whole:
        return Words(f"set of {(whole[1] or whole[2] or 'i')[0].replace('q', 'r')}")
    number = number_in_words([words])
    return None if number is None else Expr(tree.number(number))


def clock(text: str) -> Clock | None:
    """Read a time of day, `5:05 p.m.`, `20:34`, `8 pm`. None if it isn't one, or could be any number."""
    squeezed = text.casefold().replace(" ", "").replace("~", "").replace("{", "").replace("}", "")
    if squeezed in _NAMED_HOURS:
        return _NAMED_HOURS[squeezed]
    match = _CLOCK.fullmatch(squeezed)
    if not match or (match[2] is None and match[4] is None):
        return None
    hour, minute, second = int(match[1]), int(match[2] or 0), int(match[3] or 0)
    half = (match[4] or "").replace(".", "")
    if half in ("noon", "midnight"):
        half = "pm" if half == "noon" else "am"
    if half.startswith("o"):
        half = ""
    if hour > 24 or minute > 59 or second > 59 or (half and hour > 12 and half == "am"):
        return None
    if half and hour <= 12:
        hour = hour % 12 + (12 if half == "pm" else 0)
    elif hour > 12 or hour == 0:
        half = "pm" if hour > 12 else "am"
    return Clock(hour * 3600 + minute * 60 + second, half)


def choice(text: str) -> Choice | None:
    """Read one option, several, or one with its text: `(E)`, `D.`, `A, C`, `(B) 12 cm`."""
    squeezed = re.sub(r"[\s~{}]+", "", text)
    match = _CHOICE.fullmatch(squeezed)
    if match and (match[1].isupper() or "(" in squeezed or ")" in squeezed or match[1] in _LOWER_OPTIONS):
        return Choice(frozenset([match[1].upper()]))
    if _CHOICE_LIST.fullmatch(squeezed):
        return Choice(frozenset(re.findall(r"[A-Z]", squeezed)))
    with_text = _CHOICE_TEXT.fullmatch(text.strip())
    if with_text and not _OTHER_OPTION.search(with_text[3]):
        return Choice(frozenset([with_text[1] or with_text[2]]), with_text[3].strip())
    return None


def leading_yes_no(text: str) -> str:
    """Return yes, no, true or false if the text begins with it as a sentence of its own, else ""."""
    match = _YES_NO.match(_TEXT_COMMAND.sub("", text.strip()))
    return match[1].casefold() if match else ""


def words_of(tokens: Sequence[Token]) -> Words:
    """The tokens as words."""
    raw = plain_text(tokens)
    return Words(compact(raw), raw)


def is_wordy(tokens: Sequence[Token]) -> bool:
    """Whether the tokens are letters only and read as a word: capitals, a \\text group, or a long run."""
    letters = [token for token in tokens if token.kind == "name"]
    if not letters or any(
        token.kind not in ("name", "open", "close") and token.value not in (".", ",", "-", "'", "!", "?")
        for token in tokens
    ):
        return False
    if len(tokens) == 1 and tokens[0].value.casefold() in _SHORT_WORDS:
        return True
    if any(token.value in _CALLED and after.value == "(" for token, after in pairwise(tokens)):
        return False  # sqrt(a), factorial(n)
    total = sum(len(token.value) for token in letters)
    run = max(len(token.value) for token in letters)
    if total < 2:
        return False
    if any(token.text and len(token.value) > 1 for token in letters) or run >= 4:
        return True
    return (
        run >= 2
        and any(token.value[1:].isupper() for token in letters if len(token.value) > 1)
        and "(" not in {token.value for token in tokens}
    )

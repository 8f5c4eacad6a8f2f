"""Units, currencies and degrees: their names, and how a trailing one is split from a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rstar_eval.grading.scan import closing_index
from rstar_eval.grading.tokens import Token
from rstar_eval.grading.vocabulary import CONSTANTS, FUNCTIONS, GREEK, JOINERS, MANY_ARGUMENTS, names

_CANONICAL = names(
    {
        "metre": "m meter meters metre metres",
        "centimetre": "cm centimeter centimeters centimetre centimetres cms",
        "millimetre": "mm millimeter millimeters millimetre millimetres",
        "kilometre": "km kilometer kilometers kilometre kilometres kms",
        "decimetre": "dm decimeter decimeters",
        "inch": "in inch inches",
        "foot": "ft foot feet",
        "yard": "yd yds yard yards",
        "mile": "mi mile miles",
        "gram": "g gram grams gm gms",
        "kilogram": "kg kilogram kilograms kgs",
        "milligram": "mg milligram milligrams",
        "pound": "lb lbs pound pounds",
        "ounce": "oz ounce ounces",
        "ton": "ton tons tonne tonnes",
        "litre": "l liter liters litre litres",
        "millilitre": "ml milliliter milliliters millilitre millilitres",
        "gallon": "gal gallon gallons",
        "quart": "qt quart quarts",
        "cup": "cup cups",
        "pint": "pt pint pints",
        "second": "s sec secs second seconds",
        "minute": "min mins minute minutes",
        "hour": "h hr hrs hour hours",
        "day": "d day days",
        "week": "wk week weeks",
        "month": "month months",
        "year": "yr yrs year years",
        "degree": "degree degrees deg",
        "radian": "rad rads radian radians",
        "kelvin": "k kelvin kelvins",
        "celsius": "c celsius centigrade",
        "fahrenheit": "f fahrenheit",
        "newton": "n newton newtons",
        "joule": "j joule joules",
        "watt": "w watt watts",
        "volt": "v volt volts",
        "ampere": "a amp amps ampere amperes",
        "ohm": "ohm ohms",
        "hertz": "hz hertz",
        "pascal": "pa pascal pascals",
        "coulomb": "coulomb coulombs",
        "mole": "mol mole moles",
        "dollar": "dollar dollars usd bucks",
        "cent": "cent cents",
        "euro": "euro euros eur",
        "yen": "yen",
        "yuan": "yuan rmb",
        "rupee": "rupee rupees",
        "byte": "byte bytes",
        "megabyte": "mb megabyte megabytes",
        "acre": "acre acres",
        "hectare": "hectare hectares",
        "knot": "knot knots",
        "tesla": "t tesla",
        "percentage": "percentage",
        "gigabyte": "gb gigabyte gigabytes",
        "kilobyte": "kb kilobyte kilobytes",
        "kilowatt": "kw kilowatt kilowatts",
        "micrometre": "um micrometer micrometers",
        "nanometre": "nm nanometer nanometers",
    }
)
_COMPOUND = {
    "mph": (("mile", 1), ("hour", -1)),
    "kph": (("kilometre", 1), ("hour", -1)),
    "kmh": (("kilometre", 1), ("hour", -1)),
    "kmph": (("kilometre", 1), ("hour", -1)),
    "fps": (("foot", 1), ("second", -1)),
    "rpm": (("revolution", 1), ("minute", -1)),
    "mps": (("metre", 1), ("second", -1)),
    "cc": (("centimetre", 3),),
    "sqft": (("foot", 2),),
}
_CURRENCIES = frozenset(["dollar", "euro", "pound", "yen", "yuan", "rupee"])
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
_LONGEST = 24
_FILLERS = frozenset(
    ["of", "the", "a", "an", "each", "total", "in", "all", "long", "old", "about", "exactly", "more", "tall", "wide"]
)
_GENERIC = frozenset(["unit", "units", "u"])
_SINGLE_LETTERS = frozenset("mglshdCFKNJWVAT")


@dataclass(frozen=True, slots=True)
class Unit:
    """A product of named units with exponents. `known`: all names are units of measurement; otherwise they are
    counted things ("teachers"). `generic`: 1 for "units", 2 for "square units" and so on, 0 for none: agrees with any
    unit but "units" of another power."""

    parts: frozenset[tuple[str, int]]
    known: bool = True
    generic: int = 0


DEGREE = Unit(frozenset([("degree", 1)]))
DOLLAR = Unit(frozenset([("dollar", 1)]))
CENT = Unit(frozenset([("cent", 1)]))
FOOT, INCH = Unit(frozenset([("foot", 1)])), Unit(frozenset([("inch", 1)]))
_MARKS = {"'": FOOT, '"': INCH}
HOUR = Unit(frozenset([("hour", 1)]))
RADIAN = Unit(frozenset([("radian", 1)]))


def agree(left: Unit | None, right: Unit | None) -> bool:
    """Whether two units don't contradict each other: a missing one agrees with any."""
    if left is None or right is None or (left.parts == right.parts and not left.generic and not right.generic):
        return True
    if left.generic or right.generic:
        return not (left.generic > 1 and right.generic > 1) or left.generic == right.generic
    if not left.known and not right.known:
        left_words, right_words = ({name for name, _ in unit.parts} for unit in (left, right))
        return left_words <= right_words or right_words <= left_words
    return False


def canonical(word: str, text: bool) -> str | None:
    """Return the name of the unit that a word stands for, or None. A plain single letter is none (it is a variable)."""
    if len(word) == 1:
        if not text or (word not in _SINGLE_LETTERS and word.lower() not in ("l",)):
            return None
        return _CANONICAL.get(word.lower())
    return _CANONICAL.get(word.lower())


def _counted(word: str) -> str:
    """A noun without its plural ending."""
    word = word.lower()
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and len(word) > 3 and not word.endswith("ss") else word


def is_unit_word(word: str, text: bool) -> bool:
    """Whether a word can be (part of) a unit: a known one, or a word that is not mathematics."""
    if canonical(word, text) or word.lower() in _COMPOUND or word.lower() in _POWERS or word.lower() in _GENERIC:
        return True
    if word in FUNCTIONS or word in GREEK or word in CONSTANTS or word in JOINERS or word in MANY_ARGUMENTS:
        return False
    return (len(word) >= 2 and text) or len(word) >= 4


def split_unit(tokens: Sequence[Token], loose: bool = False) -> tuple[Sequence[Token], Unit | None]:
    """Split a trailing unit (or a leading or trailing currency sign) from the tokens of a number or expression.

    Returns the tokens without it and the unit, or all tokens and None. loose: plain letters may be units, `3 h`.
    """
    if len(tokens) > 1 and tokens[0].value == "$":
        return tokens[1:], DOLLAR
    if len(tokens) > 2 and tokens[0].value in "-+" and tokens[1].value == "$":
        return [tokens[0], *tokens[2:]], DOLLAR
    if len(tokens) > 1 and tokens[-1].value == "$":
        return tokens[:-1], DOLLAR
    if len(tokens) > 1 and tokens[0].kind == "name" and tokens[1].kind == "number":
        currency = _CANONICAL.get(tokens[0].value.lower())
        if currency in _CURRENCIES:
            return tokens[1:], Unit(frozenset([(currency, 1)]))
    if len(tokens) > 1 and tokens[-1].value in _MARKS and tokens[-2].kind in ("number", "close"):
        return tokens[:-1], _MARKS[tokens[-1].value]
    if len(tokens) > 3 and tokens[-1].value == ")":
        return _remark(tokens)
    for index in range(max(1, len(tokens) - _LONGEST), len(tokens)):
        token = tokens[index]
        if (token.kind == "name" or token.value == "degree") and _can_start(tokens, index, loose):
            unit = _read(tokens[index:], loose)
            if unit is not None:
                return tokens[:index], unit
        elif token.value == "frac" and index:
            unit = _read(_slashed(tokens[index + 1 :]), loose)
            if unit is not None and unit.known:
                return tokens[:index], unit
    return tokens, None


def _slashed(tokens: Sequence[Token]) -> Sequence[Token]:
    """`{\\text{mi}}{\\text{h}}`, what stands after \\frac, as `mi/h`; empty if it is anything else."""
    if not tokens or tokens[0].value != "{":
        return ()
    middle = closing_index(tokens, 0)
    if tokens[middle + 1 : middle + 2] and tokens[middle + 1].value == "{":
        return (*tokens[1:middle], Token("sign", "/"), *tokens[middle + 2 : -1])
    return ()


def _remark(tokens: Sequence[Token]) -> tuple[Sequence[Token], Unit | None]:
    """Split `(hours)` or `(minimum)` from the end of a number: a unit, or a remark that is left out."""
    start = next((index for index in range(len(tokens) - 1, 0, -1) if tokens[index].value == "("), 0)
    words = tokens[start + 1 : -1]
    if not start or tokens[start - 1].kind not in ("number", "close") or not words:
        return tokens, None
    if not all(token.kind == "name" and (token.text or len(token.value) > 3) for token in words):
        return tokens, None
    if any(word.value in FUNCTIONS or word.value in GREEK for word in words):
        return tokens, None
    unit = _read(words)
    return tokens[:start], unit if unit is not None and unit.known else None


def _can_start(tokens: Sequence[Token], index: int, loose: bool) -> bool:
    before, token = tokens[index - 1], tokens[index]
    if token.value == "degree":
        return before.kind in ("number", "close", "name") and index >= 1
    short = before.kind == "name" and len(before.value) <= 2
    if before.kind not in ("number", "close", "command") and not short and before.value not in ("%", "!"):
        return False
    if before.kind == "command" and before.value not in ("infty", "degree"):
        return False
    if len(token.value) == 1:
        return token.text or token.spaced == "~" or loose
    return is_unit_word(token.value, token.text)


def _read(tokens: Sequence[Token], loose: bool = False) -> Unit | None:
    """Read tokens as a unit, all of them, or return None."""
    parts: dict[str, int] = {}
    known = counted = False
    generic = 0
    side, power_ahead, last = 1, 1, ""
    index = 0
    while index < len(tokens):
        token = tokens[index]
        word = token.value.lower()
        if token.value == "degree":
            parts["degree"] = 1
            last, known = "degree", True
        elif token.kind == "name":
            if word == "per" or (word in ("a", "an", "each") and last):
                side = -1
            elif word in ("and", "or"):
                return None
            elif word in ("squared", "cubed") and last:
                if last in parts:
                    parts[last] *= _POWERS[word]
                else:
                    generic = _POWERS[word]
            elif word in _POWERS:
                power_ahead = _POWERS[word]
            elif word in _COMPOUND:
                for name, power in _COMPOUND[word]:
                    parts[name] = parts.get(name, 0) + side * power
                last, known = word, True
            elif word in _GENERIC:
                generic, last = power_ahead, word
            elif word in _FILLERS and word != "in":
                pass
            else:
                unit = canonical(token.value, token.text or token.spaced == "~" or index > 0 or loose)
                if unit is None and not (token.text or len(word) >= 3):
                    return None
                counted = counted or unit is None
                known = known or unit is not None
                last = unit or _counted(word)
                if last in ("celsius", "fahrenheit"):
                    parts.pop("degree", None)
                parts[last] = parts.get(last, 0) + side * power_ahead
                power_ahead = 1
        elif token.value == "/" and last:
            side = -1
        elif token.value in ("*", "-") and last and index + 1 < len(tokens) and tokens[index + 1].kind == "name":
            pass
        elif token.value == "^" and (last in parts or generic):
            written, used = _power(tokens[index + 1 :])
            if written is None:
                return None
            if last in parts:
                parts[last] = (1 if parts[last] > 0 else -1) * written
            else:
                generic = abs(written)
            index += used
        elif token.value == "." and (last or power_ahead > 1):
            pass
        else:
            return None
        index += 1
    if not parts and not generic:
        return None
    return Unit(frozenset(parts.items()), known and not counted, generic)


def _power(tokens: Sequence[Token]) -> tuple[int | None, int]:
    values = [token.value for token in tokens[:4]]
    if values and values[0].isdecimal() and len(values[0]) == 1:
        return int(values[0]), 1
    if values[:1] == ["{"] and len(values) > 2:
        if values[1].isdecimal() and values[2] == "}":
            return int(values[1]), 3
        if values[1] == "-" and values[2].isdecimal() and values[3:4] == ["}"]:
            return -int(values[2]), 4
    return None, 0

"""What runs in a worker: math-verify as a grader, and as the last rule of the default grader's ladder."""

from __future__ import annotations

from typing import Any

_WARM_UP = (
    (r"\int_0^1 x^2\,dx", r"\frac{1}{3}"),
    (r"\lim_{n\to\infty} \frac{n+1}{n}", "1"),
    (r"\sum_{n=1}^{\infty} \frac{1}{2^n}", "1"),
)


def warm_up() -> None:
    """Import and run the libraries once, so that the first request's clock measures work only.

    sympy loads what integrals, limits and sums need when the first one comes.
    """
    answer("math_verify", "x+1", "1+x")
    for gold, pred in _WARM_UP:
        answer("symbolic", gold, pred)


def answer(method: str, gold: str, pred: str) -> dict[str, Any]:
    """Return {"outcome", "rule", "detail"} for one pair by one method: math_verify, symbolic, or a self-test.

    The time limits inside math-verify are off (they are signals): the pool's clock ends what takes too long.
    """
    if method == "symbolic":
        return _symbolic(gold, pred)
    if method == "math_verify":
        return _math_verify(gold, pred)
    if method.startswith("selftest."):
        return _selftest(method.removeprefix("selftest."))
    raise ValueError(f"unknown method {method!r}")


def _parse(text: str, wrap: bool) -> list[Any]:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    wrapped = f"${text}$" if wrap and "$" not in text and "\\boxed" not in text else text
    return list(parse(wrapped, (LatexExtractionConfig(), ExprExtractionConfig()), parsing_timeout=None))


def _verify(gold: list[Any], pred: list[Any], digits: int) -> bool:
    from math_verify import verify

    return bool(verify(gold, pred, float_rounding=digits, timeout_seconds=None))


def _math_verify(gold: str, pred: str) -> dict[str, Any]:
    """math-verify as it is used: both sides in $, verdict if either order agrees."""
    one, other = _parse(gold, True), _parse(pred, True)
    if not one:
        return {
            "outcome": "grader_error",
            "rule": "unparsed_reference",
            "detail": "math-verify finds no answer in the reference",
        }
    if not other:
        return {"outcome": "no_answer", "rule": "unparsed"}
    correct = _verify(one, other, 6) or _verify(other, one, 6)
    return {"outcome": "correct" if correct else "wrong", "rule": "math_verify"}


def _symbolic(gold: str, pred: str) -> dict[str, Any]:
    """Stricter: only sympy objects, not strings, are compared; both orders must agree."""
    one = [item for item in _parse(gold, True) if not isinstance(item, str)]
    other = [item for item in _parse(pred, True) if not isinstance(item, str)]
    if not one or not other:
        return {"outcome": "wrong", "rule": "unparsed"}
    correct = _verify(one, other, 15) and _verify(other, one, 15)
    return {"outcome": "correct" if correct else "wrong", "rule": "symbolic"}


def _selftest(what: str) -> dict[str, Any]:
    """Misbehave on purpose: what the pool's tests ask for."""
    if what == "spin":
        while True:
            pass
    if what == "memory":
        return {"outcome": "wrong", "rule": str(len(bytearray(64 << 30)))}
    if what == "segfault":
        import faulthandler

        faulthandler._sigsegv()  # type: ignore[attr-defined]
    if what == "exit":
        import os

        os._exit(3)
    if what == "raise":
        raise RuntimeError("on purpose")
    if what == "write":
        with open("/tmp/rstar_eval_selftest", "w") as handle:
            handle.write("x")
    if what == "process":
        import os

        os.system("true")
    return {"outcome": "correct", "rule": f"selftest.{what}"}

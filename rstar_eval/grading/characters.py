"""Unicode to the characters of the answer language: ASCII, LaTeX commands, and nothing invisible."""

from __future__ import annotations

import re
import unicodedata

_SUPERSCRIPT = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱˣʸ", "0123456789+-=()nixy", strict=True))
_SUBSCRIPT = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₒₓₕₖₗₘₙₚₛₜ", "0123456789+-=()aeoxhklmnpst", strict=True))
_GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma",
    "τ": "tau", "φ": "phi", "ϕ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta",
    "Θ": "Theta", "Λ": "Lambda", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega", "∆": "Delta",
}  # fmt: skip
_SIGNS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "‒": "-", "﹣": "-", "－": "-",
    "×": r"\times ", "✕": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ", "∙": r"\cdot ", "•": r"\cdot ", "∗": "*", "÷":
    "/",
    "∕": "/", "⁄": "/", "√": r"\sqrt ", "∛": r"\cbrt ", "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ",
    "⩾": r"\ge ", "≦": r"\le ", "≧": r"\ge ", "≠": r"\ne ", "±": r"\pm ", "∓": r"\mp ", "≈": r"\approx ",
    "≅": r"\approx ", "°": r"^{\circ}", "º": r"^{\circ}", "˚": r"^{\circ}", "∪": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "∅": r"\emptyset ", "⌀": r"\emptyset ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}",
    "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "∖": r"\setminus ", "∠": r"\angle ", "△": r"\triangle ", "∧": r"\land ",
    "∨": r"\lor ", "→": r"\to ", "⟨": r"\langle ", "⟩": r"\rangle ", "〈": r"\langle ", "〉": r"\rangle ",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "′": "'", "’": "'", "‘": "'", "“": '"',
    "”": '"', "，": ",", "、": ",", "；": ";", "：": ":", "。": ".", "（": "(", "）": ")", "［": "[", "］": "]",
    "｛": "{", "｝": "}", "【": "[", "】": "]", "∣": "|", "∥": r"\|", "…": r"\ldots ", "⋯": r"\cdots ", "ⅈ": "i",
    "ℯ": "e", "ⅇ": "e", "𝑖": "i", "⊂": r"\subset ", "∫": r"\int ", "∑": r"\sum ", "∏": r"\prod ", "¢": r"\text{ cents}",
    "€": r"\text{ euros}", "£": r"\text{ pounds}", "¥": r"\text{ yen}", "％": r"\%",
}  # fmt: skip
_TABLE = str.maketrans({**_SIGNS, **{char: f"\\{name} " for char, name in _GREEK.items()}})
_SUPER_RUN = re.compile(f"[{''.join(_SUPERSCRIPT)}]+")
_SUB_RUN = re.compile(f"[{''.join(_SUBSCRIPT)}]+")
_ROOT_ARGUMENT = re.compile(r"\\(sqrt|cbrt) +(\d+(?:\.\d+)?|[A-Za-z])")
# A backslash sequence that went through a string literal by accident: tab + "ext{", form feed + "rac{", and so on.
_DECODED = re.compile(
    r"([\t\f\x08\r\x07\x0b])(?=(ext|imes|heta|frac|an\b|au|o\b|riangle|rac|oxed|inom|eta|ar|egin|ight|ho|ec|arphi|lpha|pprox|ngle))"
)
_LETTER_OF = {"\t": r"\t", "\f": r"\f", "\x08": r"\b", "\r": r"\r", "\x07": r"\a", "\x0b": r"\v"}


def clean(text: str) -> str:
    """Map `text` to plain ASCII and LaTeX where a character has such a form.

    Removes byte-order, zero-width, direction and control characters and lone surrogates (the order is that of the
    stored characters), rewrites super- and subscripts, one-character fractions, Greek letters and signs, then NFKC.

    >>> clean("x²"), clean("３½"), clean("−5")
    ('x^{2}', '3\\\\frac{1}{2}', '-5')
    """
    if text.isascii() and text.isprintable():
        return text
    text = _DECODED.sub(lambda match: _LETTER_OF[match[1]], text)
    if not text.isascii():
        text = _SUPER_RUN.sub(lambda match: "^{" + "".join(_SUPERSCRIPT[char] for char in match[0]) + "}", text)
        text = _SUB_RUN.sub(lambda match: "_{" + "".join(_SUBSCRIPT[char] for char in match[0]) + "}", text)
        text = "".join(_fraction(char) if unicodedata.category(char) == "No" else char for char in text)
        text = unicodedata.normalize("NFKC", text.translate(_TABLE)).translate(_TABLE)
        text = _ROOT_ARGUMENT.sub(r"\\\1{\2}", text)
    return "".join(
        char for char in text if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Co", "Cn", "Cs")
    )


def _fraction(char: str) -> str:
    top, slash, bottom = unicodedata.normalize("NFKC", char).partition("⁄")
    return f"\\frac{{{top}}}{{{bottom}}}" if slash and bottom else char

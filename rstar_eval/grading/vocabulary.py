"""The words of the answer language: commands, functions, constants, and names as Python and sympy print them."""

from __future__ import annotations

from collections.abc import Mapping


def words(text: str) -> frozenset[str]:
    """The words of a text as a set."""
    return frozenset(text.split())


def names(spellings: Mapping[str, str]) -> dict[str, str]:
    """Turn {meaning: "spelling spelling"} into {spelling: meaning}."""
    return {spelling: meaning for meaning, text in spellings.items() for spelling in text.split()}


GREEK = words(
    """
    alpha beta chi Delta delta ell epsilon eta gamma Gamma iota kappa Lambda lambda mu nu Omega omega phi Phi Pi
    psi Psi rho Sigma sigma tau theta Theta Xi xi zeta
    """
)
# One argument, as LaTeX commands and as printed by Python; the value is the evaluator's name.
_FUNCTIONS = words(
    """
    sin cos tan cot sec csc sinh cosh tanh coth sech csch arcsin arccos arctan arccot arcsec arccsc arcsinh
    arccosh arctanh ln log lg exp cis sqrt cbrt floor ceiling factorial abs gamma sign re im conjugate
    """
)
FUNCTIONS = {name: name for name in sorted(_FUNCTIONS)} | names(
    {
        "arcsin": "asin",
        "arccos": "acos",
        "arctan": "atan",
        "arccot": "acot",
        "arcsec": "asec",
        "arccsc": "acsc",
        "arcsinh": "asinh arsinh",
        "arccosh": "acosh arcosh",
        "arctanh": "atanh artanh",
        "abs": "Abs fabs",
        "ceiling": "ceil",
        "lg": "log10",
        "lb": "log2",
        "sign": "sgn",
        "tan": "tg",
        "cot": "ctg",
        "csc": "cosec",
        "factorial": "fac",
        "lngamma": "gammaln loggamma",
    }
)
MANY_ARGUMENTS = names(
    {
        "max": "max Max",
        "min": "min Min",
        "gcd": "gcd igcd",
        "lcm": "lcm ilcm",
        "binomial": "binomial comb nCr",
        "divide": "Rational Fraction",
        "power": "Pow pow",
        "root": "root real_root",
        "complex": "complex",
        "mod": "Mod mod",
        "sum": "Add",
        "product": "Mul",
        "atan2": "atan2",
        "permutations": "nPr perm",
    }
)
# Printed wrappers around one value.
TRANSPARENT = words(
    """
    Decimal expand factor Float float float32 float64 int int32 int64 Integer mpf N nsimplify S simplify
    str Symbol
    """
)
CONSTANTS = words("pi oo infty zoo nan inf infinity")
# \text-like commands: the content is words or units. The others wrap symbols and are transparent.
TEXT_COMMANDS = words(
    """
    emph hbox mathrm mathsf mathtt mbox operatorname rm text textbf textit textnormal textrm textsc textsf
    texttt underline
    """
)
WRAPPERS = words(
    """
    bar bm boldsymbol dot ensuremath hat mathbb mathbf mathcal mathfrak mathit mathscr overline overrightarrow
    phantom pmb tilde vec widehat widetilde
    """
)
NAMED = GREEK | words("pi max min gcd lcm")
_OTHER = words(
    """
    angle approx arctg arg ast backslash begin bigcap bigcup binom bmod bullet cap cbrt cdot cdots choose circ
    colon cong ctg cup dbinom ddots deg degree det dim div dots emptyset end equiv exists forall frac gcd ge geq
    geqslant gt hline hom iff implies in inf infty int item ker land langle lbrace lbrack lceil lcm ldots le
    leftrightarrow Leftrightarrow leq leqslant lfloor lim limsup mapsto lor lt lvert max mho mid min mod mp nabla ne
    neq nmid not notin oslash overbrace overline parallel partial percent perp pm pmod Pr prime prod propto quad
    rangle rbrace rbrack rceil rfloor Rightarrow rightarrow rvert setminus sim simeq sqrt star subset subseteq
    sum sup tbinom textdegree tg times to triangle underbrace varepsilon varnothing varphi vartheta vdots vee
    vert Vert wedge
    """
)
COMMANDS = frozenset(FUNCTIONS) | GREEK | _OTHER | {"pi"} | TEXT_COMMANDS | WRAPPERS
# Commands from which glued letters are split; not those that begin ordinary longer commands.
GLUED = (COMMANDS - words("item hom fac comb re im mod abs sign rm text emph")) | {"quad"}
JOINERS = words("and or AND OR And Or")

"""The words of the answer language: commands, functions, constants, and names as Python and sympy print them."""

from __future__ import annotations

GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell".split()
)
# One argument, as LaTeX commands and as printed by Python; the value is the evaluator's name.
FUNCTIONS = {
    name: name
    for name in (
        "sin cos tan cot sec csc sinh cosh tanh coth sech csch arcsin arccos arctan arccot arcsec arccsc arcsinh arccosh "
        "arctanh ln log lg exp sqrt cbrt floor ceiling factorial abs gamma sign re im conjugate"
    ).split()
} | {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "acot": "arccot", "asec": "arcsec", "acsc": "arccsc", "asinh": "arcsinh",
    "acosh": "arccosh", "atanh": "arctanh", "arsinh": "arcsinh", "arcosh": "arccosh", "artanh": "arctanh", "Abs": "abs",
    "ceil": "ceiling", "log10": "lg", "log2": "lb", "lb": "lb", "sgn": "sign", "fabs": "abs", "tg": "tan", "ctg": "cot", "cosec": "csc",
    "fac": "factorial", "gammaln": "lngamma", "loggamma": "lngamma",
}  # fmt: skip
MANY_ARGUMENTS = {
    "max": "max", "Max": "max", "min": "min", "Min": "min", "gcd": "gcd", "igcd": "gcd", "lcm": "lcm", "ilcm": "lcm", "binomial": "binomial", "comb": "binomial",
    "nCr": "binomial", "Rational": "divide", "Fraction": "divide", "Pow": "power", "pow": "power", "root": "root", "real_root": "root",
    "Mod": "mod", "mod": "mod", "Add": "sum", "Mul": "product", "atan2": "atan2", "nPr": "permutations", "perm": "permutations",
}  # fmt: skip
# Printed wrappers around one value.
TRANSPARENT = frozenset(
    "Integer Float Decimal int float complex mpf S N float64 float32 int64 int32 simplify expand factor nsimplify str Symbol abs1".split()
)
PRINTED_SETS = frozenset(
    "FiniteSet Interval Union Intersection Complement EmptySet Reals Integers Naturals And Or Eq Ne Lt Le Gt Ge Matrix ImmutableMatrix "
    "MutableDenseMatrix ImmutableDenseMatrix array Tuple Point Point2D Point3D Vector set frozenset list tuple dict".split()
)
CONSTANTS = frozenset(["pi", "oo", "infty", "zoo", "nan", "inf", "infinity"])
# \text-like commands: the content is words or units. The others wrap symbols and are transparent.
TEXT_COMMANDS = frozenset(
    "text textbf textit textrm textnormal textsf texttt mathrm mathsf mathtt mbox hbox operatorname rm emph underline textsc".split()
)
WRAPPERS = frozenset(
    "mathbf boldsymbol bm vec overrightarrow overline hat bar tilde widehat dot mathbb mathcal mathit mathfrak mathscr pmb ensuremath "
    "phantom widetilde".split()
)
NAMED = GREEK | {"pi", "max", "min", "gcd", "lcm"}
_OTHER = frozenset(
    "frac sqrt cbrt binom dbinom tbinom choose infty cup cap in notin subset subseteq setminus emptyset varnothing oslash pm mp circ degree "
    "cdot times div ast le leq ge geq leqslant geqslant lt gt ne neq approx simeq equiv quad ldots cdots dots mid nmid lfloor rfloor "
    "lceil rceil langle rangle lbrace rbrace angle triangle begin end sum prod int lim limsup max min gcd lcm deg det dim ker sup inf pmod "
    "bmod mod to rightarrow leftrightarrow Rightarrow Leftrightarrow iff implies forall exists perp parallel sim colon not prime star bullet "
    "land lor wedge vee vert Vert lvert rvert partial nabla varphi varepsilon vartheta bigcup bigcap overline underbrace overbrace "
    "backslash propto cong hline percent lbrack rbrack item mho tg ctg arctg Pr arg hom textdegree sup vdots ddots".split()
)
COMMANDS = frozenset(FUNCTIONS) | GREEK | _OTHER | {"pi"} | TEXT_COMMANDS | WRAPPERS
# Commands from which glued letters are split. Short ones that begin ordinary longer commands are not among them.
GLUED = (COMMANDS - {"item", "hom", "fac", "comb", "lb", "re", "im", "mod", "abs", "sign", "rm", "text", "emph"}) | {
    "quad",
    "to",
}
JOINERS = frozenset(["and", "or", "AND", "OR", "And", "Or"])

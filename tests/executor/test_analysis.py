from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rstar_eval.solver.executor.cage.analysis import MAX_CODE, analyse


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("x=1", "x = 1  # a comment"),
        ("x = 1\n\n\ny = 2", "# Step 2\nx = 1; y = 2\n"),
        ("f('a')", 'f("a")'),
        ("x = (1 + 2)", "x = 1 + 2"),
        ("x = 0x10", "x = 16"),
    ],
)
def test_equal_syntax_trees_have_equal_keys(left: str, right: str) -> None:
    assert analyse(left).key == analyse(right).key


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = '1'", "x = 1"),
        ("x = b'1'", "x = '1'"),
        ("a - b", "b - a"),
        ("[1, [2]]", "[1, 2]"),
        ("f(a, b)", "f(a)(b)"),
        ("x = 'a\\0b'", "x = 'a'; b"),
        ("if a:\n    b\nc", "if a:\n    b\n    c"),
    ],
)
def test_different_steps_have_different_keys(left: str, right: str) -> None:
    assert analyse(left).key != analyse(right).key


@pytest.mark.parametrize(
    "code",
    [
        "from sympy import *\nx, y = symbols('x y')\nsol = solve([x + y - 1, x - y], [x, y])\nprint(sol)",
        "import numpy as np\nA = np.zeros((2, 2))\nA[0, 1] = 3\nprint(np.linalg.det(A))",
        (
            "from functools import lru_cache\n@lru_cache(maxsize=None)\ndef f(n):\n"
            "    return n if n < 2 else f(n - 1) + f(n - 2)"
        ),
        "import math\nprint(f'{math.pi:.2f}', 'an error, a type of thing')",
        "from collections import defaultdict\nd = defaultdict(list)\nd['a'].append(1)",
        "try:\n    1 / 0\nexcept Exception as e:\n    print(e)",
        "import random\nrandom.seed(3)\nprint(random.random())",
        "if __name__ == '__main__':\n    print(1)",
        "from scipy.optimize import brentq\nprint(brentq(lambda t: t - 1, 0, 2))",
    ],
)
def test_ordinary_mathematics_is_tame(code: str) -> None:
    assert analyse(code).strict == ""


@pytest.mark.parametrize(
    "code",
    [
        "import os",
        "import sys",
        "from ctypes import CDLL",
        "import sympy.core.cache as c\nc.os",
        "import sympy\nsympy.solve = None",
        "import sympy\nsympy.Integer.__add__ = None",
        "import sympy\ndel sympy.solve",
        "import sympy\nfor sympy.solve in [1]: pass",
        "import sympy\nwith open('x') as sympy.solve: pass",
        "sympy.x += 1",
        "import sympy\nsympy.abc.ns['a'] = 1",
        "class A:\n    def __del__(self): pass",
        "class A: pass",
        "eval('1')",
        "exec('1')",
        "f = exec",
        "open('x')",
        "getattr(x, 'a')",
        "g = getattr\ng(x, name)",
        "setattr(x, 'a', 1)",
        "x = type('A', (), {})",
        "().__class__",
        "print.__self__",
        "__builtins__",
        "from sympy import sympify\nsympify('__import__(\"os\")')",
        "sympify('exec(1)')",
        "g = (i for i in [1])\ng.gi_frame",
        "from operator import attrgetter",
        "from mpmath import mp\nmp.dps = 50",
        "from decimal import getcontext\ngetcontext().prec = 5",
        "import numpy as np\nnp.set_printoptions(precision=2)",
        "import numpy as np\nnp.load('x')",
        "async def f(): pass",
        "from . import x",
        "import sympy\nsympy.abc.ns.update(a=1)",
        "from sympy.core.sympify import converter\nconverter[str] = int",
        "import numbers\nnumbers.Number.register(str)",
        "from numpy import *\nctypeslib",
        "from sympy.core.cache import *\nsys",
    ],
)
def test_code_that_can_reach_beyond_its_namespace_is_strict(code: str) -> None:
    assert analyse(code).strict


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("print(", "SyntaxError"),
        ("if x:\nprint(1)", "IndentationError"),
        ("x = 1\n\ty = 2", "IndentationError"),
        ("x\0y", "SyntaxError"),
        ("\ud800", "SyntaxError"),
        ("-" * 50_000 + "1", "SyntaxError"),
        ("(" * 5000, "SyntaxError"),
        ("a" + ".b" * 20_000, "SyntaxError"),
        ("1+" * 20_000 + "1", "SyntaxError"),
        ("9" * 5000, "SyntaxError"),
        ("x" * (MAX_CODE + 1), "SyntaxError"),
    ],
)
def test_what_does_not_parse_is_an_error_with_a_short_message(code: str, kind: str) -> None:
    analysis = analyse(code)
    assert analysis.error is not None
    assert analysis.error[0] == kind
    assert len(analysis.error[1]) < 300


def test_numbers_too_long_for_decimal_text_are_read() -> None:
    assert analyse("x = 0x" + "f" * 20_000).error is None


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.text(alphabet="()[]{}'\"\\:=+-* \n\tabif01.,#@", max_size=200))
def test_any_text_is_analysed_without_an_exception(code: str) -> None:
    analysis = analyse(code)
    assert len(analysis.key) == 32
    assert analysis == analyse(code)

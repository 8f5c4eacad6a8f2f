from __future__ import annotations

from typing import Any

import pytest

from rstar_eval.solver.executor.cage import namespace as ns


@pytest.fixture(scope="module", autouse=True)
def libraries() -> None:
    ns.register_libraries()


def state(code: str) -> dict[str, Any]:
    scope: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    exec(code, scope)  # noqa: S102 - text of this file
    return scope


def copied(code: str) -> tuple[dict[str, Any], dict[str, Any]]:
    old = state(code)
    return old, ns.copy_namespace(old, ns.parts_to_copy(old))


def run(code: str, scope: dict[str, Any]) -> None:
    exec(code, scope)  # noqa: S102 - text of this file


CHANGES = [
    ("l = [1, [2]]", "l[1].append(3)", "l"),
    ("d = {'a': [1]}", "d['a'].append(2)", "d"),
    ("s = {1, 2}", "s.add(3)", "s"),
    ("t = ([1], 2)", "t[0].append(5)", "t"),
    ("from collections import *\nc = Counter('aab')", "c['z'] += 1", "c"),
    ("from collections import *\nd = defaultdict(list)", "d['a'].append(1)", "d"),
    ("from collections import *\nq = deque([1], maxlen=3)", "q.append(2)", "q"),
    ("b = bytearray(b'ab')", "b[0] = 0", "b"),
    ("import numpy as np\na = np.zeros(3)", "a[0] = 1", "a"),
    ("import numpy as np\na = np.array([1, [2]], dtype=object)", "a[1].append(3)", "a"),
    ("import sympy\nm = sympy.Matrix([[1, 2]])", "m[0, 0] = 9", "m"),
    ("import sympy\nm = sympy.SparseMatrix([[1, 2]])", "m[0, 0] = 9", "m"),
    ("import mpmath\nm = mpmath.matrix([1, 2])", "m[0] = 9", "m"),
    ("def f(x, seen=[]):\n    seen.append(x)\n    return len(seen)\nl = f.__defaults__", "f(1)", "l"),
    ("import numpy as np\nm = np.matrix([[1, 2]])", "m[0, 0] = 9", "m"),
]


@pytest.mark.parametrize(("make", "change", "name"), CHANGES)
def test_a_change_in_the_copy_does_not_reach_the_original(make: str, change: str, name: str) -> None:
    old, new = copied(make)
    before = repr(old[name])
    run(change, new)
    assert repr(old[name]) == before
    assert repr(new[name]) != before


@pytest.mark.parametrize(
    ("make", "change", "check"),
    [
        ("a = [1]\nb = a", "a.append(2)", "b == [1, 2] and a is b"),
        ("a = [1]\na.append(a)", "a.append(7)", "a[1] is a and a[-1] == 7"),
        ("d = {}\nd['me'] = d", "d['x'] = 1", "d['me']['x'] == 1"),
        ("import numpy as np\na = np.zeros((2, 2))\nr = a[0]", "r[1] = 5", "a[0, 1] == 5"),
        ("import numpy as np\na = np.zeros((2, 3))\nt = a.T", "t[2, 1] = 5", "a[1, 2] == 5"),
        ("x = 1\ndef f():\n    return x", "x = 2", "f() == 2"),
        ("def f():\n    global n\n    n = 5", "f()", "n == 5"),
        ("def make():\n    c = [0]\n    def up():\n        c[0] += 1\n        return c[0]\n"
         "    def get():\n        return c[0]\n"
         "    return up, get\nup, get = make()", "up()", "get() == 1"),
        ("l = []\npush = l.append", "push(3)", "l == [3]"),
        ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)", "g = f", "g(5) == 120"),
        ("from functools import lru_cache\nk = 2\n@lru_cache(None)\ndef f(n):\n    return k * n\n"
         "f(1)", "k = 3", "f(1) == 3"),
        ("from functools import partial\nl = []\ndef f(a, b):\n    l.append(a + b)\n"
         "p = partial(f, 1)", "p(2)", "l == [3]"),
        ("from collections import namedtuple\nT = namedtuple('T', 'a')\nt = T([1])", "t.a.append(2)", "t == T([1, 2])"),
        ("from random import randint", "import random\nrandom.seed(1)\nu = randint(0, 9**9)\n"
         "random.seed(1)", "u == randint(0, 9**9)"),
    ],
)  # fmt: skip
def test_aliases_and_functions_belong_to_the_copy(make: str, change: str, check: str) -> None:
    old, new = copied(make)
    run(change, new)
    assert eval(check, new)  # noqa: S307 - text of this file
    assert eval("True", old)  # noqa: S307 - the original still works
    again = ns.copy_namespace(old, ns.parts_to_copy(old))
    run(change, again)
    assert eval(check, again)  # noqa: S307 - and was not changed by the first copy


@pytest.mark.parametrize(
    "make",
    [
        "g = (i for i in range(3))",
        "i = iter([1, 2])",
        "z = zip([1], [2])",
        "m = map(str, [1])",
        "import itertools\nc = itertools.count()",
        "class A:\n    pass",
        "class A:\n    pass\na = A()\ndel A",
        "l = [iter([1])]",
        "d = {}.items()",
        "f = [lambda: 1]\nf.append(iter(f))",
    ],
)
def test_what_cannot_be_copied_faithfully_is_refused(make: str) -> None:
    with pytest.raises(ns.NotCopyable):
        copied(make)


@pytest.mark.parametrize(
    "make",
    [
        "from sympy import *",
        (
            "from sympy import *\nx = symbols('x')\ne = sin(x)**2\nf = Function('f')\nS.Half\n"
            "p = Poly(x**2, x)\ns = solveset(x**2 - 1, x)"
        ),
        "from math import *",
        "from fractions import *\na = Fraction(1, 3)",
        (
            "from itertools import *\nfrom functools import *\nfrom collections import *\n"
            "from typing import *\nfrom random import *"
        ),
        "import mpmath\na = mpmath.mpf(2)\nb = mpmath.pi",
        "from scipy import stats\nr = stats.linregress([1, 2, 3], [1, 2, 4])\nn = stats.norm(0, 1)",
        "from scipy.optimize import minimize\nr = minimize(lambda v: v[0]**2, [1.0])",
        "import re\nm = re.match('a', 'a')\nimport datetime\nd = datetime.date(2020, 1, 1)",
        "from sympy.stats import *\nX = Die('X', 6)",
        "from sympy import *\nR, a, b = ring('a,b', ZZ)\nk = GF(7)",
    ],
)
def test_what_mathematics_steps_leave_can_be_copied(make: str) -> None:
    old, new = copied(make)
    assert list(old) == list(new)


def test_a_very_deep_list_is_refused_and_not_a_crash() -> None:
    old = state("x = []\nfor _ in range(100000):\n    x = [x]")
    with pytest.raises(ns.NotCopyable):
        ns.copy_namespace(old, ns.parts_to_copy(old))

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rstar_eval.solver.types import StepRun

if TYPE_CHECKING:
    from .conftest import Cage


@pytest.mark.parametrize(
    ("code", "status", "kind", "message", "output"),
    [
        ("print('hi')", "ok", "", "", "hi\n"),
        ("x = 1", "ok", "", "", ""),
        ("1 + 1", "ok", "", "", ""),
        ("print('an error: timeout, killed')", "ok", "", "", "an error: timeout, killed\n"),
        ("print(1)\n1 / 0", "error", "ZeroDivisionError", "division by zero", "1\n"),
        ("y", "error", "NameError", "name 'y' is not defined", ""),
        ("print(", "error", "SyntaxError", "'(' was never closed (line 1)", ""),
        ("return 5", "error", "SyntaxError", "'return' outside function", ""),
        ("raise SystemExit(0)", "error", "SystemExit", "0", ""),
        ("raise KeyboardInterrupt", "error", "KeyboardInterrupt", "", ""),
        ("input()", "error", "EOFError", "EOF when reading a line", ""),
        ("def f(n): return f(n)\nf(1)", "error", "RecursionError", "maximum recursion depth exceeded", ""),
        ("if __name__ == '__main__':\n    print('main')", "ok", "", "", "main\n"),
        ("import torch", "error", "ModuleNotFoundError", "No module named 'torch'", ""),
        ("import rstar_eval", "error", "ModuleNotFoundError", "No module named 'rstar_eval'", ""),
        ("print('é∑' * 3, end='')", "ok", "", "", "é∑é∑é∑"),
        ("import sys\nprint('x', file=sys.stderr)", "ok", "", "", ""),
    ],
)
def test_a_step_has_a_status_and_its_text_is_data(
    cage: Cage, code: str, status: str, kind: str, message: str, output: str
) -> None:
    run = cage.one(code)
    assert (run.status, run.error_type, run.output) == (status, kind, output)
    assert message in run.error


def test_a_loop_is_a_timeout_by_cpu_time(cage: Cage) -> None:
    run = cage.one("while True: pass")
    assert run.status == "timeout"
    assert run.cpu_seconds >= 1.0


def test_a_sleeping_step_is_a_timeout_by_wall_time(cage: Cage) -> None:
    run = cage.one("import time\ntime.sleep(1000)")
    assert run.status == "timeout"
    assert run.cpu_seconds < 0.5


@pytest.mark.parametrize("code", ["import os\nos._exit(0)", "import ctypes\nctypes.string_at(0)"])
def test_a_worker_that_dies_is_killed_and_replaced(cage: Cage, code: str) -> None:
    session = cage.open()
    first = cage.run(session, None, "x = 41")
    assert cage.run(session, first.node, code).status == "killed"
    assert cage.run(session, first.node, "print(x + 1)").output == "42\n"


def test_output_is_cut_at_four_kilobytes(cage: Cage) -> None:
    assert len(cage.one("print('x' * 10**6)\nprint('y')").output) == 4096
    assert len(cage.one("print('é' * 10**6)").output.encode()) == 4096


def test_siblings_never_see_each_others_names_or_changes(cage: Cage) -> None:
    session = cage.open()
    root = cage.run(session, None, "l = [1]\nd = {'a': 1}")
    cage.run(session, root.node, "l.append(2)\nsecret = 5\nd['b'] = 2")
    assert cage.run(session, root.node, "print(l, d)").output == "[1] {'a': 1}\n"
    assert cage.run(session, root.node, "print(secret)").error_type == "NameError"
    assert cage.run(session, None, "print(l)").error_type == "NameError"


def test_problems_never_see_each_others_names(cage: Cage) -> None:
    cage.one("shared_name = 1")
    assert cage.one("print(shared_name)").error_type == "NameError"


def test_a_child_of_a_failed_step_goes_on_from_where_the_exception_left_it(cage: Cage) -> None:
    run = cage.one("a = 1\nb = a / 0\nc = 3", "print(a, 'b' in globals(), 'c' in globals())")
    assert run.output == "1 False False\n"


def test_a_child_of_a_step_that_does_not_parse_sees_its_parents_state(cage: Cage) -> None:
    assert cage.one("a = 1", "a = = 2", "print(a)").output == "1\n"


def test_a_child_of_a_timed_out_step_is_not_run_as_if_nothing_had_been(cage: Cage) -> None:
    run = cage.one("a = 1", "while True: pass", "print(a)")
    assert (run.status, run.error_type) == ("killed", "StateLost")
    assert "timeout" in run.error


def test_an_equal_step_on_the_same_parent_is_not_run_again(cage: Cage) -> None:
    session = cage.open()
    root = cage.run(session, None, "x = 1")
    first = cage.run(session, root.node, "y = x + 1\nprint(y)")
    again = cage.run(session, root.node, "# other words\ny = x+1; print( y )")
    assert (again.node, again.reused, again.output) == (first.node, True, "2\n")
    other = cage.run(session, first.node, "y = x + 1\nprint(y)")
    assert (other.reused, other.node != first.node) == (False, True)


def test_equal_steps_at_the_same_time_run_once(cage: Cage) -> None:
    session = cage.open()

    async def both() -> list[bool]:
        runs = await asyncio.gather(*(session.run(None, "x = 1") for _ in range(5)))
        return [run.reused for run in runs]

    assert sorted(cage.do(both())) == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("steps", "output"),
    [
        (["g = (i for i in range(5))\nnext(g)", "next(g)", "print(next(g), list(g))"], "2 [3, 4]\n"),
        (["class P:\n    def __init__(self, v):\n        self.v = v", "p = P(3)", "p.v += 1\nprint(p.v)"], "4\n"),
        (["import itertools\nc = itertools.count()", "next(c)", "print(next(c))"], "1\n"),
        (["import mpmath\nmpmath.mp.dps = 30", "x = mpmath.mpf(1) / 3", "print(x)"], "0.3" + "3" * 29 + "\n"),
    ],
)
def test_states_that_cannot_be_copied_are_rebuilt(cage: Cage, steps: list[str], output: str) -> None:
    session = cage.open()
    before = [cage.chain(session, *steps[: n + 1]) for n in range(len(steps))]
    assert before[-1].output == output
    for again in range(3):  # siblings of the last step, each on its own state
        assert cage.run(session, before[-2].node, steps[-1] + f"\nz{again} = 1").output == output


@pytest.mark.parametrize(
    ("hostile", "control", "output"),
    [
        ("import math\nmath.pi = 3", "import math\nprint(math.pi)", "3.141592653589793\n"),
        ("import builtins\nbuiltins.print = None", "print(1)", "1\n"),
        ("import sympy\nsympy.solve = lambda *a: 5", "import sympy\nx = sympy.Symbol('x')\n"
         "print(sympy.solve(x - 1))", "[1]\n"),
        ("import sympy\nsympy.Integer.__add__ = lambda a, b: 7", "import sympy\nprint(sympy.Integer(1) + 1)", "2\n"),
        ("import sys\nsys.setrecursionlimit(60)", "def f(n): return 0 if n == 0 else f(n - 1)\nprint(f(500))", "0\n"),
        ("import decimal\ndecimal.getcontext().prec = 2", "from decimal import *\n"
         "print(Decimal(1) / 3)", "0." + "3" * 28 + "\n"),
        ("from sympy import sympify\nsympify('exec(\"import sympy; sympy.solve = 0\")')",
         "import sympy\nx = sympy.Symbol('x')\nprint(sympy.solve(x - 1))", "[1]\n"),
        ("import sympy\nsympy.sympify('set' + 'attr(s, \"solve\", 0)', locals={'s': sympy})",
         "import sympy\nx = sympy.Symbol('x')\nprint(sympy.solve(x - 1))", "[1]\n"),
        ("import signal\nsignal.signal(signal.SIGALRM, lambda *a: print('late'))\nsignal.setitimer(0, 0.01, 0.01)",
         "t = 0\nfor i in range(10**6): t += i\nprint(t)", "499999500000\n"),
        ("from calendar import mdays\nmdays[2] = 30", "import calendar\nprint(calendar.monthrange(2023, 2))",
         "(2, 28)\n"),
        ("import calendar\nd = calendar.mdays\nd[2] = 30", "import calendar\nprint(calendar.mdays[2])", "28\n"),
        ("import calendar\ncalendar.setfirstweekday(3)", "import calendar\nprint(calendar.firstweekday())", "0\n"),
        ("from sympy import Q, Symbol\nfrom sympy.assumptions import global_assumptions\n"
         "global_assumptions.add(Q.positive(Symbol('s')))", "from sympy import ask, Q, Symbol\n"
         "print(ask(Q.positive(Symbol('s'))))", "None\n"),
        ("from sympy import evaluate\ndef g():\n    with evaluate(False):\n        yield 1\nit = g()\nnext(it)",
         "from sympy import Symbol\nprint(Symbol('s') + Symbol('s'))", "2*s\n"),
        ("from sympy import assuming, Q, Symbol\ndef g():\n    with assuming(Q.positive(Symbol('s'))):\n"
         "        yield 1\nit = g()\nnext(it)", "from sympy import ask, Q, Symbol\nprint(ask(Q.positive(Symbol('s'))))",
         "None\n"),
        ("from sympy.ntheory.factor_ import factor_cache\nfactor_cache.cache_clear()\nfactor_cache.maxsize = 0",
         "from sympy import factorint\nprint(factorint(91))", "{7: 1, 13: 1}\n"),
        ("from numpy.polynomial import Polynomial\nd = Polynomial.domain\nd[0] = 77",
         "from numpy.polynomial import Polynomial\nprint(Polynomial.domain)", "[-1.  1.]\n"),
    ],
)  # fmt: skip
def test_what_a_step_does_to_libraries_reaches_no_sibling(cage: Cage, hostile: str, control: str, output: str) -> None:
    session = cage.open()
    root = cage.run(session, None, "x0 = 1")
    cage.run(session, root.node, hostile)
    assert cage.run(session, root.node, control).output == output
    assert cage.run(session, None, control).output == output


def test_timers_of_a_strict_step_do_not_ring_in_its_children(cage: Cage) -> None:
    hostile = "import signal\nsignal.signal(signal.SIGALRM, lambda *a: print('late'))\nsignal.setitimer(0, 0.01, 0.01)"
    assert cage.one(hostile, "t = 0\nfor i in range(10**6): t += i\nprint(t)").output == "499999500000\n"


def test_random_numbers_depend_on_the_steps_and_on_nothing_else(cage: Cage) -> None:
    code = "import random, numpy\nprint(random.random(), numpy.random.rand())"
    assert cage.one("a = 1", code).output == cage.one("a = 1", code).output
    assert cage.one("a = 1", code).output != cage.one("a = 2", code).output
    seeded = cage.one("import random\nrandom.seed(1)", "print(random.random())").output
    assert seeded == cage.one("import random\nrandom.seed(1)", "print(random.random())").output


def test_memory_is_bounded_and_a_failure_of_one_step_is_no_failure_of_the_next(cage: Cage) -> None:
    session = cage.open()
    root = cage.run(session, None, "x = 1")
    assert cage.run(session, root.node, "l = []\nwhile True: l.append(bytes(10**7))").error_type == "MemoryError"
    assert cage.run(session, root.node, "big = bytearray(15 * 10**7)\nprint(len(big))").output == "150000000\n"
    assert cage.run(session, root.node, "huge = bytearray(2 * 10**8)\nprint(len(huge))").output == "200000000\n"


def test_cpu_seconds_are_those_of_the_step(cage: Cage) -> None:
    run = cage.one("x = 1", "t = 0\nfor i in range(3 * 10**6): t += i")
    assert 0.02 < run.cpu_seconds < 1.0


def test_a_session_refuses_unknown_parents_and_use_after_close(cage: Cage) -> None:
    session = cage.open("p")
    with pytest.raises(ValueError, match="no node 7"):
        cage.run(session, 7, "x = 1")
    cage.do(session.close())
    cage.do(session.close())
    with pytest.raises(ValueError, match="closed"):
        cage.run(session, None, "x = 1")


def test_a_cancelled_step_leaves_the_session_usable(cage: Cage) -> None:
    session = cage.open()
    root = cage.run(session, None, "x = 1")

    async def cancel() -> None:
        task = asyncio.ensure_future(session.run(root.node, "import time\ntime.sleep(30)"))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    cage.do(cancel())
    assert cage.run(session, root.node, "print(x)").output == "1\n"


def test_describe_names_level_layers_limits_and_versions(cage: Cage) -> None:
    found = cage.executor.describe()
    assert found["level"] == cage.executor.level
    assert found["cpu_seconds"] == 1.0
    assert set(found) >= {"layers", "memory_mb", "python", "packages", "promise", "running", "live"}


@pytest.mark.parametrize(
    ("text", "status"), [("a" * 59_000, "ok"), ("é" * 9_000, "ok"), ("é" * 50_000, "error"), ("\x01" * 50_000, "error")]
)
def test_a_long_step_runs_or_is_refused_before_it_is_sent(cage: Cage, text: str, status: str) -> None:
    run = cage.one(f"x = '{text}'\nprint(len(x))")
    assert (run.status, run.error_type) == (status, "SyntaxError" if status == "error" else "")
    assert run.output == (f"{len(text)}\n" if status == "ok" else "")


TOGETHER = [
    "y = x + 1\nprint(y)",
    "l.append(2)\nprint(l)",
    "while True: pass",
    "print(",
    "print(l)",
    "import os\nprint(os.getpid() > 0)",
    "from sympy import sympify\nprint(sympify('1 + 1'))",
    "import sympy\nsympy.sympify('set' + 'attr(s, \"solve\", 0)', locals={'s': sympy})",
    "import os\nos._exit(3)",
    "1 / 0",
    "y = x + 1; print(y)",
    "import time\ntime.sleep(1000)",
    "big = []\nwhile True: big.append(bytes(10**7))",
    "print('x' * 5000)",
    "import sympy\nx = sympy.Symbol('x')\nprint(sympy.solve(x - 1))",
    *(f"print('\x01' * 4000)\nz = {number}" for number in range(6)),
]


@pytest.mark.parametrize("root", ["x = 1\nl = [1]", "x = 1\nl = [1]\ng = (i for i in l)", "import os\nx = 1\nl = [1]"])
def test_steps_run_together_give_what_they_give_one_by_one(cage: Cage, root: str) -> None:
    one, many = cage.open(), cage.open()
    parents = [cage.run(session, None, root).node for session in (one, many)]
    singly = [cage.run(one, parents[0], code) for code in TOGETHER]
    together = cage.do(many.run_many(parents[1], TOGETHER))

    def shown(run: StepRun) -> tuple[object, ...]:
        return run.node, run.status, run.output, run.error_type, run.error, run.reused

    assert [shown(run) for run in together] == [shown(run) for run in singly]
    assert together[2].cpu_seconds >= 1.0
    assert max(run.cpu_seconds for run in together if run.status == "ok") < 0.5
    for code, run in zip(TOGETHER, together, strict=True):
        follow = cage.run(many, run.node, "print(x)")
        assert follow.status == ("ok" if run.status in ("ok", "error") else "killed"), code


def test_steps_run_together_are_few_requests(cage: Cage) -> None:
    session = cage.open()
    root = cage.run(session, None, "x = 1")
    before = cage.executor.counts()["requests"]
    runs = cage.do(session.run_many(root.node, [f"y = x + {n}\nprint(y)" for n in range(8)]))
    assert [run.output for run in runs] == [f"{n + 1}\n" for n in range(8)]
    assert cage.executor.counts()["requests"] == before + 1


def test_steps_run_together_at_the_same_time_as_others_run_once(cage: Cage) -> None:
    session = cage.open()

    async def both() -> list[list[StepRun]]:
        codes = [f"y = {n}" for n in range(6)]
        return await asyncio.gather(session.run_many(None, codes), session.run_many(None, codes[::-1]))

    first, second = cage.do(both())
    assert [run.reused for run in first] == [False] * 6
    assert [run.reused for run in second] == [True] * 6
    assert [run.node for run in first] == [run.node for run in second[::-1]]


def test_steps_run_together_can_be_cancelled(cage: Cage) -> None:
    session = cage.open()

    async def cancel() -> None:
        task = asyncio.ensure_future(session.run_many(None, ["x = 1", "import time\ntime.sleep(30)", "x = 2"]))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    cage.do(cancel())
    assert [run.status for run in cage.do(session.run_many(None, ["x = 1", "x = 2"]))] == ["ok", "ok"]


def test_no_worker_can_write_where_another_ones_progress_is_read(cage: Cage) -> None:
    """Pages of workers that live are not mapped in one that is forked later: touching one ends the worker."""
    code = (
        "import gc, mmap\npages = [o for o in gc.get_objects() if isinstance(o, mmap.mmap)]\n"
        "own = 0\nfor page in pages:\n    page[0]\n    own += 1\nprint(own)"
    )
    session, other = cage.open(), cage.open()
    cage.run(session, None, "x = 1")
    assert cage.run(other, None, code).status == "killed"
    assert cage.run(session, None, "print(1)").output == "1\n"


def test_a_step_that_lies_about_when_it_began_gains_nothing(cage: Cage) -> None:
    """A worker that marks a far future as the beginning of its step is ended by the limit of the whole request."""
    code = (
        "import struct, sys\nframe = sys._getframe()\n"
        "while 'mark' not in frame.f_locals: frame = frame.f_back\n"
        "page = frame.f_locals['mark'].__self__._page\n"
        "page[:24] = struct.pack('=Qdd', 7, float('VALUE'), float('VALUE'))\n"
        "while True: pass"
    )
    for value in ("inf", "nan", "1e9", "-1e9"):
        run = cage.one(code.replace("VALUE", value))
        assert (run.status, run.error_type) == ("timeout", "TimeLimit"), run
        assert run.cpu_seconds < 3

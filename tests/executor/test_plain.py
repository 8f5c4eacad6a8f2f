"""The level without a cage: same semantics, no promise against hostile code."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from rstar_eval.solver.executor import Limits

if TYPE_CHECKING:
    from .conftest import Cage


def test_steps_run_and_the_missing_cage_is_said(cage: Cage, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        plain = type(cage)("accidents-only", limits=Limits(cpu_seconds=1.0))
    try:
        assert "WITHOUT a cage" in caplog.text
        assert plain.executor.level == "accidents-only"
        assert "NOT" in str(plain.executor.describe()["promise"])
        session = plain.open()
        root = plain.run(session, None, "from sympy import *\nx = symbols('x')\nl = [1]")
        assert plain.run(session, root.node, "l.append(2)\nprint(solve(x**2 - 4), l)").output == "[-2, 2] [1, 2]\n"
        assert plain.run(session, root.node, "print(l)").output == "[1]\n"
        assert plain.run(session, root.node, "while True: pass").status == "timeout"
        assert plain.run(session, root.node, "import os\nos._exit(3)").status == "killed"
        assert plain.run(session, root.node, "print('still here', l)").output == "still here [1]\n"
        plain.do(session.close())
    finally:
        plain.close()

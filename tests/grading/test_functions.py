"""Named functions at a point: what they refuse."""

from __future__ import annotations

import pytest

from rstar_eval import grade


@pytest.mark.parametrize(("gold", "prediction"), [("(9000i)!!", "(8000i)!!"), ("(x+9000000i)!!", "(x+8000000i)!!")])
def test_a_double_factorial_of_a_complex_number_ends_at_once(gold: str, prediction: str) -> None:
    """Found by the fuzz: its value took minutes."""
    assert grade(gold, prediction).outcome != "correct"

"""Steps that compute the same values are told from those that don't, in the sandbox."""

from __future__ import annotations

import pytest

from rstar_eval.training.values import ValueProbe, assigned


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("a = b = 1\nc += 2", ["a", "b", "c"]),
        ("def f(x):\n    y = x\n    return y\nz = f(1)", ["z"]),
        ("q = [w for w in range(3)]", ["q"]),
        ("print(1)", []),
        ("x = (", None),
    ],
)
def test_assigned_names(code: str, names: list[str] | None) -> None:
    assert assigned(code) == names


def test_equal_values_whatever_the_names(tree) -> None:
    grown = tree(
        [
            ["a = 3", 0, 1, None, 1,
             ["b = a * 4", 0, 1, None, 1], ["total = 12", 0, 1, None, 1], ["b = a + 4", 0, 1, None, 1],
             ["print(a)", 0, 1, None, 1], ["b = 1 / 0", 0, 1, None, 1], ["c = 1 / 0", 0, 1, None, 1]],
        ]
    )  # fmt: skip
    times, twelve, plus, shown, failed, also = grown.root.children[0].children
    with ValueProbe() as same:
        assert same(grown, times, twelve)
        assert not same(grown, times, plus)
        assert not same(grown, times, shown)
        assert same(grown, shown, shown)
        assert not same(grown, failed, also), "steps that fail compute nothing"
        other = tree([["a = 5", 0, 1, None, 1, ["b = a", 0, 1, None, 1], ["b = 5.0", 0, 1, None, 1]]], number=1)
        one, two = other.root.children[0].children
        assert not same(other, one, two), "5 and 5.0 print differently"
        assert same(grown, twelve, times)

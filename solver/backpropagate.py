"""Back-propagation: a finished walk's value is added to every step on its path (paper, section 3.2)."""

from __future__ import annotations

from rstar_eval.solver.tree import Node

FAILURE = -1.0
"""Value of a path that ends without an answer, or with a wrong one where the outcome is known (paper: -1)."""
SUCCESS = 1.0
"""Value of a right answer where the outcome is known (paper: +1)."""


def update(node: Node, value: float) -> None:
    """Add one value to `node` alone: N grows by 1, the sum by `value`; the first value is remembered."""
    node.visits += 1
    node.total += value
    if node.value is None:
        node.value = value


def backpropagate(leaf: Node, value: float) -> None:
    """Add `value` to `leaf` and to all its ancestors up to the root."""
    at: Node | None = leaf
    while at is not None:
        update(at, value)
        at = at.parent


def agreement(agreeing: int, answered: int) -> float:
    """Return the value of an answer with which `agreeing` of the `answered` earlier ones agree: in (-1, 1).

    At test time without a reward model nothing says whether an answer is right, so the walks vote: the posterior mean
    of the probability of agreement under a uniform prior, (agreeing + 1) / (answered + 2), mapped linearly to [-1, 1].
    The first answer is neutral. Ours; the paper always has a reward model at test time.

    >>> agreement(0, 0), agreement(2, 2), agreement(0, 2)
    (0.0, 0.5, -0.5)
    """
    return (2 * agreeing - answered) / (answered + 2)

"""Selection: which child a walk goes to next (paper, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from rstar_eval.solver.config import FirstPlay
from rstar_eval.solver.tree import Node


def uct(q: float, visits: int, parent_visits: int, c: float) -> float:
    """Return Q + c * sqrt(ln N_parent / N); infinite for N = 0. N_parent below 1 counts as 1.

    >>> uct(0.5, 1, 1, 2.0)
    0.5
    """
    if visits == 0:
        return math.inf
    return q + c * math.sqrt(math.log(max(parent_visits, 1)) / visits)


def selection_value(node: Node, parent_visits: int, c: float, first_play: FirstPlay, virtual_loss: float) -> float:
    """Return the UCT value by which `node` competes with its siblings: infinite for a step that must go first.

    An answer that no walk has ended in, but that a reward model has judged, competes like a step with one visit. Walks
    under way count as visits and take `virtual_loss` each off the sum.
    """
    if first_play == "unvisited_first" and not node.walks and not node.pending:
        return math.inf
    visits, total = node.visits + node.pending, node.total - virtual_loss * node.pending
    if not node.visits and node.prior is not None:
        visits, total = visits + 1, total + node.prior
    return uct(total / visits if visits else 0.0, visits, parent_visits, c)


def select(
    children: Sequence[Node],
    parent_visits: int,
    *,
    c: float,
    first_play: FirstPlay,
    virtual_loss: float,
    tie: Callable[[Node], int],
) -> Node | None:
    """Return the child that is not closed with the highest UCT, or None if all are closed.

    Among equals (steps that must go first are all infinite) the higher prior wins, then the lower `tie` number, which
    the caller derives from the seed. A finished or failed path is closed, so that it is never selected again.
    """
    open_children = [child for child in children if not child.closed]
    if len(open_children) < 2:
        return open_children[0] if open_children else None
    keys = [
        (selection_value(child, parent_visits, c, first_play, virtual_loss), child.prior or 0.0)
        for child in open_children
    ]
    best = max(keys)
    equal = [child for child, key in zip(open_children, keys, strict=True) if key == best]
    return equal[0] if len(equal) == 1 else min(equal, key=tie)

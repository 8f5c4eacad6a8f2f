"""Search trees as training sees them: with the problem, its gold answer's verdicts, and their provenance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from rstar_eval.errors import UserError
from rstar_eval.solver.tree import TREE_SCHEMA, Node, add_child, walk
from rstar_eval.solver.types import Trajectory
from rstar_eval.training.rows import Provenance

Right = Callable[[str], bool]
"""Whether an answer is right. Called once for each distinct answer of a tree at most."""

_TEXTS = ("text", "code", "output", "error")
_NUMBERS = ("prior", "value")


@dataclass(frozen=True, slots=True)
class TrainingTree:
    """One search tree of one problem. `root` holds its nodes; `right` decides on answers (only training may know).

    counted: whether the nodes say how often the policy sampled them (`Node.samples`).
    """

    question: str
    root: Node
    right: Right
    source: Provenance = field(default_factory=Provenance)
    counted: bool = True

    def is_right(self, node: Node) -> bool:
        """Return whether a path ends at `node` with a right answer."""
        return node.end == "answer" and node.answer is not None and self.right(node.answer)


def training_tree(question: str, tree: Mapping[str, object], right: Right, source: Provenance) -> TrainingTree:
    """Return a tree stored as plain data (`solver.tree.tree_data`) as a training tree; `right` is asked once an answer.

    UserError if the data is no tree of a schema that this version reads.
    """
    root, counted = read_nodes(tree)
    return TrainingTree(question, root, cache(right), source, counted)


def read_nodes(tree: Mapping[str, object]) -> tuple[Node, bool]:
    """Return the root of a tree stored as plain data, and whether its nodes hold sample counts.

    Every node gets its place, text, verdict and exactly its stored Q and visits; executor states are gone. UserError if
    the data is no tree of a schema that this version reads.
    """
    schema, nodes = tree.get("schema"), tree.get("nodes")
    if schema != TREE_SCHEMA or not isinstance(nodes, list) or not nodes:
        raise UserError(f"a stored tree has schema {schema!r}", f"this version reads schema {TREE_SCHEMA}")
    found: dict[str, Node] = {}
    counted = True
    for data in nodes:
        try:
            node = _node(data, found)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"a stored tree has a broken node ({type(error).__name__}: {error})") from None
        found[node.tag] = node
        counted = counted and (node.parent is None or "samples" in data)
    return found["0"], counted


def _node(data: Mapping[str, object], found: Mapping[str, Node]) -> Node:
    """Return one node, appended to its parent. KeyError, TypeError or ValueError if it does not fit."""
    tag = str(data["tag"])
    if tag in found:
        raise ValueError(f"tag {tag} twice")
    head, _, _ = tag.rpartition(".")
    node = Node() if tag == "0" else add_child(found[head], str(data.get("text", "")), data["kind"])  # type: ignore[arg-type]
    if node.tag != tag:
        raise ValueError(f"tag {tag} where {node.tag} belongs")
    node.visits, node.total = _sum(data["visits"], data["q"])
    for key in _TEXTS:
        setattr(node, key, str(data.get(key, "")))
    for key in _NUMBERS:
        setattr(node, key, None if data.get(key) is None else float(data[key]))  # type: ignore[arg-type]
    node.samples, node.tokens = int(data.get("samples", 1)), int(data.get("tokens", 0))  # type: ignore[call-overload]
    node.walk = None if data.get("walk") is None else int(data["walk"])  # type: ignore[call-overload]
    node.status, node.end = data.get("status"), data.get("end")  # type: ignore[assignment]
    answer = data.get("answer")
    node.answer = None if answer is None else str(answer)
    return node


def _sum(visits: object, q: object) -> tuple[int, float]:
    """Return visits and a sum of values whose mean is exactly `q`."""
    count, mean = int(visits), float(q)  # type: ignore[call-overload,arg-type]
    total = mean * count
    for near in (total, math.nextafter(total, math.inf), math.nextafter(total, -math.inf)):
        if count and near / count == mean:
            return count, near
    return count, total


def visited(root: Node) -> Node:
    """Return a copy of a tree without the nodes that no value has reached: their Q means nothing."""
    copies = {root.tag: _copy(root, None)}
    for node in walk(root):
        if node.parent is not None and node.visits and node.parent.tag in copies:
            parent = copies[node.parent.tag]
            copies[node.tag] = child = _copy(node, parent)
            parent.children = [*(parent.children or []), child]
    return copies[root.tag]


def _copy(node: Node, parent: Node | None) -> Node:
    fields = {name: getattr(node, name) for name in Node.__slots__}
    return Node(**{**fields, "parent": parent, "children": None})


def tree_of(trajectories: Sequence[Trajectory], right: Right) -> Node:
    """Return independent solutions of one problem as a tree: equal steps after equal steps are one node, `samples` says
    how many solutions went through it, and Q is the mean of their outcomes (+1 right, -1 wrong). So that plain samples
    make data by the same rules as searches."""
    root = Node()
    for one in trajectories:
        value = 1.0 if one.answer is not None and right(one.answer) else -1.0
        node = root
        root.visits, root.total = root.visits + 1, root.total + value
        for step in one.steps:
            same = [child for child in node.children or () if child.text == step.text]
            if same:
                node = same[0]
                node.samples += 1
            else:
                node = add_child(node, step.text, step.kind, code=step.code, tokens=step.tokens)
                node.output, node.status, node.error = step.output, step.status, step.error
            node.visits, node.total = node.visits + 1, node.total + value
        node.end, node.answer = one.end, one.answer
    return root


def annotated(tree: TrainingTree) -> TrainingTree:
    """Return a tree of semantics `paper` with the values of a search for training: each finished path +1 for a right
    answer, else -1, on every step of it (section 3.2, terminal-guided), after the reward model's value of the step
    where it has one (PPM-augmented). A search that was given outcomes has these values already; one at test time has
    the agreement of its answers, or a reward model's opinion of them, instead."""
    copies = {node.tag: _copy(node, None) for node in walk(tree.root)}
    for node in walk(tree.root):
        copy = copies[node.tag]
        copy.parent = None if node.parent is None else copies[node.parent.tag]
        copy.children = None if node.children is None else [copies[child.tag] for child in node.children]
        scored = node.prior is not None and node.end is None
        copy.visits, copy.total = (1, node.prior or 0.0) if scored else (0, 0.0)
    for node in walk(tree.root):
        if node.end is None or not (node.visits or node.walk is not None):
            continue  # beam search finishes paths without giving them a value
        value = 1.0 if tree.is_right(node) else -1.0
        at: Node | None = copies[node.tag]
        while at is not None:
            at.visits, at.total = at.visits + 1, at.total + value
            at = at.parent
    return TrainingTree(tree.question, copies[tree.root.tag], tree.right, tree.source, tree.counted)

"""The search tree: nodes, paths, and their plain-data forms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from rstar_eval.solver.types import EndReason, RunStatus, Step, StepKind, Trajectory

TREE_SCHEMA = 1
_STORED = ("prior", "value", "text", "code", "output", "status", "error", "tokens", "logprob", "end", "answer", "walk")


@dataclass(slots=True, eq=False)
class Node:
    """One step in the tree; the root is the question.

    tag: place in the tree: "0" is the root, "0.2.1" the first child of its second child.
    text: surface form, appended to its ancestors' texts; includes the printed output shown after a closed block.
    handle: executor state after the step (None: the fresh state). block_output: printed so far in the open block.
    visits: N, the values that this node received: a reward model's when the step was new, then one of each walk that
        passed; total: their sum; value: the first of them.
    prior: the reward model's value of the path that ends here (None: not scored).
    end: why the path ends here (None: it goes on). answer: the final answer of a readable answer step.
    closed: no walk may choose this node any more: a finished or failed path, or all children closed.
    errors: failed code runs on the path. pending: walks under way through this node (virtual loss).
    samples: candidates of the parent's expansion that were this very step (equal ones are merged into one node).
    walk: number of the trajectory that ended here (`Trajectory.rollout`; None: none did, or the path goes on).
    logprob, logprob_tokens: the step's log-probability and the tokens that it is the sum over (types.Completion).
    children: None until the node is expanded.
    """

    tag: str = "0"
    depth: int = 0
    parent: Node | None = None
    text: str = ""
    kind: StepKind = "code"
    code: str = ""
    output: str = ""
    block_output: str = ""
    status: RunStatus | None = None
    error: str = ""
    tokens: int = 0
    handle: int | None = None
    visits: int = 0
    total: float = 0.0
    value: float | None = None
    prior: float | None = None
    end: EndReason | None = None
    answer: str | None = None
    closed: bool = False
    errors: int = 0
    pending: int = 0
    samples: int = 1
    logprob: float | None = None
    logprob_tokens: int = 0
    walk: int | None = None
    children: list[Node] | None = field(default=None)

    @property
    def q(self) -> float:
        """Q: the mean of the values that this node received (0 before the first)."""
        return self.total / self.visits if self.visits else 0.0

    @property
    def walks(self) -> int:
        """Finished walks that passed this node: its visits but for the one that a reward model's value counts as."""
        return self.visits - (self.prior is not None and self.end is None)


def add_child(parent: Node, text: str, kind: StepKind, *, code: str = "", tokens: int = 0) -> Node:
    """Append a new step to `parent` and return its node."""
    if parent.children is None:
        parent.children = []
    child = Node(
        tag=f"{parent.tag}.{len(parent.children) + 1}",
        depth=parent.depth + 1,
        parent=parent,
        text=text,
        kind=kind,
        code=code,
        tokens=tokens,
        handle=parent.handle,
        errors=parent.errors,
    )
    parent.children.append(child)
    return child


def path_to(node: Node) -> list[Node]:
    """Return the nodes from the first step to `node` (empty for the root)."""
    path: list[Node] = []
    at: Node | None = node
    while at is not None and at.parent is not None:
        path.append(at)
        at = at.parent
    path.reverse()
    return path


def root_of(node: Node) -> Node:
    """Return the root of the tree that `node` is in."""
    while node.parent is not None:
        node = node.parent
    return node


def prefix_of(node: Node) -> str:
    """Return the solution text up to and including `node`."""
    return "".join(step.text for step in path_to(node))


def walk(root: Node) -> Iterator[Node]:
    """Yield every node, parents before children, children in order (depth first)."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(node.children or ()))


def close_upwards(node: Node) -> None:
    """Close `node` and every ancestor whose children are now all closed."""
    node.closed = True
    at = node.parent
    while at is not None and not at.closed and all(child.closed for child in at.children or ()):
        at.closed = True
        at = at.parent


def sampling_share(leaf: Node) -> float:
    """Return the product, over the steps of the path to `leaf`, of the share of the candidates sampled beside a step
    that were this very step: an estimate, in (0, 1], of how probable the policy makes the path."""
    share = 1.0
    for node in path_to(leaf):
        siblings = node.parent.children if node.parent is not None else None
        share *= node.samples / sum(one.samples for one in siblings or (node,))
    return share


def likelihood(node: Node) -> float:
    """Return the mean log-probability of a token on the path to `node`: at most 0, and 0 for a path without tokens.
    RuntimeError if a step on it has none."""
    total, tokens = 0.0, 0
    for step in path_to(node):
        if step.logprob is None:
            raise RuntimeError(f"step {step.tag} has no log-probability")
        total += step.logprob
        tokens += step.logprob_tokens
    return total / tokens if tokens else 0.0


def to_trajectory(leaf: Node, end: EndReason, *, tree: int, rollout: int, values: bool = True) -> Trajectory:
    """Return the path to `leaf` as a trajectory that ended for the reason `end`.

    With `values` each step carries its Q (None if no value was back-propagated through it).
    """
    steps = tuple(
        Step(
            text=node.text,
            kind=node.kind,
            code=node.code,
            output=node.output,
            status=node.status,
            error=node.error,
            tokens=node.tokens,
            value=node.q if values and node.visits else None,
            logprob=node.logprob,
        )
        for node in path_to(leaf)
    )
    answer = leaf.answer if end == "answer" else None
    score = leaf.prior if end == "answer" else None
    return Trajectory(steps, end, answer, score, tree, rollout, sampling_share(leaf))


def tree_data(root: Node) -> dict[str, object]:
    """Return the tree as plain data: {"schema": 1, "nodes": [...]}, parents before children.

    A node: tag, visits, q, and what it has of kind, samples, prior, value, text, code, output, status, error, tokens,
    logprob, end, answer, walk. Absent keys are empty; kind and samples are absent at the root alone.
    """
    nodes: list[dict[str, object]] = []
    for node in walk(root):
        data: dict[str, object] = {"tag": node.tag, "visits": node.visits, "q": node.q}
        if node.parent is not None:
            data["kind"], data["samples"] = node.kind, node.samples
        for key in _STORED:
            item = getattr(node, key)
            if item is not None and item != "" and (key != "tokens" or item):
                data[key] = item
        nodes.append(data)
    return {"schema": TREE_SCHEMA, "nodes": nodes}

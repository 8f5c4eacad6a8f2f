"""A search tree as lines of text: for `show --tree`, and for `solve` while the tree grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rstar_eval.visible import visible

Nodes = Sequence[Mapping[str, Any]]
HEADLINE = 72


@dataclass(frozen=True, slots=True)
class Line:
    """One line and how it is shown: "chosen" (on the way to the answer), "failed", "plain", or "faint" (not walked)."""

    text: str
    look: str = "plain"


def tree_lines(
    nodes: Nodes, *, chosen: int | None = None, depth: int | None = None, everything: bool = False
) -> list[Line]:
    """Return the lines of a tree (plain data: `solver.tree.tree_data`), one a node, with N, Q, PPM, how often it was
    sampled, and how its code or its path ended.

    chosen: the walk whose path is marked with `*`. depth: only so many levels below the root; what is below is counted.
    everything: also the steps that no walk took; else they are counted beside their parent.
    """
    children = _children(nodes)
    walked, marked = _on_walks(nodes), path_of_walk(nodes, chosen)
    lines: list[Line] = []
    stack: list[tuple[Mapping[str, Any], str, str]] = [(nodes[0], "", "")]
    while stack:
        node, head, indent = stack.pop()
        below = children.get(node["tag"], [])
        shown = [child for child in below if everything or child["tag"] in walked or child["tag"] in children]
        deep = depth is not None and node["tag"].count(".") >= depth
        hidden = _below(node["tag"], children) if deep else len(below) - len(shown)
        note = f"  (+{hidden} {'below' if deep else 'not followed'})" if hidden else ""
        lines.append(Line(head + node_text(node, node["tag"] in marked) + note, _look(node, walked, marked)))
        if deep:
            continue
        for place in range(len(shown) - 1, -1, -1):
            last = place == len(shown) - 1
            stack.append((shown[place], indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  ")))
    return lines


def node_text(node: Mapping[str, Any], chosen: bool = False) -> str:
    """Return one node in a line: tag, N, Q, PPM, verdict, and the first telling line of the step."""
    parts = [("* " if chosen else "") + str(node["tag"]), f"N={node['visits']}", f"Q={node['q']:+.2f}"]
    if node.get("prior") is not None:
        parts.append(f"PPM={node['prior']:+.2f}")
    if node.get("logprob") is not None:
        parts.append(f"logP={node['logprob']:.1f}")
    if node.get("samples", 1) > 1:
        parts.append(f"x{node['samples']}")
    if node.get("end") == "answer":
        parts.append(f"answer {one_line(str(node.get('answer')))}")
    else:
        parts += [str(node[key]) for key in ("status", "end") if node.get(key) is not None]
        parts.append(headline(node))
    return " ".join(part for part in parts if part)


def headline(node: Mapping[str, Any]) -> str:
    """Return a step's comment and the first line of its code, in one line; its error if it failed."""
    if node.get("error"):
        return one_line(str(node["error"]))
    source = str(node.get("code") or node.get("text") or "")
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    return one_line(" | ".join(lines[:2]))


def one_line(text: str) -> str:
    """Return text in one line of at most HEADLINE characters, safe for a terminal."""
    flat = visible(" ".join(text.split()))
    return flat if len(flat) <= HEADLINE else flat[: HEADLINE - 1] + "…"


def walk_lines(nodes: Nodes, *, chosen: int | None = None, in_turn: bool = True) -> list[Line]:
    """Return one line a walk, in their order: where it left the walk before it, the steps it took, and how it ended.

    A walk of mcts goes from the root each time; that it "went back" to a node means that it shares the way up to that
    node with the walk before it and took another step there. Where the paths grew together (`in_turn` false: beam,
    dvts) each line has its whole path.
    """
    by_tag = {node["tag"]: node for node in nodes}
    ends = sorted((node for node in nodes if node.get("walk") is not None), key=lambda node: node["walk"])
    lines, before = [], ""
    for node in ends:
        path = _path(node["tag"])
        shared = "0"
        for tag in path:
            if not in_turn or not before or not (before + ".").startswith(tag + "."):
                break
            shared = tag
        taken = [tag for tag in path if tag.count(".") > shared.count(".")] or [node["tag"]]
        end = (
            f"answer {one_line(str(node.get('answer')))}"
            if node.get("end") == "answer"
            else str(node.get("end", "budget"))
        )
        value = f", Q {by_tag[node['tag']]['q']:+.2f}" if node["visits"] else ""
        way = " > ".join(taken)
        start = f"went back to {shared}, took {way}" if before and in_turn else f"took {way}"
        mark = "* " if node["walk"] == chosen else ""
        look = "chosen" if mark else "plain" if node.get("end") == "answer" else "failed"
        kind = "walk" if in_turn else "path"
        lines.append(Line(f"{mark}{kind} {node['walk']}: {start}: {end}{value}", look))
        before = node["tag"]
    return lines


def path_of_walk(nodes: Nodes, walk: int | None) -> set[str]:
    """Return the tags on the way to the end of a walk (of the first node that it ended in; none for None)."""
    if walk is None:
        return set()
    return set(next((_path(node["tag"]) for node in nodes if node.get("walk") == walk), []))


def _path(tag: str) -> list[str]:
    parts = tag.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _on_walks(nodes: Nodes) -> set[str]:
    return {tag for node in nodes if node.get("walk") is not None for tag in _path(node["tag"])}


def _children(nodes: Nodes) -> dict[str, list[Mapping[str, Any]]]:
    children: dict[str, list[Mapping[str, Any]]] = {}
    for node in nodes[1:]:
        children.setdefault(node["tag"].rpartition(".")[0], []).append(node)
    return children


def _below(tag: str, children: Mapping[str, list[Mapping[str, Any]]]) -> int:
    count, stack = 0, [tag]
    while stack:
        found = children.get(stack.pop(), [])
        count += len(found)
        stack += [child["tag"] for child in found]
    return count


def _look(node: Mapping[str, Any], walked: set[str], marked: set[str]) -> str:
    if node["tag"] in marked:
        return "chosen"
    if node.get("end") not in (None, "answer") or node.get("status") not in (None, "ok"):
        return "failed"
    return "plain" if node["tag"] in walked or node["tag"] == "0" else "faint"

"""The search tree viewer's page and its data: nodes in columns, the walks, and where each left the one before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rstar_eval.leaderboards.board.entries import Entry
from rstar_eval.leaderboards.board.markup import mathematics, page, script_data, text
from rstar_eval.problem import Problem
from rstar_eval.records import GradeRecord

DATA = "RSTAR_TREE"


def tree_data(
    nodes: Sequence[Mapping[str, Any]], *, outcomes: Mapping[int, str], chosen: int | None, in_turn: bool
) -> dict[str, Any]:
    """Return what the viewer shows of a tree (plain data: `solver.tree.tree_data`).

    outcomes: verdict by walk. chosen: the walk whose answer was chosen, if it is of this tree. in_turn: whether walks
    came one after the other (mcts), so that a walk can be said to go back.
    """
    place = {node["tag"]: number for number, node in enumerate(nodes)}
    walks = []
    before: list[int] = []
    for node in sorted((one for one in nodes if one.get("walk") is not None), key=lambda one: one["walk"]):
        path = _path(node["tag"], place)
        shared = [here for here, there in zip(path, before, strict=False) if here == there] if in_turn else []
        walks.append(
            {
                "walk": node["walk"], "end": place[node["tag"]], "outcome": outcomes.get(node["walk"], ""),
                "back": shared[-1] if shared and before else None,
                "answer": node.get("answer") if node.get("end") == "answer" else None,
                "why": node.get("end") or "budget",
            }
        )  # fmt: skip
        before = path
    keys = (
        "kind",
        "samples",
        "visits",
        "q",
        "prior",
        "text",
        "code",
        "output",
        "status",
        "error",
        "tokens",
        "end",
        "answer",
    )
    return {
        "tags": [node["tag"] for node in nodes],
        "parents": [place[node["tag"].rpartition(".")[0]] if "." in node["tag"] else -1 for node in nodes],
        "nodes": {key: [node.get(key) for node in nodes] for key in keys},
        "walks": walks, "chosen": chosen, "inTurn": in_turn,
    }  # fmt: skip


def _path(tag: str, place: Mapping[str, int]) -> list[int]:
    parts = tag.split(".")
    return [place[".".join(parts[: i + 1])] for i in range(len(parts))]


def tree_script(data: Mapping[str, Any]) -> str:
    """Return the script that gives the viewer its data."""
    return script_data(DATA, data)


def tree_page(
    entry: Entry, problem: Problem | None, grade: GradeRecord, number: int, size: int, *, script: str, up: str
) -> str:
    """Return the viewer's page of one tree. script: file of its data beside the page; up: the problem's page."""
    question = text(mathematics(problem.text)) if problem is not None else "The task's data is not here."
    answer = "none" if grade.answer is None else grade.answer
    body = f"""
<p><a href="{up}">Problem {grade.index}</a> of run <a href="../../{entry.slug}.html">{text(entry.title)}</a>;
{size} nodes. Chosen answer: <span class="answer">{text(answer)}</span> ({text(grade.outcome.replace("_", " "))}).</p>
<details class="question math"><summary>Question</summary><p>{question}</p></details>
<div class="toolbar" role="toolbar" aria-label="Tree">
<button type="button" id="all">Expand all</button>
<button type="button" id="walked">Only walked steps</button>
<button type="button" id="to-chosen">Chosen line (c)</button>
<button type="button" id="to-back">Next place gone back to (b)</button>
<span id="where" role="status" aria-live="polite"></span>
</div>
<p class="hint" id="keys">
Keys in the tree: arrows up and down move, right opens, left closes or goes to the parent,
Home, End, <kbd>c</kbd> the chosen line's end, <kbd>b</kbd> the next place where the search went back and took another
way.</p>
<div class="viewer">
<section class="pane" aria-label="Search tree">
<canvas id="overview" width="600" height="150" aria-hidden="true"></canvas>
<div id="tree" role="tree" tabindex="0" aria-label="Search tree" aria-describedby="keys"></div>
</section>
<section class="pane" id="detail" aria-label="Chosen step" aria-live="polite" tabindex="0"></section>
</div>
<section aria-label="Walks"><h2>Walks</h2><ol id="walks"></ol></section>
<noscript><p>The viewer needs JavaScript; <code>rstar-eval show RUN {grade.index} --tree</code> prints the tree.</p>
</noscript>
"""
    title = f"Search tree {number} of {grade.task} problem {grade.index}"
    return page(title, body, depth=3, scripts=(f"./{script}", "tree.js"), math=True)

"""A run's figures for people: a terminal table, summary.md and summary.json. Nothing is computed here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rstar_eval.store import RunStore
from rstar_eval.summary import RunSummary, TaskSummary

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = ("task", "n", "accuracy", "95 % interval", "no answer", "grader error", "tokens", "seconds")


def write_reports(store: RunStore, summary: RunSummary) -> None:
    """Write summary.json (every figure) and summary.md into the run's folder."""
    data = {
        "schema": 1,
        **summary.machine(),
        "details": {one.task: asdict(one) for one in summary.tasks},
        "facts": facts(summary.manifest),
    }
    store.write_report("summary.json", json.dumps(data, indent=2) + "\n")
    store.write_report("summary.md", markdown(summary))


def facts(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the manifest's key facts, each as one short line."""
    config, session = manifest["config"], manifest["sessions"][-1]
    levels = sorted({str(one["isolation"]) for one in manifest["sessions"]})
    lines = {
        "policy": _model(manifest["policy"]),
        "reward": _model(manifest["reward"]) if manifest["reward"] else "none",
        "strategy": (
            f"{config['strategy']}, {config['rollouts']} rollouts in {config['trees']} tree(s), "
            f"{config['candidates']} candidates, depth {config['max_depth']}, temperature {config['temperature']}"
        ),
        "seed": str(config["seed"]),
        "grader": f"{manifest['grader']['name']} {manifest['grader']['version']}",
        "isolation": ", ".join(levels),
        "config": manifest["config_hash"],
        "sessions": f"{len(manifest['sessions'])}, the last {session['start']}, {session['ended']}",
    }
    wasted = [one["cut_off"] for one in manifest["sessions"] if one.get("cut_off")]
    if wasted:
        tokens = sum(one["completion_tokens"] for one in wasted)
        lines["cut off"] = f"{sum(one['searches'] for one in wasted)} searches, {tokens} tokens, in no figure above"
    for name, entry in manifest["data"].items():
        source = entry["source"]
        lines[f"data of {name}"] = (
            f"{source.get('kind')}, sha256 {str(source.get('sha256'))[:16]}, {entry['problems']} problems, "
            f"{entry['errata']} errata"
        )
    return lines


def markdown(summary: RunSummary) -> str:
    """Return the run's report as Markdown."""
    from tabulate import tabulate

    parts = [
        "# Run " + summary.path.name,
        "",
        tabulate([_row(one) for one in summary.tasks], COLUMNS, tablefmt="github"),
        "",
    ]
    for one in summary.tasks:
        parts += [f"## {one.task}", "", *(f"- {text}" for text in details(one)), ""]
        if one.curve:
            rows = [(p.k, f"{p.pass_at_k:.3f}", f"{p.maj_at_k:.3f}") for p in one.curve]
            parts += [tabulate(rows, ("k", "pass@k", "maj@k"), tablefmt="github", disable_numparse=True), ""]
        if one.levels:
            rows_l = [(s.label, s.n, f"{s.accuracy:.3f}", _interval(s.interval)) for s in one.levels]
            parts += [
                tabulate(rows_l, ("level", "n", "accuracy", "95 % interval"), tablefmt="github", disable_numparse=True),
                "",
            ]
    parts += ["## Facts", "", *(f"- {key}: {value}" for key, value in facts(summary.manifest).items()), ""]
    return "\n".join(parts)


def details(one: TaskSummary) -> list[str]:
    """Return a task's figures a problem, each as one line."""
    if not one.n:
        return ["no problem finished yet"]
    n = one.n
    ends = ", ".join(f"{name} {count}" for name, count in one.ends.items())
    share = one.steps_ok / one.steps_run if one.steps_run else 0.0
    speed = one.tokens / one.seconds if one.seconds else 0.0
    spared = []
    if one.spared:
        each = one.tokens / max(one.trajectories, 1)
        spared = [
            f"early stop: {one.spared} of {one.trajectories + one.spared} trajectories not needed, "
            f"about {one.spared * each:.0f} tokens saved (at the mean of those made)"
        ]
    return [
        f"right {one.correct}, wrong {one.wrong}, no answer {one.no_answer} ({one.no_answer / n:.1%}), "
        f"grader error {one.grader_error} ({one.grader_error / n:.1%})",
        f"a problem: {one.tokens / n:.0f} tokens, {one.steps_run / n:.1f} code runs, {one.seconds / n:.2f} s wall",
        f"steps whose code ran: {share:.1%} of {one.steps_run}; mean over trajectories right: {one.avg:.3f}; "
        f"{speed:.0f} tokens/s",
        f"trajectories: {one.trajectories}, ended by: {ends}",
        *spared,
    ]


def print_summary(summary: RunSummary, console: Console) -> None:
    """Print the report as terminal tables."""
    from rich import box
    from rich.table import Table

    console.print(f"Run {summary.path}", style="bold", markup=False, highlight=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    short = {"no answer": "no ans", "grader error": "gr err"}  # so that a row fits 80 columns
    for name in COLUMNS:
        table.add_column(short.get(name, name), justify="left" if name == "task" else "right", no_wrap=True)
    for one in summary.tasks:
        table.add_row(*_row(one))
    console.print(table)
    for one in summary.tasks:
        console.print(f"[bold]{one.task}[/bold]")
        for text in details(one):
            console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)
        if len(one.curve) > 1:
            curve = Table("k", "pass@k", "maj@k", box=None, padding=(0, 2))
            for p in one.curve:
                curve.add_row(str(p.k), f"{p.pass_at_k:.3f}", f"{p.maj_at_k:.3f}")
            console.print(curve)
        for score in one.levels:
            console.print(
                f"  level {score.label}: {score.accuracy:.3f} {_interval(score.interval)} of {score.n}",
                markup=False,
                highlight=False,
            )
    for key, value in facts(summary.manifest).items():
        console.print(f"{key}: {value}", markup=False, highlight=False, soft_wrap=True)


def _row(one: TaskSummary) -> tuple[str, ...]:
    return (
        one.task,
        str(one.n),
        f"{one.accuracy:.3f}",
        _interval(one.interval),
        str(one.no_answer),
        str(one.grader_error),
        str(one.tokens),
        f"{one.seconds:.1f}",
    )


def _interval(edges: tuple[float, float]) -> str:
    return f"[{edges[0]:.3f}, {edges[1]:.3f}]"


def _model(described: Mapping[str, Any]) -> str:
    """The spec, and the first digits of the weights' hash or the name that the server gives."""
    proof = described.get("sha256") or described.get("served") or described.get("model") or ""
    return f"{described.get('policy') or described.get('reward') or '?'}{f' ({str(proof)[:16]})' if proof else ''}"

"""A figure's numbers as text: its points and paired tests as CSV, and both to read as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rstar_eval.leaderboards.curves import FigureData, Point, Test
from rstar_eval.leaderboards.published import benchmarks, published_table
from rstar_eval.leaderboards.tables import POOLED


def panel_title(panel: str, experiment: Any) -> str:
    """Return a panel's title: the paper's benchmark and the task measured for it."""
    if panel == POOLED:
        return "all tasks"
    known = benchmarks()
    label, task = known[panel].label, experiment.columns.get(panel)
    return label if task in (None, known[panel].task) else f"{task} (for {label})"


def curve_csv(data: FigureData) -> str:
    """Return the points of a figure as CSV."""
    lines = ["figure,preset,panel,task,curve,name,x,percent,low,high,tokens_a_problem,n,seeds"]
    for curve in data.curves:
        for point in curve.points:
            tokens = "" if point.tokens is None else f"{point.tokens:.6g}"
            values = (f"{point.y:.6g}", f"{point.interval[0]:.6g}", f"{point.interval[1]:.6g}", tokens)
            task = data.experiment.columns.get(curve.panel) or ""
            lines.append(_row(data.experiment.id, data.preset, curve.panel, task, curve.row, curve.name, str(point.x),
                              *values, str(point.n), str(point.seeds)))  # fmt: skip
    for panel, name, value in data.lines:
        task = data.experiment.columns.get(panel) or ""
        lines.append(
            _row(data.experiment.id, data.preset, panel, task, "line", name, "", f"{value:.6g}", "", "", "", "", "")
        )
    return "\n".join(lines) + "\n"


def test_csv(data: FigureData) -> str:
    """Return the paired tests of a figure as CSV: differences in percentage points."""
    lines = ["figure,preset,panel,curve,against,equal,x,other_x,out_of_samples,n,difference,error,low,high,p,p_holm"]
    for test in data.tests:
        one = test.difference
        values = (
            100 * one.mean,
            100 * one.error,
            100 * one.interval[0],
            100 * one.interval[1],
            one.p,
            one.p_holm or one.p,
        )
        lines.append(_row(data.experiment.id, data.preset, test.panel, test.row, one.against, test.equal, str(test.x),
                          str(test.other_x), "yes" if test.short else "no", str(one.n),
                          *(f"{value:.6g}" for value in values)))  # fmt: skip
    return "\n".join(lines) + "\n"


def _row(*values: str) -> str:
    return ",".join(f'"{value}"' if "," in value else value for value in values)


def markdown(data: FigureData) -> str:
    """Return a figure's numbers as Markdown: for each panel the points, their tokens, and the paired tests."""
    from tabulate import tabulate

    one = data.experiment
    parts = [f"# Figure {one.number}: {one.title} (preset {data.preset})", ""]
    if not data.curves:
        parts += ["Nothing of this figure was run here.", ""]
    if data.preset == "mini":
        parts += [
            "How often the miniature's problems hold traps is a design choice and sets how much there is to gain.",
            "",
        ]
    if one.number == 3:
        parts += [
            "The paper's figure has no printed numbers; its ends are table rows: " + "; ".join(published_ends(data)),
            "",
        ]
    for panel in data.panels:
        curves = [curve for curve in data.curves if curve.panel == panel]
        if not curves:
            continue
        xs = [x for x in one.x if any(point.x == x for curve in curves for point in curve.points)]
        rows = [[curve.name, *(_shown(curve.points, x) for x in xs)] for curve in curves]
        problems, seeds = max(p.n for c in curves for p in c.points), max(p.seeds for c in curves for p in c.points)
        parts += [
            f"## {panel_title(panel, one)}",
            "",
            f"{problems} problems, {seeds} seed(s); percent [95 % interval].",
        ]
        lines = [f"{name} {value:.1f}" for where, name, value in data.lines if where == panel]
        parts += [f"Lines: {', '.join(lines)}."] if lines else []
        parts += ["", tabulate(rows, ["", *map(str, xs)], tablefmt="github", disable_numparse=True), ""]
        tokens = [
            [
                curve.name,
                *("-" if (p := _at(curve.points, x)) is None or p.tokens is None else f"{p.tokens:.0f}" for x in xs),
            ]
            for curve in curves
        ]
        parts += ["Completion tokens a problem:", "", tabulate(tokens, ["", *map(str, xs)], tablefmt="github"), ""]
        tests = [_test_row(test, data) for test in data.tests if test.panel == panel]
        if tests:
            columns = ("curve", "N", "against", "N", "equal", "difference", "+-", "p", "p (Holm)")
            parts += [tabulate(tests, columns, tablefmt="github", disable_numparse=True), ""]
    return "\n".join(parts)


def _at(points: Sequence[Point], x: int) -> Point | None:
    return next((point for point in points if point.x == x), None)


def _shown(points: Sequence[Point], x: int) -> str:
    point = _at(points, x)
    return "-" if point is None else f"{point.y:.1f} [{point.interval[0]:.1f}, {point.interval[1]:.1f}]"


def _tokens(points: Sequence[Point], x: int) -> str:
    point = _at(points, x)
    return "-" if point is None or point.tokens is None else f"{point.tokens:.0f}"


def _test_row(test: Test, data: FigureData) -> list[str]:
    one = test.difference
    names = {row.id: row.name for row in data.experiment.rows}
    equal = test.equal + (", out of samples" if test.short else "")
    mark = " *" if abs(one.mean) > 2 * one.error > 0 else ""
    return [names[test.row], str(test.x), names[one.against], str(test.other_x), equal, f"{100 * one.mean:+.1f}{mark}",
            f"{100 * one.error:.1f}", f"{one.p:.3g}", "-" if one.p_holm is None else f"{one.p_holm:.3g}"]  # fmt: skip


def published_ends(data: FigureData) -> Sequence[str]:
    """Return what the paper prints of Figure 3, which has no numbers of its own: its ends, from Tables 10 and 5."""
    start = published_table(10).row("policy-qwen2.5-math-7b").values
    end = published_table(5).row("qwen2.5-math-7b-rstar-math-64-trajectories-7b-slm-7b-ppm").values
    known = benchmarks()
    return [
        f"{known[panel].label}: {start[panel]:.1f} at 1, {end[panel]:.1f} at 64"
        for panel in data.experiment.columns
        if panel in start
    ]

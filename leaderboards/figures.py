"""Figures 3, 5 and 7 with matplotlib: PNG, SVG and the numbers as CSV. The same numbers give the same bytes.

Colours are Okabe and Ito's, which stay apart for every kind of colour blindness; curves differ in marker and dash as
well, so that they can be read in grey.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from rstar_eval.errors import UserError
from rstar_eval.leaderboards.curves import Curve, FigureData
from rstar_eval.leaderboards.figure_text import curve_csv, markdown, panel_title, test_csv
from rstar_eval.leaderboards.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS, DASHES = ("o", "s", "^", "D", "v", "P", "X"), ("-", "--", "-.", ":", "-", "--", "-.")
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#dddddd", "grid.linewidth": 0.6,
    "svg.hashsalt": "rstar-eval", "svg.fonttype": "path", "savefig.dpi": 160, "figure.dpi": 100,
}  # fmt: skip


def draw(data: FigureData | Table) -> dict[str, bytes]:
    """Return a figure's files by name: NAME.png, NAME.svg, NAME.csv, and for Figure 3 the same over tokens.

    UserError if matplotlib is not installed.
    """
    mpl = load_matplotlib()
    with mpl.rc_context(STYLE):
        if isinstance(data, Table):
            return _bars(data)
        name = data.experiment.id
        texts = {f"{name}.csv": curve_csv(data), f"{name}.md": markdown(data)}
        files = {**{key: text.encode() for key, text in texts.items()}, **_saved(name, _panels(data, tokens=False))}
        if data.tests:
            files[f"{name}-tests.csv"] = test_csv(data).encode()
        if (
            any(point.tokens is not None for curve in data.curves for point in curve.points)
            and data.experiment.number == 3
        ):
            files |= _saved(f"{name}-tokens", _panels(data, tokens=True))
        return files


def load_matplotlib() -> Any:
    """Return matplotlib, set to draw without a screen. UserError if it is not installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise UserError(
            "matplotlib is not installed, which draws figures", "pip install 'rstar-eval[figures]'"
        ) from None
    mpl.use("Agg")
    return mpl


def _panels(data: FigureData, *, tokens: bool) -> Figure:
    """Return the panels of a figure of curves, over trajectories or over tokens, both on a log2 axis."""
    from matplotlib.figure import Figure as NewFigure

    panels = list(data.panels)
    columns = 2 if len(panels) > 1 else 1
    rows = math.ceil(len(panels) / columns)
    figure = NewFigure(figsize=(8.0, 3.1 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    order = [row.id for row in data.experiment.rows if row.role == "curve"]
    handles: dict[str, Any] = {}
    for panel, axis in zip(panels, [one for line in axes for one in line], strict=False):
        for curve in (one for one in data.curves if one.panel == panel):
            handles.setdefault(curve.name, _curve(axis, curve, order.index(curve.row), tokens))
        for place, (_, name, value) in enumerate(one for one in data.lines if one[0] == panel):
            dash = (0, (1, 1 + 2 * place))
            handles.setdefault(name, axis.axhline(value, color="#555555", linewidth=1.1, linestyle=dash, zorder=1))
        _axis(axis, data, panel, tokens)
    for unused in [one for line in axes for one in line][len(panels) :]:
        unused.set_visible(False)
    if not handles:
        axes[0][0].text(0.5, 0.5, "not run", ha="center", va="center", transform=axes[0][0].transAxes)
    else:
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _curve(axis: Axes, curve: Curve, place: int, tokens: bool) -> Any:
    points = [point for point in curve.points if not tokens or point.tokens is not None]
    xs = [float(point.tokens or 0) if tokens else float(point.x) for point in points]
    ys = [point.y for point in points]
    errors = [[y - point.interval[0] for y, point in zip(ys, points, strict=True)],
              [point.interval[1] - y for y, point in zip(ys, points, strict=True)]]  # fmt: skip
    place %= len(COLOURS)
    spread = 1.0 if tokens else 2 ** (0.05 * (place - 1))  # so that intervals of one x stand side by side
    return axis.errorbar(
        [x * spread for x in xs], ys, yerr=[[max(0.0, one) for one in side] for side in errors],
        color=COLOURS[place], marker=MARKERS[place], linestyle=DASHES[place], markersize=4.5, linewidth=1.5,
        elinewidth=0.9, capsize=2, zorder=3,
    )  # fmt: skip


def _axis(axis: Axes, data: FigureData, panel: str, tokens: bool) -> None:
    axis.set_title(panel_title(panel, data.experiment))
    axis.set_xscale("log", base=2)
    if not tokens:
        axis.set_xticks(list(data.experiment.x), [str(x) for x in data.experiment.x])
        axis.set_xlabel("sampled solutions")
    else:
        axis.set_xlabel("completion tokens a problem")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}" if value < 1024 else f"{value / 1024:.0f}k")
    axis.minorticks_off()
    axis.set_ylabel("pass@N (%)" if data.experiment.metric == "coverage" else "accuracy (%)")


def _bars(table: Table) -> dict[str, bytes]:
    """Return Figure 5: for each panel and model the policy alone and, on top, what the search adds: published, hatched
    where measured."""
    from matplotlib.figure import Figure as NewFigure
    from matplotlib.patches import Patch

    experiment = table.experiment
    names = list(dict.fromkeys(row.name for row in experiment.rows))
    columns = list(experiment.columns)
    figure = NewFigure(figsize=(8.0, 4.2), layout="constrained")
    axis = figure.subplots()
    measured = [name for name in names if _measured(table, name)]
    width = 0.8 / (len(names) + len(measured))
    for place, column in enumerate(columns):
        at = place - 0.4
        for number, name in enumerate(names):
            policy, system2 = (table.cell(f"{name}/{role}", column) for role in ("policy", "system2"))
            pairs: list[tuple[float | None, float | None, Any]] = [(policy.published, system2.published, None)]
            if name in measured:
                pairs.append((policy.measured, system2.measured, (policy.interval, system2.interval)))
            for low, high, intervals in pairs:
                _bar(axis, at + width / 2, width, low, high, COLOURS[number], intervals)
                at += width
    axis.set_xticks(range(len(columns)), [panel_title(one, experiment).replace(" (for", "\n(for") for one in columns])
    axis.set_ylabel("accuracy (%)")
    axis.grid(visible=False, axis="x")
    legend = [Patch(facecolor=COLOURS[i], label=name) for i, name in enumerate(names)]
    legend += [
        Patch(facecolor="#aaaaaa", label="policy alone"),
        Patch(facecolor="#aaaaaa", alpha=0.4, label="gain of the search"),
    ]
    legend += [Patch(facecolor="white", edgecolor="#333333", hatch="////", label="measured here (others: published)")]
    figure.legend(handles=legend, loc="outside lower center", ncols=3, frameon=False)
    from rstar_eval.leaderboards.render import csv
    from rstar_eval.leaderboards.render import markdown as table_markdown

    texts = {f"{experiment.id}.csv": csv(table), f"{experiment.id}.md": table_markdown(table)}
    return {**{key: text.encode() for key, text in texts.items()}, **_saved(experiment.id, figure)}


def _measured(table: Table, name: str) -> bool:
    return any(table.cell(f"{name}/policy", column).measured is not None for column in table.experiment.columns)


def _bar(
    axis: Axes, x: float, width: float, low: float | None, high: float | None, colour: str,
    intervals: tuple[Any, Any] | None,
) -> None:  # fmt: skip
    hatch = "////" if intervals is not None else None
    if low is not None:
        axis.bar(x, low, width * 0.92, color=colour, edgecolor="#333333", linewidth=0.4, hatch=hatch)
    if low is not None and high is not None:
        bottom, top = min(low, high), max(low, high)
        axis.bar(x, top - bottom, width * 0.92, bottom=bottom, color=colour, alpha=0.4, edgecolor="#333333",
                 linewidth=0.4, hatch=hatch)  # fmt: skip
    for value, interval in zip((low, high), intervals or (), strict=False):
        if value is not None and interval is not None:
            sides = [[max(0.0, value - interval[0])], [max(0.0, interval[1] - value)]]
            axis.errorbar([x], [value], yerr=sides, color="#222222", elinewidth=0.8, capsize=1.5)


def _saved(name: str, figure: Figure) -> dict[str, bytes]:
    files = {}
    for form, facts in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=form, metadata=facts)
        files[f"{name}.{form}"] = buffer.getvalue()
    return files

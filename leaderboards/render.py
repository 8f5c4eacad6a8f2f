"""A table as text: for the terminal, Markdown, CSV, LaTeX (booktabs) and JSON. Nothing is computed here.

In a cell stand the published figure and the measured one with its interval and whether they agree; "not run" where
nothing was measured. The same cells give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rstar_eval.leaderboards.cells import Cell, as_data
from rstar_eval.leaderboards.experiments import Row, load_preset
from rstar_eval.leaderboards.published import benchmarks
from rstar_eval.leaderboards.tables import POOLED, Table

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = 1
_LEVELS = {"gsm_level": "GSM level", "math_level": "MATH level", "olympiad_level": "Olympiad level", "all": "All"}


def heading(table: Table) -> str:
    """Return a table's heading."""
    one = table.experiment
    return f"{one.kind.capitalize()} {one.number}: {one.title}"


def column_title(table: Table, column: str) -> str:
    """Return a column's title: the paper's, with the task that was measured for it where that is another."""
    known = benchmarks()
    title = known[column].label if column in known else _LEVELS.get(column, column)
    task = table.experiment.columns.get(column)
    if (
        task
        and task not in (known[column].task if column in known else "", column)
        and table.experiment.metric != "solved"
    ):
        return f"{title} ({task})"
    return title


def row_title(row: Row) -> str:
    """Return a row's name with its way of inference and a star if it is not the paper's."""
    how = f", {row.inference}" if row.inference else ""
    return f"{row.name}{how}{' *' if row.extra else ''}"


def grouped(rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    """Yield rows, each with the heading that belongs above it ("": none)."""
    before = ""
    for row in rows:
        group = "Not in the paper" if row.extra else row.group or ""
        yield group if group != before else "", row
        before = group


def number(value: float | None, unit: str) -> str:
    """Return a figure as the tables show it: percent with one decimal, tokens whole, "-" for none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if unit == "tokens" else f"{value:.1f}"


def published_number(value: float | None, unit: str) -> str:
    """Return a published figure exactly as it was printed in the paper."""
    if value is None:
        return "-"
    return f"{value:.0f}" if unit == "tokens" else f"{value:g}" if round(value, 1) != value else f"{value:.1f}"


def measured_text(cell: Cell, unit: str) -> str:
    """Return the measured half of a cell: the figure with its interval, or "not run"."""
    if cell.measured is None or cell.interval is None:
        return "not run"
    low, high = (number(edge, unit) for edge in cell.interval)
    return f"{number(cell.measured, unit)} [{low}, {high}]"


def cell_text(cell: Cell, unit: str) -> str:
    """Return a whole cell in one line."""
    mark = f", {cell.agree}" if cell.agree in ("yes", "no", "open") else ""
    return f"{published_number(cell.published, unit)} / {measured_text(cell, unit)}{mark}"


def notes(table: Table) -> list[str]:
    """Return what a reader must know of a table, a sentence a line."""
    preset = load_preset(table.preset)
    seeds = sorted({seed for cell in table.cells.values() for seed in cell.seeds})
    lines = ["Cells: published / measured [95 % interval], agreement."]
    if table.preset == "mini":
        lines += [
            "The miniature's problems and models are not the paper's, so that values can't be held against each "
            "other: agreement is of the order of a row and the one it is compared with below (yes, no, or open where 0 "
            f"lies in the {'paired ' if _paired(table) else ''}95 % interval).",
            "How often its problems hold traps is a design choice and sets how much there is to gain.",
        ]
    else:
        lines.append("Agreement: whether the published value lies in the measured 95 % interval.")
    if seeds:
        way = "Wilson" if len(seeds) == 1 else "bootstrap over problems, of each problem's mean over the seeds"
        lines.append(f"Seeds: {', '.join(map(str, seeds))}. Intervals: {way}. Hardware: {preset.hardware}.")
    if any(row.extra for row in table.experiment.rows):
        lines.append("* not a row of the paper.")
    if not _paired(table):
        lines.append("Each row has problems of its own: differences are of independent samples (p by Welch's test).")
    if not seeds:
        lines.append("Nothing of this table was run here.")
    return lines


def _paired(table: Table) -> bool:
    return all(cell.difference is None or cell.difference.paired for cell in table.cells.values())


def markdown(table: Table) -> str:
    """Return a table as Markdown, with its notes, the runs behind each row, and the differences."""
    from tabulate import tabulate

    unit = table.experiment.unit
    head = ["", *(column_title(table, column) for column in table.columns)]
    rows = []
    for group, row in grouped(table.experiment.rows):
        rows += [[f"*{group}*", *("" for _ in table.columns)]] if group else []
        rows.append([row_title(row), *(cell_text(table.cell(row.id, column), unit) for column in table.columns)])
    parts = [f"# {heading(table)} (preset {table.preset})", "", tabulate(rows, head, tablefmt="github"), ""]
    parts += [f"{text}\n" for text in notes(table)]
    runs = _run_rows(table)
    if runs:
        columns = ("row", "N", "tokens a problem", "problems", "by seed", "runs", "config")
        parts += [
            "## What the rows are made of",
            "",
            tabulate(runs, columns, tablefmt="github", disable_numparse=True),
            "",
        ]
    tests = _test_rows(table)
    if tests:
        columns = ("row", "against", "column", "difference", "95 % interval", "p", "p (Holm)")
        title = "## Paired differences" if _paired(table) else "## Differences"
        parts += [title, "", tabulate(tests, columns, tablefmt="github", disable_numparse=True), ""]
    return "\n".join(parts)


def _last_measured(table: Table, row: Row) -> Cell | None:
    found = [table.cell(row.id, column) for column in table.columns]
    measured = [cell for cell in found if cell.measured is not None]
    return measured[-1] if measured else None


def _run_rows(table: Table) -> list[list[str]]:
    rows = []
    for row in table.experiment.rows:
        cell = _last_measured(table, row)
        if cell is None:
            continue
        by_seed = ", ".join(number(value, table.experiment.unit) for value in cell.seeds.values())
        folders = dict.fromkeys(run.split("/")[1] for run in cell.runs)
        tokens = "-" if cell.tokens is None else f"{cell.tokens:.0f}"
        size = "-" if cell.trajectories is None else str(cell.trajectories)
        rows.append(
            [row_title(row), size, tokens, str(cell.n), by_seed, ", ".join(folders), " ".join(cell.manifests[:3])
             + (" ..." if len(cell.manifests) > 3 else "")]
        )  # fmt: skip
    return rows


def _test_rows(table: Table) -> list[list[str]]:
    rows = []
    for row in table.experiment.rows:
        for column in table.columns:
            test = table.cell(row.id, column).difference
            if test is not None:
                low, high = test.interval
                other = row_title(table.experiment.row(test.against))
                rows.append(
                    [row_title(row), other, column_title(table, column), f"{100 * test.mean:+.1f}",
                     f"[{100 * low:+.1f}, {100 * high:+.1f}]", f"{test.p:.3g}",
                     "-" if test.p_holm is None else f"{test.p_holm:.3g}"]
                )  # fmt: skip
    return rows


def csv(table: Table) -> str:
    """Return a table as CSV, a line a cell."""
    import pandas as pd

    rows = []
    for row in table.experiment.rows:
        for column in table.columns:
            cell = as_data(table.cell(row.id, column))
            low, high = cell.pop("interval") or (None, None)
            difference = cell.pop("difference") or {}
            rows.append(
                {
                    "table": table.experiment.id, "row": row.id, "name": row.name, "inference": row.inference,
                    "column": column, "task": table.experiment.columns.get(column), "published": cell["published"],
                    "measured": cell["measured"], "low": low, "high": high, "agree": cell["agree"], "n": cell["n"],
                    "trajectories": cell["trajectories"], "tokens_a_problem": cell["tokens"],
                    "seeds": " ".join(f"{seed}:{value:g}" for seed, value in cell["seeds"].items()),
                    "against": difference.get("against"), "difference": difference.get("mean"),
                    "difference_error": difference.get("error"), "p": difference.get("p"),
                    "p_holm": difference.get("p_holm"), "manifests": " ".join(cell["manifests"]),
                }
            )  # fmt: skip
    frame = pd.DataFrame(rows).astype({"trajectories": "Int64"})
    return frame.to_csv(index=False, lineterminator="\n")


def data(table: Table) -> dict[str, Any]:
    """Return a table as plain data: its rows and cells."""
    one = table.experiment
    return {
        "schema": SCHEMA, "id": one.id, "preset": table.preset, "title": one.title, "unit": one.unit,
        "metric": one.metric, "notes": notes(table),
        "columns": [
            {"id": column, "title": column_title(table, column), "task": one.columns.get(column)}
            for column in table.columns
        ],
        "rows": [
            {"id": row.id, "name": row.name, "inference": row.inference, "group": row.group, "extra": row.extra,
             "against": row.against, "cells": [as_data(table.cell(row.id, column)) for column in table.columns]}
            for row in one.rows
        ],
    }  # fmt: skip


def json_text(table: Table) -> str:
    """Return a table as JSON."""
    return json.dumps(data(table), indent=1, ensure_ascii=True) + "\n"


_TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
        "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}  # fmt: skip


def tex_escape(text: str) -> str:
    """Return text with what LaTeX would read as its own escaped."""
    return "".join(_TEX.get(character, character) for character in text)


def latex(table: Table) -> str:
    """Return a table as a LaTeX `table` environment (booktabs, graphicx): two columns for each of the paper's."""
    unit, columns = table.experiment.unit, table.columns
    title = f"The paper's {heading(table)} (preset {table.preset})."
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{tex_escape(title)}}}"]
    lines += [rf"\label{{tab:{table.experiment.id}}}", r"\resizebox{\textwidth}{!}{%"]
    lines += [rf"\begin{{tabular}}{{l{'rl' * len(columns)}}}", r"\toprule"]
    heads = (rf"\multicolumn{{2}}{{c}}{{{tex_escape(column_title(table, column))}}}" for column in columns)
    lines.append(" & " + " & ".join(heads) + r" \\")
    rules = "".join(rf"\cmidrule(lr){{{2 + 2 * i}-{3 + 2 * i}}}" for i in range(len(columns)))
    lines += [rules, " & " + " & ".join("paper & here" for _ in columns) + r" \\", r"\midrule"]
    for group, row in grouped(table.experiment.rows):
        if group:
            lines.append(rf"\multicolumn{{{1 + 2 * len(columns)}}}{{l}}{{\emph{{{tex_escape(group)}}}}} \\")
        cells = []
        for column in columns:
            cell = table.cell(row.id, column)
            mark = f" {cell.agree}" if cell.agree in ("yes", "no", "open") else ""
            here = f"{measured_text(cell, unit)}{mark}".replace("not run", r"{\footnotesize not run}")
            cells.append(f"{published_number(cell.published, unit)} & {here}")
        lines.append(f"{tex_escape(row_title(row))} & " + " & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}", r"\par\smallskip\footnotesize"]
    lines += [tex_escape(" ".join(notes(table))), r"\end{table}", ""]
    return "\n".join(lines)


def latex_document(names: list[str]) -> str:
    """Return a document that shows the tables in the files NAME.tex beside it."""
    body = "\n".join(rf"\input{{{name}}}" + "\n" + r"\clearpage" for name in names)
    return (
        "\\documentclass[10pt]{article}\n\\usepackage[landscape,margin=12mm]{geometry}\n\\usepackage{booktabs}\n"
        f"\\usepackage{{graphicx}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    )


def print_table(table: Table, console: Console) -> None:
    """Print the measured columns of a table in the terminal; columns that were not run are named below it."""
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    unit = table.experiment.unit
    shown = [name for name in table.columns if any(table.cell(row.id, name).measured is not None for row in
             table.experiment.rows)] or list(table.columns)  # fmt: skip
    console.print(f"{heading(table)} (preset {table.preset})", style="bold", markup=False, highlight=False)
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True)
    grid.add_column("", overflow="fold")  # titles are told apart by their ends: folded, never cut off
    for column in shown:
        grid.add_column(Text(column_title(table, column).replace(" (", "\n(")), justify="right", overflow="fold")
    for group, row in grouped(table.experiment.rows):
        if group:
            grid.add_row(Text(group, style="italic"))
        cells = []
        for column in shown:
            cell = table.cell(row.id, column)
            mark = f" {cell.agree}" if cell.agree in ("yes", "no", "open") else ""
            here = measured_text(cell, unit).replace(" [", f"{mark}\n[")
            cells.append(f"{published_number(cell.published, unit)}\n{here}")
        grid.add_row(Text(row_title(row)), *(Text(cell, justify="right") for cell in cells))
    console.print(grid, highlight=False)
    console.print("Each cell: published, below it measured and agreement, below it the 95 % interval.", highlight=False)
    for text in notes(table)[1:]:
        console.print(text, markup=False, highlight=False)
    left = [column_title(table, name) for name in table.columns if name not in shown and name != POOLED]
    if left:
        console.print(f"Not run here: {', '.join(left)}.", markup=False, highlight=False)


def files(table: Table) -> Mapping[str, str]:
    """Return every form of a table by file name."""
    name = table.experiment.id
    return {
        f"{name}.md": markdown(table), f"{name}.csv": csv(table), f"{name}.tex": latex(table),
        f"{name}.json": json_text(table),
    }  # fmt: skip

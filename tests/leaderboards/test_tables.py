"""Tables in all their forms: the published half exactly as published, the measured half where it belongs."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from rstar_eval.leaderboards.curves import make_curves
from rstar_eval.leaderboards.experiments import PRESETS, experiment_ids, load_experiment, load_preset
from rstar_eval.leaderboards.figure_text import curve_csv, published_ends
from rstar_eval.leaderboards.figure_text import markdown as figure_markdown
from rstar_eval.leaderboards.figures import draw
from rstar_eval.leaderboards.published import published_table
from rstar_eval.leaderboards.render import csv as csv_text
from rstar_eval.leaderboards.render import (
    files,
    latex,
    latex_document,
    markdown,
    print_table,
    published_number,
    tex_escape,
)
from rstar_eval.leaderboards.results import Results
from rstar_eval.leaderboards.tables import POOLED, make_table

TABLES = [id for id in experiment_ids() if id.startswith("table")]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("id", TABLES)
def test_the_published_half_is_published_json_cell_by_cell(id: str, preset: str, tmp_path: Path) -> None:
    experiment = load_experiment(id, preset)
    table = make_table(experiment, Results(tmp_path, load_preset(preset)))
    paper = published_table(experiment.number)
    data = json.loads(files(table)[f"{id}.json"])
    rows = {row["id"]: {cell["column"]: cell for cell in row["cells"]} for row in data["rows"]}
    lines = {(one["row"], one["column"]): one for one in csv.DictReader(io.StringIO(csv_text(table)))}
    shown = [line.split("|")[1:-1] for line in markdown(table).splitlines() if line.startswith("| ")][1:]
    shown = [line for line in shown if any(each.strip() for each in line[1:])]  # not the groups' headings
    for row, (title, *texts) in zip(paper.rows, shown, strict=False):
        assert title.strip() == (f"{row.name}, {row.inference}" if row.inference else row.name)
        for place, column in enumerate(paper.columns):
            value = row.values[column]
            assert rows[row.id][column]["published"] == value
            assert rows[row.id][column]["agree"] == "not run"
            in_csv = lines[row.id, column]["published"]
            assert (float(in_csv) if in_csv else None) == value
            in_text = texts[place].split("/")
            assert in_text[1].strip() == "not run"
            assert in_text[0].strip() == ("-" if value is None else published_number(value, paper.unit))
            assert value is None or float(in_text[0]) == value
            assert published_number(value, paper.unit) in latex(table)


def test_measured_cells_with_intervals_seeds_differences_and_agreement(made_up_results: Callable[..., Path]) -> None:
    experiment = load_experiment("table3", "mini")
    results = Results(made_up_results([experiment]), load_preset("mini"))
    table = make_table(experiment, results)
    cell = table.cell("policy-slm-r4", POOLED)
    run = [results.run(experiment.row("policy-slm-r4").source, task, seed)[1] for seed in (0, 1) for task in  # type: ignore[arg-type]
           ("mini_math", "mini_aime", "mini_olympiad", "mini_college", "mini_gaokao")]  # fmt: skip
    values = [one.solved for each in run if each for one in each.problems]
    assert cell.measured == pytest.approx(100 * sum(values) / len(values))
    assert cell.n == 60
    assert set(cell.seeds) == {0, 1}
    assert cell.interval is not None
    assert cell.interval[0] <= cell.measured <= cell.interval[1]
    assert cell.difference is not None
    assert cell.difference.against == "policy-slm-r3"
    assert cell.difference.p_holm is not None
    assert cell.difference.p_holm >= cell.difference.p
    assert cell.agree == "-"  # the paper has no such column
    assert table.cell("policy-slm-r4", "math").agree in ("yes", "no", "open")
    assert table.cell("policy-slm-r4", "gsm8k").agree == "not run"
    assert f"{cell.measured:.1f} [" in markdown(table)


def test_solved_shares_are_of_the_levels_of_the_pools(made_up_results: Callable[..., Path]) -> None:
    experiment = load_experiment("table2", "mini")
    table = make_table(experiment, Results(made_up_results([experiment]), load_preset("mini")))
    first, last = table.cell("round-1", "gsm_level"), table.cell("round-4", "gsm_level")
    assert (first.n, first.measured, last.measured) == (32, 25.0, 100.0)
    assert table.cell("round-4", "olympiad_level").measured == 50.0  # level 5 is never solved


def test_problems_of_one_round_count_in_its_row_alone(made_up_results: Callable[..., Path]) -> None:
    from rstar_eval.leaderboards.scores import read_lines, write_lines

    experiment = load_experiment("table2", "mini")
    folder = made_up_results([experiment], seeds=(0,))
    file = folder / "seed0" / "evolution.jsonl.zst"
    head, *_ = read_lines(file)
    pool = [
        {"problem": f"p{number}-{i}", "level": "3", "drawn_for": number, "round": number if i < 4 * number else None}
        for number in (1, 2, 3, 4)
        for i in range(20)
    ]
    write_lines(file, [head, *pool])
    table = make_table(experiment, Results(folder, load_preset("mini")))
    assert [table.cell(f"round-{n}", "all").measured for n in (1, 2, 3, 4)] == [20.0, 40.0, 60.0, 80.0]
    difference = table.cell("round-4", "all").difference
    assert difference is not None
    assert (difference.paired, difference.n) == (False, 20)
    assert difference.mean == pytest.approx(0.2)
    assert difference.error == pytest.approx(math.sqrt((0.24 + 0.16) / 19))
    text = markdown(table)
    assert "independent samples" in text
    assert "aired" not in text


def test_rounds_that_an_evolution_has_not_are_not_run(tmp_path: Path, made_up_results: Callable[..., Path]) -> None:
    experiment = load_experiment("table2", "mini")
    folder = made_up_results([experiment], seeds=(0,))
    from rstar_eval.leaderboards.scores import read_lines, write_lines

    file = folder / "seed0" / "evolution.jsonl.zst"
    head, *pool = read_lines(file)
    write_lines(file, [{**head, "last": 2}, *pool])
    table = make_table(experiment, Results(folder, load_preset("mini")))
    assert table.cell("round-2", "all").measured is not None
    assert table.cell("round-3", "all").measured is None


def test_the_same_results_give_the_same_bytes(made_up_results: Callable[..., Path]) -> None:
    experiments = [load_experiment(id, "mini") for id in ("table8", "figure5")]
    folder = made_up_results(experiments, seeds=(0,), problems=6)

    def everything() -> dict[str, bytes]:
        results = Results(folder, load_preset("mini"))
        made = {name: text.encode() for name, text in files(make_table(experiments[0], results)).items()}
        return made | draw(make_table(experiments[1], results))

    first = everything()
    assert first == everything()
    assert {"table8.md", "table8.tex", "figure5.png", "figure5.svg", "figure5.csv"} <= set(first)
    assert first["figure5.png"][:4] == b"\x89PNG"


def test_curves_have_all_points_and_paired_tests_at_equal_numbers_and_tokens(
    made_up_results: Callable[..., Path],
) -> None:
    experiment = load_experiment("figure3", "mini")
    figure = make_curves(experiment, Results(made_up_results([experiment], problems=6), load_preset("mini")))
    assert figure.panels == ("math", "aime2024", "olympiadbench", "collegemath", POOLED)
    for panel in figure.panels:
        curve = next(one for one in figure.curves if one.panel == panel and one.row == "ppm-mcts")
        assert [point.x for point in curve.points] == [1, 2, 4, 8, 16, 32, 64]
        assert [point.tokens for point in curve.points] == [10 * point.x for point in curve.points]
        tests = [one for one in figure.tests if one.panel == panel and one.difference.against == "majority"]
        assert {one.equal for one in tests} == {"trajectories", "tokens"}
        assert all(one.x == one.other_x and not one.short for one in tests)  # a sample costs as much as a walk here
    text = figure_markdown(figure)
    assert "MATH-500: 78.4 at 1, 90.0 at 64" in text
    assert "MATH-500: 78.4 at 1, 90.0 at 64" in published_ends(figure)
    assert text.count("| majority") >= 8
    lines = list(csv.DictReader(io.StringIO(curve_csv(figure))))
    assert {one["panel"] for one in lines} == set(figure.panels)


def test_latex_is_escaped_and_balanced(tmp_path: Path) -> None:
    assert tex_escape(r"a_b & 5 % {x} \y #1 ~ ^ $") == (
        r"a\_b \& 5 \% \{x\} \textbackslash{}y \#1 \textasciitilde{} \textasciicircum{} \$"
    )
    for id in TABLES:
        text = latex(make_table(load_experiment(id, "paper"), Results(tmp_path, load_preset("paper"))))
        assert text.count(r"\begin{") == text.count(r"\end{")
        head = text.index("{tabular}{") + 10
        columns = len(text[head : text.index("}", head)])
        rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert all(line.replace(r"\&", "").count("&") == columns - 1 for line in rows)
    assert r"\input{table5}" in latex_document(["table5"])


def test_the_terminal_shows_groups_rows_and_what_was_not_run(made_up_results: Callable[..., Path]) -> None:
    from rich.console import Console

    experiment = load_experiment("table7", "mini")
    table = make_table(experiment, Results(made_up_results([experiment], problems=4), load_preset("mini")))
    output = io.StringIO()
    print_table(table, Console(width=80, file=output))
    shown = output.getvalue()
    assert "all tasks" in shown
    assert "…" not in shown
    assert "Self-generation by" in re.sub(r"\s+", "", shown).replace("Self-generationby", "Self-generation by")
    assert "[italic]" not in shown
    assert "78.4" in shown
    assert "not run" in shown
    assert "Not run here: AMC 2023" in shown

"""The experiment files: whole, consistent, and with everything that their cells name."""

from __future__ import annotations

import pytest

from rstar_eval.errors import UserError
from rstar_eval.leaderboards.experiments import PRESETS, experiment_ids, load_experiment, load_preset
from rstar_eval.leaderboards.published import published_tables
from rstar_eval.tasks.registry import task_spec


def test_there_is_a_file_for_every_table_and_figure() -> None:
    tables = [f"table{number}" for number in range(1, 11)]
    assert experiment_ids() == (*tables, "figure3", "figure5", "figure7")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("id", experiment_ids())
def test_every_name_in_an_experiment_is_one_of_its_preset(id: str, preset: str) -> None:
    experiment, known = load_experiment(id, preset), load_preset(preset)
    rows = {row.id for row in experiment.rows}
    assert len(rows) == len(experiment.rows)
    for row in experiment.rows:
        assert row.against is None or row.against in rows
        if row.source is None or row.source.solved:
            continue
        for name in (row.source.policy, row.source.reward, row.source.judge):
            assert name is None or name in known.models, (row.id, name)
        assert row.source.search in known.searches
    for one, other in experiment.tests:
        assert {one, other} <= rows


def test_at_the_papers_preset_every_row_of_tables_5_to_8_can_be_run_and_says_with_what() -> None:
    preset = load_preset("paper")
    for id in ("table5", "table6", "table7", "table8"):
        for row in load_experiment(id, "paper").rows:
            if row.extra:
                continue
            assert row.source is not None, row.id
            model = preset.models[row.source.policy]
            assert model.policy or model.train or model.evolve
            assert model.hardware or model.gpus, row.source.policy
            assert model.prompt, row.source.policy


def test_rows_are_the_papers_in_its_order() -> None:
    for table in published_tables():
        for preset in PRESETS:
            experiment = load_experiment(f"table{table.number}", preset)
            own = [row for row in experiment.rows if not row.extra]
            assert [row.id for row in own] == [row.id for row in table.rows]
            assert [dict(row.published) for row in own] == [row.values for row in table.rows]
            assert all(not row.published for row in experiment.rows if row.extra)


def test_tasks_of_presets_exist_and_state_their_size() -> None:
    for name in PRESETS:
        assert all(task_spec(task).size for task in load_preset(name).tasks)


def test_unknown_names_are_one_line() -> None:
    with pytest.raises(UserError, match=r"unknown table or figure 'table11'"):
        load_experiment("table11", "mini")
    with pytest.raises(UserError, match=r"unknown preset 'papr'.*paper"):
        load_preset("papr")

"""The real benchmark files: nothing is lost, and every erratum is where the task's YAML says."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.problem import Problem
from rstar_eval.tasks import TASKS, load_task, show_examples, task_spec
from rstar_eval.tasks.spec import TaskSpec

FILES = sorted(name for name in TASKS if task_spec(name).file)


@pytest.fixture
def folder(shared_data: Path) -> Path:
    return shared_data / "benchmarks"


def indices(spec: TaskSpec, part: str) -> set[int]:
    """The problems under the errata whose text contains `part` (at least one erratum must)."""
    hits = [erratum for erratum in spec.errata if part in erratum.what]
    assert hits, f"{spec.name} has no erratum on {part!r}"
    return {index for erratum in hits for index in erratum.indices}


def having(problems: tuple[Problem, ...], pattern: str, field: str = "answer") -> set[int]:
    return {p.index for p in problems if re.search(pattern, getattr(p, field))}


@pytest.mark.parametrize("name", FILES)
def test_every_record_becomes_a_problem_unchanged(name: str, folder: Path) -> None:
    task = load_task(name, data_dir=folder, download=False)
    records: list[dict[str, Any]] = json.loads((folder / str(task.spec.file)).read_text(encoding="utf-8"))
    assert len(task.problems) == len(records) == task.spec.size
    assert len({problem.id for problem in task.problems}) == len(records)
    for place, (problem, record) in enumerate(zip(task.problems, records, strict=True)):
        gold = record["answer"] if isinstance(record["answer"], list) else [record["answer"]]
        assert (problem.index, problem.text) == (place, record["question"])
        assert [problem.answer, *problem.alternatives] == gold


@pytest.mark.parametrize("name", FILES)
def test_empty_golds_are_errata(name: str, folder: Path) -> None:
    task = load_task(name, data_dir=folder, download=False)
    empty = having(task.problems, r"\A\s*\Z")
    ungradable = {i for e in task.spec.errata if e.effect == "ungradable" for i in e.indices}
    assert empty <= ungradable


@pytest.mark.parametrize("name", FILES)
def test_repeated_questions_are_errata(name: str, folder: Path) -> None:
    task = load_task(name, data_dir=folder, download=False)
    places: dict[str, list[int]] = defaultdict(list)
    for problem in task.problems:
        places[problem.text].append(problem.index)
    repeated = {i for group in places.values() if len(group) > 1 for i in group}
    assert repeated == {i for e in task.spec.errata if e.effect == "duplicate" for i in e.indices}


def test_math_lists_are_alternatives_and_one_holds_a_tab(folder: Path) -> None:
    task = load_task("math", data_dir=folder)
    lists = {problem.index for problem in task.problems if problem.alternatives}
    assert lists == indices(task.spec, "is a list of two")
    assert having(task.problems, "\t") == indices(task.spec, "TAB + frac32") == {2912}
    assert having(task.problems, r"\A\s|\s\Z") == indices(task.spec, "blanks around it")
    assert having(task.problems, "\n") == indices(task.spec, "line break")
    assert having(task.problems, "\t", "text") == indices(task.spec, "question holds TAB")


def test_college_math_repeats_34_questions_24_with_other_golds(folder: Path) -> None:
    task = load_task("collegemath", data_dir=folder)
    golds: dict[str, list[Problem]] = defaultdict(list)
    for problem in task.problems:
        golds[problem.text].append(problem)
    groups = [group for group in golds.values() if len(group) > 1]
    differ = [group for group in groups if len({problem.answer for problem in group}) > 1]
    assert (len(groups), len(differ)) == (34, 24)
    assert {p.index for group in differ for p in group} == indices(task.spec, "with different golds")
    assert having(task.problems, " ") == set()
    assert having(task.problems, r"\\pmi|\\leqslantn|\\cost") <= indices(task.spec, "LaTeX command")
    assert having(task.problems, "(?i)allrealnumbers") <= indices(task.spec, "allrealnumbers")
    assert having(task.problems, "orx=") <= indices(task.spec, "x=-3orx=3") | indices(task.spec, "allrealnumbers")


def test_gaokao_golds_that_lost_their_spaces(folder: Path) -> None:
    task = load_task("gaokao2023en", data_dir=folder)
    assert having(task.problems, r"\\leqx|\\cdotC") == indices(task.spec, "LaTeX command") == {0, 61}
    assert having(task.problems, r"\dor\d|and") - {27} <= indices(task.spec, "joined by a word")
    assert having(task.problems, r"\A\Z") == {167, 192}


def test_omni_math_decoded_escapes(folder: Path) -> None:
    task = load_task("omni_math", data_dir=folder)
    assert having(task.problems, "[\t\f]") == indices(task.spec, "In the gold a backslash")
    assert having(task.problems, "\f", "text") <= indices(task.spec, "In the question a backslash")
    assert having(task.problems, r"\\boxed") == indices(task.spec, r"\boxed")


def test_gsm8k_golds_with_separators(folder: Path) -> None:
    task = load_task("gsm8k", data_dir=folder)
    assert having(task.problems, ",") == indices(task.spec, "thousands separators")
    assert having(task.problems, r"\A-?\d+(,\d{3})*\Z") == set(range(1319))


@pytest.mark.parametrize("name", ["aime2024", "amc23"])
def test_competition_answers_are_integers(name: str, folder: Path) -> None:
    task = load_task(name, data_dir=folder)
    assert having(task.problems, r"\A-?\d+(\.0)?\Z") == set(range(len(task.problems)))


def test_examples_show_errata_and_alternatives(folder: Path) -> None:
    text = show_examples("gaokao2023en", n=1, data_dir=folder)
    assert text.startswith("[0] ")
    assert "erratum: The gold has lost its spaces" in text

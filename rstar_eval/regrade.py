"""`rstar-eval regrade`: another grader's verdicts on a stored run, without a model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rstar_eval.config import build_config
from rstar_eval.errors import UserError
from rstar_eval.grading import GRADERS
from rstar_eval.records import GradeRecord, read_log
from rstar_eval.report import print_summary, write_reports
from rstar_eval.runner import complete, grade_problem
from rstar_eval.serial import to_data
from rstar_eval.store import RunStore, read_manifest
from rstar_eval.summary import summarise
from rstar_eval.tasks import load_task

if TYPE_CHECKING:
    from rich.console import Console

Change = tuple[GradeRecord, GradeRecord]


def regrade_run(path: Path, grader: str, console: Console, data_dir: Path | None = None) -> list[Change]:
    """Grade every complete problem of the run with `grader`, append the verdicts, and print what changed.

    Returns (old, new) for each problem whose outcome changed. The run's figures are the new grader's from then on; the
    old verdicts stay in its log, and running again with the old grader brings them back without a model. UserError if
    the run, the grader or a task's data is missing.
    """
    version = GRADERS[grader].version
    manifest = read_manifest(path)
    before, settings = manifest["grader"], manifest["config"]
    config = build_config({key: value for key, value in settings.items() if value is not None}, {"grader": grader})
    changed: list[Change] = []
    with RunStore(path) as store:
        for note in store.notes:
            console.print(f"note: {note}", markup=False, highlight=False)
        log = read_log(path)
        for name, entry in manifest["data"].items():
            task = load_task(entry.get("task_file", name), data_dir=data_dir)
            for problem in task.problems:
                trajectories = complete(log, problem, config.search, scored=config.reward is not None)
                if trajectories is None:
                    continue
                old = log.grades.get((name, problem.id, before["name"], before["version"]))
                new = log.grades.get((name, problem.id, grader, version))
                if new is None:
                    new = grade_problem(problem, trajectories, config, version)
                    store.append_grade(to_data(new))
                if old is not None and old.outcome != new.outcome:
                    changed.append((old, new))
        store.write_manifest({**manifest, "grader": {"name": grader, "version": version}})
        summary = summarise(path)
        write_reports(store, summary)
    _print_changes(console, f"{before['name']} {before['version']}", f"{grader} {version}", changed)
    print_summary(summary, console)
    return changed


def grade_missing(path: Path, data_dir: Path | None = None) -> dict[str, str]:
    """Grade every complete problem of the run that its own grader has not graded yet, without a model.

    Returns the tasks whose data is not here, each with the reason. UserError if the folder is no run or is in use.
    """
    manifest, without = read_manifest(path), dict[str, str]()
    name, settings = manifest["grader"]["name"], manifest["config"]
    version = GRADERS[name].version
    config = build_config({key: value for key, value in settings.items() if value is not None}, {"grader": name})
    with RunStore(path) as store:
        log = read_log(path)
        for task, entry in manifest["data"].items():
            try:
                loaded = load_task(entry.get("task_file", task), data_dir=data_dir, download=False)
            except UserError as error:
                without[task] = str(error)
                continue
            for problem in loaded.problems:
                trajectories = complete(log, problem, config.search, scored=config.reward is not None)
                if trajectories is not None and (task, problem.id, name, version) not in log.grades:
                    store.append_grade(to_data(grade_problem(problem, trajectories, config, version)))
    return without


def _print_changes(console: Console, before: str, after: str, changed: list[Change]) -> None:
    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(f"{before} -> {after}: {len(changed)} problems changed")
    for kind, count in sorted(Counter(f"{old.outcome} -> {new.outcome}" for old, new in changed).items()):
        say(f"  {kind}: {count}")
    for old, new in changed:
        say(
            f"  {new.task}/{new.index} ({new.problem}): {old.outcome} ({old.rule}) -> {new.outcome} ({new.rule}), "
            f"answer {new.answer!r}"
        )

"""`rstar-eval submit`: a run, or a whole reproduction, becomes stored results: verdicts, scores, manifests, no texts.

leaderboards/results/runs/NAME/TASK.jsonl.zst    a run
leaderboards/results/mini/                       a reproduction's results
leaderboards/rendered/mini/                      what they render
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.leaderboards.experiments import experiment_ids, load_experiment, load_preset
from rstar_eval.leaderboards.reproduce import MARK, render
from rstar_eval.leaderboards.results import EVOLUTION, Results, read_stored_evolution
from rstar_eval.leaderboards.scores import SUFFIX, ProblemScore, RunScores, read_scores, scores_of_run, write_scores
from rstar_eval.records import read_log
from rstar_eval.store import MANIFEST, read_manifest

SCHEMA_FILE = "schema.json"


def submit(path: Path, board: Path, name: str | None = None) -> list[Path]:
    """Validate the run or reproduction in `path` and add it to the folder `board` (leaderboards/ of a checkout); return
    the files written.

    UserError if it is neither, is not finished, does not fit the schema, or other results have its name.
    """
    if not (board / "published.json").is_file():
        raise UserError(
            f"{str(board)!r} is not the leaderboards/ folder of a checkout", "run it in a clone, or give --into FOLDER"
        )
    if (path / MARK).is_file():
        return _submit_reproduction(path, board)
    if (path / MANIFEST).is_file():
        return _submit_run(path, board / "results" / "runs", name or path.resolve().name)
    raise UserError(f"{str(path)!r} holds no run and no reproduction", "give the folder that a run printed")


def _submit_run(path: Path, results: Path, name: str) -> list[Path]:
    manifest = read_manifest(path)
    check_run(path, manifest)
    if not name or name.strip(".") != name or "/" in name:
        raise UserError(f"{name!r} is no name for a result", "give one without slashes with --name")
    found = [(results / name / f"{task}{SUFFIX}", scores_of_run(path, task)) for task in manifest["data"]]
    for file, scores in found:
        if file.exists() and read_scores(file).manifest["config_hash"] != scores.manifest["config_hash"]:
            raise UserError(f"{str(file)!r} holds another run's result", "give another name with --name")
    for file, scores in found:
        write_scores(file, scores)
        check_file(file)
    return [file for file, _ in found]


def check_run(path: Path, manifest: Mapping[str, Any]) -> None:
    """UserError unless the run in `path` is whole: its last session ended well, and every problem that it began is
    searched in all its trees and graded by the grader of its manifest."""
    ended = manifest["sessions"][-1]["ended"] if manifest["sessions"] else "never begun"
    if ended != "finished":
        raise UserError(f"the run in {str(path)!r} is not finished ({ended})", "give the same command again first")
    log, grader = read_log(path), manifest["grader"]
    graded = {key[:2] for key in log.grades if key[2:] == (grader["name"], grader["version"])}
    searched = {key[:2] for key in log.searches}
    if searched - graded:
        raise UserError(
            f"{len(searched - graded)} problems of {str(path)!r} are searched and not graded",
            f"rstar-eval regrade {path} --grader {grader['name']}",
        )
    if not graded:
        raise UserError(f"the run in {str(path)!r} has no graded problem", "let it run first")


def check_file(file: Path) -> RunScores:
    """Return a stored result that was checked: it fits the schema, its problems occur once, its trajectories' verdicts
    and answer classes fit together, and no path of a machine is in its manifest. UserError naming what is wrong."""
    scores = read_scores(file)
    seen: set[str] = set()
    for one in scores.problems:
        if one.problem in seen:
            raise UserError(f"{str(file)!r}: problem {one.problem} occurs twice", "submit the run again")
        seen.add(one.problem)
        if any(right == "1" and group is None for right, group in zip(one.right, one.groups, strict=True)):
            raise UserError(
                f"{str(file)!r}: problem {one.problem} has a right trajectory without an answer", "submit again"
            )
        if one.solved and "1" not in one.right:
            raise UserError(f"{str(file)!r}: problem {one.problem} is solved by no trajectory", "submit the run again")
    return scores


def _submit_reproduction(path: Path, board: Path) -> list[Path]:
    preset = str(json.loads((path / MARK).read_text(encoding="utf-8"))["preset"])
    source, target = path / "results", board / "results" / preset
    files = sorted(source.rglob(f"*{SUFFIX}"))
    if not files:
        raise UserError(f"the reproduction in {str(path)!r} has no results", "let rstar-eval reproduce run first")
    for file in files:
        if file.name == EVOLUTION:
            read_stored_evolution(file)
        else:
            check_file(file)
    if target.exists():
        shutil.rmtree(target)  # one reproduction a preset is committed; the history has the others
    written = []
    for file in files:
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        written.append(copy)
    render_stored(board, preset)
    return written


def render_stored(board: Path, preset: str) -> Path:
    """Render the committed results of a preset into BOARD/rendered/PRESET; return that folder."""
    output = board / "rendered" / preset
    if output.exists():
        shutil.rmtree(output)
    experiments = [load_experiment(one, preset) for one in experiment_ids()]
    render(experiments, Results(board / "results" / preset, load_preset(preset)), output)
    return output


def schema() -> dict[str, Any]:
    """Return the JSON schema of a problem's line in a stored result."""
    from pydantic import TypeAdapter

    found = TypeAdapter(ProblemScore).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}

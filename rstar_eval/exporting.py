"""`rstar-eval export`: trajectories of a run, and training rows, in the forms that other tools read.

Trajectories: one flat row each, for pandas, DuckDB or Hugging Face `datasets`. Training rows (files of the data
engine): TRL's dataset types, so that its SFTTrainer, DPOTrainer, KTOTrainer, RewardTrainer or PRMTrainer take them as
they are. Written as Parquet, as JSON lines, or as a folder that `datasets.load_from_disk` opens.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.problem import Problem
from rstar_eval.records import in_order, read_log
from rstar_eval.serial import line
from rstar_eval.store import MANIFEST, read_manifest, writing_error

FORMS = (".parquet", ".jsonl")
_BLOCK = 2000


def export(source: Path, output: Path, *, data_dir: Path | None = None, stepwise: bool = False) -> int:
    """Write what `source` holds (a run's folder: its trajectories; a file of training rows: TRL rows) to `output`.

    The ending of `output` says the form: .parquet, .jsonl, or none for a folder of Hugging Face `datasets`. stepwise:
    step values become TRL's stepwise supervision (`stepwise_rows`). Returns the number of rows. UserError for another
    ending, an output that exists, a source that is neither or has no step values though `stepwise` needs them.
    """
    if output.suffix not in (*FORMS, ""):
        raise UserError(f"output {str(output)!r} ends in {output.suffix}", f"known: {', '.join(FORMS)}, or a folder")
    if output.exists():
        raise UserError(f"{str(output)!r} exists already", "give another name")
    if (source / MANIFEST).exists():
        if stepwise:
            raise UserError(f"{str(source)!r} is a run, which has no step values", "make them: rstar-eval data build")
        rows: Iterable[dict[str, Any]] = trajectories(source, data_dir=data_dir)
    elif source.is_file():
        rows = stepwise_rows(source) if stepwise else trl_rows(source)
    else:
        raise UserError(f"{str(source)!r} is no run folder and no data file", "give one of these")
    write = {".parquet": _write_parquet, ".jsonl": _write_lines, "": _write_folder}[output.suffix]
    try:
        return write(rows, output)
    except OSError as error:
        raise writing_error(output, error) from None


def trajectories(run: Path, *, data_dir: Path | None = None) -> Iterator[dict[str, Any]]:
    """Yield a flat row for each trajectory of a run, in the order of its log.

    run, task, problem, index, level, question ("" where the task's data is not here), tree, rollout, text (the steps in
    surface form, one after the other), answer, outcome and rule (of the run's grader; "" if not graded), score, end,
    tokens, code_steps and code_ok. `steps` is a list of {text, kind, status, output, value, tokens}.
    """
    manifest, log = read_manifest(run), read_log(run)
    grader = manifest["grader"]
    questions = {name: _problems(name, entry, manifest, data_dir) for name, entry in manifest["data"].items()}
    place: dict[tuple[str, str], int] = {}
    for search in in_order(log):
        grade = log.grades.get((search.task, search.problem, grader["name"], grader["version"]))
        problem = questions.get(search.task, {}).get(search.problem)
        for one in search.trajectories:
            number = place[search.task, search.problem] = place.get((search.task, search.problem), -1) + 1
            verdict = grade.trajectories[number] if grade and number < len(grade.trajectories) else None
            yield {
                "run": run.name,
                "task": search.task,
                "problem": search.problem,
                "index": search.index,
                "level": (grade.level if grade else None) or "",
                "question": problem.text if problem else "",
                "tree": search.tree,
                "rollout": one.rollout,
                "text": "".join(step.text for step in one.steps),
                "answer": one.answer,
                "outcome": verdict.outcome if verdict else "",
                "rule": verdict.rule if verdict else "",
                "score": one.score,
                "end": one.end,
                "tokens": sum(step.tokens for step in one.steps),
                "code_steps": sum(step.status is not None for step in one.steps),
                "code_ok": sum(step.status == "ok" for step in one.steps),
                "steps": [
                    {
                        "text": step.text, "kind": step.kind, "status": step.status, "output": step.output,
                        "value": step.value, "tokens": step.tokens,
                    }
                    for step in one.steps
                ],
            }  # fmt: skip


def trl_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a training file (ours or the authors') in TRL's dataset types.

    sft: prompt-completion. pairs: preference (prompt, chosen, rejected), with our `margin` and `weight` beside.
    outcomes: unpaired preference (prompt, completion, label). values: prompt-completion with the step's `value`, which
    TRL has no type for (`stepwise_rows` makes one of it). Prompts and completions are plain text in the authors'
    layout, not chat messages. UserError if the file can't be read as training rows.
    """
    from rstar_eval.training.datasets import kind_of_file, read_rows
    from rstar_eval.training.rows import OutcomeRow, PairRow, SftRow, ValueRow

    forms: Mapping[type[Any], Callable[[Any], dict[str, Any]]] = {
        SftRow: lambda row: {"prompt": _prompt(row.question), "completion": row.response},
        PairRow: lambda row: {
            "prompt": row.prompt, "chosen": row.pos, "rejected": row.neg, "margin": row.margin, "weight": row.weight
        },
        ValueRow: lambda row: {"prompt": row.prompt, "completion": row.step, "value": row.q},
        OutcomeRow: lambda row: {"prompt": row.prompt, "completion": row.response, "label": row.right},
    }  # fmt: skip
    for row in read_rows(path, kind_of_file(path)):
        yield {**forms[type(row)](row), "problem": row.source.problem, "round": row.source.round}


def stepwise_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the paths of a file of step values in TRL's stepwise supervision type, which its PRMTrainer takes.

    prompt: what stands before the first step. completions: the steps from there to a step that has none below it.
    labels: of each step whether its value is above 0, which is to say that more of the solutions through it were right
    than wrong (the hard labels of a process reward model; the values themselves go along as `values`). A step whose
    predecessor is not in the file (`min_visits` of the data engine) begins a path. UserError if the file holds others.
    """
    from rstar_eval.training.datasets import read_rows
    from rstar_eval.training.rows import ValueRow

    known: dict[tuple[str, str, int, str], ValueRow] = {}
    for row in read_rows(path, "values"):
        known[row.source.run, row.source.problem, row.source.tree, row.source.node] = row
    above = {(*key[:3], key[3].rpartition(".")[0]) for key in known}
    for key in known:
        if key in above:
            continue
        steps: list[ValueRow] = []
        place = key
        while place in known:
            steps.insert(0, known[place])
            place = (*place[:3], place[3].rpartition(".")[0])
        yield {
            "prompt": steps[0].prompt,
            "completions": [step.step for step in steps],
            "labels": [step.q > 0 for step in steps],
            "values": [step.q for step in steps],
            "problem": steps[0].source.problem,
            "round": steps[0].source.round,
        }


def _prompt(question: str) -> str:
    from rstar_eval.solver.formats.rstar import RStarFormat

    return RStarFormat().prompt(question, "").raw or ""


def _problems(
    name: str, entry: Mapping[str, Any], manifest: Mapping[str, Any], data_dir: Path | None
) -> dict[str, Problem]:
    from rstar_eval.tasks import load_task

    where = data_dir or manifest["config"].get("data_dir")
    try:
        loaded = load_task(entry.get("task_file", name), data_dir=Path(where) if where else None, download=False)
    except UserError:
        return {}  # as documented: the question's column is empty then
    return {one.id: one for one in loaded.problems}


def _write_lines(rows: Iterable[dict[str, Any]], output: Path) -> int:
    count = 0
    with output.open("x", encoding="utf-8") as file:
        for count, row in enumerate(rows, start=1):  # noqa: B007
            file.write(line(row) + "\n")
    return count


def _write_parquet(rows: Iterable[dict[str, Any]], output: Path) -> int:
    """Write in blocks, so that a large run needs little memory."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError("Parquet needs pyarrow", "pip install 'rstar-eval[export]', or give a .jsonl output") from None
    waiting = iter(rows)
    block = list(islice(waiting, _BLOCK))
    if not block:
        raise UserError("there is nothing to export: no rows", "give a run with finished problems")
    schema = pa.schema([pa.field(name, _type(pa, name)) for name in block[0]])
    count = 0
    with pq.ParquetWriter(output, schema, compression="zstd") as writer:
        while block:
            # Parquet holds UTF-8 alone: a lone surrogate of a model's text becomes a question mark.
            clean = json.loads(json.dumps(block, ensure_ascii=False).encode("utf-8", "replace"))
            writer.write_table(pa.Table.from_pylist(clean, schema=schema))
            count += len(block)
            block = list(islice(waiting, _BLOCK))
    return count


def _write_folder(rows: Iterable[dict[str, Any]], output: Path) -> int:
    """Write a folder that `datasets.load_from_disk` opens."""
    try:
        import datasets
    except ImportError:
        raise UserError("a folder of datasets needs datasets", "pip install 'rstar-eval[export]'") from None
    with tempfile.TemporaryDirectory(prefix="rstar-eval-") as scratch:
        file = Path(scratch) / "rows.parquet"
        count = _write_parquet(rows, file)
        found = datasets.Dataset.from_parquet(str(file), cache_dir=scratch)
        found.save_to_disk(str(output))
    return count


def _type(pa: Any, name: str) -> Any:
    """Return the Parquet type of a column: the same name has the same type everywhere."""
    if name in {"completions", "labels", "values"}:
        return pa.list_({"completions": pa.string(), "labels": pa.bool_(), "values": pa.float64()}[name])
    if name == "steps":
        step = ("text", "kind", "status", "output", "value", "tokens")
        return pa.list_(pa.struct([pa.field(one, _type(pa, one)) for one in step]))
    if name in {"score", "margin", "weight", "value"}:
        return pa.float64()
    if name in {"index", "tree", "rollout", "tokens", "code_steps", "code_ok", "round"}:
        return pa.int64()
    return pa.bool_() if name == "label" else pa.string()

"""A run without its texts: per problem the verdicts, scores and tokens of every trajectory, and the run's manifest.

This is what is committed as a result and what tables and figures are computed from: no question, solution or answer is
in it. Scores are rounded to six digits once, so that a stored result gives what the run gave. A file is zstd-compressed
JSON lines: a header, then one line a problem in the order of the task.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rstar_eval.errors import UserError
from rstar_eval.records import GradeRecord, Log, read_log
from rstar_eval.serial import from_data, line
from rstar_eval.solver.types import Trajectory
from rstar_eval.store import read_manifest
from rstar_eval.trees import read_tree

SCHEMA = 1
SUFFIX = ".jsonl.zst"
DIGITS = 6


@dataclass(frozen=True, slots=True)
class ProblemScore:
    """One problem of a run.

    outcome: of the chosen answer. tokens: completion tokens of all its searches. groups: each trajectory's answer class
    (None: no answer). right: each one's verdict, "1" or "0" in a string. scores: of the run's reward model (None:
    none). shares: see Trajectory.share. spent: tokens up to and with each trajectory (None: not known). judges: scores
    by other reward models, by name.
    """

    problem: str
    index: int
    level: str | None
    outcome: Literal["correct", "wrong", "no_answer", "grader_error"]
    tokens: int
    groups: tuple[int | None, ...]
    right: str
    scores: tuple[float | None, ...] | None = None
    shares: tuple[float, ...] | None = None
    spent: tuple[int, ...] | None = None
    judges: dict[str, tuple[float | None, ...]] = field(default_factory=dict)

    @property
    def solved(self) -> bool:
        """Whether the chosen answer is right."""
        return self.outcome == "correct"


@dataclass(frozen=True, slots=True)
class RunScores:
    """A task of a run: the manifest (paths of models shortened to their last parts) and its problems."""

    task: str
    manifest: dict[str, Any]
    problems: tuple[ProblemScore, ...]

    @property
    def config(self) -> dict[str, Any]:
        """The run's settings."""
        config: dict[str, Any] = self.manifest["config"]
        return config

    @property
    def nested(self) -> bool:
        """Whether the first k trajectories are what a run of k would have given, and in that order only (trees)."""
        return self.config["strategy"] in ("mcts", "beam", "dvts")

    def first(self, limit: int | None) -> RunScores:
        """Return the run on the first `limit` problems of its task (None: on all)."""
        if limit is None:
            return self
        return RunScores(self.task, self.manifest, tuple(one for one in self.problems if one.index < limit))


def scores_of_run(
    run: Path, task: str, judges: Mapping[str, Mapping[str, Sequence[float | None]]] | None = None
) -> RunScores:
    """Return what the run folder holds of `task`, by its manifest's grader.

    judges: by name of a judge and problem, a score a trajectory. UserError if the folder is no run, has not this task,
    or lacks a graded problem's trajectories.
    """
    manifest, log = read_manifest(run), read_log(run)
    if task not in manifest["data"]:
        raise UserError(f"{str(run)!r} has no task {task!r}", f"it has {', '.join(manifest['data'])}")
    grader = (manifest["grader"]["name"], manifest["grader"]["version"])
    found = []
    for key, grade in log.grades.items():
        if key[0] == task and key[2:] == grader:
            extra = {name: by_problem[grade.problem] for name, by_problem in (judges or {}).items()}
            found.append(_score(run, grade, log, int(manifest["config"]["trees"]), extra))
    return RunScores(task, clean_manifest(manifest), tuple(sorted(found, key=lambda one: one.index)))


def _score(
    run: Path, grade: GradeRecord, log: Log, trees: int, judges: Mapping[str, Sequence[float | None]]
) -> ProblemScore:
    searches = [one for tree in range(trees) if (one := log.searches.get((grade.task, grade.problem, tree)))]
    paths = [one for search in searches for one in search.trajectories]
    if len(paths) != len(grade.trajectories):
        raise UserError(
            f"{str(run)!r}: problem {grade.problem} has {len(paths)} trajectories and {len(grade.trajectories)} grades",
            "grade the run again: rstar-eval regrade RUN --grader NAME",
        )
    scored = any(one.score is not None for one in paths)
    shares = tuple(_round(one.share) for one in paths)
    return ProblemScore(
        problem=grade.problem,
        index=grade.index,
        level=grade.level,
        outcome=grade.outcome,  # type: ignore[arg-type]
        tokens=sum(one.budget.completion_tokens for one in searches),
        groups=tuple(one.group for one in grade.trajectories),
        right="".join("1" if one.outcome == "correct" else "0" for one in grade.trajectories),
        scores=tuple(None if one.score is None else _round(one.score) for one in paths) if scored else None,
        shares=shares if any(share != 1 for share in shares) else None,
        spent=_spent(run, grade.problem, [(one.trajectories, one.budget.completion_tokens) for one in searches]),
        judges={name: tuple(None if s is None else _round(s) for s in each) for name, each in judges.items()},
    )


def _spent(run: Path, problem: str, searches: Sequence[tuple[Sequence[Trajectory], int]]) -> tuple[int, ...] | None:
    """Return the completion tokens up to and with each trajectory: exact after each tree; within a tree from its stored
    nodes (an expansion counts for the first walk that made it), within samples from their steps; made to add up to what
    the search has counted. None if a tree with several trajectories was not kept."""
    total, spent = 0, list[int]()
    for number, (paths, tokens) in enumerate(searches):
        if len(paths) == 1:
            own = [1.0]
        elif all(one.share == 1 and all(step.value is None for step in one.steps) for one in paths):
            own = [float(sum(step.tokens for step in one.steps)) for one in paths]
        else:
            tree = read_tree(run, problem, number)
            if tree is None:
                return None
            own = walk_tokens(tree["nodes"], [one.rollout for one in paths])
        whole, so_far = sum(own) or 1.0, 0.0
        for each in own:
            so_far += each
            spent.append(total + round(tokens * so_far / whole))
        total += tokens
    return tuple(spent)


def walk_tokens(nodes: Sequence[Mapping[str, Any]], walks: Sequence[int]) -> list[float]:
    """Return the tokens that each walk of a tree made the policy generate: those of all candidates of the expansions
    that no earlier walk had made. `walks`: their numbers, in order. A step that was sampled several times counts as
    often."""
    below: dict[str, float] = {}
    for node in nodes[1:]:
        parent = node["tag"].rpartition(".")[0]
        below[parent] = below.get(parent, 0.0) + node.get("tokens", 0) * node.get("samples", 1)
    ends = {node["walk"]: str(node["tag"]) for node in nodes if node.get("walk") is not None}
    seen: set[str] = set()
    found = []
    for walk in walks:
        parts = ends[walk].split(".")
        path = {".".join(parts[: i + 1]) for i in range(len(parts))}
        found.append(sum(below.get(tag, 0.0) for tag in path - seen))
        seen |= path
    return found


def clean_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest without the places of one machine: of absolute paths a file's name stays, or the
    last three parts of a folder's."""

    def clean(value: object) -> Any:
        if isinstance(value, Mapping):
            return {str(key): clean(each) for key, each in value.items() if key not in ("url", "data_dir")}
        if isinstance(value, (list, tuple)):
            return [clean(each) for each in value]
        return _PATH.sub(_shorten, value) if isinstance(value, str) else value

    return dict(clean(manifest))


_PATH = re.compile(r"(?<![\w.:/@])/(?:[^\s/?:]+/)+[^\s/?:]+|(?<=:)/(?!/)(?:[^\s/?:]+/)+[^\s/?:]+")


def _shorten(found: re.Match[str]) -> str:
    parts = found.group().strip("/").split("/")
    return parts[-1] if "." in parts[-1] else "/".join(parts[-3:])


def write_scores(path: Path, scores: RunScores) -> None:
    """Write a result, atomically. The same scores give the same bytes (of one version of zstandard)."""
    head = {"schema": SCHEMA, "kind": "run", "task": scores.task, "manifest": scores.manifest}
    write_lines(path, [head, *(_compact(one) for one in scores.problems)])


def read_scores(path: Path) -> RunScores:
    """Return a stored result. UserError naming the file, line and field that does not fit."""
    lines = read_lines(path)
    head = next(lines, {})
    if head.get("schema") != SCHEMA or head.get("kind") != "run":
        raise UserError(f"{str(path)!r} is no result of a run (schema {SCHEMA})", "make it with rstar-eval submit RUN")
    problems = []
    for number, data in enumerate(lines, start=2):
        one = from_data(ProblemScore, data, f"{path} line {number}")
        sizes = {len(one.groups), len(one.right), *(len(each) for each in one.judges.values())}
        sizes |= {len(each) for each in (one.scores, one.shares, one.spent) if each is not None}
        if len(sizes) > 1 or set(one.right) - {"0", "1"}:
            raise UserError(f"{path} line {number}: the trajectories' columns differ in length", "submit the run again")
        problems.append(one)
    return RunScores(head["task"], head["manifest"], tuple(problems))


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write JSON lines, compressed, atomically."""
    import zstandard

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    text = "".join(line(row) + "\n" for row in rows).encode()
    temporary.write_bytes(zstandard.ZstdCompressor(level=19).compress(text))
    temporary.replace(path)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of compressed JSON lines. UserError if the file can't be read."""
    import zstandard

    try:
        text = zstandard.ZstdDecompressor().decompress(path.read_bytes(), max_output_size=1 << 31).decode()
        rows = [json.loads(each) for each in text.splitlines()]
    except (OSError, ValueError, zstandard.ZstdError) as error:
        raise UserError(f"can't read {str(path)!r}: {error}", "restore the file, or measure again") from None
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{path} line {number} is no JSON object", "restore the file, or measure again")
        yield row


def _compact(one: ProblemScore) -> dict[str, Any]:
    return {key: value for key, value in asdict(one).items() if key == "level" or value not in (None, {})}


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")

"""Figures of self-evolution stages, always computed from the stored runs, and the summary that shows them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.records import GradeRecord, SearchRecord, read_log
from rstar_eval.stats import wilson

_EVALUATED = ("pass1", "system2", "majority")
"""What a round's evaluation measures."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The records of several run folders (the shards of one search): grades by problem, and all searches."""

    grades: dict[str, GradeRecord]
    searches: list[SearchRecord]

    @property
    def tokens(self) -> int:
        """Completion tokens of all searches."""
        return sum(one.budget.completion_tokens for one in self.searches)


def read_runs(folders: Iterable[Path]) -> Runs:
    """Read run folders as one run."""
    grades: dict[str, GradeRecord] = {}
    searches: list[SearchRecord] = []
    for folder in folders:
        log = read_log(folder)
        grades |= {record.problem: record for record in log.grades.values()}
        searches += log.searches.values()
    return Runs(grades, searches)


def score(runs: Runs) -> dict[str, Any]:
    """Return n, accuracy of the chosen answers with its 95 % Wilson interval, the same by level, and the tokens."""
    return {**_share({key: one.outcome == "correct" for key, one in runs.grades.items()}, runs), "tokens": runs.tokens}


def solved(runs: Runs) -> dict[str, bool]:
    """Return by problem whether one of its trajectories is right."""
    return {key: any(t.outcome == "correct" for t in one.trajectories) for key, one in runs.grades.items()}


def share_by_level(hits: Mapping[str, bool], levels: Mapping[str, str]) -> dict[str, Any]:
    """Return n, the share of hits with its interval, and the share by level."""
    by_level: dict[str, list[bool]] = {}
    for key, hit in hits.items():
        by_level.setdefault(levels.get(key, ""), []).append(hit)
    right, n = sum(hits.values()), len(hits)
    return {
        "n": n,
        "accuracy": right / n if n else 0.0,
        "interval": list(wilson(right, n)),
        "levels": {level: sum(found) / len(found) for level, found in sorted(by_level.items()) if level},
    }


def _share(hits: Mapping[str, bool], runs: Runs) -> dict[str, Any]:
    return share_by_level(hits, {key: one.level or "" for key, one in runs.grades.items()})


def paired_difference(new: Mapping[str, bool], old: Mapping[str, bool]) -> tuple[float, float]:
    """Return the mean difference, new minus old, over the problems that both have, and its standard error."""
    both = [int(new[key]) - int(old[key]) for key in new if key in old]
    if len(both) < 2:
        return 0.0, 0.0
    mean = sum(both) / len(both)
    variance = sum((one - mean) ** 2 for one in both) / (len(both) - 1)
    return mean, math.sqrt(variance / len(both))


def round_figures(stages: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the figures a round from those of the stages."""
    numbers = sorted({int(name.split("/")[0][5:]) for name in stages if name.startswith("round")})
    rounds = []
    for number in numbers:
        of = {name.split("/")[1]: value for name, value in stages.items() if name.startswith(f"round{number}/")}
        if not number and "base" in stages:
            of["base"] = stages["base"]
        one: dict[str, Any] = {"round": number, **{key: of.get("evaluate", {}).get(key) for key in _EVALUATED}}
        one["pool"] = of.get("data", {}).get("pool")
        one["gain"], one["kept"] = of.get("gate", {}).get("gain"), of.get("gate", {}).get("kept")
        one["ppm_pairs"] = of.get("train", {}).get("ppm", {}).get("held_out", {}).get("accuracy")
        one["final"] = of.get("judges", {}).get("system2")
        one["tokens"] = sum(of.get(name, {}).get("tokens", 0) for name in ("search", "more"))
        one["seconds"] = round(sum(stage.get("seconds", 0) for stage in of.values()))
        one["peak_mb"] = max((stage.get("peak_mb", 0) for stage in of.values()), default=0)
        rounds.append(one)
    return rounds


def summary_text(rounds: Sequence[Mapping[str, Any]], heading: str) -> str:
    """Return the rounds' figures as a Markdown table. Absent figures are shown as a dash."""
    levels = sorted({level for one in rounds for level in (one.get("pass1") or {}).get("levels", {})})
    head = ["round", *(f"L{level}" for level in levels), "pass@1 (95 %)", "against the round before", "pool solved"]
    head += ["system 2", "majority", "PPM pairs", "seconds", "search tokens", "peak MiB", "kept"]
    lines = [f"# {heading}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for one in rounds:
        pass1 = one.get("pass1") or {}
        cells = [str(one["round"]), *(_number(pass1.get("levels", {}).get(level)) for level in levels)]
        low, high = pass1.get("interval") or (None, None)
        cells.append(f"{_number(pass1.get('accuracy'))} [{_number(low)}, {_number(high)}]")
        gain = one.get("gain")
        cells.append("-" if gain is None else f"{gain[0]:+.3f} +- {gain[1]:.3f}")
        cells += [_number((one.get(key) or {}).get("accuracy")) for key in ("pool", "system2", "majority")]
        cells += [_number(one.get("ppm_pairs")), str(one.get("seconds", "-")), str(one.get("tokens", "-"))]
        cells += [str(one.get("peak_mb", "-")), {True: "yes", False: "no", None: "-"}[one.get("kept")]]
        lines.append("| " + " | ".join(cells) + " |")
    pool = [(one["round"], one["pool"]) for one in rounds if one.get("pool")]
    if pool:
        names = sorted({level for _, figures in pool for level in figures["levels"]})
        lines += ["", "Share of the problems that the round searched with a right solution so far, by level:", ""]
        lines += ["| round | " + " | ".join(f"L{name}" for name in names) + " |", "|" + "---|" * (len(names) + 1)]
        for number, figures in pool:
            row = (_number(figures["levels"].get(name)) for name in names)
            lines.append(f"| {number} | " + " | ".join(row) + " |")
    for one in rounds:
        if one.get("final"):
            found = one["final"]
            low, high = found["interval"]
            lines += ["", f"System 2 of round {one['round']} with the final PPM, of {found['n']} problems: "]
            lines[-1] += f"{found['accuracy']:.3f} [{low:.3f}, {high:.3f}]."
    return "\n".join(lines) + "\n"


def training_metrics(folder: Path) -> dict[str, Any]:
    """Return what a training's manifest says it measured."""
    path = folder / "training.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"can't read {str(path)!r}: {error}", "remove its folder and give the same command") from None
    metrics = manifest.get("metrics", {})
    return dict(metrics) if isinstance(metrics, dict) else {}


def short(figures: dict[str, Any]) -> str:
    """Return a stage's figures in one line: its accuracies and numbers."""
    parts = []
    for key, value in figures.items():
        if isinstance(value, dict) and "accuracy" in value:
            parts.append(f"{key} {value['accuracy']:.3f}")
        elif isinstance(value, (int, float, bool)):
            parts.append(f"{key} {value}")
    return ", ".join(parts)


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "-" if value is None else str(value)

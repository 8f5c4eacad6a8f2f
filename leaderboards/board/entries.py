"""What the board shows: one entry a task of a run, with its scores and, where the run's folder is here, its texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.leaderboards.scores import SUFFIX, RunScores, read_scores, scores_of_run
from rstar_eval.stats import wilson
from rstar_eval.store import MANIFEST, read_manifest


@dataclass(frozen=True, slots=True)
class Entry:
    """A task of a run: its page's name, a title, its scores, and its folder (None: only the scores are here)."""

    slug: str
    title: str
    scores: RunScores
    folder: Path | None

    @property
    def n(self) -> int:
        """Problems."""
        return len(self.scores.problems)

    @property
    def correct(self) -> int:
        """Problems whose chosen answer is right."""
        return sum(one.solved for one in self.scores.problems)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the accuracy, as shares."""
        return wilson(self.correct, self.n)

    @property
    def coverage(self) -> float:
        """Share of the problems with a right trajectory (pass@N)."""
        return sum("1" in one.right for one in self.scores.problems) / self.n if self.n else 0.0

    @property
    def tokens(self) -> float:
        """Completion tokens a problem."""
        return sum(one.tokens for one in self.scores.problems) / self.n if self.n else 0.0

    @property
    def policy(self) -> str:
        """The policy in a few words."""
        return model_name(self.scores.config.get("policy"))

    @property
    def reward(self) -> str:
        """The reward model in a few words ("": none)."""
        return model_name(self.scores.config.get("reward"))


def model_name(spec: object) -> str:
    """Return the last parts of a model spec: "hf:/a/seed0/round4/policy?x" gives "seed0/round4/policy"."""
    if not spec:
        return ""
    head = str(spec).split("?")[0].split("@")[0]
    scheme, colon, target = head.partition(":")
    name = "/".join(Path(target).parts[-3:]) if colon else scheme
    return name.lstrip("/") or scheme


def entries_of(paths: Sequence[Path]) -> list[Entry]:
    """Return the entries of run folders, folders of run folders, reproductions and folders of stored results.

    UserError for a path that is none of these.
    """
    found: list[Entry] = []
    for path in paths:
        if (path / MANIFEST).is_file():
            found += _of_run(path, path.name or path.resolve().name)
        elif (path / "runs").is_dir() or (path / "results").is_dir():
            found += _of_reproduction(path)
        elif any(path.glob(f"*/{MANIFEST}")):
            for manifest in sorted(path.glob(f"*/{MANIFEST}")):
                found += _of_run(manifest.parent, manifest.parent.name)
        elif any(path.rglob(f"*{SUFFIX}")):
            found += _of_results(path, None)
        else:
            raise UserError(
                f"{str(path)!r} holds no run, reproduction or results",
                "give the folder of a run, or of reproduce --output",
            )
    return _numbered(found)


def _of_run(path: Path, title: str) -> list[Entry]:
    tasks = list(read_manifest(path)["data"])
    names = {task: f"{title}/{task}" if len(tasks) > 1 else title for task in tasks}
    return [Entry("", names[task], scores_of_run(path, task), path) for task in tasks]


def _of_reproduction(path: Path) -> list[Entry]:
    """Return the entries of a reproduction: its results, with the run's folder beside each."""
    return _of_results(path / "results", path / "runs")


def _of_results(folder: Path, runs: Path | None) -> list[Entry]:
    found = []
    for file in sorted(folder.rglob(f"*{SUFFIX}")):
        if file.name.startswith("evolution."):
            continue
        key = str(file.relative_to(folder)).removesuffix(SUFFIX)
        run = runs / key if runs is not None and (runs / key / MANIFEST).is_file() else None
        found.append(Entry("", key, read_scores(file), run))
    return found


def _numbered(entries: Iterable[Entry]) -> list[Entry]:
    """Give every entry a name that is fit for a file and not taken."""
    found, taken = [], set[str]()
    for one in entries:
        base = re.sub(r"[^A-Za-z0-9_.-]+", "-", one.title).strip("-.") or "run"
        slug, number = base, 2
        while slug.lower() in taken:  # file systems that don't tell cases apart
            slug, number = f"{base}-{number}", number + 1
        taken.add(slug.lower())
        found.append(Entry(slug, one.title, one.scores, one.folder))
    return found


def settings_text(config: dict[str, Any]) -> str:
    """Return a run's budget in a few words."""
    trees = f" in {config['trees']} trees" if int(config.get("trees", 1)) > 1 else ""
    return f"{config['rollouts']}{trees}"

"""The experiment trackers that a run's figures can be sent to. Each needs a package of its own: MLflow is the extra
`track`, the others are `pip install wandb` and `pip install trackio`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.registry import Registry
from rstar_eval.tracking import Status, TrackedRun, Tracker

EXPERIMENT = "rstar-eval"
"""The experiment or project that runs are in where none is named."""
TAG = "rstar_eval.run"
_LONGEST_VALUE = 500  # MLflow's databases take 500 characters in older versions, 6000 in newer ones

TRACKERS: Registry[Callable[[str], Tracker]] = Registry("tracker")


@TRACKERS.register("mlflow")
class MLflowTracker:
    """MLflow, through its client: `mlflow:URI` with any tracking URI (sqlite:///mlflow.db, http://host:5000), `mlflow`
    alone with MLFLOW_TRACKING_URI. The experiment is MLFLOW_EXPERIMENT_NAME, or rstar-eval."""

    def __init__(self, where: str) -> None:
        self.uri = where or None
        self._client: Any = None
        self._run = ""

    def start(self, run: TrackedRun) -> None:
        """Find the run by its tag, or create it, and send the settings as parameters."""
        import os

        client_class = _imported("mlflow", "MlflowClient", "pip install 'rstar-eval[track]'")
        self._client = client = client_class(tracking_uri=self.uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else client.create_experiment(name)
        known = client.search_runs([experiment], f"tags.`{TAG}` = '{run.id}'", max_results=1)
        if known:
            self._run = known[0].info.run_id
            client.update_run(self._run, status="RUNNING")
            return
        self._run = client.create_run(experiment, run_name=run.name, tags={TAG: run.id}).info.run_id
        for key, value in run.settings.items():
            client.log_param(self._run, key, _text(value))

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """See Tracker."""
        for key, value in figures.items():
            self._client.log_metric(self._run, key, value, step=step)

    def finish(self, figures: Mapping[str, float], step: int, files: Sequence[Path], status: Status) -> None:
        """See Tracker."""
        self.log(figures, step)
        for file in files:
            self._client.log_artifact(self._run, str(file))
        ends = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
        self._client.set_terminated(self._run, status=ends[status])


@TRACKERS.register("wandb")
class WandbTracker:
    """Weights & Biases: `wandb:[ENTITY/]PROJECT`, `wandb` alone for the project rstar-eval. WANDB_MODE=offline writes
    to the disk only."""

    def __init__(self, where: str) -> None:
        entity, _, project = where.rpartition("/")
        self.entity, self.project = entity or None, project or EXPERIMENT
        self._run: Any = None

    def start(self, run: TrackedRun) -> None:
        """Begin the run, or take up the one of this id."""
        init = _imported("wandb", "init", "pip install wandb")
        self._run = init(
            entity=self.entity,
            project=self.project,
            id=run.id,
            name=run.name,
            resume="allow",
            config=dict(run.settings),
        )

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """See Tracker."""
        self._run.log(dict(figures), step=step)

    def finish(self, figures: Mapping[str, float], step: int, files: Sequence[Path], status: Status) -> None:
        """See Tracker."""
        self._run.summary.update({**figures, "status": status})
        for file in files:
            self._run.save(str(file), base_path=str(file.parent), policy="now")
        self._run.finish(exit_code=0 if status == "finished" else 1)


@TRACKERS.register("trackio")
class TrackioTracker:
    """Trackio, which keeps runs on this machine (TRACKIO_DIR): `trackio:PROJECT`, `trackio` alone for rstar-eval. It
    takes figures and settings, no files, and knows no state of a run; the last figures carry `finished` as 1 or 0."""

    def __init__(self, where: str) -> None:
        self.project = where or EXPERIMENT
        self._run: Any = None

    def start(self, run: TrackedRun) -> None:
        """Begin the run, or take up the one of this name and id."""
        init = _imported("trackio", "init", "pip install trackio")
        self._run = init(
            project=self.project, name=f"{run.name}-{run.id}", resume="allow", embed=False,
            config={key: _text(value) for key, value in run.settings.items()},
        )  # fmt: skip

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """See Tracker."""
        self._run.log(dict(figures), step=step)

    def finish(self, figures: Mapping[str, float], step: int, files: Sequence[Path], status: Status) -> None:
        """See Tracker."""
        self.log({**figures, "finished": float(status == "finished")}, step)
        self._run.finish()


def _imported(package: str, name: str, mend: str) -> Any:
    from importlib import import_module

    try:
        return getattr(import_module(package), name)
    except ImportError as error:
        raise UserError(f"{package} is not here: {error}", mend) from None


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"

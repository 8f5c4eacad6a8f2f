"""Markers that skip with a reason, and where optional development data lies."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from rstar_eval.solver import executor
from rstar_eval.solver.types import StepRun

MARKERS = {
    "slow": "slow test: give --run-slow",
    "gpu": "needs a CUDA device: give --run-gpu",
    "browser": "needs Chromium: give --run-browser",
    "net": "needs a package index: give --run-net",
    "vllm": "needs vLLM (benchmarks/vllm/setup.sh): give --run-vllm",
}
# What must pass before a change lands is the same every time; at home hypothesis goes on looking for new cases.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    for name in MARKERS:
        parser.addoption(f"--run-{name}", action="store_true", default=False, help=f"run tests marked {name}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for name, reason in MARKERS.items():
            if name in item.keywords and not config.getoption(f"--run-{name}"):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of development data (benchmark files, labelled pairs, reference searches), or skip."""
    folder = Path(os.environ.get("RSTAR_EVAL_SHARED", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"development data not present at {folder} (set RSTAR_EVAL_SHARED)")
    return folder


class NothingRuns:
    """An executor that runs nothing and starts nothing: every step prints the last number in its code."""

    level = "none, in a test"

    async def open(self, key: str, **_: Any) -> NothingRuns:
        return self

    async def run(self, parent: int | None, code: str) -> StepRun:
        return StepRun((parent or 0) + 1, "ok", (re.findall(r"\d+", code) or ["0"])[-1])

    def describe(self) -> Mapping[str, object]:
        return {"level": self.level}

    async def close(self) -> None:
        pass


def _start_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import rstar_eval.engine.local
    import rstar_eval.solving  # noqa: F401  these two start executors

    async def start(*_: Any, **__: Any) -> NothingRuns:
        return NothingRuns()

    real = executor.start_executor
    for name, module in list(sys.modules.items()):
        if name.startswith("rstar_eval") and getattr(module, "start_executor", None) is real:
            monkeypatch.setattr(module, "start_executor", start)


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare a test that is not about steps the two seconds that a sandbox takes to start, wherever one is started."""
    _start_nothing(monkeypatch)


@pytest.fixture(scope="module")
def nothing_runs_here() -> Iterator[None]:
    """The same for all tests of a module, so that its shared runs can be made without a sandbox too."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        _start_nothing(monkeypatch)
        yield

"""Markers that skip with a reason, and where optional development data lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

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

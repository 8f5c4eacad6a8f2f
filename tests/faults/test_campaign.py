"""The fault campaign: `RSTAR_EVAL_FAULTS=20 pytest tests/faults --run-slow -s` deals each fault 20 times at random
moments (seed: RSTAR_EVAL_FAULTS_SEED) and prints the table. After each: nothing lost, nothing doubled, same figures."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from .campaign import Campaign, Content, Tally, content, table
from .faults import FAULTS

TIMES = int(os.environ.get("RSTAR_EVAL_FAULTS", "4"))
SEED = int(os.environ.get("RSTAR_EVAL_FAULTS_SEED", "1"))


@pytest.fixture(scope="module")
def tallies() -> Iterator[list[Tally]]:
    found: list[Tally] = []
    yield found
    print(f"\n\nFaults, {TIMES} times each, seed {SEED}:\n\n{table(found)}\n")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Content]:
    """The undisturbed runs by grader."""
    made = {}
    for grader in ("default", "math_verify"):
        folder = tmp_path_factory.mktemp("calm")
        campaign = Campaign("none", folder, Content({}, {}, {}), random.Random(0), 1)
        campaign.end(campaign.start(folder / "run", "--grader", grader), 0)
        made[grader] = content(folder / "run")
    return made


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost_or_doubled(fault: str, tmp_path: Path, calm: dict[str, Content], tallies: list[Tally]) -> None:
    undisturbed = calm["math_verify" if "grader" in fault else "default"]
    campaign = Campaign(fault, tmp_path, undisturbed, random.Random(f"{SEED} {fault}"), TIMES)
    try:
        FAULTS[fault](campaign)
    except pytest.skip.Exception as skipped:
        campaign.tally.note = f"skipped: {skipped}"
        raise
    finally:
        tallies.append(campaign.tally)
        print(f"\n{campaign.tally.row()}", flush=True)  # a campaign that is broken off has shown what it did
    assert (campaign.tally.lost, campaign.tally.doubled, campaign.tally.wrong) == (0, 0, 0), campaign.tally.details
    assert campaign.tally.times >= 1

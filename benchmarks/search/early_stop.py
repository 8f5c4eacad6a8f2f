"""What early stop would have saved in a stored run of independent solutions (strategy majority), and that it changes no
answer.

    python benchmarks/search/early_stop.py RUN [RUN ...]

Solution i of a problem is the same whatever the waves are in which solutions are sampled, so that the stored solutions
tell exactly what the strategy would have sampled with --early-stop: waves as small as could settle the vote.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rstar_eval.grading import group_answers
from rstar_eval.records import read_log
from rstar_eval.solver.choose import Choosing, choose, soonest_decision
from rstar_eval.solver.types import Trajectory
from rstar_eval.store import read_manifest


def needed(trajectories: tuple[Trajectory, ...], how: Choosing) -> int:
    """Return how many of the trajectories are sampled before the vote is decided."""
    seen = 0
    while seen < len(trajectories):
        more = soonest_decision(trajectories[:seen], len(trajectories) - seen, how, scored=False)
        if more == 0:
            return seen
        seen += more
    return seen


def tokens(trajectories: tuple[Trajectory, ...]) -> int:
    """Return the completion tokens in the trajectories."""
    return sum(step.tokens for one in trajectories for step in one.steps)


def main() -> None:
    for name in sys.argv[1:]:
        config = read_manifest(Path(name))["config"]
        how = Choosing("majority", config["top_k"], config["seed"], group_answers)
        full = early = sampled = total = same = problems = 0
        for record in read_log(Path(name)).searches.values():
            every = record.trajectories
            few = every[: needed(every, how)]
            full, early = full + tokens(every), early + tokens(few)
            total, sampled = total + len(every), sampled + len(few)
            before, after = choose(every, how).answer, choose(few, how).answer
            same += before == after or (
                before is not None and after is not None and len(set(group_answers([before, after]))) == 1
            )
            problems += 1
        print(
            f"{name}: {problems} problems, {sampled} of {total} solutions, {early} of {full} tokens "
            f"({1 - early / full:.1%} saved), same answer {same} of {problems}"
        )


if __name__ == "__main__":
    main()

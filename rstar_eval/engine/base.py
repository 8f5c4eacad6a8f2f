"""What a runner asks of an engine: one search after another, done somewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rstar_eval.problem import Problem
from rstar_eval.solver.search import Outcome
from rstar_eval.solver.types import Budget, SearchResult

OutcomeOf = Callable[[Problem], Outcome]
"""In training alone: makes of a problem what tells its search whether an answer is right."""
MakeOutcomes = Callable[[], OutcomeOf]
"""Makes an OutcomeOf in the process where the searches run; a function of a module, so that it can be named there."""


@dataclass(frozen=True, slots=True)
class Searched:
    """A finished search: its result without the tree, the seconds that it took where it ran, its tree as it is stored
    (`trees.record_of`; None: not kept), and the store segment that it goes to (the worker's name; "": the run's own
    log)."""

    result: SearchResult
    seconds: float
    tree: bytes | None = None
    segment: str = ""


class SetAside(Exception):
    """A search that could not be finished in `tries` tries: each time its worker was lost, or it failed there."""

    def __init__(self, tries: int, reason: str) -> None:
        super().__init__(f"{tries} tries: {reason}")
        self.tries, self.reason = tries, " ".join(reason.split())


class Engine(Protocol):
    """Where searches are done.

    grown: is set when `width` has become larger. The results of a search depend on the problem, the settings, the
    tree's index and the models alone, whatever the engine.
    """

    grown: asyncio.Event

    @property
    def width(self) -> int:
        """How many searches it wants to be asked for at once, now."""
        ...

    async def search(self, problem: Problem, tree: int, spent: Budget) -> Searched:
        """Do one search. `spent` is told what it spends, also when it is cut off (as far as that can be known).

        UserError and BackendError as `solver.search`; SetAside. When cancelled, the search is ended where it runs.
        """
        ...

    def describe(self) -> Mapping[str, Any]:
        """Return the descriptions of the models and the executor for the manifest: `policy`, `reward`, `executor`."""
        ...

    def session(self) -> Mapping[str, Any]:
        """Return what the engine has to say about a session for the manifest ({}: nothing)."""
        ...

    async def close(self) -> None:
        """Release models, executors and workers. May be called twice."""
        ...

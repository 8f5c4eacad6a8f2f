"""The four interfaces behind which the solver's surroundings live: step format, policy, reward model, executor.

A backend is a small adapter that satisfies one of these structurally; it needs no base class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

from rstar_eval.solver.types import Completion, ParsedStep, Prompt, SampleRequest, SampleResult, StepRun


class StepFormat(Protocol):
    """How steps are written for one kind of model. The prompt style is a property of the policy."""

    name: str

    def prompt(self, question: str, prefix: str) -> Prompt:
        """Return the prompt that asks for the continuation of `prefix` ("" at the root)."""
        ...

    def stops(self, until: Literal["step", "block"]) -> tuple[str, ...]:
        """Return the stop strings for one step, or for a whole block."""
        ...

    def parse(self, prefix: str, completion: Completion) -> list[ParsedStep]:
        """Read a completion of `prefix` as steps, in order; one step if it was asked `until="step"`.

        Never raises on garbage: what fits nowhere is one step of kind "malformed".
        """
        ...

    def render_output(self, output: str) -> str:
        """Return what is appended to the text of a `final_code` step to show the model its printed output."""
        ...


class Policy(Protocol):
    """A model that writes steps."""

    name: str
    format: StepFormat

    async def sample(self, request: SampleRequest) -> SampleResult:
        """Return `request.n` continuations. BackendError when the model is gone for good (after retries)."""
        ...

    def describe(self) -> Mapping[str, object]:
        """Return what identifies the model for the manifest: spec, weights' hash or served id, versions, settings."""
        ...

    async def close(self) -> None:
        """Release the model (stop a server that we started). May be called twice."""
        ...


class RewardModel(Protocol):
    """A model that judges partial or whole solutions."""

    name: str

    async def score(self, question: str, texts: Sequence[str]) -> list[float]:
        """Return one value in [-1, 1] for each solution prefix in `texts` (surface form of the policy's format)."""
        ...

    def describe(self) -> Mapping[str, object]:
        """Return what identifies the model for the manifest."""
        ...

    async def close(self) -> None:
        """Release the model. May be called twice."""
        ...


class ExecutorSession(Protocol):
    """The running state of one problem. Sibling steps never see each other's names."""

    async def run(self, parent: int | None, code: str) -> StepRun:
        """Run `code` on the state after node `parent` (None: a fresh state) and return the new node.

        Never raises for what the code does. BackendError when the executor itself can't go on.
        """
        ...

    async def close(self) -> None:
        """Forget the problem and free its worker. May be called twice."""
        ...


@runtime_checkable
class ManySession(ExecutorSession, Protocol):
    """A session that takes the steps of one expansion together. Not required: others are asked step by step."""

    async def run_many(self, parent: int | None, codes: Sequence[str]) -> list[StepRun]:
        """Run each of `codes` on the state after node `parent`, with the results that `run` for one after another would
        have; one a code, in order."""
        ...


class Executor(Protocol):
    """Where steps run."""

    level: str

    async def open(self, key: str) -> ExecutorSession:
        """Open a problem; `key` names it in diagnostics only."""
        ...

    def describe(self) -> Mapping[str, object]:
        """Return the isolation level, its layers and the limits, for the manifest."""
        ...

    async def close(self) -> None:
        """Stop all workers. May be called twice."""
        ...


GroupAnswers = Callable[[Sequence[str]], list[int]]
"""Maps answers to class numbers 0..m-1 in order of first appearance: equivalent answers get the same number.

Safe in threads. Comparing two answers for the first time may take long (tenths of a second): an event loop asks in a
thread first. What was compared is remembered and quick from then on."""

"""What all reward models on a real engine share: text to tokens, the cut, the check of what comes back."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from rstar_eval.errors import BackendError
from rstar_eval.solver.reward.engines import Head, ScoreEngine, ScoreInput

logger = logging.getLogger(__name__)


class Adapter(Protocol):
    """The text side of one kind of checkpoint."""

    @property
    def head(self) -> Head:
        """Which outputs are read."""
        ...

    def inputs(self, question: str, texts: Sequence[str]) -> list[ScoreInput]:
        """Return the tokens of each text and the places that are read; of any length."""
        ...

    def value(self, outputs: Sequence[Sequence[float]]) -> float:
        """Return the value in [-1, 1] of the outputs at a text's places."""
        ...

    def describe(self) -> Mapping[str, object]:
        """Return what the value means: kind, head, layout, aggregation."""
        ...


class ModelReward:
    """A reward model made of an adapter and an engine (protocols.RewardModel)."""

    def __init__(self, name: str, adapter: Adapter, engine: ScoreEngine) -> None:
        self.name = name
        self.adapter = adapter
        self.engine = engine
        self._warned = False

    async def score(self, question: str, texts: Sequence[str]) -> list[float]:
        """Return one value in [-1, 1] for each solution prefix.

        A text of more tokens than the engine takes loses its beginning, so that its last step is still judged; the log
        says so once. BackendError if the model is gone for good or gives a number that is none.
        """
        if not texts:
            return []
        inputs = [self._cut(one) for one in self.adapter.inputs(question, texts)]
        read = await self.engine.logits(inputs)
        values = [self.adapter.value(outputs) for outputs in read]
        if not all(math.isfinite(number) for outputs in read for place in outputs for number in place):
            raise BackendError(
                f"reward model {self.name} gave a number that is none (NaN or infinite)",
                "the checkpoint is broken, or dtype=float16 is too narrow for it",
            )
        return values

    def _cut(self, one: ScoreInput) -> ScoreInput:
        over = len(one.tokens) - self.engine.context
        if over <= 0:
            return one
        if not self._warned:
            self._warned = True
            logger.warning(
                "a text of %d tokens is over the reward model's %d: texts lose their beginning",
                len(one.tokens),
                self.engine.context,
            )
        # Place 0 is never read: a head that judges tokens needs the one before.
        places = tuple(place - over for place in one.positions if place > over)
        if one.positions and not places and self.adapter.head.kind in ("classify", "tokens"):
            places = (self.engine.context - 1,)
        return ScoreInput(one.tokens[over:], places)

    def describe(self) -> Mapping[str, object]:
        """Return the spec, what the value means, and the engine's own description."""
        return {"reward": self.name, **self.adapter.describe(), **self.engine.describe()}

    async def close(self) -> None:
        """Release the engine. May be called twice."""
        await self.engine.close()

"""A problem with its gold answer: the harness's view. The solver gets only its `question`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from rstar_eval.solver.types import Question


def problem_id(task: str, index: int, question: str) -> str:
    """Return the 16 hex digits that identify a problem: of its task, place and text, since texts alone repeat
    (College Math has 34 questions that occur twice, 24 of them with different answers)."""
    return hashlib.sha256(f"{task}\x1f{index}\x1f{question}".encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a task: `index` is its place in the source (0-based), `answer` the gold answer as the source
    writes it, `level` and `subject` the source's own labels where it has them. `alternatives` are further gold
    answers, each of which is right as well (four problems of MATH accept either of two)."""

    id: str
    task: str
    index: int
    text: str
    answer: str
    level: str | None = None
    subject: str | None = None
    alternatives: tuple[str, ...] = ()

    @property
    def question(self) -> Question:
        """The part of the problem that the solver may see."""
        return Question(self.id, self.text)

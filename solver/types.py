"""The plain data that flows through the solver. No type here can hold a gold answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["stop", "eos", "length"]
"""Why a completion ended: at a stop string, at the model's end-of-sequence token, or at the token limit."""

RunStatus = Literal["ok", "error", "timeout", "killed", "violation"]
"""How a step's code ended: normally, with an exception (a syntax error too), over its CPU time, killed from outside
(memory, a crash), or for breaking the executor's protocol."""

StepKind = Literal["code", "final_code", "answer", "malformed"]
"""A code step; the code step that closes a block, after which the printed output is shown to the model; the final
answer; or text that fits nowhere in the step grammar."""

EndReason = Literal["answer", "depth", "errors", "length", "malformed", "no_candidates", "budget"]
"""Why a trajectory ended. Only `answer` can carry an answer."""

SearchEnd = Literal["rollouts", "exhausted", "decided", "budget"]
"""Why a search ended: it made all its rollouts; every path of the tree had been walked; the remaining rollouts could
not change the answer; or the token limit was reached."""


@dataclass(frozen=True, slots=True)
class Question:
    """What the solver may know of a problem: an id (16 hex digits) and the text."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a policy is asked to continue.

    Either `raw` (a plain text to complete: fine-tuned policies) or `messages` and the beginning of the assistant's
    reply, `assistant_prefix`, which the model must continue and not repeat (chat models).
    """

    raw: str | None = None
    messages: tuple[Message, ...] = ()
    assistant_prefix: str = ""


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A request for `n` continuations of one solution.

    `prefix` is the solution so far in the surface form of the policy's step format ("" at the root). `until` says
    where to stop: after one step, or after a whole block (code block or answer). `seed` makes the request
    deterministic on backends that can be (temperature 0 is greedy). `max_tokens` bounds each completion. `logprobs`
    asks for each completion's log-probability, which some backends compute at a cost and some can't give.
    """

    question: str
    prefix: str
    n: int
    seed: int
    until: Literal["step", "block"] = "step"
    temperature: float = 0.8
    top_p: float = 0.95
    max_tokens: int = 512
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """One continuation: its text without the stop string, why it ended, the stop string that ended it (None unless
    `finish` is "stop"), and the number of tokens generated for it.

    `logprob` is the sum of its generated tokens' natural log-probabilities under the model at temperature 1, before
    top_p (None: not asked for, or the backend has none), and `logprob_tokens` how many tokens that sum is over: those
    of the text, and those of the stop string or the end where the backend lists them.
    """

    text: str
    finish: FinishReason
    stop: str | None = None
    tokens: int = 0
    logprob: float | None = None
    logprob_tokens: int = 0


@dataclass(frozen=True, slots=True)
class SampleResult:
    """The completions of one request (n of them, or fewer if the backend says why) and its prompt's token count."""

    completions: tuple[Completion, ...]
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ParsedStep:
    """One step read from a completion.

    `text` is the step in surface form with its closing marker, ready to be appended to the prefix; `code` is the
    Python source to run ("" if none); `answer` is the extracted final answer of an `answer` step (None if it has none).
    """

    text: str
    kind: StepKind
    code: str = ""
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class StepRun:
    """What running one step's code gave.

    `node` is the executor's handle of the state after the step, to be used as `parent` of the next one. `output` is
    what the step printed (cut at the executor's cap). `error_type` and `error` describe an exception. `cpu_seconds`
    is the step's own CPU time. `reused` is true when an equal step on the same parent had run before.
    """

    node: int
    status: RunStatus
    output: str = ""
    error_type: str = ""
    error: str = ""
    cpu_seconds: float = 0.0
    reused: bool = False


@dataclass(slots=True)
class Budget:
    """What a search spent. One record a search; `add` sums records."""

    policy_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    scored_steps: int = 0
    code_runs: int = 0
    code_ok: int = 0
    cpu_seconds: float = 0.0

    def add(self, other: Budget) -> None:
        """Add `other` to this record in place."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a finished trajectory: its text, code, printed output and how the code ended (None: no code),
    the completion tokens it took, its value in the tree (None outside a tree search), and its log-probability (None
    unless the search ranks by it)."""

    text: str
    kind: StepKind
    code: str = ""
    output: str = ""
    status: RunStatus | None = None
    error: str = ""
    tokens: int = 0
    value: float | None = None
    logprob: float | None = None


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A path from the question to its end.

    `answer` is None unless `end` is "answer" with a readable answer. `score` is the reward model's value of the whole
    trajectory (None without a reward model). `tree` and `rollout` say in which tree and rollout it was found. `share`
    is the product over its steps of the share of the candidates beside it that were this very step: how probable the
    policy made the path, as far as the tree's samples tell (1 outside a tree).
    """

    steps: tuple[Step, ...]
    end: EndReason
    answer: str | None = None
    score: float | None = None
    tree: int = 0
    rollout: int = 0
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What one search (one tree of one problem) found: its trajectories in the order of their rollouts, what it
    spent, the tree as nested plain data (None unless it was asked for), and why the search ended."""

    question_id: str
    tree_index: int
    trajectories: tuple[Trajectory, ...]
    budget: Budget = field(default_factory=Budget)
    tree: dict[str, object] | None = None
    end: SearchEnd = "rollouts"

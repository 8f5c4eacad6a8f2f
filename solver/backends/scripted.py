"""Policies without a model, for tests and for trying the harness: deterministic, and free.

`scripted` writes short programs over the numbers in the question; what it writes at a place in the tree depends only
on the seed, the question, the solution so far and the candidate's number. `scripted:FILE` plays back candidates.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rstar_eval.errors import BackendError, UserError
from rstar_eval.solver.protocols import StepFormat
from rstar_eval.solver.types import Completion, SampleRequest, SampleResult

_TOKEN = re.compile(r"\w+|[^\w\s]|\s")
_NUMBER = re.compile(r"(?<![\w.])\d{1,9}(?![\w.])")
_HEAD = re.compile(r"# Step (\d+)")

Candidate = tuple[str, str | None] | tuple[str, str | None, float | None]
"""A completion's text, the stop string that ended it (None: the end-of-sequence token), and its log-probability (left
out or None: it has none)."""
Script = Callable[[SampleRequest, int], Candidate]
"""Maps a request and a candidate's number to the candidate."""


def count_tokens(text: str) -> int:
    """Return the number of words, marks and blanks of `text`: what the scripted policies call tokens."""
    return len(_TOKEN.findall(text))


class ScriptedPolicy:
    """A policy that asks `script` for each candidate. `delay` is how long a request takes on average, in seconds."""

    def __init__(
        self, name: str, format: StepFormat, script: Script, identity: Mapping[str, object], delay: float = 0.0
    ) -> None:
        self.name = name
        self.format = format
        self._script = script
        self._identity = identity
        self._delay = delay

    async def sample(self, request: SampleRequest) -> SampleResult:
        """Return `request.n` candidates, each cut after `request.max_tokens` tokens."""
        if self._delay:
            await asyncio.sleep(self._delay * random.Random(_digest(request, 0)).uniform(0.5, 1.5))
        prompt = self.format.prompt(request.question, request.prefix)
        length = count_tokens(prompt.raw or "".join(m.content for m in prompt.messages) + prompt.assistant_prefix)
        completions = tuple(self._completion(request, i) for i in range(request.n))
        return SampleResult(completions, length)

    def _completion(self, request: SampleRequest, i: int) -> Completion:
        text, stop, *rest = self._script(request, i)
        tokens = _TOKEN.findall(text)
        full = len(tokens) + 1
        logprob = rest[0] if rest and request.logprobs else None
        if full <= request.max_tokens:
            counted = 0 if logprob is None else full
            return Completion(text, "stop" if stop else "eos", stop, full, logprob, counted)
        kept = request.max_tokens
        counted = 0 if logprob is None else kept
        share = None if logprob is None else logprob * kept / full
        return Completion("".join(tokens[:kept]), "length", None, kept, share, counted)

    def describe(self) -> Mapping[str, object]:
        """Return the script's identity."""
        return {"policy": self.name, "format": self.format.name, "engine": "scripted", **self._identity}

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


def _digest(request: SampleRequest, i: int) -> str:
    seed = (0, 0) if request.temperature == 0 else (request.seed, i)
    return hashlib.sha256(repr((seed, request.question, request.prefix)).encode()).hexdigest()


def generator(style: str, noise: float, errors: float) -> Script:
    """Return a script that writes programs of two to four steps in the step format `style` ("chat" or "rstar").

    noise: share of answers that are not the printed output. errors: share of steps whose code raises.
    """
    if style not in ("chat", "rstar"):
        raise UserError(f"the scripted policy cannot write format {style!r}", "use chat or rstar")

    def script(request: SampleRequest, i: int) -> Candidate:
        return *candidate(request, i), likelihood(request, i)

    def likelihood(request: SampleRequest, i: int) -> float:
        """Return a made-up log-probability: its own random numbers, so that asking for it changes no candidate."""
        rng = random.Random(_digest(request, i) + "logprob")
        return -rng.uniform(0.0, 10.0)

    def candidate(request: SampleRequest, i: int) -> tuple[str, str | None]:
        rng = random.Random(_digest(request, i))
        output = _last_output(request.prefix, style)
        if output is not None:
            numbers = _numbers(request.question)
            wrong = str(rng.choice(numbers) + rng.choice((-1, 1)))
            return _answer(style, wrong if rng.random() < noise else output)
        done = len(_HEAD.findall(request.prefix))
        text, final = _step(request.question, done, rng, errors)
        block = [text]
        while request.until == "block" and not final:
            done += 1
            text, final = _step(request.question, done, rng, errors)
            block.append(text)
        return _code(style, block, final, opening=not request.prefix)

    return script


def _numbers(question: str) -> list[int]:
    return [int(number) for number in _NUMBER.findall(question)][:6] or [1, 2]


def _step(question: str, done: int, rng: random.Random, errors: float) -> tuple[str, bool]:
    """Return a step that follows `done` steps, and whether it closes the block."""
    numbers = _numbers(question)
    final = done >= 3 or (done >= 1 and rng.random() < 0.5)
    left = f"x{done}" if done else str(rng.choice(numbers))
    right = "undefined_name" if rng.random() < errors else str(rng.choice(numbers))
    operation, word = rng.choice((("+", "Add"), ("-", "Subtract"), ("*", "Multiply by")))
    name = f"x{done + 1}"
    show = f"\nprint({name})" if final else ""
    return f"# Step {done + 1}: {word} {right}.\n{name} = {left} {operation} {right}{show}", final


def _last_output(prefix: str, style: str) -> str | None:
    """Return the output at the end of `prefix`, or None if a code block is to be begun or continued."""
    begin, end = ("```output\n", "\n```\n") if style == "chat" else ("<output>", "<end_of_output>")
    if not prefix.endswith(end):
        return None
    return prefix[prefix.rindex(begin) + len(begin) : -len(end)] if begin in prefix else None


def _code(style: str, steps: Sequence[str], final: bool, opening: bool) -> tuple[str, str | None]:
    if style == "chat":
        # The prompt has opened the block and begun the first step's head (formats.chat).
        text = "\n".join(steps).removeprefix("# Step 1:" if opening else "# Step")
        return text, "\n```" if final else "\n# Step"
    text = "\n<end_of_step>\n".join(steps)
    return ("<code>\n" if opening else "\n") + text + "\n", "<end_of_code>" if final else "<end_of_step>"


def _answer(style: str, answer: str) -> tuple[str, str | None]:
    if style == "chat":
        return answer + "}.", None
    return f"\n<answer>The answer is \\boxed{{{answer}}}.", "<end_of_answer>"


def _candidate(text: object, stop: str | None, logprob: float | None = None) -> Candidate:
    return str(text), stop, None if logprob is None else float(logprob)


def playback(path: Path) -> Script:
    """Return a script that plays back the candidates in a JSON Lines file.

    A line holds `question` and `policy`, which maps the solution so far to its candidates, [text, stop] or [text, stop,
    log-probability] each (stop null: end of sequence). Candidate i of a place is its i-th; a request for more than
    there are starts over.
    UserError if the file is missing or a line is no such record; at sampling, BackendError for a place that the file
    does not have, or for `until="block"`, which a file of steps cannot answer.
    """
    policies: dict[str, dict[str, list[Candidate]]] = {}
    number = 0
    try:
        for line in path.read_text(encoding="utf-8").split("\n"):
            number += 1
            if line.strip():
                record = json.loads(line)
                table = policies.setdefault(str(record["question"]), {})
                for prefix, candidates in record["policy"].items():
                    table[prefix] = [_candidate(*one) for one in candidates]
                    if not candidates:
                        raise ValueError("no candidates")
    except OSError as error:
        raise UserError(f"cannot read the script {str(path)!r}: {error.strerror}", "give a JSON Lines file") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"line {number} of the script {str(path)!r} is no record of a question and its policy ({error})"
        ) from None

    def script(request: SampleRequest, i: int) -> Candidate:
        if request.until == "block":
            raise BackendError("a scripted file holds single steps", "use a strategy that samples steps (mcts)")
        try:
            candidates = policies[request.question][request.prefix]
        except KeyError:
            raise BackendError(
                f"the script has no candidates for {request.question[:40]!r} after {request.prefix[-60:]!r}"
            ) from None
        return candidates[i % len(candidates)]

    return script

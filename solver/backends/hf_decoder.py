"""The thread that generates with a transformers model: takes requests as they come, and never waits for one to end
before it begins the next."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from rstar_eval.errors import BackendError
from rstar_eval.solver.backends.engine import Sampling
from rstar_eval.solver.backends.hf_batch import Batch, Row
from rstar_eval.solver.backends.hf_cache import PromptCache, Prompts, Slots, cache_bytes
from rstar_eval.solver.backends.hf_sample import log_probabilities, next_tokens
from rstar_eval.solver.backends.hf_text import Decode, Pieces, TextStream
from rstar_eval.solver.types import Completion

UNIFORMS = 32
"""Random numbers of a sequence that are drawn at once."""
PREFILL_ROWS = 8
"""Most prompts that are computed at once."""
PREFILL_TOKENS = 4096
"""Most new prompt tokens that are computed at once, padding counted; a longer prompt goes alone."""
PROMPT_BYTES = 256 << 20
"""Most memory for the caches of earlier prompts."""


@dataclass(eq=False, slots=True)
class Job:
    """A request: its prompt's tokens, how to sample, and the future of its completions. After its prompt is computed,
    `cache` holds the prompt's keys and values and `logits` what follows it."""

    prompt: list[int]
    sampling: Sampling
    max_tokens: int
    done: Future[tuple[Completion, ...]]
    completions: dict[int, Completion] = field(default_factory=dict)
    started: int = 0
    cache: PromptCache = field(default_factory=list)
    logits: Any = None


class Decoder:
    """Runs a causal model on up to `parallel` sequences at a time, in a thread of its own."""

    def __init__(
        self, model: Any, decode: Decode, eos: frozenset[int], parallel: int, pieces: Pieces | None = None
    ) -> None:
        self._model = model
        self._decode = decode
        self._pieces = pieces
        self._eos = eos
        self._parallel = parallel
        self._waiting: deque[Job] = deque()
        self._batch = Batch(self._model, self._parallel)
        self._prompts = Prompts(PROMPT_BYTES, cache_bytes)
        self._prefill_slots = Slots(self._model, PREFILL_ROWS)
        self._wake = threading.Condition()
        self._closed = False
        self._cancelled = False
        self._thread = threading.Thread(target=self._run, name="rstar-eval-decoder", daemon=True)
        self._thread.start()

    def submit(self, prompt: list[int], sampling: Sampling, max_tokens: int) -> Future[tuple[Completion, ...]]:
        """Queue a request; its future gives the completions, or raises BackendError. It may be cancelled."""
        done: Future[tuple[Completion, ...]] = Future()
        with self._wake:
            if self._closed:
                raise BackendError("the model has been closed")
            self._waiting.append(Job(prompt, sampling, max_tokens, done))
            done.add_done_callback(self._note_cancelled)
            self._wake.notify()
        return done

    def share(self, prompt: list[int]) -> None:
        """Compute tokens with which prompts will begin once; used for every prompt that does begin with them. To be
        called before the first request."""
        import torch

        with torch.inference_mode():
            [(_, cache)] = self._prefill([prompt])
        self._prompts.add(prompt, cache, pinned=True)

    def forget(self) -> None:
        """Forget the computed prompts, but for the shared beginning."""
        self._prompts = self._prompts.emptied()

    def close(self) -> None:
        """End the thread; what is still running fails with BackendError. May be called twice."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        import torch

        with torch.inference_mode():
            self._serve()

    def _serve(self) -> None:
        while True:
            with self._wake:
                while not (self._closed or self._waiting or self._batch.rows):
                    self._wake.wait()
                if self._closed:
                    self._fail(BackendError("the model was closed while it was generating"))
                    return
            try:
                self._drop_cancelled()
                self._admit()
                if self._batch.rows:
                    self._step()
            # The thread serves every search of the run: whatever goes wrong in it is theirs to report.
            except Exception as error:  # noqa: BLE001
                self._fail(BackendError(f"generating failed: {type(error).__name__}: {error}", _mend(error)))

    def _fail(self, error: BackendError) -> None:
        with self._wake:
            jobs = {id(job): job for job in (*self._waiting, *(row.owner for row in self._batch.rows))}
            self._waiting.clear()
        self._batch = Batch(self._model, self._parallel)
        for job in jobs.values():
            if job.done.set_running_or_notify_cancel():
                job.done.set_exception(error)

    def _note_cancelled(self, done: Future[tuple[Completion, ...]]) -> None:
        if done.cancelled():
            self._cancelled = True

    def _drop_cancelled(self) -> None:
        if not self._cancelled:
            return
        self._cancelled = False
        with self._wake:
            self._waiting = deque(job for job in self._waiting if not job.done.cancelled())
        self._batch.keep([i for i, row in enumerate(self._batch.rows) if not row.owner.done.cancelled()])

    def _admit(self) -> None:
        """Let waiting sequences in, in the order of their requests, as long as there are free rows."""
        while len(self._batch.rows) < self._parallel:
            with self._wake:
                if not self._waiting:
                    return
                waiting = list(islice(self._waiting, PREFILL_ROWS))
            self._compute_prompts(waiting)
            job = waiting[0]
            count = min(self._parallel - len(self._batch.rows), job.sampling.n - job.started)
            rows = [self._row(job, job.started + i) for i in range(count)]
            job.started += count
            kept = self._take(rows, job.logits.expand(count, -1))
            if kept:
                self._batch.join([rows[i] for i in kept], job.cache)
            if job.started == job.sampling.n:
                job.cache, job.logits = [], None
                with self._wake:
                    self._waiting.popleft()

    def _compute_prompts(self, waiting: Sequence[Job]) -> None:
        """Compute the prompt of the first waiting request, and with it those of the next ones."""
        if waiting[0].logits is not None:
            return
        jobs: list[Job] = []
        longest = 0
        for job in waiting:
            longest = max(longest, len(job.prompt))
            if job.logits is not None or (jobs and longest * (len(jobs) + 1) > PREFILL_TOKENS):
                break
            jobs.append(job)
        for job, (logits, cache) in zip(jobs, self._prefill([job.prompt for job in jobs]), strict=True):
            job.logits, job.cache = logits, cache
            self._prompts.add(job.prompt, cache)

    def _row(self, job: Job, index: int) -> Row:
        random = _uniforms((job.sampling.seed + index) % 2**64)
        stream = TextStream(self._decode, job.prompt, job.sampling.stops, self._pieces)
        wanted = job.sampling
        start = 0.0 if wanted.logprobs else None
        return Row(job, index, stream, random, wanted.temperature, wanted.top_p, job.max_tokens, start)

    def _prefill(self, prompts: Sequence[Sequence[int]]) -> list[tuple[Any, PromptCache]]:
        """Return for each prompt the logits after it (1 x vocabulary) and its cache. What an earlier prompt has in
        common with it is not computed again."""
        import torch

        device = self._model.device
        known = [self._prompts.longest(prompt) for prompt in prompts]
        starts = [cache[0][0].shape[1] if cache else 0 for cache in known]
        fresh = [list(prompt[start:]) for prompt, start in zip(prompts, starts, strict=True)]
        count = max(map(len, fresh))
        width = max(starts) + count
        self._prefill_slots.reserve(len(prompts), width)
        for row, cache in enumerate(known):
            if cache:
                self._prefill_slots.put(row, 1, cache)
        ends = sorted({len(tokens) - 1 for tokens in fresh})
        # Rows are padded behind their end: what is written there is hidden, and overwritten later.
        logits = self._prefill_slots.forward(
            torch.tensor([tokens + tokens[-1:] * (count - len(tokens)) for tokens in fresh], device=device),
            torch.tensor(starts, device=device),
            torch.tensor(ends, device=device),
            width,
        )
        return [
            (logits[row, ends.index(len(fresh[row]) - 1)][None], self._prefill_slots.get(row, len(prompt)))
            for row, prompt in enumerate(prompts)
        ]

    def _step(self) -> None:
        """Generate one token for every running sequence."""
        logits = self._batch.step()
        self._batch.keep(self._take(self._batch.rows, logits))

    def _take(self, rows: list[Row], logits: Any) -> list[int]:
        """Sample a token for each row, hand over what ended, and return the places of the rows that go on."""
        uniforms = [next(row.random) for row in rows]
        tokens = next_tokens(logits, uniforms, [row.temperature for row in rows], [row.top_p for row in rows])
        if any(row.logprob is not None for row in rows):
            for row, logprob in zip(rows, log_probabilities(logits, tokens), strict=True):
                if row.logprob is not None:
                    row.logprob += logprob
        going = []
        for i, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            completion = row.take(token, self._eos)
            if completion is None:
                going.append(i)
                continue
            job: Job = row.owner
            job.completions[row.index] = completion
            if len(job.completions) == job.sampling.n and job.done.set_running_or_notify_cancel():
                job.done.set_result(tuple(job.completions[k] for k in range(job.sampling.n)))
        return going


def _uniforms(seed: int) -> Iterator[float]:
    """Yield the random numbers of one sequence: those of Philox with `seed` as its key."""
    import numpy

    random = numpy.random.Generator(numpy.random.Philox(key=seed))
    while True:
        yield from random.random(UNIFORMS).tolist()


def _mend(error: Exception) -> str:
    return "lower parallel= in the policy's spec" if "out of memory" in str(error).lower() else ""

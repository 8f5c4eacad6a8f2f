"""The thread that generates with a transformers model: takes requests as they come, and never waits for one to end
before it begins the next."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from rstar_eval.errors import BackendError
from rstar_eval.solver.backends.engine import Sampling
from rstar_eval.solver.backends.hf_batch import Batch, Row
from rstar_eval.solver.backends.hf_sample import log_probabilities, next_tokens
from rstar_eval.solver.backends.hf_text import Decode, TextStream
from rstar_eval.solver.types import Completion

Layers = list[tuple[Any, Any]]


@dataclass(eq=False, slots=True)
class Job:
    """A request: its prompt's tokens, how to sample, and the future of its completions. After its prompt is computed,
    `layers` holds the prompt's cache and `logits` what follows it."""

    prompt: list[int]
    sampling: Sampling
    max_tokens: int
    done: Future[tuple[Completion, ...]]
    completions: dict[int, Completion] = field(default_factory=dict)
    started: int = 0
    layers: Layers = field(default_factory=list)
    logits: Any = None


class Decoder:
    """Runs a causal model on up to `parallel` sequences at a time, in a thread of its own."""

    def __init__(self, model: Any, decode: Decode, eos: frozenset[int], parallel: int) -> None:
        self._model = model
        self._decode = decode
        self._eos = eos
        self._parallel = parallel
        self._waiting: deque[Job] = deque()
        self._batch = Batch()
        self._shared: tuple[list[int], Layers] = ([], [])
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="rstar-eval-decoder", daemon=True)
        self._thread.start()

    def submit(self, prompt: list[int], sampling: Sampling, max_tokens: int) -> Future[tuple[Completion, ...]]:
        """Queue a request; its future gives the completions, or raises BackendError. It may be cancelled."""
        done: Future[tuple[Completion, ...]] = Future()
        with self._wake:
            if self._closed:
                raise BackendError("the model has been closed")
            self._waiting.append(Job(prompt, sampling, max_tokens, done))
            self._wake.notify()
        return done

    def share(self, prompt: list[int]) -> None:
        """Compute tokens with which prompts will begin once; used for every prompt that does begin with them."""
        self._shared = (prompt, self._forward(prompt, [])[1])

    def close(self) -> None:
        """End the thread; what is still running fails with BackendError. May be called twice."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
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
        self._batch = Batch()
        for job in jobs.values():
            if job.done.set_running_or_notify_cancel():
                job.done.set_exception(error)

    def _drop_cancelled(self) -> None:
        with self._wake:
            self._waiting = deque(job for job in self._waiting if not job.done.cancelled())
        self._batch.keep([i for i, row in enumerate(self._batch.rows) if not row.owner.done.cancelled()])

    def _admit(self) -> None:
        """Let waiting sequences in, in the order of their requests, as long as there are free rows."""
        while len(self._batch.rows) < self._parallel:
            with self._wake:
                if not self._waiting:
                    return
                job = self._waiting[0]
            if job.logits is None:
                job.logits, job.layers = self._prefill(job.prompt)
            count = min(self._parallel - len(self._batch.rows), job.sampling.n - job.started)
            rows = [self._row(job, job.started + i) for i in range(count)]
            job.started += count
            kept = self._take(rows, job.logits.expand(count, -1))
            if kept:
                self._batch.join([rows[i] for i in kept], job.layers)
            if job.started == job.sampling.n:
                job.layers, job.logits = [], None
                with self._wake:
                    self._waiting.popleft()

    def _row(self, job: Job, index: int) -> Row:
        import numpy

        random = numpy.random.Generator(numpy.random.Philox(key=(job.sampling.seed + index) % 2**64))
        stream = TextStream(self._decode, job.prompt, job.sampling.stops)
        wanted = job.sampling
        start = 0.0 if wanted.logprobs else None
        return Row(job, index, stream, random, wanted.temperature, wanted.top_p, job.max_tokens, start)

    def _prefill(self, prompt: list[int]) -> tuple[Any, Layers]:
        tokens, layers = self._shared
        common = len(tokens) if 0 < len(tokens) < len(prompt) and prompt[: len(tokens)] == tokens else 0
        return self._forward(prompt[common:], layers if common else [])

    def _forward(self, tokens: Sequence[int], layers: Layers) -> tuple[Any, Layers]:
        """Return the logits after `tokens` that follow the cache `layers` (one row), and the cache after them."""
        import torch

        device = self._model.device
        start = layers[0][0].shape[2] if layers else 0
        cache = _cache(layers)
        with torch.inference_mode():
            out = self._model(
                input_ids=torch.tensor([list(tokens)], device=device),
                position_ids=torch.arange(start, start + len(tokens), device=device)[None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return out.logits[:, -1], [(layer.keys, layer.values) for layer in cache.layers]

    def _step(self) -> None:
        """Generate one token for every running sequence."""
        import torch

        batch = self._batch
        device = batch.mask.device
        positions = batch.mask.sum(1, keepdim=True)
        batch.mask = torch.cat([batch.mask, torch.ones_like(batch.mask[:, :1])], dim=1)
        cache = _cache(batch.layers)
        with torch.inference_mode():
            out = self._model(
                input_ids=torch.tensor([[row.last] for row in batch.rows], device=device),
                attention_mask=batch.mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        batch.layers = [(layer.keys, layer.values) for layer in cache.layers]
        batch.keep(self._take(batch.rows, out.logits[:, -1]))

    def _take(self, rows: list[Row], logits: Any) -> list[int]:
        """Sample a token for each row, hand over what ended, and return the places of the rows that go on."""
        uniforms = [float(row.random.random()) for row in rows]
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


def _cache(layers: Layers) -> Any:
    """Return a transformers cache that begins with `layers`; these are never written to."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for i, (keys, values) in enumerate(layers):
        cache.update(keys, values, i)
    return cache


def _mend(error: Exception) -> str:
    return "lower parallel= in the policy's spec" if "out of memory" in str(error).lower() else ""

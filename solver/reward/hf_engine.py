"""Reward networks on transformers, on CPU or GPU.

Requests of all searches meet in one queue, which they enter in waves (backends/waves.py): a thread takes what waits
and computes it as one batch. The texts of one request, which are a node's candidates and begin alike, share a row
(packing.py); what they share is kept for the requests of the node's children.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from rstar_eval.errors import BackendError, UserError
from rstar_eval.solver.backends.hf import check_folder, choose_device, weight_files
from rstar_eval.solver.backends.hf_cache import PromptCache, Prompts, Slots, cache_bytes, rounded
from rstar_eval.solver.backends.waves import REST, REST_TIMES, Waves
from rstar_eval.solver.reward.engines import Head, ScoreEngine, ScoreInput
from rstar_eval.solver.reward.hf_weights import BEFORE, VALUE_HEAD, Reader, load_backbone, load_reader
from rstar_eval.solver.reward.logratio import REFERENCE, DifferenceEngine
from rstar_eval.solver.reward.packing import PackedRow, alike, pack
from rstar_eval.solver.reward.spec import RewardSpec

DEFAULT_BATCH = 16384
"""Tokens of one forward pass, padding counted."""
ROW = 4096
"""Most tokens of a packed row: its mask grows with the square."""

WASTE = {"cpu": 96, "gpu": 2048}
"""Tokens of padding for which rows are not computed apart: about what a forward pass costs whatever its size."""
LOOKED_AT = 512
"""Waiting rows among which those for a batch are looked for."""

PREFIX_BYTES = 256 << 20
"""Most memory for what was computed of earlier texts."""

Outputs = list[list[list[float]]]


@dataclass(eq=False, slots=True)
class _Job:
    """A request: its rows, and the outputs of those that are computed, by the row's index."""

    rows: list[PackedRow]
    done: Future[Outputs]
    outputs: dict[int, Outputs] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Known:
    """What an earlier request computed of the first `length` tokens of a row: their keys and values, and the outputs at
    the places that were read."""

    cache: PromptCache
    length: int
    read: dict[int, list[float]]


class HFScoreEngine:
    """Reads a head's outputs from a transformers backbone (engines.ScoreEngine), in a thread of its own."""

    def __init__(
        self, backbone: Any, reader: Reader, head: Head, *, context: int, batch: int, identity: Mapping[str, object]
    ) -> None:
        self.context = context
        self._backbone, self._reader, self._head = backbone, reader, head
        self._batch = batch
        self._waste = WASTE["cpu" if backbone.device.type == "cpu" else "gpu"]
        self._parity = _parity(backbone)
        self._back = 1 if head.kind in BEFORE else 0  # how far before a place its state lies
        self._slots = Slots(backbone, batch)
        self._prefixes: Prompts[_Known] = Prompts(PREFIX_BYTES, lambda known: cache_bytes(known.cache))
        self._identity = {**identity, "batch": batch, "context": context}
        self._waves = Waves(REST, REST_TIMES)
        self._waiting: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="rstar-eval-scorer", daemon=True)
        self._thread.start()

    async def logits(self, inputs: Sequence[ScoreInput]) -> Outputs:
        """Return the head's outputs (engines.ScoreEngine.logits)."""
        if not inputs:
            return []
        job = _Job(pack(inputs, min(ROW, self._batch), self._parity), Future())
        async with self._waves.enter():
            with self._wake:
                if self._closed:
                    raise BackendError("the reward model has been closed")
                self._waiting.append(job)
                self._wake.notify()
            return await asyncio.wrap_future(job.done)

    def describe(self) -> Mapping[str, object]:
        """Return engine, versions, model, weights' hash, device and settings."""
        return self._identity

    async def close(self) -> None:
        """End the thread; what waits fails with BackendError. May be called twice."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        import torch

        with torch.inference_mode():
            while True:
                with self._wake:
                    while not (self._closed or self._waiting):
                        self._wake.wait()
                    if self._closed:
                        self._fail(BackendError("the reward model was closed while it was scoring"))
                        return
                    jobs = list(self._waiting)
                try:
                    self._compute(jobs)
                # The thread serves every search of the run: whatever goes wrong in it is theirs to report.
                except Exception as error:  # noqa: BLE001
                    mend = "lower batch= in the reward's spec" if "out of memory" in str(error).lower() else ""
                    self._fail(BackendError(f"scoring failed: {type(error).__name__}: {error}", mend))

    def _fail(self, error: BackendError) -> None:
        with self._wake:
            jobs, self._waiting = self._waiting, deque()
        for job in jobs:
            if job.done.set_running_or_notify_cancel():
                job.done.set_exception(error)

    def _compute(self, jobs: Sequence[_Job]) -> None:
        """Compute one batch of what waits: the first job's next row, and others that cost little beside it."""
        alive = [job for job in jobs if not job.done.cancelled()]
        waiting = ((job, i) for job in alive for i in range(len(job.rows)) if i not in job.outputs)
        rows = list(islice(waiting, LOOKED_AT))
        if rows:
            known = [self._known(job.rows[i]) for job, i in rows]
            totals = [len(job.rows[i].tokens) for job, i in rows]
            fresh = [total - one.length for total, one in zip(totals, known, strict=True)]
            batch = alike(fresh, totals, self._batch, self._waste)
            found = self._forward([rows[k][0].rows[rows[k][1]] for k in batch], [known[k] for k in batch])
            for k, outputs in zip(batch, found, strict=True):
                job, i = rows[k]
                job.outputs[i] = outputs
        finished = {id(job) for job in jobs if job.done.cancelled() or len(job.outputs) == len(job.rows)}
        with self._wake:
            self._waiting = deque(job for job in self._waiting if id(job) not in finished)
        for job in jobs:
            if id(job) in finished and job.done.set_running_or_notify_cancel():
                job.done.set_result([one for i in range(len(job.rows)) for one in job.outputs[i]])

    def _forward(self, rows: Sequence[PackedRow], known: Sequence[_Known]) -> list[Outputs]:
        """Return for each row, for each of its texts, for each place, the head's outputs.

        known: for each row what an earlier request computed of its shared tokens; it is not computed again.
        """
        import torch

        device = self._backbone.device
        starts = [one.length for one in known]
        count = max(len(row.tokens) - start for row, start in zip(rows, starts, strict=True))
        width = rounded(max(starts) + count)

        def fresh(lists: Sequence[list[int]], filler: int) -> Any:
            cut = [one[start : start + count] for one, start in zip(lists, starts, strict=True)]
            return torch.tensor([one + [filler] * (count - len(one)) for one in cut], device=device)

        tokens = fresh([row.tokens for row in rows], 0)
        owners = fresh([row.owners for row in rows], -1)
        everywhere = torch.tensor([row.owners + [-1] * (width - len(row.owners)) for row in rows], device=device)
        columns = torch.tensor(starts, device=device)[:, None] + torch.arange(count, device=device)
        seen = (everywhere[:, None, :] == 0) | (everywhere[:, None, :] == owners[:, :, None])
        seen &= torch.arange(width, device=device) <= columns[:, :, None]
        self._slots.renew(len(rows), width)
        for i, one in enumerate(known):
            if one.length:
                self._slots.put(i, 1, [(keys[:, : one.length], values[:, : one.length]) for keys, values in one.cache])
        positions = fresh([row.positions for row in rows], 0)
        hidden = self._slots.states(tokens, positions, columns, ~seen)
        where = self._where(rows, known)
        at = torch.tensor([(i, state, place) for i, state, place in where], dtype=torch.long, device=device)
        at = at.reshape(-1, 3)
        read = self._reader(hidden[at[:, 0], at[:, 1]], tokens[at[:, 0], at[:, 2]])
        values = iter(read.float().tolist())
        return [self._collect(i, row, known[i], values) for i, row in enumerate(rows)]

    def _known(self, row: PackedRow) -> _Known:
        """Return what is known of the row's shared tokens, as far as it can be used: outputs that are asked for must
        be known too, and a head that judges tokens needs the state before its first fresh place."""
        found = self._prefixes.longest(row.tokens[: row.shared])
        if found is None:
            return _Known([], 0, {})
        length = found.length
        wanted = {place for places in row.places for place in places if place <= length}
        while missing := {place for place in wanted if place < length + self._back and place not in found.read}:
            length = max(0, min(missing) - self._back)
        return _Known(found.cache, length, found.read) if length else _Known([], 0, {})

    def _where(self, rows: Sequence[PackedRow], known: Sequence[_Known]) -> list[tuple[int, int, int]]:
        """Return, for each place to be read, its row, the state it is read from and the place itself, both counted from
        the first fresh token. A head that judges tokens reads the state of the token before in its text: next to it,
        or, for a text's first own token, the last shared one."""
        found = []
        for i, row in enumerate(rows):
            start, shared = known[i].length, row.shared
            for place in (place for places in row.places for place in places if place >= start + self._back):
                state = place
                if self._back:
                    own = place >= shared and row.owners[place - 1] != row.owners[place]
                    state = shared - 1 if own else place - 1
                found.append((i, state - start, place - start))
        return found

    def _collect(self, i: int, row: PackedRow, known: _Known, values: Iterator[list[float]]) -> Outputs:
        """Return the outputs of a row's texts, and remember what its shared tokens gave."""
        fresh = known.length + self._back
        outputs = [[known.read[at] if at < fresh else next(values) for at in places] for places in row.places]
        shared = row.shared
        if shared > known.length:
            read = dict(known.read)
            for places, found in zip(row.places, outputs, strict=True):
                read |= {at: one for at, one in zip(places, found, strict=True) if at < shared}
            cache = self._slots.get(i, shared)
            self._prefixes.add(row.tokens[:shared], _Known(cache, shared, read))
        return outputs


def _parity(backbone: Any) -> float:
    """Return the columns at which a token's attention takes as many multiplications as the weights of all layers (the
    experts that a token does not visit counted too)."""
    config = backbone.config.get_text_config()
    embedding = sum(one.numel() for one in backbone.get_input_embeddings().parameters())
    weights = sum(one.numel() for one in backbone.parameters()) - embedding
    return float(weights / (2 * config.num_hidden_layers * config.hidden_size))


async def start(spec: RewardSpec, path: Path, head: Head) -> ScoreEngine:
    """Load the checkpoint in folder `path` and return its engine (engines.ENGINES)."""
    if head.kind != "logratio":
        return await asyncio.to_thread(_load, spec, path, head)
    reference = path / REFERENCE
    check_folder(reference)
    each = Head("logprob", 1)
    trained = await asyncio.to_thread(_load, spec, path, each)
    try:
        return DifferenceEngine(trained, await asyncio.to_thread(_load, spec, reference, each))
    except BaseException:
        await trained.close()
        raise


def _load(spec: RewardSpec, path: Path, head: Head) -> HFScoreEngine:
    if not (importlib.util.find_spec("transformers") and importlib.util.find_spec("torch")):
        raise UserError("transformers and torch are not installed", "pip install 'rstar-eval[hf]'")
    import torch
    import transformers

    device = choose_device(spec.string("device", "auto"))
    dtype = spec.string("dtype", "auto")
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    if "threads" in spec.options:
        torch.set_num_threads(spec.integer("threads", 1))
    backbone = load_backbone(path, dtype, device)
    config = backbone.config.get_text_config()
    longest = int(getattr(config, "max_position_embeddings", 4096))
    if "sliding_attention" in (getattr(config, "layer_types", None) or []) or getattr(config, "sliding_window", None):
        longest = min(longest, int(config.sliding_window))  # within the window all attention is full
    identity = {
        "engine": "transformers",
        "version": transformers.__version__,
        "torch": torch.__version__,
        "model": path.name,
        "sha256": checkpoint_hash(path),
        "device": device,
        "dtype": dtype,
    }
    return HFScoreEngine(
        backbone,
        load_reader(path, head, backbone),
        head,
        context=min(spec.integer("max_tokens", longest), longest),
        batch=spec.integer("batch", DEFAULT_BATCH),
        identity=identity,
    )


def checkpoint_hash(path: Path) -> str:
    """Return the SHA-256 over a reward checkpoint's weight files in the order of their names, value_head.bin last."""
    import hashlib

    digest = hashlib.sha256()
    head = path / VALUE_HEAD
    for file in [*weight_files(path), *([head] if head.is_file() else [])]:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()

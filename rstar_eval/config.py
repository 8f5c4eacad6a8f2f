"""The configuration of a run: where each value comes from, and which values make two runs the same run.

Order, later wins: built-in defaults, `--preset`, `--config` file, `--set key=value`, command-line options.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from rstar_eval.engine.config import EngineConfig, check_name
from rstar_eval.errors import UserError, nearest
from rstar_eval.serial import canonical, from_data
from rstar_eval.solver.config import SearchConfig
from rstar_eval.solver.search import check_config

DEFAULT_POLICY = "smollm2"
_AT_LEAST = {"limit": 1, "concurrency": 1, "step_seconds": 0.01}


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything that a run depends on, as the user gave it.

    tasks: names of tasks, or paths of task YAMLs. limit, ids: which problems of each (None: all). policy, reward:
    model specs. grader: a registered grader. isolation: the executor's level that is demanded (None: the strongest
    that this machine offers). step_seconds: CPU time limit of a step. concurrency: problems searched at once (None:
    what the policy likes). keep_trees: whether search trees are stored. track: where the run's figures are sent as well
    (tracking.py; None: nowhere). search: the search's own settings. where: the engine's (engine/config.py).
    """

    tasks: tuple[str, ...] = ()
    limit: int | None = None
    ids: tuple[str, ...] | None = None
    policy: str = DEFAULT_POLICY
    reward: str | None = None
    grader: str = "default"
    isolation: str | None = None
    step_seconds: float = 5.0
    concurrency: int | None = None
    keep_trees: bool = False
    data_dir: str | None = None
    track: str | None = None
    search: SearchConfig = field(default_factory=SearchConfig)
    where: EngineConfig = field(default_factory=EngineConfig)


_SEARCH_KEYS = frozenset(f.name for f in fields(SearchConfig))
_ENGINE_KEYS = frozenset(f.name for f in fields(EngineConfig))
_RUN_KEYS = frozenset(f.name for f in fields(RunConfig)) - {"search", "where"}
_NUMBERS = frozenset(
    f.name for f in (*fields(SearchConfig), *fields(RunConfig), *fields(EngineConfig)) if "bool" not in str(f.type)
)
NOT_IDENTITY = frozenset({"limit", "ids", "isolation", "concurrency", "data_dir", "keep_trees", "grader", "track"})
"""Keys that may change between two sessions of one run: they do not change what is searched for a problem. Grades of
several graders live side by side in a run; its figures are of the last one used."""

NO_REWARD = "none"
"""The reward model's name that switches off the one that a task, a preset or a config file brings along."""

SPEED_OPTIONS = frozenset(
    {"parallel", "threads", "concurrency", "timeout", "retries", "delay", "device"}
    | {"memory", "kv_gib", "block", "tensor_parallel", "eager", "restarts"}
)
"""Options of a model spec that change how fast or where it runs, not what it says."""
_CHANGEABLE = frozenset({"policy", "reward", "url", "version", "versions", "server", "slots"})


def presets() -> dict[str, str]:
    """Return each preset's name and its one-line description (the first comment line of its file)."""
    folder = resources.files("rstar_eval") / "presets"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return {f.name.removesuffix(".yaml"): f.read_text().splitlines()[0].lstrip("# ") for f in files}


def load_preset(name: str) -> dict[str, Any]:
    """Return a preset's values. UserError with the nearest name if there is none of this name."""
    known = presets()
    if name not in known:
        raise UserError(f"unknown preset {name!r}", nearest(name, known))
    return _mapping((resources.files("rstar_eval") / "presets" / f"{name}.yaml").read_text(), f"preset {name}")


def load_config_file(path: Path) -> dict[str, Any]:
    """Return the values of a YAML config file. UserError if it is missing, broken or no mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read config file {str(path)!r}: {_why(error)}", "give an existing YAML file") from None
    return _mapping(text, f"config file {path}")


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """Return `--set key=value` pairs as a mapping; values are read as YAML. UserError on a pair without "="."""
    import yaml

    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UserError(f"--set {pair!r} is not key=value", "write for example --set candidates=8")
        try:
            values[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            values[key.strip()] = value
    return values


def build_config(*layers: Mapping[str, Any]) -> RunConfig:
    """Return the configuration that results from `layers` of flat key-value pairs, later layers winning.

    UserError on an unknown key (with the nearest one), a value of the wrong type or out of range, or search settings
    that don't fit together.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for raw, value in layer.items():
            key = {"task": "tasks", "task_names": "tasks"}.get(raw, raw)
            known = _SEARCH_KEYS | _RUN_KEYS | _ENGINE_KEYS
            if key not in known:
                raise UserError(f"unknown setting {raw!r}", nearest(raw, known | {"task"}))
            merged[key] = value
    if merged.get("reward") == NO_REWARD:
        merged["reward"] = None
    for key in ("tasks", "ids"):
        if isinstance(merged.get(key), str):
            merged[key] = [part.strip() for part in merged[key].split(",") if part.strip()]
        if isinstance(merged.get(key), list):
            merged[key] = [str(part) for part in merged[key]]
    _check_ranges(merged)
    search = {key: merged.pop(key) for key in list(merged) if key in _SEARCH_KEYS}
    where = {key: merged.pop(key) for key in list(merged) if key in _ENGINE_KEYS}
    check_name(where.get("engine", "local"))
    config = from_data(RunConfig, {**merged, "search": search, "where": where}, "settings")
    check_config(config.search, scored=config.reward is not None)
    return config


def identity(config: RunConfig) -> dict[str, Any]:
    """Return the flat settings that make two runs the same run: all but NOT_IDENTITY, and of the models' specs all but
    where they are served and how fast. (The models' own descriptions, weights' hashes among them, are compared too.)"""
    flat = asdict(config) | {"policy": model_identity(config.policy)}
    flat["reward"] = model_identity(config.reward) if config.reward else None
    search = flat.pop("search")
    del flat["where"]
    flat["tasks"] = list(config.tasks)
    return {key: value for key, value in {**flat, **search}.items() if key not in NOT_IDENTITY}


def model_identity(spec: str) -> str:
    """Return a model spec without its server's address and the options that don't change what the model says.

    >>> model_identity("openai:org/model@http://localhost:8000/v1?concurrency=4&format=chat")
    'openai:org/model?format=chat'
    """
    head, _, query = spec.partition("?")
    for scheme in ("@http://", "@https://"):
        head = head.split(scheme)[0]
    kept = [item for item in query.split("&") if item and item.partition("=")[0] not in SPEED_OPTIONS]
    return f"{head}?{'&'.join(kept)}" if kept else head


def model_facts(described: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what of a model's description must not change within a run: not its address, versions and speed."""
    if described is None:
        return None
    return {key: value for key, value in described.items() if key not in _CHANGEABLE and key not in SPEED_OPTIONS}


def config_hash(parts: Mapping[str, Any]) -> str:
    """Return the first 12 hex digits of the sha256 of the canonical JSON of `parts`."""
    return hashlib.sha256(canonical(parts).encode()).hexdigest()[:12]


def _check_ranges(values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, bool) and key in _NUMBERS:
            raise UserError(f"{key} is {value}", "give a number")
        low = _AT_LEAST.get(key)
        if low is not None and isinstance(value, (int, float)) and value < low:
            raise UserError(f"{key} is {value}", f"give a number of at least {low}")


def _mapping(text: str, where: str) -> dict[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{where}{place}: broken YAML: {getattr(error, 'problem', error)}", "mend the file") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{where} holds a {type(values).__name__}", "write key: value lines")
    return {str(key): value for key, value in values.items()}


def _why(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)

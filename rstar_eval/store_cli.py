"""`rstar-eval fsck` and `rstar-eval compact`: a stored run's health, and its tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def fsck_command(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend it; what is taken out goes to quarantine.jsonl.", show_default="off")
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with benchmark files.", show_default="$RSTAR_EVAL_DATA, then the cache")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.", show_default="off")] = False,
) -> None:
    """Check a stored run for torn, damaged, doubled and missing records. Exit code 1: something is left to mend."""
    from rstar_eval.commands import terminal
    from rstar_eval.fsck import fsck
    from rstar_eval.fsck_report import print_report

    report = fsck(run_folder, repair=repair, data_dir=data_dir)
    if as_json:
        typer.echo(json.dumps(report.machine()))
    else:
        print_report(report, terminal())
    raise typer.Exit(1 if report.left else 0)


def compact_command(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the Parquet files.", show_default="RUN/compact")
    ] = None,
) -> None:
    """Write a run's segments as Parquet files: each search and grade once, in order, with columns to filter by."""
    from rstar_eval.compact import compact

    for table in compact(run_folder, output):
        typer.echo(f"{table.rows} rows, {table.bytes / 1e6:.1f} MB (logs {table.logs / 1e6:.1f} MB) -> {table.path}")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("fsck")(fsck_command)
    app.command("compact")(compact_command)

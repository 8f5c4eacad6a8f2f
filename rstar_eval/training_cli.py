"""The commands of the data engine and the trainers: `data`, `train` and `plan`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rstar_eval.errors import UserError, nearest

if TYPE_CHECKING:
    from rstar_eval.training.config import TrainKind
    from rstar_eval.training.datasets import DataConfig

data_app = typer.Typer(help="Make training data of runs, look at it, check it, convert it.", no_args_is_help=True)

_DATA_DIR = typer.Option(help="Folder with benchmark files.", show_default="$RSTAR_EVAL_DATA, then the cache")
_SET = typer.Option("--set", help="One setting as key=value; may be repeated.", show_default="none")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(data_app, name="data")
    app.command("train")(train)
    app.command("plan")(plan)


def train(
    kind: Annotated[str, typer.Argument(help="sft, ppm, pqm or orm.")],
    data: Annotated[Path, typer.Option(help="Rows: our JSON lines, or the authors' JSON (sft and ppm).")],
    base: Annotated[Path, typer.Option(help="Folder of the checkpoint to start from.")],
    output: Annotated[Path, typer.Option(help="Folder of the trained model; the same command goes on.")],
    preset: Annotated[str, typer.Option(help="Named settings: mini or paper.")] = "mini",
    settings: Annotated[list[str] | None, _SET] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print training.json as the last line.", show_default="off")
    ] = False,
) -> None:
    """Train a policy (sft) or a reward model (ppm, pqm, orm): a plain Hugging Face checkpoint, which can be resumed."""
    from rstar_eval.config import parse_settings
    from rstar_eval.training.config import ROWS_OF
    from rstar_eval.training.config import preset as named
    from rstar_eval.training.datasets import read_rows
    from rstar_eval.training.train import train as run

    if kind not in ROWS_OF:
        raise UserError(f"unknown kind of training {kind!r}", nearest(kind, ROWS_OF))
    chosen: TrainKind = kind
    config = named(preset, chosen, **parse_settings(settings or []))
    trained = run(chosen, read_rows(data, ROWS_OF[chosen]), base, output, config, progress=True)
    found = trained.manifest
    if os.environ.get("RANK", "0") != "0":  # another process of the same training speaks
        return
    typer.echo(
        f"{kind}: {found['steps']} steps, {found['tokens']:,} tokens, {found['rows']['trained']} rows "
        f"({found['too_long']} too long, {found['rows']['held_out']} held out) -> {trained.path}",
        err=True,
    )
    for where, figures in found["metrics"].items():
        typer.echo(f"  {where}: " + ", ".join(f"{key} {value:.4f}" for key, value in figures.items()), err=True)
    if as_json:
        typer.echo(json.dumps(found))


def plan(
    preset: Annotated[str, typer.Option(help="mini or paper.")] = "mini",
    rounds: Annotated[int, typer.Option(help="Rounds of self-evolution.")] = 4,
    problems: Annotated[
        int | None, typer.Option(help="Problems of the pool.", show_default="paper: 747000; mini: its pool")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(help="Tokens that one device generates a second.", show_default="what the numbers say"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.", show_default="off")] = False,
) -> None:
    """Print what a self-evolution costs: tokens, hours, disk a round, with the arithmetic."""
    from rstar_eval.training import plan as plans

    config, facts = plans.facts_for(preset, problems, rate)
    costs = plans.plan(config, facts, rounds)
    typer.echo(json.dumps(plans.machine(costs, facts)) if as_json else plans.text(costs, facts, preset))


@data_app.command("build")
def data_build(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    output: Annotated[Path, typer.Option(help="Folder of the data sets.")],
    preset: Annotated[str, typer.Option(help="Rules: paper or mini.")] = "paper",
    settings: Annotated[list[str] | None, _SET] = None,
    round: Annotated[int, typer.Option(help="Round of self-evolution, for the rows' provenance.")] = 0,
    data_dir: Annotated[Path | None, _DATA_DIR] = None,
) -> None:
    """Make the data sets of runs: solutions to imitate, preference pairs, step values, labelled solutions."""
    from rstar_eval.config import parse_settings
    from rstar_eval.training.build import build
    from rstar_eval.training.datasets import write_datasets
    from rstar_eval.training.runs import trees_of_runs

    config = _data_config(preset, parse_settings(settings or []))
    trees = trees_of_runs(runs, round=round, data_dir=data_dir)
    manifest = write_datasets(output, build(trees, config), config, runs=[path.resolve().name for path in runs])
    typer.echo(f"{manifest['trees']} trees of {manifest['problems']} problems, {manifest['solved']} solved -> {output}")
    for name, one in manifest["data"].items():
        typer.echo(f"  {one['file']}: {one['rows']} rows of {one['statistics']['problems']} problems ({name})")
    if manifest["dropped_pairs"]:
        dropped = ", ".join(f"{count} by {why}" for why, count in manifest["dropped_pairs"].items())
        typer.echo(f"  pairs dropped: {dropped}")


@data_app.command("stats")
def data_stats(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Data files, ours or the authors'.")],
) -> None:
    """Print what is in data files, one JSON object each."""
    from rstar_eval.training.datasets import kind_of_file, read_rows
    from rstar_eval.training.statistics import statistics

    for path in files:
        kind = kind_of_file(path)
        typer.echo(json.dumps({"file": str(path), "kind": kind, **statistics(read_rows(path, kind))}))


@data_app.command("check")
def data_check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Data files, ours or the authors'.")],
    against: Annotated[str, typer.Option(help="Test tasks, separated by commas.")],
    n: Annotated[int, typer.Option("--n", help="Words of an n-gram.")] = 8,
    least: Annotated[float, typer.Option(help="Leave out matches of a smaller share of a test question.")] = 0.0,
    show: Annotated[int, typer.Option(help="Matches to print, the worst first.")] = 10,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole report as one JSON object.", show_default="off")
    ] = False,
    data_dir: Annotated[Path | None, _DATA_DIR] = None,
) -> None:
    """Compare the questions of data files with those of test tasks; exit code 1 if a test question is among them."""
    from rstar_eval.tasks import load_task
    from rstar_eval.training.datasets import kind_of_file, read_rows
    from rstar_eval.training.decontaminate import decontaminate
    from rstar_eval.training.statistics import problem_key, question_of
    from rstar_eval.visible import visible

    training: dict[str, str] = {}
    for path in files:
        for row in read_rows(path, kind_of_file(path)):
            training.setdefault(problem_key(row), question_of(row))
    names = [name.strip() for name in against.split(",") if name.strip()]
    if not names:
        raise UserError("no test task given", "name one with --against, e.g. --against math500")
    loaded = [load_task(name, data_dir=data_dir) for name in names]
    tests = [(task.spec.name, one.index, one.id, one.text) for task in loaded for one in task.problems]
    report = decontaminate(training, tests, n=n, least=least)
    if as_json:
        typer.echo(json.dumps(report.machine()))
    else:
        typer.echo(
            f"{report.training} training questions against {report.tested} test questions of {', '.join(names)}: "
            f"{report.exact} the same, {len(report.matches) - report.exact} more share {report.n} words in a row"
            f"{f' ({report.short} test questions are shorter)' if report.short else ''}"
        )
        for one in report.matches[:show]:
            what = "the same" if one.exact else f"{one.share:.0%} of its {report.n}-grams"
            typer.echo(
                visible(f"  {one.task}/{one.index} ({one.problem}): {what} in {one.training:.60}: {one.text:.160}")
            )
    raise typer.Exit(1 if report.exact else 0)


@data_app.command("convert")
def data_convert(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A data file, ours or the authors'.")],
    target: Annotated[Path, typer.Argument(metavar="NEW", help="NEW.json: the authors' format; NEW.jsonl: ours.")],
) -> None:
    """Write a data file in the authors' format, or in ours. The authors' files come back byte for byte."""
    from rstar_eval.training.convert import convert

    typer.echo(convert(source, target))


def _data_config(preset: str, changes: dict[str, Any]) -> DataConfig:
    from rstar_eval.training.datasets import DATA_PRESETS, make_data_config

    if preset not in DATA_PRESETS:
        raise UserError(f"unknown preset {preset!r}", nearest(preset, DATA_PRESETS))
    return make_data_config(DATA_PRESETS[preset], changes)

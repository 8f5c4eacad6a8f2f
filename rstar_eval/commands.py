"""The small subcommands: they look at tasks, runs, pairs and the machine, or hand over to another module."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rstar_eval.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

ENGINE = typer.Option(help="local, or ray: worker processes, on many machines.", show_default="local")
RAY_ADDRESS = typer.Option(help="A running cluster: auto, or HOST:PORT.", show_default="an own Ray, here")
WORKERS = typer.Option(help="Ray workers at most.", show_default="what the cluster has room for")
GPUS_PER_WORKER = typer.Option(help="GPUs of a Ray worker; below 1: a share of one.", show_default="0")

tasks_app = typer.Typer(help="List the tasks, or show examples of a generated one.", invoke_without_command=True)


@tasks_app.callback()
def tasks(
    context: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with benchmark files.", show_default="$RSTAR_EVAL_DATA, then the cache")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.", show_default="off")] = False,
    lm_eval_path: Annotated[
        bool, typer.Option("--lm-eval-path", help="Print the folder of the lm-eval task YAMLs.", show_default="off")
    ] = False,
) -> None:
    """List every task: size, source, licence, errata, and whether its data is here."""
    if lm_eval_path:
        import rstar_eval.tasks

        typer.echo(Path(rstar_eval.tasks.__file__).parent / "lm_eval")
    elif context.invoked_subcommand is None:
        from rstar_eval.inspect_tasks import list_tasks

        list_tasks(terminal(), data_dir, as_json)


@tasks_app.command("show")
def tasks_show(
    name: Annotated[str, typer.Argument(help="A task.")],
    level: Annotated[int | None, typer.Option(help="Only this level.", show_default="all")] = None,
    n: Annotated[int, typer.Option("--n", help="How many problems.")] = 3,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with benchmark files.", show_default="$RSTAR_EVAL_DATA, then the cache")
    ] = None,
) -> None:
    """Print problems of a task with their reference answers."""
    from rstar_eval.tasks import show_examples

    typer.echo(show_examples(name, level, n, data_dir=data_dir))


def doctor(
    attack: Annotated[bool, typer.Option("--attack", help="Attack the sandbox too.", show_default="off")] = False,
    isolation: Annotated[
        str | None, typer.Option(help="The level to attack.", show_default="the strongest here")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with benchmark files.", show_default="$RSTAR_EVAL_DATA, then the cache")
    ] = None,
) -> None:
    """Say what this machine offers: backends, sandbox level, data, browsers, GPU; with the mend for what is missing."""
    from rstar_eval.doctor import examine
    from rstar_eval.sandbox_cli import attack_report

    examine(terminal(), data_dir)
    if attack:
        raise typer.Exit(attack_report(isolation, terminal()))


def show(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    problem: Annotated[
        str | None, typer.Argument(help="A problem: id, beginning of an id, or index.", show_default="none")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with benchmark files.", show_default="$RSTAR_EVAL_DATA, then the cache")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.", show_default="off")] = False,
    tree: Annotated[
        bool, typer.Option("--tree", help="The problem's search trees (of a run with --keep-trees).")
    ] = False,
    depth: Annotated[
        int | None, typer.Option(help="With --tree: levels below the root.", show_default="all", min=0)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="With --tree: also the steps that no walk took.")] = False,
    outcome: Annotated[
        str | None,
        typer.Option(help="List the problems that are correct, wrong, no_answer or grader_error.", show_default="none"),
    ] = None,
    level: Annotated[str | None, typer.Option(help="List the problems of a level.", show_default="none")] = None,
    limit: Annotated[int, typer.Option(help="With --outcome, --level: problems listed.", min=1)] = 20,
) -> None:
    """Show a run's summary, or one problem's trajectories with code, outputs and scores, or its search trees."""
    from rstar_eval.show import show_problem, show_run, show_trees
    from rstar_eval.summary import summarise

    if tree or depth is not None or everything:
        if problem is None:
            raise UserError("--tree needs a problem", "write rstar-eval show RUN PROBLEM --tree")
        where = str(data_dir) if data_dir else None
        show_trees(run_folder, problem, terminal(), where, depth=depth, everything=everything)
    elif outcome is not None or level is not None:
        from rstar_eval.problem_list import list_problems

        list_problems(run_folder, terminal(), outcome=outcome, level=level, limit=limit)
    elif problem is not None:
        show_problem(run_folder, problem, terminal(), str(data_dir) if data_dir else None)
    elif as_json:
        typer.echo(json.dumps(summarise(run_folder).machine()))
    else:
        show_run(run_folder, terminal())


def grade(
    pairs: Annotated[Path, typer.Option(help="JSON lines with gold and pred; - for standard input.")],
    grader: Annotated[str, typer.Option(help="default, official, math_verify or string.")] = "default",
    tolerance: Annotated[
        float, typer.Option(help="Relative difference allowed where the reference is a decimal, from 0 up to 0.1.")
    ] = 0.0,
) -> None:
    """Grade pairs of answers: one JSON line a pair, a table by kind on standard error when labels are present."""
    from rstar_eval.grading.commands import grade_pairs

    raise typer.Exit(grade_pairs(str(pairs), grader, sys.stdout, sys.stderr, tolerance))


def regrade(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    grader: Annotated[str, typer.Option(help="default, official, math_verify or string.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with benchmark files.", show_default="$RSTAR_EVAL_DATA, then the cache")
    ] = None,
) -> None:
    """Grade a stored run again with another grader, without a model, and print what changed."""
    from rstar_eval.regrade import regrade_run

    regrade_run(run_folder, grader, terminal(), data_dir)


def compare_runs(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run's folder.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another run's folder.")],
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    all_discordant: Annotated[
        bool, typer.Option("--all", help="List every problem that one run alone solved.", show_default="off")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.", show_default="off")] = False,
) -> None:
    """Compare two runs on the same problems: difference, interval, p-value, and the problems that differ."""
    from rstar_eval.comparison import compare, print_comparison

    found = compare(run_a, run_b, seed=seed)
    if as_json:
        typer.echo(json.dumps(found.machine()))
    else:
        print_comparison(found, terminal(), all_discordant=all_discordant)


def export_rows(
    source: Annotated[Path, typer.Argument(help="A run's folder (trajectories), or a file of training rows.")],
    output: Annotated[
        Path | None,
        typer.Option(help="A .parquet or .jsonl file, or a folder for Hugging Face datasets.", show_default="none"),
    ] = None,
    stepwise: Annotated[
        bool, typer.Option("--stepwise", help="Step values as TRL's stepwise supervision (PRM).", show_default="off")
    ] = False,
    track: Annotated[
        str | None,
        typer.Option(
            help="Send the run's figures to mlflow[:URI], wandb[:PROJECT] or trackio[:PROJECT].", show_default="none"
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with benchmark files.", show_default="$RSTAR_EVAL_DATA, then the cache")
    ] = None,
) -> None:
    """Write a run's trajectories, or training rows in TRL's dataset types; or send a run's figures to a tracker."""
    from rstar_eval.exporting import export

    if output is None and track is None:
        raise UserError("neither --output nor --track is given", "say where the rows or the figures are to go")
    if output is not None:
        typer.echo(f"{export(source, output, data_dir=data_dir, stepwise=stepwise)} rows -> {output}")
    if track is not None:
        from rstar_eval.tracking import track_stored_run

        track_stored_run(track, source)
        typer.echo(f"{source} -> {track}")


def sandbox(
    snippets: Annotated[Path, typer.Option(help="JSON lines with name and code.")],
    isolation: Annotated[
        str | None,
        typer.Option(help="Demand a level: strong, good, basic or accidents-only.", show_default="the strongest here"),
    ] = None,
) -> None:
    """Run each snippet as a step in the sandbox: one JSON line each, with a control step after it."""
    from rstar_eval.sandbox_cli import run_snippets

    raise typer.Exit(run_snippets(snippets, isolation, sys.stdout))


def replay(
    cases: Annotated[Path, typer.Option(help="JSON lines of scripted reference searches.")],
    semantics: Annotated[str, typer.Option(help="reference or paper.")] = "reference",
) -> None:
    """Replay scripted searches and compare every visit, value and answer; exit code 1 on any mismatch."""
    from rstar_eval.solver.replay import replay_cases

    raise typer.Exit(replay_cases(cases, semantics, sys.stdout))


def lm_eval(context: typer.Context) -> None:
    """Run lm-eval's own command line with the rstar tasks and the model `rstar` in it (extra lm-eval)."""
    from rstar_eval.integrations.lm_eval_cli import run_lm_eval

    run_lm_eval(context.args)


def evolve(
    output: Annotated[Path, typer.Option(help="The evolution's folder; the same command continues it.")],
    preset: Annotated[str, typer.Option(help="mini (CPU) or paper (GPUs).")] = "mini",
    rounds: Annotated[int, typer.Option(help="Rounds of self-evolution.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="One setting as key=value, nested with dots; may be repeated.", show_default="none"),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Stop after this stage: base, round1, round2/data, ...", show_default="none")
    ] = None,
    branch: Annotated[
        str | None,
        typer.Option(help="Begin with the first rounds of another evolution: FOLDER:ROUNDS.", show_default="none"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print stages and settings, and do nothing.", show_default="off")
    ] = False,
    engine: Annotated[str | None, ENGINE] = None,
    ray_address: Annotated[str | None, RAY_ADDRESS] = None,
    workers: Annotated[int | None, WORKERS] = None,
    gpus_per_worker: Annotated[float | None, GPUS_PER_WORKER] = None,
    accelerate: Annotated[
        str | None,
        typer.Option(help="Launch trainings by accelerate: ddp, fsdp or a config file.", show_default="one process"),
    ] = None,
) -> None:
    """Grow a policy and a PPM in rounds from the search's own verified solutions (paper, section 3.4)."""
    from rstar_eval.config import parse_settings
    from rstar_eval.engine.config import engine_of
    from rstar_eval.training.evolve_command import evolve_command

    values = parse_settings(settings or [])
    more = {key.removeprefix("where."): values.pop(key) for key in list(values) if key.startswith("where.")}
    given = {"engine": engine, "ray_address": ray_address, "workers": workers, "gpus_per_worker": gpus_per_worker}
    where = engine_of(**{**more, **{key: value for key, value in given.items() if value is not None}})
    console = terminal(error=False)
    evolve_command(preset, output, rounds, seed, values, until, dry_run, console, where, accelerate, branch)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line, in this order."""
    app.add_typer(tasks_app, name="tasks")
    app.command("doctor")(doctor)
    app.command("show")(show)
    app.command("grade")(grade)
    app.command("regrade")(regrade)
    app.command("compare")(compare_runs)
    app.command("export")(export_rows)
    app.command("sandbox")(sandbox)
    app.command("replay")(replay)
    app.command(
        "lm-eval",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
        add_help_option=False,
    )(lm_eval)
    app.command("evolve")(evolve)


def terminal(*, error: bool = False) -> Console:
    """Return the terminal: standard output, or standard error."""
    from rich.console import Console

    return Console(stderr=error, soft_wrap=False)

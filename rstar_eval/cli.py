"""The command line. `rstar-eval --task T` runs the main job; the subcommands look at tasks, runs and the machine.

Everything heavy is imported inside the functions, so that --help answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from rstar_eval.commands import ENGINE, GPUS_PER_WORKER, RAY_ADDRESS, WORKERS, register, terminal
from rstar_eval.convert_cli import convert_ppm_command
from rstar_eval.errors import UserError, is_out_of_memory
from rstar_eval.leaderboards_cli import register as register_leaderboards
from rstar_eval.serving.command import serve_command
from rstar_eval.solve_cli import solve_command
from rstar_eval.store_cli import register as register_store
from rstar_eval.training_cli import register as register_training

app = typer.Typer(
    name="rstar-eval",
    help="Measure mathematical reasoning with the rStar-Math solver (MCTS over code steps) inside.",
    epilog="Example: rstar-eval --task aime2024 --rollouts 64",
    invoke_without_command=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_RUN, _MODEL, _SEARCH, _CONFIG = "Run", "Models", "Search", "Configuration"


@app.callback()
def run(
    context: typer.Context,
    task: Annotated[
        str | None,
        typer.Option("--task", "-t", help="Tasks, separated by commas: names or task YAML files.", show_default="none"),
    ] = None,
    rollouts: Annotated[
        int | None, typer.Option(help="Complete trajectories the answer is chosen from.", show_default="4")
    ] = None,
    trees: Annotated[int | None, typer.Option(help="Independent trees they are grown in.", show_default="1")] = None,
    strategy: Annotated[
        str | None, typer.Option(help="greedy, majority, best-of-n, mcts and others.", show_default="mcts")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="smollm2, openai:MODEL[@URL], hf:PATH, gguf:PATH or scripted[:FILE].", show_default="smollm2"
        ),
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(help="Reward model: ppm:PATH, orm:PATH, prm:PATH, others, or none.", show_default="none"),
    ] = None,
    grader: Annotated[
        str | None, typer.Option(help="default, official, math_verify or string.", show_default="default")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the first N problems of each task.", show_default="all")
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option(
            help="Only these problems: ids, beginnings of ids, or indices, separated by commas.", show_default="all"
        ),
    ] = None,
    candidates: Annotated[int | None, typer.Option(help="Steps sampled at an expansion.", show_default="4")] = None,
    max_tokens_per_problem: Annotated[
        int | None,
        typer.Option(help="Completion tokens a problem may cost, whatever the strategy.", show_default="no limit"),
    ] = None,
    early_stop: Annotated[
        bool | None, typer.Option("--early-stop", help="End a problem once its vote is decided.", show_default="off")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all random choices.", show_default="0")] = None,
    preset: Annotated[str | None, typer.Option(help="Named settings: mini or paper.", show_default="none")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.", show_default="none")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One setting as key=value; may be repeated.", show_default="none")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder with benchmark files; looked at first.", show_default="$RSTAR_EVAL_DATA, then the cache"
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The run's folder.", show_default="runs/NAME, made of the settings")
    ] = None,
    isolation: Annotated[
        str | None,
        typer.Option(
            help="Demand a sandbox level: strong, good, basic or accidents-only.", show_default="the strongest here"
        ),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Problems searched at once.", show_default="what the policy likes")
    ] = None,
    keep_trees: Annotated[
        bool | None, typer.Option("--keep-trees", help="Store the search trees too.", show_default="off")
    ] = None,
    track: Annotated[
        str | None,
        typer.Option(
            help="Send the figures to mlflow[:URI], wandb[:PROJECT] or trackio[:PROJECT] too.", show_default="none"
        ),
    ] = None,
    engine: Annotated[str | None, ENGINE] = None,
    ray_address: Annotated[str | None, RAY_ADDRESS] = None,
    workers: Annotated[int | None, WORKERS] = None,
    gpus_per_worker: Annotated[float | None, GPUS_PER_WORKER] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object as the last line of standard output.", show_default="off"),
    ] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", show_default="off")] = False,
) -> None:
    """Measure mathematical reasoning with the rStar-Math solver (MCTS over code steps) inside."""
    if version:
        from rstar_eval import __version__

        typer.echo(f"rstar-eval {__version__}")
        raise typer.Exit
    given = {
        "tasks": task, "rollouts": rollouts, "trees": trees, "strategy": strategy, "policy": policy, "reward": reward,
        "grader": grader, "limit": limit, "ids": ids, "seed": seed, "isolation": isolation, "concurrency": concurrency,
        "keep_trees": keep_trees, "data_dir": str(data_dir) if data_dir else None, "candidates": candidates,
        "max_tokens_per_problem": max_tokens_per_problem, "early_stop": early_stop,
        "track": track, "engine": engine, "ray_address": ray_address, "workers": workers,
        "gpus_per_worker": gpus_per_worker,
    }  # fmt: skip
    flags = {key: value for key, value in given.items() if value is not None}
    if context.invoked_subcommand is not None:
        if flags or preset or config or settings or output:
            raise UserError(
                f"options before {context.invoked_subcommand!r} belong to the main job",
                "put options after the subcommand",
            )
        return
    from rstar_eval.config import build_config, load_config_file, load_preset, parse_settings
    from rstar_eval.defaults import task_settings
    from rstar_eval.evaluation import run_config
    from rstar_eval.progress import make_progress
    from rstar_eval.report import print_summary

    layers = (
        load_preset(preset) if preset else {},
        load_config_file(config) if config else {},
        parse_settings(settings or []),
        flags,
    )
    values = build_config(task_settings(*layers), *layers)
    outcome = run_config(values, output, make_progress(terminal(error=True)))
    print_summary(outcome.summary, terminal(error=as_json))
    if as_json:
        typer.echo(json.dumps(outcome.summary.machine()))
    if outcome.stopped:
        done = sum(one.n for one in outcome.summary.tasks)
        typer.echo(f"stopped: {done} problems are stored in {outcome.path}; the same command continues", err=True)
    for one in outcome.set_aside:
        typer.echo(f"set aside after {one.tries} tries: {one.task}/{one.index} ({one.problem}): {one.reason}", err=True)
    if outcome.untracked:
        raise UserError(
            f"the run is stored, but tracking with {values.track!r} failed: {outcome.untracked}",
            f"send it with rstar-eval export {outcome.path} --track {values.track}",
        )
    if outcome.stopped:
        raise typer.Exit(130)
    if outcome.set_aside:
        typer.echo("the figures are without these problems; the same command tries them again", err=True)
        raise typer.Exit(1)


register(app)
register_store(app)
register_training(app)
register_leaderboards(app)
app.command("solve")(solve_command)
app.command("serve")(serve_command)
app.command("convert-ppm")(convert_ppm_command)


def main() -> NoReturn:
    """Run the command line. A user's mistake is one line on standard error and exit code 2."""
    try:
        sys.exit(_dispatch())
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("stopped; the same command continues a run", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        fix = "Give it more, or fewer problems at once (--concurrency); the same command continues a run"
        typer.echo(f"error: out of memory. {fix}", err=True)
        sys.exit(2)


def _dispatch() -> int:
    command = typer.main.get_command(app)
    result: Any = None
    try:
        result = command(prog_name="rstar-eval", standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "format_message") or not hasattr(error, "exit_code"):
            raise  # only click's own usage errors have both; which click it is depends on typer's version
        raise UserError(_with_value(error.format_message().rstrip("."), sys.argv), "See rstar-eval --help") from None
    return int(result) if isinstance(result, int) else 0


def _with_value(message: str, argv: list[str]) -> str:
    """Add the offending value to a message about an option that does not name it."""
    for place, word in enumerate(argv):
        option, equals, value = word.partition("=")
        if option.startswith("-") and f"'{option}'" in message:
            given = value if equals else next(iter(argv[place + 1 : place + 2]), "")
            return message if not given or repr(given) in message else f"{message}, got {given!r}"
    return message


if __name__ == "__main__":
    main()

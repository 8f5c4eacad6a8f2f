"""The command line. `rstar-eval --task T` runs the main job; the subcommands look at tasks, runs and the machine.

Everything heavy is imported inside the functions, so that --help answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from rstar_eval.convert_cli import convert_ppm_command
from rstar_eval.errors import UserError
from rstar_eval.serving.command import serve_command
from rstar_eval.solve_cli import solve_command
from rstar_eval.training_cli import register as register_training

if TYPE_CHECKING:
    from rich.console import Console

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
tasks_app = typer.Typer(help="List the tasks, or show examples of a generated one.", invoke_without_command=True)
app.add_typer(tasks_app, name="tasks")

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
        str | None, typer.Option(help="Reward model: ppm:PATH, orm:PATH, prm:PATH or others.", show_default="none")
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
    from rstar_eval.evaluate import evaluate
    from rstar_eval.progress import make_progress
    from rstar_eval.report import print_summary

    values = build_config(
        load_preset(preset) if preset else {},
        load_config_file(config) if config else {},
        parse_settings(settings or []),
        flags,
    )
    outcome = evaluate(values, output, make_progress(_console(error=True)))
    print_summary(outcome.summary, _console(error=as_json))
    if as_json:
        typer.echo(json.dumps(outcome.summary.machine()))
    if outcome.stopped:
        done = sum(one.n for one in outcome.summary.tasks)
        typer.echo(f"stopped: {done} problems are stored in {outcome.path}; the same command continues", err=True)
        raise typer.Exit(130)


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

        list_tasks(_console(), data_dir, as_json)


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


@app.command()
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

    examine(_console(), data_dir)
    if attack:
        raise typer.Exit(attack_report(isolation, _console()))


@app.command()
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
) -> None:
    """Show a run's summary, or one problem's trajectories with code, outputs and scores, or its search trees."""
    from rstar_eval.show import show_problem, show_run, show_trees
    from rstar_eval.summary import summarise

    if tree or depth is not None or everything:
        if problem is None:
            raise UserError("--tree needs a problem", "write rstar-eval show RUN PROBLEM --tree")
        where = str(data_dir) if data_dir else None
        show_trees(run_folder, problem, _console(), where, depth=depth, everything=everything)
    elif problem is not None:
        show_problem(run_folder, problem, _console(), str(data_dir) if data_dir else None)
    elif as_json:
        typer.echo(json.dumps(summarise(run_folder).machine()))
    else:
        show_run(run_folder, _console())


@app.command()
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


@app.command()
def regrade(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    grader: Annotated[str, typer.Option(help="default, official, math_verify or string.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with benchmark files.", show_default="$RSTAR_EVAL_DATA, then the cache")
    ] = None,
) -> None:
    """Grade a stored run again with another grader, without a model, and print what changed."""
    from rstar_eval.regrade import regrade_run

    regrade_run(run_folder, grader, _console(), data_dir)


@app.command("compare")
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
        print_comparison(found, _console(), all_discordant=all_discordant)


@app.command("export")
def export_rows(
    source: Annotated[Path, typer.Argument(help="A run's folder (trajectories), or a file of training rows.")],
    output: Annotated[Path, typer.Option(help="A .parquet or .jsonl file.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with benchmark files.", show_default="$RSTAR_EVAL_DATA, then the cache")
    ] = None,
) -> None:
    """Write a run's trajectories, or training rows in TRL's dataset types, for other tools."""
    from rstar_eval.exporting import export

    typer.echo(f"{export(source, output, data_dir=data_dir)} rows -> {output}")


@app.command()
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


@app.command()
def replay(
    cases: Annotated[Path, typer.Option(help="JSON lines of scripted reference searches.")],
    semantics: Annotated[str, typer.Option(help="reference or paper.")] = "reference",
) -> None:
    """Replay scripted searches and compare every visit, value and answer; exit code 1 on any mismatch."""
    from rstar_eval.solver.replay import replay_cases

    raise typer.Exit(replay_cases(cases, semantics, sys.stdout))


@app.command(
    "lm-eval",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def lm_eval(context: typer.Context) -> None:
    """Run lm-eval's own command line with the rstar tasks and the model `rstar` in it (extra lm-eval)."""
    from rstar_eval.integrations.lm_eval_cli import run_lm_eval

    run_lm_eval(context.args)


@app.command()
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print stages and settings, and do nothing.", show_default="off")
    ] = False,
) -> None:
    """Grow a policy and a PPM in rounds from the search's own verified solutions (paper, section 3.4)."""
    from rstar_eval.config import parse_settings
    from rstar_eval.training.evolve_command import evolve_command

    values = parse_settings(settings or [])
    evolve_command(preset, output, rounds, seed, values, until, dry_run, _console(error=False))


register_training(app)
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


def _console(*, error: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=error, soft_wrap=False)


if __name__ == "__main__":
    main()

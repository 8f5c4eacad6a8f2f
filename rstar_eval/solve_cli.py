"""`rstar-eval solve "QUESTION"`: one problem, live in a terminal, plain elsewhere, as one JSON object with --json."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rstar_eval.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from rstar_eval.config import RunConfig
    from rstar_eval.solving import Solution


def solve_command(
    question: Annotated[
        str | None, typer.Argument(help="The question; - reads it from standard input.", show_default="none")
    ] = None,
    question_file: Annotated[
        Path | None, typer.Option(help="A text file with the question; - for standard input.", show_default="none")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="smollm2, openai:MODEL[@URL], hf:PATH, vllm:PATH, gguf:PATH or scripted[:FILE].",
            show_default="smollm2",
        ),
    ] = None,
    reward: Annotated[
        str | None, typer.Option(help="Reward model that guides the search.", show_default="none")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(help="greedy, majority, best-of-n, beam, dvts, mcts ...", show_default="mcts")
    ] = None,
    rollouts: Annotated[
        int | None, typer.Option(help="Complete trajectories the answer is chosen from.", show_default="4")
    ] = None,
    trees: Annotated[int | None, typer.Option(help="Independent trees they are grown in.", show_default="1")] = None,
    candidates: Annotated[int | None, typer.Option(help="Steps sampled at an expansion.", show_default="4")] = None,
    max_tokens_per_problem: Annotated[
        int | None, typer.Option(help="Completion tokens that the search may spend.", show_default="no limit")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all random choices.", show_default="0")] = None,
    preset: Annotated[str | None, typer.Option(help="Named settings: mini or paper.", show_default="none")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.", show_default="none")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="One setting as key=value; may be repeated.", show_default="none")
    ] = None,
    isolation: Annotated[
        str | None,
        typer.Option(
            help="Demand a sandbox level: strong, good, basic or accidents-only.", show_default="the strongest here"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else on standard output.")
    ] = False,
) -> None:
    """Solve one question: the tree while it grows, the best line with code and outputs, the vote."""
    from rstar_eval.config import build_config, load_config_file, load_preset, parse_settings

    given = {
        "policy": policy, "reward": reward, "strategy": strategy, "rollouts": rollouts, "trees": trees, "seed": seed,
        "candidates": candidates, "max_tokens_per_problem": max_tokens_per_problem, "isolation": isolation,
    }  # fmt: skip
    values = build_config(
        load_preset(preset) if preset else {},
        load_config_file(config) if config else {},
        parse_settings(settings or []),
        {key: value for key, value in given.items() if value is not None},
    )
    raise typer.Exit(run_solve(_question(question, question_file), values, as_json))


def run_solve(question: str, config: RunConfig, as_json: bool) -> int:
    """Solve `question` and print what was found; return the exit code: 0, or 130 when it was stopped."""
    import asyncio

    from rich.console import Console

    from rstar_eval.live import watching
    from rstar_eval.solving import Interrupted, solve_question

    screen = Console(stderr=as_json, soft_wrap=False)

    async def go() -> Solution:
        async with watching(question, config, screen, Console(stderr=True)) as (observer, notify):
            return await solve_question(question, config, observer=observer, notify=notify)

    try:
        solution = asyncio.run(go())
    except Interrupted:
        typer.echo("stopped before the search began", err=True)
        return 130
    if as_json:
        sys.stdout.write(json.dumps(solution.data()) + "\n")
    else:
        print_solution(solution, screen)
    if solution.stopped:
        typer.echo("stopped: this is what had been found", err=True)
    return 130 if solution.stopped else 0


def print_solution(solution: Solution, console: Console) -> None:
    """Print the trees, the line that the answer is taken from, the vote, the answer and what it cost."""
    from rstar_eval.live import say_line
    from rstar_eval.show import print_trajectory, say_to

    say = say_to(console)
    chosen = None if solution.choice.trajectory is None else solution.trajectories[solution.choice.trajectory]
    for number, tree in enumerate(solution.trees):
        if tree is None:
            continue
        say(f"tree {number}" if len(solution.trees) > 1 else "tree", style="bold")
        from rstar_eval.tree_text import tree_lines

        mine = chosen.rollout if chosen is not None and chosen.tree == number else None
        for line in tree_lines(tree["nodes"], chosen=mine):  # type: ignore[arg-type]
            say_line(console, line)
    if chosen is not None:
        say("")
        say("the line that the answer is taken from", style="bold")
        print_trajectory(say, chosen)
    say("")
    rule = solution.choice.rule + (f", K = {solution.choice.k}" if solution.choice.k else "")
    say(f"vote ({rule}), {len(solution.trajectories)} trajectories", style="bold")
    for answer, weight in solution.choice.votes:
        say(f"  {weight:8.3g}  {answer}")
    without = sum(one.answer is None for one in solution.trajectories)
    if without:
        say(f"  {without} without an answer")
    budget = solution.budget
    say(f"answer: {solution.answer if solution.answer is not None else 'none found'}", style="bold")
    say(
        f"{budget.completion_tokens} tokens generated, {budget.prompt_tokens} of prompts, {budget.policy_calls} calls, "
        f"{budget.code_runs} code runs ({budget.code_ok} ok), {budget.scored_steps} steps scored, "
        f"{solution.seconds:.1f} s; ended: {', '.join(solution.ends) or 'stopped'}"
    )


def _question(given: str | None, file: Path | None) -> str:
    if (given is None) == (file is None):
        raise UserError(
            "give the question" if given is None else f"two questions: {given[:40]!r} and file {str(file)!r}",
            'write rstar-eval solve "QUESTION", or --question-file FILE',
        )
    if given not in (None, "-"):
        return str(given)
    if given == "-" or str(file) == "-":
        return sys.stdin.read()
    try:
        return Path(str(file)).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"question file {str(file)!r} is not UTF-8 text", "save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"can't read question file {str(file)!r}: {error.strerror}", "give a text file") from None

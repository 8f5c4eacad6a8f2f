"""The commands of tables and figures: `reproduce`, `board` and `submit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rstar_eval.commands import ENGINE, GPUS_PER_WORKER, RAY_ADDRESS
from rstar_eval.errors import UserError

_DATA_DIR = typer.Option(help="Folder with benchmark files.", show_default="$RSTAR_EVAL_DATA, then the cache")


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("reproduce")(reproduce)
    app.command("board")(board)
    app.command("submit")(submit)


def reproduce(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="table1 ... table10, figure3, figure5, figure7 or all.")],
    preset: Annotated[str, typer.Option(help="mini (two CPU cores) or paper (GPUs, hosted models).")] = "mini",
    rounds: Annotated[int, typer.Option(help="Rounds of self-evolution.")] = 4,
    only: Annotated[str | None, typer.Option(help="One cell: ROW, or ROW/COLUMN.", show_default="all")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with its cost, and do nothing.", show_default="off")
    ] = False,
    evolve: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of a finished evolution to use; may be repeated.", show_default="own ones are made"),
    ] = None,
    control: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a control evolution (rounds without the PPM); may be repeated.", show_default="none"
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds, separated by commas.", show_default="of the evolutions; mini: 0,1,2")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the first N problems of each task.", show_default="all")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The reproduction's folder.", show_default="reproduction/PRESET")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes side by side; with --engine ray: its workers.", show_default="2")
    ] = None,
    engine: Annotated[str | None, ENGINE] = None,
    ray_address: Annotated[str | None, RAY_ADDRESS] = None,
    gpus_per_worker: Annotated[float | None, GPUS_PER_WORKER] = None,
    accelerate: Annotated[
        str | None,
        typer.Option(help="Launch evolutions' trainings by accelerate: ddp, fsdp, a file.", show_default="one process"),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="NAME=SPEC: another place of a model of the plan; may be repeated.", show_default="none"),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FILE: training rows that the plan names; may be repeated.", show_default="none"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of evolutions that are made, as key=value.", show_default="none"),
    ] = None,
    data_dir: Annotated[Path | None, _DATA_DIR] = None,
    render_only: Annotated[
        bool, typer.Option("--render-only", help="Only render what is stored.", show_default="off")
    ] = False,
) -> None:
    """Regenerate a table or figure of the paper: measure what is missing, reuse what is stored, and render it."""
    from rstar_eval.commands import terminal
    from rstar_eval.config import parse_settings
    from rstar_eval.engine.config import engine_of
    from rstar_eval.leaderboards.models import parse_pairs
    from rstar_eval.leaderboards.reproduce import Request
    from rstar_eval.leaderboards.reproduce import reproduce as run

    distributed = engine not in (None, "local")
    where = engine_of(
        engine=engine, ray_address=ray_address, gpus_per_worker=gpus_per_worker,
        workers=workers if distributed else None,
    )  # fmt: skip
    request = Request(
        what=what, preset=preset, output=output or Path("reproduction") / preset, rounds=rounds,
        seeds=_seeds(seeds), only=only, evolve=tuple(evolve or ()), control=tuple(control or ()), limit=limit,
        workers=2 if distributed or workers is None else workers, where=where, accelerate=accelerate,
        models=parse_pairs("--model", model or []),
        data={name: Path(file) for name, file in parse_pairs("--data", data or []).items()},
        data_dir=str(data_dir) if data_dir else None, settings=parse_settings(settings or []),
        render_only=render_only, dry_run=dry_run,
    )  # fmt: skip
    run(request, terminal())


def board(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]...",
            help="Run folders, reproductions, stored results.",
            show_default="runs, reproduction/*, leaderboards/results/*",
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="The site's folder; an earlier board in it is replaced.")] = Path(
        "board"
    ),
    problems: Annotated[
        int | None,
        typer.Option(
            help="Problems of a run that get a page, the first ones.", min=0, show_default="all, to 5000 in sum"
        ),
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Serve it on this machine.", show_default="off")] = False,
    port: Annotated[int, typer.Option(help="With --serve: the port.")] = 8080,
    data_dir: Annotated[Path | None, _DATA_DIR] = None,
) -> None:
    """Write a static site of runs, tables, figures and search trees; open its index.html in a browser."""
    from rstar_eval.leaderboards.board.build import build_board, serve_board

    known = (Path("runs"), *sorted(Path("reproduction").glob("*")), *sorted(Path("leaderboards/results").glob("*")))
    folders = paths or [one for one in known if next(one.rglob("manifest.json"), next(one.rglob("*.jsonl.zst"), None))]
    if not folders:
        raise UserError("there are no runs here", "give run folders: rstar-eval board RUN...")
    made = build_board(
        folders, output, problems=problems, data_dir=data_dir, say=lambda text: typer.echo(text, err=True)
    )
    typer.echo(f"{made.entries} runs, {made.problems} problems, {made.trees} trees -> {made.index}")
    if serve:
        typer.echo(f"http://127.0.0.1:{port}/ (Ctrl-C ends it)", err=True)
        serve_board(output, port)


def submit(
    paths: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Run folders, or a reproduction's.")],
    into: Annotated[Path, typer.Option(help="The leaderboards/ folder of a checkout.")] = Path("leaderboards"),
    name: Annotated[str | None, typer.Option(help="The result's name.", show_default="the folder's")] = None,
) -> None:
    """Add runs to the results that are committed: verdicts, scores, tokens and manifests, no question or answer."""
    from rstar_eval.leaderboards.submit import submit as add

    if name is not None and len(paths) > 1:
        raise UserError(f"--name {name!r} is for one run, and {len(paths)} are given", "submit them one by one")
    for path in paths:
        written = add(path, into, name)
        size = sum(file.stat().st_size for file in written)
        typer.echo(f"{path}: {len(written)} files, {size:,} bytes -> {into / 'results'}")


def _seeds(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise UserError(f"--seeds {text!r} is no list of numbers", "write for example --seeds 0,1,2")
    return tuple(dict.fromkeys(int(part) for part in parts))

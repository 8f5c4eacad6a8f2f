"""`rstar-eval board`: the static site of runs, tables, figures and trees, written to a folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

from rstar_eval.errors import UserError
from rstar_eval.leaderboards.board.entries import Entry, entries_of
from rstar_eval.leaderboards.board.pages import index_page, problem_page, run_page, tables_page
from rstar_eval.leaderboards.board.tree_page import tree_data, tree_page, tree_script
from rstar_eval.leaderboards.experiments import experiment_ids, load_experiment, load_preset
from rstar_eval.leaderboards.render import files as table_files
from rstar_eval.leaderboards.reproduce import MARK, draw_figure
from rstar_eval.leaderboards.results import Results
from rstar_eval.leaderboards.tables import Table, make_table
from rstar_eval.problem import Problem
from rstar_eval.records import GradeRecord, SearchRecord, read_log
from rstar_eval.tasks import load_task
from rstar_eval.trees import read_tree

SITE = ".rstar-board"
"""Marks a folder as a board, so that no other folder is ever overwritten."""


MANY = 5000
"""Problem pages that a board has at most unless it is told otherwise: they take a minute and some hundred megabytes."""


@dataclass(frozen=True, slots=True)
class Board:
    """What was built: the site's first page, and how many entries, problem pages and trees are in it."""

    index: Path
    entries: int
    problems: int
    trees: int


def build_board(
    paths: Sequence[Path],
    output: Path,
    *,
    problems: int | None = None,
    data_dir: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Board:
    """Write the board of `paths` (run folders, reproductions, stored results) to `output`.

    problems: of how many problems a run gets pages, the first of its task (None: of all, or of fewer where all runs
    together have more than MANY; `say` is told). UserError for a path that holds nothing to
    show, an output folder that holds something else, or a missing package (matplotlib).
    """
    entries = entries_of(paths)
    total = sum(entry.n for entry in entries if entry.folder is not None)
    if problems is None:
        problems = total if total <= MANY else max(10, MANY // len(entries))
        if total > MANY:
            say(f"{total} problems: of each run the first {problems} get a page (--problems N for another number)")
    _begin(output)
    _assets(output / "assets")
    counts = [0, 0]
    for place, entry in enumerate(entries, start=1):
        say(f"{place} of {len(entries)}: {entry.title}")
        made = _run(entry, output, problems, data_dir)
        counts[0] += made[0]
        counts[1] += made[1]
    (output / "index.html").write_text(index_page(entries), encoding="utf-8")
    tables, figures = _papers(paths, output)
    (output / "tables.html").write_text(tables_page(tables, figures), encoding="utf-8")
    return Board(output / "index.html", len(entries), counts[0], counts[1])


def _begin(output: Path) -> None:
    """Empty an earlier board, or make the folder. UserError if it is full of something else."""
    if output.exists() and not output.is_dir():
        raise UserError(f"{str(output)!r} is a file", "give a folder with --output")
    if output.exists() and any(output.iterdir()):
        if not (output / SITE).exists():
            raise UserError(f"{str(output)!r} is not empty and holds no board", "give a new folder with --output")
        for name in ("assets", "runs", "tables", "figures"):
            shutil.rmtree(output / name, ignore_errors=False) if (output / name).exists() else None
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / SITE).write_text("made by rstar-eval board; made anew by the same command\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"can't write to {str(output)!r}: {error.strerror}", "give another --output") from None


def _assets(folder: Path) -> None:
    with resources.as_file(resources.files("rstar_eval.leaderboards.board") / "assets") as source:
        shutil.copytree(source, folder)


def _run(entry: Entry, output: Path, limit: int, data_dir: Path | None) -> tuple[int, int]:
    """Write an entry's page and those of its problems; return how many problems and trees have one."""
    log: list[tuple[GradeRecord, list[SearchRecord]]] = []
    pages: dict[str, str] = {}
    trees = 0
    if entry.folder is not None:
        log = _log(entry)
        known = _problems(entry, data_dir)
        folder = output / "runs" / entry.slug
        for grade, searches in log[:limit]:
            pages[grade.problem] = f"{entry.slug}/problems/{grade.index}.html"
            found = _trees(entry, known.get(grade.problem), grade, searches, folder)
            trees += len(found)
            _write(
                folder / "problems" / f"{grade.index}.html",
                problem_page(entry, known.get(grade.problem), grade, searches, found),
            )
    _write(output / "runs" / f"{entry.slug}.html", run_page(entry, pages, log))
    return len(pages), trees


def _log(entry: Entry) -> list[tuple[GradeRecord, list[SearchRecord]]]:
    assert entry.folder is not None, "only entries with a folder have a log"
    log, grader = read_log(entry.folder), entry.scores.manifest["grader"]
    wanted = (grader["name"], grader["version"])
    trees = int(entry.scores.config["trees"])
    grades = [one for key, one in log.grades.items() if key[0] == entry.scores.task and key[2:] == wanted]
    found = []
    for grade in sorted(grades, key=lambda one: one.index):
        keys = ((grade.task, grade.problem, tree) for tree in range(trees))
        found.append((grade, [log.searches[key] for key in keys if key in log.searches]))
    return found


@lru_cache(maxsize=32)
def _questions(task: str, data_dir: Path | None) -> Mapping[str, Problem]:
    return {one.id: one for one in load_task(task, data_dir=data_dir).problems}


def _problems(entry: Entry, data_dir: Path | None) -> Mapping[str, Problem]:
    """Return the task's problems by id, none if its data is not here."""
    name = entry.scores.manifest["data"][entry.scores.task].get("task_file", entry.scores.task)
    try:
        return _questions(name, data_dir)
    except UserError:  # pages say that the data is not here; the rest of them needs none of it
        return {}


def _trees(
    entry: Entry, problem: Problem | None, grade: GradeRecord, searches: Sequence[SearchRecord], folder: Path
) -> dict[int, str]:
    """Write a problem's tree pages; return them by tree number, as links from the problem's page."""
    assert entry.folder is not None, "only entries with a folder have trees"
    place, first, found = grade.choice.get("trajectory"), 0, {}
    for search in searches:
        count = len(search.trajectories)
        verdicts = {
            path.rollout: verdict.outcome
            for path, verdict in zip(search.trajectories, grade.trajectories[first : first + count], strict=True)
        }
        mine = isinstance(place, int) and first <= place < first + count
        chosen = search.trajectories[place - first].rollout if mine and isinstance(place, int) else None
        first += count
        tree = read_tree(entry.folder, search.problem, search.tree)
        if tree is None:
            continue
        name = f"{grade.index}-{search.tree}"
        in_turn = entry.scores.config["strategy"] == "mcts"
        data = tree_data(tree["nodes"], outcomes=verdicts, chosen=chosen, in_turn=in_turn)
        _write(folder / "trees" / f"{name}.js", tree_script(data))
        _write(
            folder / "trees" / f"{name}.html",
            tree_page(
                entry, problem, grade, search.tree, len(tree["nodes"]),
                script=f"{name}.js", up=f"../problems/{grade.index}.html",
            ),
        )  # fmt: skip
        found[search.tree] = f"../trees/{name}.html"
    return found


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def _papers(paths: Sequence[Path], output: Path) -> tuple[list[Table], dict[str, list[str]]]:
    """Render the tables and figures of the reproductions (or stored results of a preset) among `paths`."""
    tables: list[Table] = []
    figures: dict[str, list[str]] = {}
    for path in paths:
        preset, results = _results_of(path)
        if preset is None or results is None:
            continue
        for id in experiment_ids():
            experiment = load_experiment(id, preset)
            if experiment.kind == "table":
                tables.append(make_table(experiment, results))
                for name, content in table_files(tables[-1]).items():
                    _write(output / "tables" / name, content)
                continue
            drawn = draw_figure(experiment, results)
            (output / "figures").mkdir(exist_ok=True)
            for name, image in drawn.items():
                (output / "figures" / name).write_bytes(image)
            for stem in (name.removesuffix(".svg") for name in drawn if name.endswith(".svg")):
                over = ", over tokens" if "tokens" in stem else ""
                own = [
                    f"{stem}.svg",
                    f"{stem}.png",
                    f"{id}.csv",
                    *(name for name in drawn if name.endswith("-tests.csv")),
                ]
                figures[f"Figure {experiment.number}: {experiment.title}{over}"] = own
        break  # tables of one preset a site
    return tables, figures


def _results_of(path: Path) -> tuple[str | None, Results | None]:
    import json

    if (path / MARK).is_file():
        preset = str(json.loads((path / MARK).read_text(encoding="utf-8"))["preset"])
        return preset, Results(path / "results", load_preset(preset))
    if path.name in ("mini", "paper") and any(path.glob("seed*")):
        return path.name, Results(path, load_preset(path.name))
    return None, None


def serve_board(folder: Path, port: int) -> None:
    """Serve a board on this machine alone until Ctrl-C. UserError if the port is taken."""
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    except OSError as error:
        raise UserError(f"can't listen on port {port}: {error.strerror}", "give another --port") from None
    with server:
        server.serve_forever()

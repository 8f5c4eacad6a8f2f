"""The pages of the board that need no search tree: leaderboard, tables and figures, a run, a problem."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rstar_eval.leaderboards.board.entries import Entry, settings_text
from rstar_eval.leaderboards.board.markup import badge, facts, mathematics, page, table, text
from rstar_eval.leaderboards.render import column_title as heading_of
from rstar_eval.leaderboards.render import grouped, measured_text, notes, published_number, row_title
from rstar_eval.leaderboards.render import heading as title_of
from rstar_eval.leaderboards.tables import Table
from rstar_eval.problem import Problem
from rstar_eval.records import GradeRecord, SearchRecord
from rstar_eval.solver.types import Step, Trajectory
from rstar_eval.stats import curve_points, pass_at_k, wilson


def percent(value: float) -> str:
    """Return a share in percent with one decimal."""
    return f"{100 * value:.1f}"


def index_page(entries: Sequence[Entry]) -> str:
    """Return the leaderboard: a row an entry, sortable and filtered in the browser (board.js)."""
    tasks = sorted({one.scores.task for one in entries})
    strategies = sorted({str(one.scores.config["strategy"]) for one in entries})
    filters = (
        '<form class="filters" id="filters" aria-label="Filters">'
        + _choice("task", "Task", tasks)
        + _choice("strategy", "Strategy", strategies)
        + '<label>Tokens a problem, at most <input type="number" id="budget" min="0" step="1"></label>'
        + '<label>Model or run <input type="search" id="words"></label>'
        + "</form>"
    )
    columns = (
        ("Run", "run", False), ("Task", "task", False), ("Strategy", "strategy", False), ("Policy", "policy", False),
        ("Reward", "reward", False), ("Trajectories", "n-trajectories", True), ("Accuracy %", "accuracy", True),
        ("95 % interval", "interval", True), ("pass@N %", "coverage", True), ("Tokens a problem", "tokens", True),
        ("Problems", "problems", True),
    )  # fmt: skip
    head = "".join(
        f'<th scope="col" data-key="{key}"{_NUMBER[number]}><button type="button">{label}</button></th>'
        for label, key, number in columns
    )
    rows = "\n".join(_index_row(one) for one in sorted(entries, key=lambda one: (one.scores.task, -_accuracy(one))))
    body = (
        "<p>Every row is a run on a task: the share of problems whose chosen answer is right, beside what it cost. "
        "Runs are comparable only on the same task, and fairly only at equal tokens.</p>"
        f'{filters}<p id="count" role="status" aria-live="polite">{len(entries)} runs</p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Leaderboard"><table id="leaderboard">'
        f"<thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table></div>"
    )
    if not entries:
        body = "<p>No runs are here yet. Give run folders: <code>rstar-eval board RUN</code>.</p>"
    return page("Leaderboard", body, scripts=("board.js",), here="index.html")


_NUMBER = {True: ' class="number"', False: ""}


def _accuracy(one: Entry) -> float:
    return one.correct / one.n if one.n else 0.0


def _choice(name: str, label: str, values: Sequence[str]) -> str:
    options = "".join(f'<option value="{text(value)}">{text(value)}</option>' for value in values)
    return f'<label>{label} <select id="{name}"><option value="">all</option>{options}</select></label>'


def _index_row(one: Entry) -> str:
    low, high = one.interval
    config = one.scores.config
    cells = (
        (one.title, f'<a href="runs/{one.slug}.html">{text(one.title)}</a>', False),
        (one.scores.task, text(one.scores.task), False),
        (config["strategy"], text(config["strategy"]), False),
        (one.policy, text(one.policy), False),
        (one.reward, text(one.reward or "none"), False),
        (config["rollouts"], text(settings_text(config)), True),
        (_accuracy(one), percent(_accuracy(one)), True),
        (low, f"{percent(low)} to {percent(high)}", True),
        (one.coverage, percent(one.coverage), True),
        (one.tokens, f"{one.tokens:.0f}", True),
        (one.n, str(one.n), True),
    )
    inside = "".join(f'<td data-value="{text(value)}"{_NUMBER[number]}>{shown}</td>' for value, shown, number in cells)
    return f"<tr>{inside}</tr>"


def tables_page(tables: Sequence[Table], figures: Mapping[str, Sequence[str]]) -> str:
    """Return the regenerated tables and figures. figures: title to its files (an SVG first), in figures/."""
    parts = [
        "<p>Each cell: what the paper published, below it what was measured here with its 95 % interval, and whether "
        'they agree (see the notes). "not run" is said where nothing was measured.</p>'
    ]
    if not tables and not figures:
        parts = [
            "<p>No tables are here yet. Give a reproduction: <code>rstar-eval board FOLDER</code> of "
            "<code>rstar-eval reproduce</code>.</p>"
        ]
    names = [(one.experiment.id, title_of(one)) for one in tables]
    if names:
        links = "".join(f'<li><a href="#{id}">{text(title)}</a></li>' for id, title in names)
        drawn = "".join(f'<li><a href="#{_anchor(title)}">{text(title)}</a></li>' for title in figures)
        parts.append(f'<nav aria-label="Tables and figures"><ul class="contents">{links}{drawn}</ul></nav>')
    for one in tables:
        parts.append(f'<section id="{one.experiment.id}"><h2>{text(title_of(one))}</h2>{_table(one)}')
        parts.append("".join(f"<p>{text(note)}</p>" for note in notes(one)) + _files(one.experiment.id) + "</section>")
    for title, files in figures.items():
        links = " ".join(f'<a href="figures/{text(name)}">{text(name)}</a>' for name in files)
        image = f'<img src="figures/{text(files[0])}" alt="{text(title)}; its numbers are in the CSV file below">'
        parts.append(f'<section id="{_anchor(title)}"><h2>{text(title)}</h2><figure class="paper">{image}</figure>')
        parts.append(f"<p>Files: {links}</p></section>")
    return page("Tables and figures", "\n".join(parts), here="tables.html")


def _anchor(title: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in title.lower())


def _files(id: str) -> str:
    links = " ".join(f'<a href="tables/{id}.{kind}">{kind}</a>' for kind in ("csv", "md", "tex", "json"))
    return f"<p>Files: {links}</p>"


def _table(one: Table) -> str:
    unit = one.experiment.unit
    rows = []
    for group, row in grouped(one.experiment.rows):
        if group:
            rows.append([f"<em>{text(group)}</em>", *("" for _ in one.columns)])
        cells = [text(row_title(row))]
        for column in one.columns:
            cell = one.cell(row.id, column)
            mark = f" {badge(cell.agree)}" if cell.agree in ("yes", "no", "open") else ""
            run = f'<span class="here">{text(measured_text(cell, unit))}</span>'
            if cell.measured is None:
                run = f'<span class="missing" title="{text(cell.why)}">not run</span>'
            cells.append(f'<span class="published">{published_number(cell.published, unit)}</span><br>{run}{mark}')
        rows.append(cells)
    head = ["<span>Row</span>", *(text(heading_of(one, column)) for column in one.columns)]
    return table(head, rows, caption=title_of(one), numbers=range(1, len(head)))


def run_page(
    entry: Entry, problems: Mapping[str, str], log: Sequence[tuple[GradeRecord, Sequence[SearchRecord]]]
) -> str:
    """Return a run's page. problems: pages of problems by id (those that have one). log: grades with their searches,
    where the run's folder is here."""
    scores, manifest = entry.scores, entry.scores.manifest
    low, high = entry.interval
    outcomes = Counter(one.outcome for one in scores.problems)
    parts = [
        f'<p class="headline"><strong>{percent(_accuracy(entry))} %</strong> of {entry.n} problems '
        f"(95 % interval {percent(low)} to {percent(high)}); a right answer among the trajectories of "
        f"{percent(entry.coverage)} %; {entry.tokens:.0f} completion tokens a problem.</p>",
        "<h2>Settings</h2>", facts(_facts(entry)),
        "<h2>By level</h2>", _shares("Level", [(one.level or "-", one.solved) for one in scores.problems]),
    ]  # fmt: skip
    subjects = [(grade.subject, grade.outcome == "correct") for grade, _ in log if grade.subject]
    if subjects:
        parts += ["<h2>By subject</h2>", _shares("Subject", subjects)]
    parts += [
        "<h2>Outcomes and failures</h2>",
        facts((name.replace("_", " "), count) for name, count in outcomes.items()),
    ]
    if log:
        parts += [_ends(log)]
    parts += ["<h2>Budget</h2>", _curve(entry), "<h2>Problems</h2>", _problem_list(entry, problems, log)]
    parts += [
        "<h2>Manifest</h2><details><summary>The whole manifest as JSON</summary>"
        f'<pre tabindex="0">{text(json.dumps(manifest, indent=1))}</pre></details>'
    ]
    return page(f"Run {entry.title}", "\n".join(parts), depth=1)


def _facts(entry: Entry) -> list[tuple[str, object]]:
    config, manifest = entry.scores.config, entry.scores.manifest
    source = manifest["data"][entry.scores.task]["source"]
    found: list[tuple[str, object]] = [
        ("Task", f"{entry.scores.task}, sha256 {str(source.get('sha256'))[:16]}"),
        ("Policy", config.get("policy")),
        ("Policy's weights", str((manifest["policy"] or {}).get("sha256", "not known"))[:16]),
        ("Reward model", config.get("reward") or "none"),
        ("Strategy", f"{config['strategy']}, {settings_text(config)} trajectories, {config['candidates']} candidates"),
        ("Answer", f"{config['choose']}, seed {config['seed']}"),
        ("Grader", f"{manifest['grader']['name']} {manifest['grader']['version']}"),
        ("Isolation", ", ".join(sorted({str(one.get("isolation")) for one in manifest["sessions"]}))),
        ("Configuration", manifest["config_hash"]),
    ]
    return found


def _shares(label: str, found: Sequence[tuple[str | None, bool]]) -> str:
    rows = []
    for name in sorted({str(name) for name, _ in found}):
        hits = [right for each, right in found if str(each) == name]
        low, high = wilson(sum(hits), len(hits))
        rows.append([text(name), percent(sum(hits) / len(hits)), f"{percent(low)} to {percent(high)}", str(len(hits))])
    return table(
        [label, "Accuracy %", "95 % interval", "Problems"], rows, caption=f"By {label.lower()}", numbers=(1, 2, 3)
    )


def _ends(log: Sequence[tuple[GradeRecord, Sequence[SearchRecord]]]) -> str:
    ends = Counter(path.end for _, searches in log for one in searches for path in one.trajectories)
    steps = Counter(
        step.status for _, searches in log for one in searches for path in one.trajectories for step in path.steps
        if step.status is not None and step.status != "ok"
    )  # fmt: skip
    rows = [[f"trajectory ended: {text(name)}", str(count)] for name, count in ends.most_common()]
    rows += [[f"step on a trajectory: {text(name)}", str(count)] for name, count in steps.most_common()]
    return table(["Kind", "Count"], rows, caption="How trajectories ended", numbers=(1,))


def _curve(entry: Entry) -> str:
    """Return pass@k of the stored trajectories: means over all problems."""
    sizes = [len(one.right) for one in entry.scores.problems]
    rows = []
    for k in curve_points(max(sizes, default=0)):
        values = [
            pass_at_k(len(one.right), one.right.count("1"), min(k, len(one.right))) if one.right else 0.0
            for one in entry.scores.problems
        ]
        rows.append([str(k), percent(sum(values) / len(values))])
    total = sum(one.tokens for one in entry.scores.problems)
    shown = table(["k", "pass@k %"], rows, caption="pass@k of the stored trajectories", numbers=(0, 1)) if rows else ""
    return f"<p>{total:,} completion tokens in all.</p>{shown}"


def _problem_list(
    entry: Entry, pages: Mapping[str, str], log: Sequence[tuple[GradeRecord, Sequence[SearchRecord]]]
) -> str:
    answers = {grade.problem: grade.answer for grade, _ in log}
    rows = []
    for one in entry.scores.problems:
        name = f'<a href="{pages[one.problem]}">{one.index}</a>' if one.problem in pages else str(one.index)
        right = f"{one.right.count('1')} of {len(one.right)}"
        answer = text(answers[one.problem]) if answers.get(one.problem) is not None else "-"
        rows.append([name, text(one.level or "-"), badge(one.outcome), answer, right, str(one.tokens)])
    missing = entry.n - len(pages)
    note = f"<p>{missing} problems have no page of their own here.</p>" if missing else ""
    head = ["Problem", "Level", "Outcome", "Answer", "Right trajectories", "Tokens"]
    return note + table(head, rows, caption="Problems", numbers=(4, 5))


def problem_page(
    entry: Entry,
    problem: Problem | None,
    grade: GradeRecord,
    searches: Sequence[SearchRecord],
    trees: Mapping[int, str],
) -> str:
    """Return a problem's page: question, answers, votes, every trajectory. trees: tree pages by tree number."""
    place = grade.choice.get("trajectory")
    parts = [f'<p><a href="../../{entry.slug}.html">Run {text(entry.title)}</a></p>']
    if problem is None:
        parts.append("<p>The task's data is not here, so that question and reference answer can't be shown.</p>")
    else:
        parts.append(
            f'<section class="question math"><h2>Question</h2><p>{text(mathematics(problem.text))}</p></section>'
        )
        parts.append(f'<p class="math">Reference answer: <span class="answer">{text(_math(problem.answer))}</span></p>')
    chosen = "none" if grade.answer is None else _math(grade.answer)
    parts.append(
        f'<p class="math">Chosen answer: <span class="answer">{text(chosen)}</span> {badge(grade.outcome)} '
        f"by {text(grade.choice.get('rule'))} (rule that graded it: {text(grade.rule)})</p>"
    )
    votes = [[text(answer), f"{vote:.3g}"] for answer, vote in grade.choice.get("votes", ())]
    if votes:
        parts.append(table(["Answer", "Votes"], votes, caption="Votes", numbers=(1,)))
    for number, name in trees.items():
        parts.append(f'<p><a class="action" href="{name}">Search tree {number}</a></p>')
    parts.append("<h2>Trajectories</h2>")
    paths = [path for search in searches for path in search.trajectories]
    for group in _alike(paths):
        parts.append(_trajectory(paths, group, grade, place))
    title = f"{grade.task} problem {grade.index}"
    return page(title, "\n".join(parts), depth=3, math=True)


def _math(answer: str) -> str:
    """Return an answer set as mathematics where it has any."""
    return f"\\({answer}\\)" if any(mark in answer for mark in "\\^_{") else answer


def _alike(paths: Sequence[Trajectory]) -> list[list[int]]:
    """Return the places of trajectories with the same steps and end, together."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, path in enumerate(paths):
        key = (tuple((step.text, step.output, step.status) for step in path.steps), path.end, path.answer, path.score)
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def _trajectory(paths: Sequence[Trajectory], group: Sequence[int], grade: GradeRecord, chosen: object) -> str:
    path = paths[group[0]]
    verdict = grade.trajectories[group[0]].outcome if group[0] < len(grade.trajectories) else "no_answer"
    mine = chosen in group
    names = ", ".join(map(str, group[:8])) + (f" and {len(group) - 8} more" if len(group) > 8 else "")
    score = f", score {path.score:+.3f}" if path.score is not None else ""
    answer = f"answer {path.answer}" if path.answer is not None else f"ended: {path.end}"
    mark = ' <span class="badge chosen">chosen</span>' if mine else ""
    steps = "".join(_step(number, step) for number, step in enumerate(path.steps, start=1))
    return (
        f'<details class="trajectory"{" open" if mine else ""}><summary>Trajectory {names}: {text(answer)}{score} '
        f"{badge(verdict)}{mark}</summary><ol>{steps}</ol></details>"
    )


def _step(number: int, step: Step) -> str:
    value = f", Q {step.value:+.3f}" if step.value is not None else ""
    status = f" {badge(step.status)}" if step.status is not None else ""
    parts = [f"<p>Step {number}, {text(step.kind)}, {step.tokens} tokens{value}{status}</p>"]
    parts.append(f'<pre tabindex="0"><code>{text(step.code or step.text)}</code></pre>')
    if step.output:
        parts.append(f'<p>Printed:</p><pre tabindex="0"><samp>{text(step.output)}</samp></pre>')
    if step.error:
        parts.append(f'<p>Error:</p><pre tabindex="0"><samp>{text(step.error)}</samp></pre>')
    return f"<li>{''.join(parts)}</li>"

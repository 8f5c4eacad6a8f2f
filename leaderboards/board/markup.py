"""HTML of the board: escaping, the frame of a page, tables. All that a model or a file wrote goes through `text`."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
"""No script, style or font but the site's own files, and no connection to anywhere."""
_LINKS = (("index.html", "Leaderboard"), ("tables.html", "Tables and figures"))


def text(value: object) -> str:
    """Return a value as text that HTML shows as it is, in elements and in quoted attributes. Characters that HTML may
    not hold (controls, lone surrogates) become the replacement character."""
    clean = "".join(c if c in "\t\n\r" or (c >= " " and not "\x7f" <= c <= "\x9f" and not "\ud800" <= c <= "\udfff")
                    else "\ufffd" for c in str(value))  # fmt: skip
    return html.escape(clean, quote=True)


def mathematics(value: str) -> str:
    """Return text in which mathematics between single dollars stands between \\( and \\) instead, so that sums of money
    stay text: a formula begins and ends without a blank inside its dollars, and no digit follows it (Pandoc's rule).

    >>> mathematics("for $5 and $7, $x^2$")
    'for $5 and $7, \\\\(x^2\\\\)'
    """
    return _DOLLARS.sub(lambda found: f"\\({found.group(1)}\\)", value)


_DOLLARS = re.compile(r"(?<![\\$])\$(?![\s$])([^$]*[^$\s\\])\$(?![\d$])")


def script_data(name: str, value: object) -> str:
    """Return a script that sets window.NAME to a plain value; no text in it can end the script or its string."""
    body = json.dumps(value, ensure_ascii=True).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f"window.{name} = {body};\n"


def page(
    title: str, body: str, *, depth: int = 0, scripts: Iterable[str] = (), math: bool = False, here: str = ""
) -> str:
    """Return a whole page. depth: folders below the site's root. scripts: files of assets/, or paths with a slash in
    them beside the page. here: which entry of the menu it is."""
    up = "../" * depth
    current = {here: ' aria-current="page"'}
    links = "".join(f'<a href="{up}{target}"{current.get(target, "")}>{label}</a>' for target, label in _LINKS)
    head = [f'<link rel="stylesheet" href="{up}assets/board.css">']
    sources = [one if one.startswith("./") else f"{up}assets/{one}" for one in scripts]
    if math:
        head.append(f'<link rel="stylesheet" href="{up}assets/katex/katex.min.css">')
        names = ("katex/katex.min.js", "katex/auto-render.min.js", "math.js")
        sources += [f"{up}assets/{name}" for name in names]
    head += [f'<script defer src="{text(one)}"></script>' for one in sources]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{text(title)} - rstar-eval</title>\n'
        f'<link rel="icon" href="data:,">\n{chr(10).join(head)}\n</head>\n<body>\n'
        '<a class="skip" href="#main">Skip to the content</a>\n'
        f'<header><strong>rstar-eval</strong><nav aria-label="Site">{links}</nav></header>\n'
        f'<main id="main">\n<h1>{text(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n'
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "", numbers: Iterable[int] = ()) -> str:
    """Return a table; cells are HTML already. numbers: the columns that are set right. The first one heads its row."""
    right = dict.fromkeys(numbers, ' class="number"')

    def cell(place: int, content: str) -> str:
        align = right.get(place, "")
        return f'<th scope="row"{align}>{content}</th>' if place == 0 else f"<td{align}>{content}</td>"

    heads = "".join(f'<th scope="col"{right.get(i, "")}>{one}</th>' for i, one in enumerate(head))
    body = "\n".join("<tr>" + "".join(cell(i, one) for i, one in enumerate(row)) + "</tr>" for row in rows)
    shown = f"<caption>{text(caption)}</caption>" if caption else ""
    label = f' aria-label="{text(caption or "table")}"'
    return (
        f'<div class="scroll" tabindex="0" role="region"{label}><table>{shown}<thead><tr>{heads}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Return a list of names and values."""
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs) + "</dl>"


def badge(outcome: str) -> str:
    """Return an outcome as a badge: its word, not its colour alone, says what it is."""
    return f'<span class="badge {text(outcome)}">{text(outcome.replace("_", " "))}</span>'

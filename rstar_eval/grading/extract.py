"""Finding the answer in a text: the final step of a solution, or any model output.

Extraction is apart from equivalence: it says where the answer stands and by which rule it was found, and doesn't
look at the
reference. Rules, in this order; each takes the last place where it applies:
  boxed    \\boxed{...} or \\fbox{...}, nested ones opened; neighbours joined by "and", "or" or a comma are one list
  tag      <answer>...</answer>
  hash     #### 42
  anchor   "the answer is ...", "Final answer: ..."
  bold     **42** alone on the last line that has one
  display  the last $...$, \\(...\\) or \\[...\\] on the last line
  plain    the whole text, if it is short and one line
"""

from __future__ import annotations

import re

from rstar_eval.grading.latex import closing_braces, matching_brace
from rstar_eval.grading.types import Answer

_LONGEST_TEXT = 200_000
_LONGEST_PLAIN = 120
_LONGEST_ANCHORED = 400
_LONGEST_ANSWER = 20_000
_NESTED_BOXES = 5
_BOX = re.compile(r"\\(?:boxed|fbox)\s*(\{|(?=[0-9A-Za-z\\$-]))")
_BETWEEN = re.compile(r"[\s$]*(?:\\text\s*\{\s*)?(?:,|and|or|&|\\quad|\\;|\\,)*(?:\s*\})?[\s$,]*(?:and|or)?[\s$]*")
_TAG = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.IGNORECASE | re.DOTALL)
_HASH = re.compile(r"^[ \t]*####[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_ANCHOR = re.compile(
    r"\b(?:final\s+answer|answer|solution)\b\*{0,2}\s*+"
    r"(?:(?:to\s++[^.:\n]{1,80}?\s+)?(?:is|are|equals)\b\s*+:?|:|=)\s*\*{0,2}[ \t]*",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(
    r"\n|(?<=[^\d\s])\.(?=\s|$)|(?<=\d)\.(?=\s+[A-Z\n]|\s*$)|,\s+(?:so|since|because|which|where)\b"
)
_BOLD = re.compile(r"\*\*([^*\n]{1,200}?)\*\*|__([^_\n]{1,200}?)__")
# A display ends before the next opening, so that many unclosed ones take linear time.
_DISPLAY = re.compile(
    r"\$\$((?:(?!\$\$).)+)\$\$|(?<!\\)\$((?:\\.|[^$\n\\])+?)\$|\\\(((?:(?!\\[()]).)+)\\\)|\\\[((?:(?!\\[\[\]]).)+)\\\]",
    re.DOTALL,
)
_JOINED_DISPLAY = re.compile(rf"\s*(?:,\s*(?:and|or)?|and|or|;)\s*(?:{_DISPLAY.pattern})", re.DOTALL)
_SHORT_TAIL = re.compile(r"(?:[ \t]*[^\W\d_][\w/^.²³]*){0,3}[ \t]*[.,;:!]*\s*")
_REASON = re.compile(r"\b(?:because|since|so|as|which|where|when|if|not|is|are|was|and|but|by|with|for|then|from)\b")
_STEP_MARKS = re.compile(
    r"</?(?:end_of_answer|end_of_step|answer|end_of_output|\|?im_end\|?)>|<\|[a-z_]+\|>", re.IGNORECASE
)


def extract_answer(text: str) -> Answer | None:
    """Return the answer that a text states, or None if it states none.

    text: usually a model's final step. The answer's `text` is a part of it (`text[span[0]:span[1]]`), except that
    neighbouring boxes are joined and nested boxes opened. Linear in the length up to 200,000 characters; of a longer
    text
    the end is read.

    >>> extract_answer("so $x = 5$. The answer is \\\\boxed{5}.")
    Answer(text='5', span=(33, 34), rule='boxed')
    """
    offset = max(0, len(text) - _LONGEST_TEXT)
    body = text[offset:]
    for rule in (_boxed, _tagged, _hashed, _anchored, _bold, _displayed, _plain):
        found = rule(body)
        if found is not None and len(found.text) <= _LONGEST_ANSWER:
            return Answer(found.text, (found.span[0] + offset, found.span[1] + offset), found.rule)
    return None


def _trimmed(text: str, start: int, end: int, rule: str) -> Answer | None:
    """The part of `text` without surrounding space, or None if nothing is left."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Answer(text[start:end], (start, end), rule) if end > start else None


def _boxes(text: str) -> list[tuple[int, int, int]]:
    """Outermost boxes as (start of the command, start and end of the content)."""
    found = []
    position = 0
    partners = closing_braces(text) if _BOX.search(text) else {}
    while match := _BOX.search(text, position):
        if match[1] == "{":
            end = partners.get(match.end() - 1, len(text))
            if end == len(text):  # never closed: the rest of the line
                line = text.find("\n", match.end())
                end = line if line >= 0 else len(text)
            found.append((match.start(), match.end(), end))
        else:
            word = re.compile(r"\\?[A-Za-z]+(?:\{[^{}]*\})*|-?[\d.,]*\d").match(text, match.end())
            end = word.end() if word else match.end()
            found.append((match.start(), match.end(), end))
        position = max(end, match.end())
    return found


def _boxed(text: str) -> Answer | None:
    boxes = [box for box in _boxes(text) if text[box[1] : box[2]].strip()]
    if not boxes:
        return None
    first = len(boxes) - 1
    while first > 0 and 0 < len(text[boxes[first - 1][2] + 1 : boxes[first][0]]) < 40:
        between = text[boxes[first - 1][2] + 1 : boxes[first][0]]
        if not _BETWEEN.fullmatch(between) or not re.search(r",|and|or|&", between):
            break
        first -= 1
    last = boxes[-1]
    if len({text[start:end].strip() for _, start, end in boxes[first:]}) == 1:
        first = len(boxes) - 1  # the same answer twice is no list
    if first == len(boxes) - 1:
        start, end = last[1], last[2]
        for _ in range(_NESTED_BOXES):
            inner = _BOX.match(text, start)
            if inner is None or inner[1] != "{":
                break
            start, end = inner.end(), min(matching_brace(text, inner.end() - 1), end)
        return _trimmed(text, start, end, "boxed")
    joined = ", ".join(text[start:end].strip() for _, start, end in boxes[first:])
    return Answer(joined, (boxes[first][1], last[2]), "boxed")


def _tagged(text: str) -> Answer | None:
    for match in reversed(list(_TAG.finditer(text))):
        found = _trimmed(text, match.start(1), match.end(1), "tag")
        if found is not None:
            return found
    return None


def _hashed(text: str) -> Answer | None:
    matches = list(_HASH.finditer(text))
    return _trimmed(text, matches[-1].start(1), matches[-1].end(1), "hash") if matches else None


def _anchored(text: str) -> Answer | None:
    for match in reversed(list(_ANCHOR.finditer(text))):
        seen = min(len(text), match.end() + 2 * _LONGEST_ANCHORED)  # no further: announcements may be many
        end = _SENTENCE_END.search(text, match.end(), seen)
        stop = end.start() if end else seen
        display = _DISPLAY.match(text, match.end())
        if display:
            stop = _after_display(text, display.end(), stop)
        marks = _STEP_MARKS.search(text, match.end(), stop)
        stop = marks.start() if marks else stop
        while stop > match.end() and text[stop - 1] in "*. \t":
            stop -= 1
        found = _trimmed(text, match.end(), stop, "anchor")
        if found is not None and len(found.text) <= _LONGEST_ANCHORED:
            return found
    return None


def _after_display(text: str, position: int, stop: int) -> int:
    """Where an answer ends that begins with a display: displays joined to it and a few words (a unit) belong to it."""
    while joined := _JOINED_DISPLAY.match(text, position):
        position = joined.end()
    tail = _SHORT_TAIL.fullmatch(text, position, max(stop, position))
    return position if tail is None or _REASON.search(tail[0]) else max(stop, position)


def _bold(text: str) -> Answer | None:
    matches = list(_BOLD.finditer(text))
    if not matches:
        return None
    match = matches[-1]
    group = 1 if match[1] is not None else 2
    if match[group].rstrip().endswith(":"):
        return None
    return _trimmed(text, match.start(group), match.end(group), "bold")


def _displayed(text: str) -> Answer | None:
    stripped = text.rstrip()
    start = stripped.rfind("\n\n") + 1
    matches = list(_DISPLAY.finditer(stripped, start))
    if not matches or "\n" in stripped[matches[-1].end() :].strip():
        return None
    if len(stripped) <= _LONGEST_PLAIN and len(matches) > 1:
        return None
    match = matches[-1]
    group = int(match.lastindex or 1)
    return _trimmed(stripped, match.start(group), match.end(group), "display")


def _plain(text: str) -> Answer | None:
    marked = _STEP_MARKS.sub(lambda match: " " * len(match[0]), text)
    found = _trimmed(marked, 0, len(marked), "plain")
    return found if found is not None and len(found.text) <= _LONGEST_PLAIN and "\n" not in found.text else None

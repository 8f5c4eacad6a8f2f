"""`rstar-eval lm-eval ...`: lm-eval's own command line, with our model and tasks known to it. Needs the extra
`lm-eval`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rstar_eval.errors import UserError

EXAMPLE = "rstar-eval lm-eval run --model rstar --model_args policy=smollm2,rollouts=4 --tasks rstar_gsm8k --limit 5"


def run_lm_eval(arguments: Sequence[str]) -> None:
    """Run lm-eval with `arguments` (those of its command line), our model registered and our tasks on its path.

    `--repeats K` and `--temperature T` are ours: every rstar task then samples K responses a problem (T: 0.7 unless
    given) and reports maj@k, pass@k and avg@K. UserError if lm-eval is missing, or for a wrong value of these two.
    """
    try:
        import lm_eval.models  # noqa: F401
        from lm_eval._cli import HarnessCLI
        from lm_eval.utils import setup_logging
    except ImportError as error:
        raise UserError(f"lm-eval is not here: {error}", "pip install 'rstar-eval[lm-eval]'") from None
    import rstar_eval.integrations.lm_eval_model  # noqa: F401  registers the model
    from rstar_eval.integrations.lm_eval_tasks import task_folder

    rest, repeats = _take(arguments, "--repeats")
    rest, temperature = _take(rest, "--temperature")
    with tempfile.TemporaryDirectory(prefix="rstar-eval-") as scratch:
        folder = task_folder()
        if repeats is not None or temperature is not None:
            folder = _sampling_tasks(Path(scratch), repeats, temperature)
        setup_logging()
        before, sys.argv = sys.argv, ["lm-eval", *_with_folder(rest, folder)]
        try:
            cli = HarnessCLI()
            cli.execute(cli.parse_args())
        finally:
            sys.argv = before


def _take(arguments: Sequence[str], option: str) -> tuple[list[str], str | None]:
    """Return the arguments without `option` and its value, and the value (None if it is not there)."""
    rest: list[str] = []
    value: str | None = None
    words = iter(arguments)
    for word in words:
        name, equals, inline = word.partition("=")
        if name != option:
            rest.append(word)
        elif (value := inline if equals else next(words, None)) is None:
            raise UserError(f"{option} has no value", f"write {option} NUMBER")
    return rest, value


def _with_folder(arguments: Sequence[str], folder: Path) -> list[str]:
    """Return the arguments with our task folder where lm-eval's subcommand takes one."""
    words = list(arguments)
    if "--include_path" in words or any(word.startswith("--include_path=") for word in words):
        raise UserError("--include_path is taken by the rstar tasks here", "use lm-eval itself for tasks of your own")
    command = words[0] if words and words[0] in ("run", "ls", "validate") else "run"
    if not words or words[-1] in ("-h", "--help") or (command == "ls" and len(words) < 2):
        return words
    return [*words, "--include_path", str(folder)]


def _sampling_tasks(scratch: Path, repeats: str | None, temperature: str | None) -> Path:
    """Write each task again with so many sampled repeats, including the original; return the folder."""
    import yaml

    from rstar_eval.integrations.lm_eval_tasks import metric_list, task_folder, task_names

    try:
        count, heat = int(repeats or 1), float(temperature or 0.7)
    except ValueError:
        raise UserError(f"--repeats {repeats} --temperature {temperature} are no numbers", "give numbers") from None
    if count < 1 or heat < 0:
        raise UserError(f"--repeats {count} --temperature {heat}", "give at least 1 and at least 0")
    for name in task_names():
        original = task_folder() / f"{name}.yaml"
        own = yaml.safe_load(original.read_text(encoding="utf-8"))
        sampling = {
            **own,
            "include": str(task_folder() / "_base_yaml"),
            "repeats": count,
            "metric_list": metric_list(count),
            "generation_kwargs": {
                "until": ["<|im_end|>", "</s>", "<|eot_id|>"],
                "do_sample": heat > 0,
                "temperature": heat,
                "max_gen_toks": 2048,
            },
        }
        (scratch / original.name).write_text(yaml.safe_dump(sampling, sort_keys=False), encoding="utf-8")
    for group in task_folder().glob("group_*.yaml"):
        (scratch / group.name).write_text(group.read_text(encoding="utf-8"), encoding="utf-8")
    return scratch

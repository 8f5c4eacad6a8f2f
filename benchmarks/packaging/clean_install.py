"""The wheel in clean environments: what is in it, that each extra installs, passes `pip check`, and does something.

python benchmarks/packaging/clean_install.py [--only hf --only lm-eval+train+llamacpp ...] [--keep] [--work FOLDER]

Builds the wheel, states its size and contents, and then, for the bare package, each extra alone and the combinations,
makes an environment, installs WHEEL[extras], and runs `pip check`, the entry points and a short job of that extra, all
from an empty folder. Needs a package index; torch is installed first, as `torch==VERSION` (on a machine without a GPU
the index should give the CPU build). Extras in RESOLVE are gigabytes that only a GPU machine wants: pip resolves them
and nothing is downloaded. One line a result; exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TOGETHER = ("lm-eval+train+llamacpp", "inspect+serve+export", "dev")
RESOLVE = ("vllm", "ray", "docs+dev", "vllm+ray+train")
TORCH = {"hf", "train", "dev"}
PIP = ["python", "-m", "pip", "install", "--quiet", "--no-compile"]
MINI = ["rstar-eval", "--task", "mini_math", "--limit", "2", "--output", "run"]
_MODEL = "policy=scripted,strategy=majority,rollouts=2"
JOBS: dict[str, list[list[str]]] = {
    "": [[*MINI, "--policy", "scripted", "--rollouts", "2"], ["rstar-eval", "tasks"]],
    "hf": [[*MINI, "--strategy", "greedy"]],
    "llamacpp": [["python", "-c", "import xllamacpp"]],
    "train": [["rstar-eval", "train", "--help"], ["python", "-c", "import rstar_eval.training.train, peft"]],
    "lm-eval": [
        ["rstar-eval", "lm-eval", "validate", "--tasks", "rstar_math,rstar_mini"],
        ["rstar-eval", "lm-eval", "run", "--model", "rstar", "--model_args", _MODEL, "--tasks", "rstar_mini_aime",
         "--limit", "2"],
    ],
    "export": [
        [*MINI, "--policy", "scripted", "--rollouts", "2"],
        ["rstar-eval", "export", "run", "--output", "run.parquet"],
        ["rstar-eval", "export", "run", "--output", "rows"],
    ],
    "figures": [["python", "-c", "import rstar_eval.leaderboards.figures"]],
    "serve": [["python", "-c", "import rstar_eval.serving.app"], ["rstar-eval", "serve", "--help"]],
    "inspect": [
        ["inspect", "eval", "rstar_eval/mini_math", "--solver", "rstar_eval/search", "-S", "policy=scripted", "-S",
         "rollouts=2", "--model", "none/none", "--limit", "2", "--display", "none"],
    ],
    "gym": [["rstar-eval", "tasks", "show", "reasoning_gym", "--n", "1"]],
    "track": [[*MINI, "--policy", "scripted", "--rollouts", "2", "--track", "mlflow:sqlite:///m.db"]],
    "docs": [["python", "-c", "import mkdocs, mkdocstrings, nbclient, ipykernel"]],
    "browser": [["python", "-c", "import playwright"]],
}  # fmt: skip
"""What is run for an extra, in an empty folder, with the environment's programs first on the path."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="an extra, several joined by +, or core; may be repeated")
    parser.add_argument("--work", type=Path, help="where environments are made (default: a temporary folder)")
    parser.add_argument(
        "--wheel", type=Path, help="a wheel that was built before (default: build one of the last commit)"
    )
    parser.add_argument("--uv", action="store_true", help="install with uv, found on the path (faster than pip)")
    parser.add_argument("--keep", action="store_true", help="keep the environments")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="rstar-eval-install-"))
    work.mkdir(parents=True, exist_ok=True)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [name for name in project["optional-dependencies"] if name not in (*RESOLVE, "dev")]
    wheel = options.wheel or build(work)
    good = contents(wheel)
    for name in options.only if options.only is not None else ["core", *extras, *TOGETHER, *RESOLVE]:
        chosen = [] if name == "core" else name.split("+")
        if name in RESOLVE:
            good = resolve(name, chosen, wheel, work) and good
        else:
            good = install(name, chosen, wheel, work, keep=options.keep, uv=options.uv) and good
    return 0 if good else 1


def build(work: Path) -> Path:
    """Build the wheel from a copy of the sources as git has them, so that no leftover gets in."""
    source = work / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=REPOSITORY, check=True, capture_output=True)
    subprocess.run(["tar", "x", "-C", str(source)], input=archive.stdout, check=True)
    shutil.rmtree(work / "wheel", ignore_errors=True)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(work / "wheel"), str(source)]
    subprocess.run(command, check=True)
    (wheel,) = (work / "wheel").glob("*.whl")
    return wheel


def contents(wheel: Path) -> bool:
    """Print what is in the wheel; return whether it is all that should be, and nothing beside it."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        unpacked = sum(one.file_size for one in archive.infolist())
        checkpoints = sum(one.file_size for one in archive.infolist() if "/checkpoints/" in one.filename)
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    missing = [
        path
        for folder in ("rstar_eval", "solver", "training", "tasks", "leaderboards")
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in (".py", ".yaml", ".safetensors", ".ipynb") and "__pycache__" not in path.parts
        and tracked(path) and inside(path, folder) not in names
    ]  # fmt: skip
    counts = {ending: sum(name.endswith(ending) for name in names) for ending in (".py", ".yaml", ".safetensors")}
    print(
        f"wheel {wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB, unpacked {unpacked / 1e6:.2f} MB, of it checkpoints "
        f"{checkpoints / 1e6:.2f} MB; top level {sorted(tops)}; {counts}; missing {[str(one) for one in missing]}",
        flush=True,
    )
    return tops == {"rstar_eval"} and not missing


def tracked(path: Path) -> bool:
    """Whether git has the file in its last commit."""
    name = str(path.relative_to(REPOSITORY))
    return bool(subprocess.run(["git", "ls-tree", "HEAD", name], cwd=REPOSITORY, capture_output=True).stdout)


def inside(path: Path, folder: str) -> str:
    """The file's name in the wheel."""
    parts = path.relative_to(REPOSITORY / folder)
    return str(Path("rstar_eval", parts) if folder == "rstar_eval" else Path("rstar_eval", folder, parts))


def install(name: str, extras: list[str], wheel: Path, work: Path, *, keep: bool, uv: bool) -> bool:
    """Make an environment with these extras and use it; return whether everything went well."""
    began, place, empty = time.monotonic(), work / f"env-{name}", work / f"run-{name}"
    for folder in (place, empty):
        shutil.rmtree(folder, ignore_errors=True)
    empty.mkdir()
    venv.create(place, with_pip=True)
    get = ["uv", "pip", "install", "-q", "--python", str(place)] if uv else PIP
    steps = [[*get, f"{wheel}[{','.join(extras)}]" if extras else str(wheel)]]
    if TORCH & set(extras):
        steps.insert(0, [*get, next(line for line in requirements() if line.startswith("torch=="))])
    steps += [["python", "-m", "pip", "check"], ["rstar-eval", "--version"], ["python", "-c", ENTRY_POINTS]]
    steps += [job for extra in extras or [""] for job in JOBS.get(extra, [])]
    for step in steps:
        error = run(step, place, empty)
        if error:
            print(f"{name}: FAILED {' '.join(step)[:120]}: {error}", flush=True)
            return False
    size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file() and not file.is_symlink())
    print(f"{name}: good, {len(steps)} steps, {size / 1e6:.0f} MB, {time.monotonic() - began:.0f} s", flush=True)
    if not keep:
        shutil.rmtree(place)
    return True


ENTRY_POINTS = """
from importlib import metadata
from pathlib import Path
own = metadata.distribution("rstar-eval")
files = [str(file) for file in own.files]
tops = {Path(file).parts[0] for file in files if ".dist-info" not in file and not file.startswith("..")}
assert tops == {"rstar_eval"}, tops
import rstar_eval
assert "site-packages" in rstar_eval.__file__, rstar_eval.__file__
groups = {"console_scripts", "lm_eval.models", "inspect_ai", "vllm.general_plugins"}
assert {one.group for one in own.entry_points} == groups, own.entry_points
from rstar_eval.embedded import checkpoints
assert "r4" in checkpoints(), checkpoints()
"""


def run(step: list[str], place: Path, empty: Path) -> str:
    """Run a command in the environment, from an empty folder; return the end of what it printed if it failed."""
    environment = {**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": str(place)}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(step, cwd=empty, env=environment, capture_output=True, text=True)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line and not line.startswith("WARNING")]
    return "" if done.returncode == 0 else " | ".join(lines[-4:]) or f"exit code {done.returncode}"


def resolve(name: str, extras: list[str], wheel: Path, work: Path) -> bool:
    """Let pip resolve these extras without downloading what is large; return whether it can."""
    began, place = time.monotonic(), work / "env-resolve"
    if not place.exists():
        venv.create(place, with_pip=True)
    report = work / f"{name}.json"
    step = ["python", "-m", "pip", "install", "--quiet", "--dry-run", "--report", str(report)]
    error = run([*step, f"{wheel}[{','.join(extras)}]"], place, work)
    seconds = time.monotonic() - began
    print(f"{name}: {'resolves' if not error else 'FAILED to resolve: ' + error}, {seconds:.0f} s", flush=True)
    return not error


def requirements() -> list[str]:
    """The requirements of all extras, as pyproject.toml has them."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [line for lines in project["optional-dependencies"].values() for line in lines]


if __name__ == "__main__":
    sys.exit(main())

"""The top-level folders are sub-packages of rstar_eval, and only that."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("folder", ["solver", "training", "tasks", "leaderboards"])
def test_bare_import_of_a_mapped_folder_names_the_right_import(folder: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert run.returncode != 0
    assert f"rstar_eval.{folder}" in run.stderr.splitlines()[-1]


def test_wheel_has_one_top_level_name_and_all_sources(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(tmp_path), str(REPOSITORY)],
        check=True,
        timeout=300,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"rstar_eval"}
    for folder in ["rstar_eval", "solver", "training", "tasks", "leaderboards"]:
        base = REPOSITORY / folder
        for path in [p for p in base.rglob("*") if p.suffix in {".py", ".yaml"} and "__pycache__" not in p.parts]:
            inside = path.relative_to(base) if folder == "rstar_eval" else Path(folder) / path.relative_to(base)
            assert f"rstar_eval/{inside.as_posix()}" in names, f"{path} is not in the wheel"
    assets = REPOSITORY / "leaderboards" / "board" / "assets"
    for path in [p for p in assets.rglob("*") if p.is_file()]:
        assert f"rstar_eval/leaderboards/board/assets/{path.relative_to(assets).as_posix()}" in names
    assert "rstar_eval/leaderboards/board/assets/katex/LICENSE" in names
    assert "rstar_eval/leaderboards/results/schema.json" in names
    assert not any(name.endswith(".jsonl.zst") for name in names)  # results belong to the repository, not the package

"""The deployment examples: their commands are commands of this program, and their pods give nothing away."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rstar_eval.config import build_config, load_preset
from rstar_eval.solver.executor.levels import as_level

DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "deploy"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def pod_specs(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for one in value.values():
            yield from pod_specs(one)
    elif isinstance(value, list):
        for one in value:
            yield from pod_specs(one)


def commands() -> dict[str, list[str]]:
    (job,) = (one for one in documents("kubernetes-job.yaml") if one["kind"] == "Job")
    ray = documents("kuberay-job.yaml")[0]
    return {
        "kubernetes": job["spec"]["template"]["spec"]["containers"][0]["args"],
        "kuberay": shlex.split(ray["spec"]["entrypoint"])[1:],
    }


@pytest.mark.parametrize("where", ["kubernetes", "kuberay"])
def test_the_example_s_command_is_understood(where: str) -> None:
    words = [part for word in commands()[where] for part in (word.split("=", 1) if word[:2] == "--" else [word])]
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert all(name.startswith("--") for name in given)
    settings = {name[2:].replace("-", "_"): value for name, value in given.items()}
    as_level(settings.pop("isolation"))
    del settings["output"]
    preset = load_preset(settings.pop("preset")) if "preset" in settings else {}
    settings["tasks"] = settings.pop("task")
    build_config(preset, settings)


@pytest.mark.parametrize("name", ["kubernetes-job.yaml", "kuberay-job.yaml"])
def test_pods_run_as_nobody_in_particular_with_no_rights(name: str) -> None:
    specs = list(pod_specs(documents(name)))
    assert specs
    for spec in specs:
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert "memory" in container["resources"]["limits"]
    assert any(one["kind"] == "NetworkPolicy" for one in documents(name))


def test_images_take_extras_and_folders_that_exist() -> None:
    import tomllib

    text = (DEPLOY / "Dockerfile").read_text()
    project = tomllib.loads((DEPLOY.parents[1] / "pyproject.toml").read_text())["project"]
    for group in re.findall(r"\$\{wheel\}\[([^\]]+)\]", text):
        assert set(group.split(",")) <= set(project["optional-dependencies"])
    for source in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE):
        for one in source.split():
            assert (DEPLOY.parents[1] / one).exists(), one
    assert f"torch=={re.search(r'ARG TORCH=(.+)', text)[1]}" in project["optional-dependencies"]["hf"]  # type: ignore[index]
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001", "10001"]


def test_pins_have_hashes_and_satisfy_what_the_project_demands() -> None:
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (DEPLOY / "requirements-linux-x86_64.txt").read_text().splitlines()
    pins = dict(line.split(" ")[0].split("==") for line in lines if not line.startswith("#"))
    assert len(pins) > 30
    assert all(re.fullmatch(r"\S+==\S+ --hash=sha256:[0-9a-f]{64}", line) for line in lines if not line.startswith("#"))
    project = tomllib.loads((DEPLOY.parents[1] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["serve"], *extras["figures"]]:
        need = Requirement(text)
        assert need.specifier.contains(pins[canonicalize_name(need.name)]), text

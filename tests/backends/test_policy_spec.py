from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_eval.errors import UserError
from rstar_eval.solver.backends import SCHEMES, make_policy, parse_policy_spec


@pytest.mark.parametrize(
    ("text", "target", "url", "options"),
    [
        ("openai:gpt-x", "gpt-x", None, {}),
        ("openai:org/m@http://h:80/v1?concurrency=4", "org/m", "http://h:80/v1", {"concurrency": 4}),
        ("openai:me@home@https://h/v1", "me@home", "https://h/v1", {}),
        ("hf:./a b/c?dtype=float32&format=rstar", "./a b/c", None, {"dtype": "float32", "format": "rstar"}),
        ("gguf:/m.gguf?parallel=8&ctx=2048&threads=2", "/m.gguf", None, {"parallel": 8, "ctx": 2048, "threads": 2}),
        ("smollm2", "", None, {}),
        ("scripted", "", None, {}),
        ("scripted:f.jsonl?delay=0.5", "f.jsonl", None, {"delay": 0.5}),
        (" scripted?noise=0 ", "", None, {"noise": 0.0}),
    ],
)
def test_reads_specs(text: str, target: str, url: str | None, options: dict[str, object]) -> None:
    spec = parse_policy_spec(text)
    assert (spec.target, spec.url, spec.options, spec.text) == (target, url, options, text.strip())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty policy spec"),
        ("opnai:m", "did you mean openai"),
        ("zzz", "known: gguf, hf, openai, scripted, smollm2"),
        ("openai", "write openai:MODEL"),
        ("openai:", "write openai:MODEL"),
        ("openai:http://h/v1", "write openai:MODEL@URL"),
        ("openai:m@http://", "no server address"),
        ("openai:m@http://h:99999/v1", "no server address"),
        ("hf:", "write hf:PATH"),
        ("gguf", "write gguf:PATH"),
        ("smollm2:x", "takes no target"),
        ("gguf:x?paralel=3", "did you mean parallel"),
        ("gguf:x?parallel", "write parallel=VALUE"),
        ("gguf:x?parallel=0", "must be at least 1"),
        ("gguf:x?parallel=many", "must be a number"),
        ("openai:m?api=rest", "must be auto or chat or completions"),
        ("scripted?noise=2", r"must lie in \[0, 1\]"),
        ("scripted?delay=-1", "must be a number of seconds"),
        ("scripted?delay=nan", "must be a number of seconds"),
    ],
)
def test_bad_specs_give_one_line_with_the_mend(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_policy_spec(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40) | st.builds("{}:{}".format, st.sampled_from(sorted(SCHEMES)), st.text(max_size=30)))
def test_any_text_is_a_spec_or_a_user_error(text: str) -> None:
    try:
        spec = parse_policy_spec(text)
    except UserError:
        return
    assert spec.scheme in SCHEMES


def made(spec: str) -> str:
    with pytest.raises(UserError) as caught:
        asyncio.run(make_policy(spec))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_paths_that_are_no_model(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    (tmp_path / "empty").mkdir()
    half = tmp_path / "half"
    half.mkdir()
    (half / "config.json").write_text("{}")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    (broken / "model.safetensors").write_bytes(b"no weights")
    assert "no model file" in made(f"gguf:{tmp_path}/none.gguf")
    assert "is a folder" in made(f"gguf:{tmp_path}")
    assert "is no GGUF model" in made(f"gguf:{text}")
    assert "no model at" in made(f"hf:{tmp_path}/none")
    assert "is a file" in made(f"hf:{text}")
    assert "no config.json" in made(f"hf:{tmp_path}/empty")
    assert "no weights" in made(f"hf:{half}")
    assert "holds no tokenizer that loads" in made(f"hf:{broken}")
    assert "cannot read the script" in made(f"scripted:{tmp_path}/none")
    assert "line 1 of the script" in made(f"scripted:{text}")
    assert "unknown step format" in made("scripted?format=chta")


def test_truncated_gguf_is_a_user_error_with_the_reason(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    model = tmp_path / "cut.gguf"
    model.write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(64))
    assert "cannot load" in made(f"gguf:{model}")


def test_device_that_is_not_there(tiny_model: Path) -> None:
    assert "device" in made(f"hf:{tiny_model}?device=cuda:77")
    assert "device" in made(f"hf:{tiny_model}?device=toaster")

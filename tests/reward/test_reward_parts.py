"""Specs, steps, packing, and checkpoints that do not fit."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rstar_eval.errors import UserError
from rstar_eval.solver.reward.card import read_card, value_of
from rstar_eval.solver.reward.engines import ScoreInput
from rstar_eval.solver.reward.packing import alike, best_length, pack, shared_length
from rstar_eval.solver.reward.public import aggregated, broken
from rstar_eval.solver.reward.spec import parse_reward_spec
from rstar_eval.solver.reward.steps import last_step_start, solution_steps

RSTAR = [
    "<code>\n# Step 1\nx = 1\n<end_of_step>",
    "\n# Step 2\nprint(x)\n<end_of_code>\n<output>1<end_of_output>",
    "\n<code>\ny = 2\n<end_of_step>",
    "\n<answer>So \\boxed{2}.<end_of_answer>",
]
CHAT = [
    "```python\n# Step 1: one\nx = 1\n",
    "# Step 2: two\nprint(x)\n```\n```output\n1\n```\n",
    "The answer is \\boxed{1}.",
]


@pytest.mark.parametrize(
    ("pieces", "steps"),
    [
        (RSTAR, ["# Step 1\nx = 1", "# Step 2\nprint(x)\nOutput: 1", "y = 2", "So \\boxed{2}."]),
        (CHAT, ["# Step 1: one\nx = 1", "# Step 2: two\nprint(x)\nOutput: 1", "The answer is \\boxed{1}."]),
    ],
)
def test_steps_of_both_formats(pieces: list[str], steps: list[str]) -> None:
    for count in range(1, len(pieces) + 1):
        prefix = "".join(pieces[:count])
        assert solution_steps(prefix) == steps[:count]
        assert last_step_start(prefix) == len("".join(pieces[: count - 1]))


@given(
    st.text(max_size=60), st.lists(st.sampled_from([*RSTAR, *CHAT, "<output>", "<end_of_code>", "```\n"]), max_size=6)
)
def test_steps_of_anything(text: str, parts: list[str]) -> None:
    prefix = text.join(parts)
    assert solution_steps(prefix)
    assert 0 <= last_step_start(prefix) <= len(prefix)


tokens = st.lists(st.integers(0, 2), min_size=1, max_size=12)


@given(st.lists(tokens, min_size=1, max_size=6), st.integers(4, 40), st.floats(0, 1e6))
def test_packed_rows_hold_every_text_once_and_as_it_was(texts: list[list[int]], most: int, parity: float) -> None:
    inputs = [ScoreInput(tuple(one), tuple(range(0, len(one), 2))) for one in texts]
    rows = pack(inputs, most, parity)
    shared = shared_length(inputs)
    at = iter(inputs)
    for row in rows:
        assert len(row.tokens) == len(row.positions) == len(row.owners)
        for owner, places in enumerate(row.places, 1):
            one = next(at)
            mine = [i for i, whose in enumerate(row.owners) if whose in (0, owner)]
            assert tuple(row.tokens[i] for i in mine) == one.tokens
            assert [row.positions[i] for i in mine] == list(range(len(one.tokens)))
            assert places == [mine[place] for place in one.positions]
        assert len(row.tokens) <= max(most, max(map(len, texts)))
        assert row.owners.count(0) == row.shared == (shared if len(texts) > 1 else len(texts[0]) - 1)
    assert next(at, None) is None


@given(st.integers(0, 500), st.floats(0, 1e5))
def test_the_best_row_costs_least_for_a_token_of_its_texts(shared: int, parity: float) -> None:
    def cost(length: int) -> float:
        return length * (parity + length) / (length - shared)

    best = best_length(shared, parity)
    assert best == 0 or shared < best
    lengths = range(shared + 1, 2 * best + 1)
    assert min((cost(n) for n in lengths if n <= best), default=0) <= min(map(cost, lengths), default=0) * (1 + 1e-9)
    assert all(cost(n) >= cost(n + 1) * (1 - 1e-9) for n in lengths if n + 1 < best)


@pytest.mark.parametrize(("parity", "rows"), [(0, [4, 4, 4]), (20, [7, 5]), (100, [12])])
def test_rows_are_longer_where_the_weights_cost_more(parity: float, rows: list[int]) -> None:
    inputs = [ScoreInput((1, 2, 3, 4, 5, 6, 7, 8, n, 0), (9,)) for n in range(12)]  # 8 shared, 2 of their own
    assert [len(row.places) for row in pack(inputs, 4096, parity)] == rows


@pytest.mark.parametrize(
    ("fresh", "waste", "batch"),
    [
        ([5], 0, [0]),
        ([5, 5, 4, 5], 0, [0, 1, 3]),  # no padding at all
        ([5, 90, 6, 80], 3, [0, 2]),  # a node's candidates are not padded to the length of new problems
        ([90, 5, 6, 80], 16, [0, 3]),
        ([5, 90, 6, 80], 400, [0, 1, 2, 3]),
        ([70, 10, 10, 10, 10], 130, [0, 1, 2]),  # the rest would be 120 tokens more of padding
    ],
)
def test_rows_are_computed_beside_those_with_as_many_tokens_to_compute(
    fresh: list[int], waste: int, batch: list[int]
) -> None:
    assert sorted(alike(fresh, [100] * len(fresh), 10_000, waste)) == batch


ROWS = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), min_size=1)


@given(ROWS, st.integers(1, 600), st.integers(0, 200))
def test_repeated_batches_compute_every_row_once_within_the_limits(
    rows: list[tuple[int, int]], most: int, waste: int
) -> None:
    left = list(range(len(rows)))
    while left:
        fresh, totals = [rows[i][0] for i in left], [sum(rows[i]) for i in left]
        batch = alike(fresh, totals, most, waste)
        assert 0 in batch
        assert len(set(batch)) == len(batch)
        assert sum(max(fresh[k] for k in batch) - fresh[k] for k in batch) <= waste
        assert len(batch) == 1 or max(totals[k] for k in batch) * len(batch) <= most
        left = [row for k, row in enumerate(left) if k not in batch]


def test_ranges_of_the_kinds() -> None:
    assert value_of("ppm", 5.0) == pytest.approx(0.76159416)
    assert value_of("orm", 2.0) == pytest.approx(2 / (1 + 2.718281828**-2) - 1)
    assert value_of("pqm", 1.0) == pytest.approx(0.76159416)
    for kind in ("ppm", "orm", "pqm"):
        assert value_of(kind, 1e9) == 1.0  # type: ignore[arg-type]
        assert value_of(kind, -1e9) == -1.0  # type: ignore[arg-type]
    assert [aggregated([0.5, 0.8, 0.2], how) for how in ("min", "product", "last", "mean")] == pytest.approx(
        [0.2, 0.08, 0.2, 0.5]
    )
    assert broken("a<extra_0>b", ["<extra_0>"]) == "a< extra_0>b"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "empty reward spec"),
        ("pmp:x", "did you mean p"),
        ("ppm", "names no model"),
        ("ppm:", "names no model"),
        ("ppm:x?kind=qwen", "unknown option 'kind'"),
        ("ppm:x?engine=tpu", "hf or vllm"),
        ("ppm:x?batch=0", "at least 1"),
        ("ppm:x?memory=0.4", "belongs to vLLM"),
        ("ppm:x?engine=vllm&memory=1.5", "at most 1"),
        ("prm:x?aggregate=sum", "min or product or last or mean"),
        ("prm:x?kind=gpt", "qwen or math-shepherd"),
        ("scripted?batch=3", "unknown option 'batch'"),
        ("ppm:x?dtype", "no value"),
    ],
)
def test_bad_specs_say_so_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_reward_spec(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


class Exploit:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploited"),))


def edit_config(folder: Path, **changes: Any) -> None:
    data = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**data, **changes}))


def break_it(name: str, folder: Path) -> str:
    """Damage the copied checkpoint; return the spec to try."""
    model = folder / "model.safetensors"
    if name == "no such folder":
        return f"ppm:{folder}-not"
    if name == "a file":
        return f"ppm:{model}"
    if name == "cut off":
        model.write_bytes(model.read_bytes()[:2000])
    elif name == "no weights":
        model.unlink()
    elif name == "no tokenizer":
        for file in folder.glob("tokenizer*"):
            file.unlink()
    elif name == "config is no JSON":
        (folder / "config.json").write_text("{")
    elif name == "weights of another size":
        edit_config(folder, intermediate_size=128)
    elif name == "a layer is missing":
        edit_config(folder, num_hidden_layers=3, layer_types=["full_attention"] * 3)
    elif name == "two outputs":
        from safetensors.torch import load_file, save_file

        tensors = load_file(model)
        tensors["score.weight"] = tensors["score.weight"].repeat(2, 1)
        save_file(tensors, model, metadata={"format": "pt"})
    elif name == "unknown card":
        (folder / "reward.json").write_text(json.dumps({"schema": 9, "kind": "ppm", "head": "x", "layout": "rstar"}))
    elif name == "broken card":
        (folder / "reward.json").write_text("[")
    elif name == "card of no object":
        (folder / "reward.json").write_text("[]")
    elif name == "scaled logits":
        edit_config(folder, final_logit_softcapping=30.0)
    elif name == "no language-model head":
        edit_config(folder, tie_word_embeddings=False)
    elif name == "other kind":
        return f"orm:{folder}"
    elif name == "device":
        return f"ppm:{folder}?device=cuda:77"
    elif name == "aggregate":
        return f"ppm:{folder}?aggregate=last"
    elif name == "no value head":
        return f"official:{folder}"
    elif name == "kind unknown":
        return f"prm:{folder}"
    elif name == "hostile head":
        with (folder / "value_head.bin").open("wb") as file:
            pickle.dump({"v_head.summary.weight": Exploit()}, file)
        return f"official:{folder}"
    elif name == "bilinear on vllm":
        (folder / "reward.json").write_text(
            json.dumps({"schema": 1, "kind": "ppm", "head": "token_bilinear", "layout": "rstar"})
        )
        return f"ppm:{folder}?engine=vllm"
    elif name == "logratio on vllm":
        (folder / "reward.json").write_text(json.dumps({**LOGRATIO, "beta": 0.3}))
        return f"ppm:{folder}?engine=vllm"
    elif name == "no reference":
        (folder / "reward.json").write_text(json.dumps({**LOGRATIO, "beta": 0.3}))
    elif name == "beta":
        (folder / "reward.json").write_text(json.dumps({**LOGRATIO, "beta": -1}))
    elif name == "bilinear missing":
        (folder / "reward.json").write_text(
            json.dumps({"schema": 1, "kind": "ppm", "head": "token_bilinear", "layout": "rstar"})
        )
    else:
        assert name == "own code"
        edit_config(folder, model_type="hostile", auto_map={"AutoConfig": "hostile.Config", "AutoModel": "hostile.M"})
        (folder / "hostile.py").write_text("open('exploited', 'w')")
    return f"ppm:{folder}"


LOGRATIO = {"schema": 1, "kind": "ppm", "head": "token_logratio", "layout": "rstar"}
BROKEN = {
    "no such folder": "no model at",
    "a file": "is a file",
    "cut off": "does not load",
    "no weights": "no weights",
    "no tokenizer": "no tokenizer",
    "config is no JSON": "config.json",
    "weights of another size": "",
    "a layer is missing": "lacks weights",
    "two outputs": "to 2 numbers",
    "unknown card": "does not know",
    "broken card": "no card",
    "card of no object": "no card",
    "scaled logits": "scales or caps its logits",
    "no language-model head": "no tensor lm_head.weight",
    "other kind": "of kind ppm, not orm",
    "device": "is not there",
    "aggregate": "last_token",
    "no value head": "no value_head.bin",
    "kind unknown": "known: math-shepherd",
    "hostile head": "more than tensors",
    "bilinear on vllm": "vllm can't serve the token_bilinear head",
    "bilinear missing": "no bilinear.safetensors",
    "logratio on vllm": "vllm can't serve the token_logratio head",
    "no reference": "reference",
    "beta": "does not know",
    "own code": "",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_checkpoint_is_one_clear_line(
    kit: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(kit.models("logratio" if name in ("scaled logits", "no language-model head") else "ppm"), folder)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        kit.scores(break_it(name, folder), "q", ["x"])
    assert BROKEN[name] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not (tmp_path / "exploited").exists()


def test_a_policy_is_no_reward_model(kit: Any) -> None:
    with pytest.raises(UserError, match="no classification head"):
        kit.scores(f"ppm:{kit.models('rlhflow')}", "q", ["x"])


@pytest.mark.parametrize("what", ["not empty", "wrong size", "no head"])
def test_conversion_refuses(kit: Any, what: str, tmp_path: Path) -> None:
    import torch

    from rstar_eval.solver.reward.convert import convert_ppm

    source, target = tmp_path / "in", tmp_path / "out"
    shutil.copytree(kit.models("official"), source)
    if what == "not empty":
        target.mkdir()
        (target / "x").touch()
    elif what == "wrong size":
        torch.save({"v_head.summary.weight": torch.zeros(1, 8)}, source / "value_head.bin")
    else:
        (source / "value_head.bin").unlink()
    match = {"not empty": "not an empty folder", "wrong size": "does not fit", "no head": "no value_head.bin"}[what]
    with pytest.raises(UserError, match=match):
        convert_ppm(source, target)


def test_card_of_a_converted_model(kit: Any) -> None:
    card = read_card(kit.models("ppm"))
    assert card is not None
    assert (card.kind, card.head, card.layout) == ("ppm", "last_token", "rstar")
    assert read_card(kit.models("official")) is None

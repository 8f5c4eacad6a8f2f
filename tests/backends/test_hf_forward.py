"""Our forward pass of small decoders against transformers' own."""

from __future__ import annotations

from typing import Any

import pytest

from rstar_eval.solver.backends.hf_cache import Slots, register_attention
from rstar_eval.solver.backends.hf_forward import plain_forward

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SHAPE = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
}
YARN = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 10000.0, "original_max_position_embeddings": 64}


def build(kind: str, dtype: str = "float32", **changes: Any) -> Any:
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(**{**SHAPE, **changes})
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    for parameter in model.parameters():  # norms and biases begin as ones and zeros, which hide mistakes
        torch.nn.init.normal_(parameter, std=0.3)
    model.set_attn_implementation(register_attention())
    return model.to(getattr(torch, dtype)).eval()


KNOWN = [
    ("Qwen2", {}),
    ("Qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    ("Qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "rms_norm_eps": 0.1}),
    ("Llama", {}),
    ("Llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 16}),
]


@pytest.mark.parametrize(("kind", "changes"), KNOWN)
@pytest.mark.parametrize("new", [1, 5])
def test_forward_equals_that_of_transformers(kind: str, changes: dict[str, Any], new: int) -> None:
    model = build(kind, **changes)
    slots = Slots(model, 3)
    assert slots.plain
    ids = torch.randint(0, 90, (3, 30))
    starts = torch.tensor([7, 20, 13])
    with torch.inference_mode():
        assert not Slots(model, 3, own_forward=False).plain
        slots.forward(ids[:, :20], torch.zeros(3, dtype=torch.long), 1, 20)
        fresh = torch.stack([row[start : start + new] for row, start in zip(ids, starts, strict=True)])
        ours = slots.forward(fresh, starts, torch.arange(new), 20 + new)
        model.set_attn_implementation("eager")
        for row, start in enumerate(starts.tolist()):
            whole = model(ids[row : row + 1, : start + new]).logits[0, start:]
            torch.testing.assert_close(ours[row], whole, rtol=1e-4, atol=1e-5)


OTHERS = [
    ("Mistral", "float32", {}),
    ("Qwen2", "bfloat16", {}),
    ("Qwen2", "float32", {"rope_parameters": YARN}),
    ("Qwen2", "float32", {"hidden_act": "gelu"}),
    ("Qwen2", "float32", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
]


@pytest.mark.parametrize(("kind", "dtype", "changes"), OTHERS)
def test_what_is_not_known_is_left_to_transformers(kind: str, dtype: str, changes: dict[str, Any]) -> None:
    assert plain_forward(build(kind, dtype, **changes), lambda *_: (None, None)) is None


def test_a_replaced_projection_is_left_to_transformers() -> None:
    class Wrapped(torch.nn.Module):  # type: ignore[misc]
        """As adapters are put around a layer: no Linear itself, but with the weight of the one inside."""

        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.base_layer, self.out_features = inner, inner.out_features

        @property
        def weight(self) -> Any:
            return self.base_layer.weight

    class Quantised(torch.nn.Linear):  # type: ignore[misc]
        pass

    def attend(*_: Any) -> Any:
        raise AssertionError

    model = build("Qwen2")
    assert plain_forward(model, attend) is not None
    attention = model.model.layers[1].self_attn
    attention.q_proj = Wrapped(attention.q_proj)
    assert plain_forward(model, attend) is None
    model = build("Qwen2")
    model.model.layers[0].mlp.up_proj = Quantised(32, 48, bias=False)
    assert plain_forward(model, attend) is None

"""The forward pass of the commonest small decoders without transformers' wrappers around every call.

For a model of half a million parameters a third of a decoding step of few sequences is those wrappers and the many
small operations of a layer (benchmarks/README.md). Weights, formulas and precision are transformers' own (tests compare
both); whatever is not known to be computed exactly so is left to transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Forward = Callable[[Any, Any, Any, Sequence[Any]], Any]
"""Takes tokens (rows x new tokens), their positions (the same, or one row for all), the additive mask (rows x 1 x new
tokens x columns) and the cache's layers; returns the last hidden states (rows x new tokens x hidden size)."""

MODEL_TYPES = {"qwen2", "llama"}


def plain_forward(model: Any, attend: Callable[..., tuple[Any, Any]]) -> Forward | None:
    """Return the forward pass of `model`'s decoder, or None where transformers has to compute it.

    model: of transformers, with or without a language-modelling head. attend: the attention function.
    """
    import torch
    from torch import nn

    decoder = getattr(model, "model", model)
    config = decoder.config
    usual = (
        config.model_type in MODEL_TYPES
        and hasattr(decoder, "layers")
        and config.hidden_act == "silu"
        and (config.rope_parameters or {}).get("rope_type") == "default"
        and all(kind == "full_attention" for kind in getattr(config, "layer_types", None) or ["full_attention"])
        and all(weight.dtype == torch.float32 for weight in decoder.parameters())
        # Adapters and quantised layers put classes of their own in these places.
        and type(decoder.embed_tokens) is nn.Embedding
        and all(type(one) is nn.Linear for layer in decoder.layers for one in _projections(layer))
        and not decoder.training
    )
    return _Decoder(decoder, attend) if usual else None


def _projections(layer: Any) -> list[Any]:
    attention, mlp = layer.self_attn, layer.mlp
    own = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    return [*own, mlp.gate_proj, mlp.up_proj, mlp.down_proj]


class _Decoder:
    """The pass itself; holds references to the weights, and the projections to queries, keys and values as one."""

    def __init__(self, decoder: Any, attend: Callable[..., tuple[Any, Any]]) -> None:
        self._attend = attend
        self._embed = decoder.embed_tokens.weight
        self._norm = decoder.norm
        self._inverse = decoder.rotary_emb.inv_freq
        self._scale = decoder.rotary_emb.attention_scaling
        self._layers = [_Layer(layer) for layer in decoder.layers]

    def __call__(self, tokens: Any, positions: Any, mask: Any, cache: Sequence[Any]) -> Any:
        import torch
        import torch.nn.functional as functional

        states = functional.embedding(tokens, self._embed)
        angles = positions[..., None].float() * self._inverse
        # One column for every head: rows x tokens x 1 x half a head's size.
        cos, sin = ((turn(angles) * self._scale)[:, :, None] for turn in (torch.cos, torch.sin))
        for layer, slots in zip(self._layers, cache, strict=True):
            states = layer.run(states, cos, sin, mask, slots, self._attend)
        return _normed(states, self._norm)


class _Layer:
    def __init__(self, layer: Any) -> None:
        import torch

        attention = layer.self_attn
        self._module = attention
        self._size = attention.head_dim
        self._heads = attention.q_proj.out_features // self._size
        self._groups = attention.k_proj.out_features // self._size
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        self._into = torch.cat([part.weight for part in parts])
        biases = [part.bias for part in parts]
        self._bias = None if biases[0] is None else torch.cat(biases)
        self._out = attention.o_proj
        self._norms = (layer.input_layernorm, layer.post_attention_layernorm)
        self._mlp = layer.mlp

    def run(
        self, states: Any, cos: Any, sin: Any, mask: Any, slots: Any, attend: Callable[..., tuple[Any, Any]]
    ) -> Any:
        import torch
        import torch.nn.functional as functional

        rows, count, _ = states.shape
        joined = functional.linear(_normed(states, self._norms[0]), self._into, self._bias)
        joined = joined.view(rows, count, -1, self._size)
        turned, values = joined.split((self._heads + self._groups, self._groups), dim=2)
        low, high = turned.chunk(2, dim=-1)
        turned = torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1).transpose(1, 2)
        keys, values = slots.update(turned[:, self._heads :], values.transpose(1, 2))
        scale = self._module.scaling
        attended, _ = attend(self._module, turned[:, : self._heads], keys, values, mask, scaling=scale)
        states = states + functional.linear(attended.reshape(rows, count, -1), self._out.weight, self._out.bias)
        mlp, hidden = self._mlp, _normed(states, self._norms[1])
        gate = functional.silu(functional.linear(hidden, mlp.gate_proj.weight, mlp.gate_proj.bias))
        inner = gate * functional.linear(hidden, mlp.up_proj.weight, mlp.up_proj.bias)
        return states + functional.linear(inner, mlp.down_proj.weight, mlp.down_proj.bias)


def _normed(states: Any, norm: Any) -> Any:
    import torch.nn.functional as functional

    return functional.rms_norm(states, norm.weight.shape, norm.weight, norm.variance_epsilon)

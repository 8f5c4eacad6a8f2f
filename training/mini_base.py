"""The mini policy's beginnings: its architecture, random weights, and the corpus that it is pretrained on.

It is a standard Qwen2 causal model (transformers and vLLM load it without our code), small enough for four rounds of
self-evolution on two CPU cores.
"""

from __future__ import annotations

from pathlib import Path

from rstar_eval.solver.seeds import derive_seed
from rstar_eval.training.mini_tokenizer import build_tokenizer
from rstar_eval.training.rows import Provenance, SftRow
from rstar_eval.training.teacher import Author, corpus

ARCHITECTURE: dict[str, object] = {
    "hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip
"""About 0.6 million parameters, the embedding of 789 tokens included. 512 positions: the longest problem of the mini
world takes 190 tokens, its solution 140."""


def write_untrained(folder: Path, seed: int) -> int:
    """Write the mini architecture with random weights, and its tokenizer, into `folder`; returns its parameters.

    A function of the seed (and of the torch release).
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = build_tokenizer()
    torch.manual_seed(derive_seed(seed, "untrained"))
    config = Qwen2Config(
        vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None, **ARCHITECTURE,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(one.numel() for one in model.parameters())


def bootstrap_rows(count: int, seed: int, author: Author) -> list[SftRow]:
    """Return the bootstrap corpus: `count` demonstrations of training problems."""
    rows = []
    for one in corpus(count, seed, author):
        source = Provenance(run="bootstrap author", task="mini", level=one.level)
        rows.append(SftRow(one.question, one.response, source=source))
    return rows

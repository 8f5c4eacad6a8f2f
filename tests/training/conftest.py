"""A tiny random checkpoint, and trees written by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rstar_eval.solver.tree import Node, add_child
from rstar_eval.training.rows import Provenance
from rstar_eval.training.trees import TrainingTree

WORDS = [
    "<|endoftext|>", "<pad>", "<code>", "<end_of_step>", "<end_of_code>", "<output>", "<end_of_output>", "<answer>",
    "<end_of_answer>",
]  # fmt: skip


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 checkpoint of one layer with random weights and a tokenizer of bytes and marks."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models
    from tokenizers.pre_tokenizers import ByteLevel

    folder = tmp_path_factory.mktemp("base")
    vocabulary = {text: place for place, text in enumerate([*WORDS, *sorted(ByteLevel.alphabet())])}
    words = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    words.pre_tokenizer = ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.add_tokens(WORDS)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<|endoftext|>", pad_token="<pad>"
    )
    config = transformers.Qwen2Config(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=32, max_position_embeddings=2048, tie_word_embeddings=True, eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


Spec = tuple[str, float, int, str | None]
"""A node: its text, Q, visits, and its answer (None: the path goes on)."""


@pytest.fixture
def tree() -> Callable[..., TrainingTree]:
    """Make a training tree of nested lists [text, q, visits, answer, samples, *children]; answer "42" is right."""

    def make(children: list[list[object]], *, question: str = "How many?", number: int = 0, **source: object) -> object:
        root = Node()
        root.visits = 1
        for child in children:
            _grow(root, child)
        given = {"run": "r", "task": "t", "problem": "0123456789abcdef", **source}
        return TrainingTree(question, root, lambda answer: answer == "42", Provenance(tree=number, **given))  # type: ignore[arg-type]

    return make  # type: ignore[return-value]


def _grow(parent: Node, spec: list[object]) -> None:
    text, q, visits, answer, samples, *children = spec
    node = add_child(parent, str(text), "code" if answer is None else "answer", code=str(text))
    node.visits, node.samples = int(visits), int(samples)  # type: ignore[call-overload]
    node.total = float(q) * node.visits  # type: ignore[arg-type]
    node.status = "ok"
    if answer is not None:
        node.end, node.answer = "answer", str(answer)
    for child in children:
        _grow(node, child)  # type: ignore[arg-type]

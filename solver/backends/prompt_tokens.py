"""A prompt as tokens, the same for every backend that has the model's own tokenizer."""

from __future__ import annotations

from typing import Any

from rstar_eval.solver.types import Prompt


def encode(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Return the tokens of a prompt: its raw text, or its messages in the model's chat template with the assistant's
    prefix behind them. Half surrogate pairs, which are no text, become question marks."""
    if prompt.raw is not None:
        return [int(token) for token in tokenizer(_text(prompt.raw))["input_ids"]]
    messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    encoded = tokenizer(_text(text + prompt.assistant_prefix), add_special_tokens=False)
    return [int(token) for token in encoded["input_ids"]]


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()

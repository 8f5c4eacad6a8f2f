"""The tokenizer of the mini policy: byte-level, whole words and numbers as tokens, the step grammar's marks as tokens.

Every word that the mini world's texts and plans can hold is one token; a number is a token for each two digits; any
other text falls back to bytes, so that nothing is unreadable. The fixed parts of the prompt are one token each. It is
saved as a plain Hugging Face tokenizer, which vLLM and transformers load without our code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from rstar_eval.solver.formats.rstar import (
    ANSWER,
    CODE,
    END_ANSWER,
    END_CODE,
    END_OUTPUT,
    END_STEP,
    OUTPUT,
    prompt_text,
)
from rstar_eval.tasks.mini import FAMILIES, LEVELS, generate
from rstar_eval.tasks.mini.generate import NAMES, THINGS

EOS, PAD = "<|endoftext|>", "<|pad|>"
ASKED, REPLY = (part for part in prompt_text("?").split("?"))
"""What stands before and after the question in the prompt."""
MARKS = (ASKED, REPLY, CODE, END_STEP, END_CODE, OUTPUT, END_OUTPUT, ANSWER, END_ANSWER)
PIECES = r"# Find how many|print\(|\\boxed\{| ?[A-Za-z_]+| ?[0-9]{1,2}| ?[^\sA-Za-z0-9]+|\n|\s"
"""What the world's texts are cut into to find the words."""


@cache
def words() -> tuple[str, ...]:
    """Return the pieces that are tokens, sorted: those of all sentences and plans of the mini world, and all numbers of
    one and two digits. They depend on the world's version alone."""
    found = {"\\boxed{", "print(", "# Find how many", "}", ")"}
    for text in _texts():
        found.update(re.findall(PIECES, text))
    for number in [*map(str, range(100)), *(f"0{digit}" for digit in range(10))]:
        found.update((number, f" {number}"))
    return tuple(sorted(found))


def _texts() -> Iterator[str]:
    for name in NAMES:
        yield f"{name}. {name} {name.lower()} = {name.lower()}"
    for thing in THINGS:
        yield " ".join(("all", *thing))
    for level in (*LEVELS, *FAMILIES):
        for item in generate("train", level, 150, 0):
            yield item.text
            for step in item.steps:
                for way in filter(None, (step.right, step.wrong)):
                    yield f"# {way.comment}\n{way.code}\n({way.result})"


def build_tokenizer() -> Any:
    """Return the mini tokenizer (a transformers fast tokenizer). The same on every machine.

    Words are *added* tokens over an alphabet of bytes, found by the longest match: loaders that rebuild a Qwen2
    checkpoint's tokenizer with Qwen2's own rules for splitting texts leave added tokens as they are.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    # No special tokens: servers leave these out of the text, and words and marks are part of it.
    longer = [word for word in words() if len(word) > 1]
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in longer])
    tokenizer.add_special_tokens([AddedToken(EOS, special=True), AddedToken(PAD, special=True)])
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in MARKS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=EOS, pad_token=PAD, clean_up_tokenization_spaces=False
    )


def save_tokenizer(folder: Path) -> None:
    """Write the tokenizer's files into `folder`, which must exist."""
    build_tokenizer().save_pretrained(folder)

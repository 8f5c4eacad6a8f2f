"""Tiny random reward models in every format, made as their authors' tools would save them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rstar_eval.solver.reward import make_reward

MARKS = ["<|end|>", "<|user|>", "<|assistant|>", "<code>", "<end_of_step>", "<end_of_code>", "<output>",
         "<end_of_output>", "<answer>", "<end_of_answer>", "<extra_0>"]  # fmt: skip
CORPUS = ["# Step 1: add the numbers.\nx = 1 + 2\nprint(x)\n ки + -", "The answer is \\boxed{42}. naïve 日本 é 🙂"] * 20
TEMPLATE = (
    "{{ '<|begin|>' }}{% for m in messages %}"
    "{{ '<|head|>' + m.role + '\n' + m.content | trim + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant\n' }}{% endif %}"
)
QUESTION = "Tom has 3 apples and buys 4 more. How many?"
STEP1 = "<code>\n# Step 1: add\nx = 3 + 4\n<end_of_step>"
STEP2 = "\n# Step 2: show\nprint(x)\n<end_of_code>\n<output>7<end_of_output>"
ANSWER = "\n<answer>The answer is \\boxed{7}.<end_of_answer>"
TEXTS = [STEP1, STEP1 + STEP2, STEP1 + STEP2 + ANSWER]


def save_blank_tokenizer(folder: Path) -> Any:
    """A tokenizer as Llama 2's and Mistral's: blanks are letters, one stands before every text, bytes are a last
    resort."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    raw.decoder = decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    raw.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=420, special_tokens=special))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="</s>", pad_token="</s>", bos_token="<s>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_tokenizer(folder: Path) -> Any:
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [*MARKS, "<|begin|>", "<|head|>"]
    raw.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|end|>", pad_token="<|end|>", bos_token="<|begin|>"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


HEADS = [4, 2]
"""Attention heads, and key-value heads, of the models that are made."""


def config(tokenizer: Any, kind: str = "Qwen2", **more: Any) -> Any:
    import transformers

    return getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=HEADS[0], num_key_value_heads=HEADS[1], max_position_embeddings=1024, initializer_range=0.4,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **more,
    )  # fmt: skip


def add_tensors(folder: Path, tensors: dict[str, Any], *, drop: str = "") -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if not drop or not name.startswith(drop)}
    save_file({**kept, **tensors}, file, metadata={"format": "pt"})


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a tiny model of the kind, made once."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            before = HEADS[:]
            try:
                if kind.endswith("-vllm"):  # whose CPU attention wants heads of 32
                    HEADS[:] = [1, 1]
                build(kind.removesuffix("-vllm"), made[kind])
            finally:
                HEADS[:] = before
        return made[kind]

    return get


def build(kind: str, folder: Path) -> None:
    import torch
    import transformers

    from rstar_eval.solver.reward.bilinear import save_head
    from rstar_eval.solver.reward.card import RewardCard, write_card

    tokenizer = save_blank_tokenizer(folder) if kind == "math-shepherd" else save_tokenizer(folder)
    torch.manual_seed(sum(kind.encode()))
    if kind in ("ppm", "orm", "pqm"):
        transformers.Qwen2ForSequenceClassification(config(tokenizer, num_labels=1)).save_pretrained(folder)
        write_card(folder, RewardCard(kind))  # type: ignore[arg-type]
    elif kind == "bilinear":
        transformers.Qwen2ForCausalLM(config(tokenizer)).save_pretrained(folder)
        save_head(torch.randn(32, 32) * 0.02, folder)
        write_card(folder, RewardCard("ppm", "token_bilinear"))
    elif kind == "logratio":
        transformers.Qwen2ForCausalLM(config(tokenizer, tie_word_embeddings=True)).save_pretrained(folder)
        transformers.Qwen2ForCausalLM(config(tokenizer)).save_pretrained(folder / "reference")
        write_card(folder, RewardCard("ppm", "token_logratio", beta=0.05))
    elif kind == "official":
        transformers.Qwen2ForCausalLM(config(tokenizer)).save_pretrained(folder)
        head = {"v_head.summary.weight": torch.randn(1, 32), "v_head.summary.bias": torch.randn(1)}
        torch.save(head, folder / "value_head.bin")
    elif kind == "qwen":
        transformers.Qwen2ForCausalLM(config(tokenizer, tie_word_embeddings=False)).save_pretrained(folder)
        add_tensors(folder, {
            "score.0.weight": torch.randn(32, 32) * 0.3, "score.0.bias": torch.randn(32),
            "score.2.weight": torch.randn(2, 32) * 0.3, "score.2.bias": torch.randn(2),
        }, drop="lm_head")  # fmt: skip
        data = json.loads((folder / "config.json").read_text())
        data["architectures"] = ["Qwen2ForProcessRewardModel"]
        data["auto_map"] = {"AutoModel": "hostile.Model", "AutoConfig": "hostile.Config"}
        (folder / "config.json").write_text(json.dumps(data))
        (folder / "hostile.py").write_text("raise SystemExit('code of a checkpoint was executed')")
    elif kind == "skywork":
        transformers.Qwen2ForCausalLM(config(tokenizer)).save_pretrained(folder)
        add_tensors(folder, {"v_head.summary.weight": torch.randn(1, 32), "v_head.summary.bias": torch.randn(1)})
    elif kind == "math-shepherd":
        model = transformers.MistralForCausalLM(config(tokenizer, "Mistral", tie_word_embeddings=False))
        model.config.save_pretrained(folder)
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    else:
        assert kind == "rlhflow"
        transformers.LlamaForCausalLM(config(tokenizer, "Llama", tie_word_embeddings=False)).save_pretrained(folder)


class Kit:
    """What the tests work with."""

    question, step1, texts = QUESTION, STEP1, TEXTS

    def __init__(self, models: Callable[[str], Path]) -> None:
        self.models = models
        self._loop: asyncio.AbstractEventLoop | None = None
        self._hosted: dict[str, Any] = {}

    def spec(self, kind: str) -> str:
        """Return a reward spec for the kind, on one CPU thread."""
        if kind == "scripted":
            return kind
        family = kind.removesuffix("-vllm")
        scheme = {"bilinear": "ppm", "logratio": "ppm"}.get(
            family, family if family in ("ppm", "orm", "pqm", "official") else "prm"
        )
        more = f"&kind={family}" if scheme == "prm" else ""
        if kind != family:
            return f"{scheme}:{self.models(kind)}?engine=vllm&kv_gib=0.25&threads=1{more}"
        return f"{scheme}:{self.models(kind)}?device=cpu&dtype=float32&threads=1{more}"

    def use(self, spec: str, use: Callable[[Any], Awaitable[Any]]) -> Any:
        """Make the reward model, use it, close it. One on vLLM, which takes long to start, lives on, in a loop of its
        own, until it is closed in `use` or four younger ones are there."""
        if "engine=vllm" in spec:
            return self._use_hosted(spec, use)

        async def go() -> Any:
            reward = await make_reward(spec)
            try:
                return await use(reward)
            finally:
                await reward.close()

        return asyncio.run(go())

    def _use_hosted(self, spec: str, use: Callable[[Any], Awaitable[Any]]) -> Any:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()

        async def go() -> Any:
            if spec not in self._hosted:
                if len(self._hosted) >= 4:
                    await next(iter(self._hosted.values())).close()
                self._hosted[spec] = await make_reward(spec)
                close = self._hosted[spec].close

                async def closing() -> None:
                    self._hosted.pop(spec, None)
                    await close()

                self._hosted[spec].close = closing
            return await use(self._hosted[spec])

        return asyncio.run_coroutine_threadsafe(go(), self._loop).result(timeout=1200)

    async def _end_hosted(self) -> None:
        for reward in list(self._hosted.values()):
            await reward.close()

    def end(self) -> None:
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._end_hosted(), self._loop).result(timeout=120)
            self._loop.call_soon_threadsafe(self._loop.stop)

    def scores(self, spec: str, question: str, texts: Sequence[str]) -> list[float]:
        async def use(reward: Any) -> list[float]:
            found: list[float] = await reward.score(question, texts)
            return found

        result: list[float] = self.use(spec, use)
        return result


@pytest.fixture(scope="session")
def kit(models: Callable[[str], Path]) -> Iterator[Kit]:
    kit = Kit(models)
    yield kit
    kit.end()

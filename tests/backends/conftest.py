"""A tiny random model with its own tokenizer, and a server on loopback that imitates what policies talk to."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest

from rstar_eval.solver.backends import make_policy
from rstar_eval.solver.backends.engine import cut_at_stop

T = TypeVar("T")
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CORPUS = ["# Step 1: add the numbers.\nx = 1 + 2\nprint(x)\n```\n", "The answer is \\boxed{42}. naïve 日本 é ü 🙂"] * 20
PIECES = [" x", " = 1", " + 2", "\n# Step", "\n```", "\nprint(x)", " é", "日本", "42}.", " 2: go"]


@pytest.fixture(scope="session")
def run() -> Callable[[Coroutine[Any, Any, T]], T]:
    return asyncio.run


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 of two layers with random weights and a byte-level tokenizer, saved as a checkpoint folder."""
    return save_tiny(tmp_path_factory.mktemp("tiny-qwen2"), hidden=32)


@pytest.fixture(scope="session")
def vllm_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with heads of 32, which vLLM's CPU attention demands."""
    return save_tiny(tmp_path_factory.mktemp("tiny-vllm"), hidden=128)


def save_tiny(folder: Path, hidden: int) -> Path:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>", pad_token="<|end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.4,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    transformers.Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


class PolicyHost:
    """An event loop in a thread and policies that live from test to test: a vLLM engine takes long to start."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._policies: dict[str, Any] = {}
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=900)

    def run(self, spec: str, use: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        async def go() -> T:
            return await use(await self._policy(spec))

        return self.do(go())

    async def _policy(self, spec: str) -> Any:
        if spec not in self._policies:
            policy: Any = await make_policy(spec)
            close = policy.close

            async def closing() -> None:
                self._policies.pop(spec, None)
                await close()

            policy.close = closing
            self._policies[spec] = policy
        return self._policies[spec]

    def stop(self) -> None:
        for policy in list(self._policies.values()):
            self.do(policy.close())
        self.loop.call_soon_threadsafe(self.loop.stop)


@pytest.fixture(scope="session")
def policy_host() -> Iterator[PolicyHost]:
    host = PolicyHost()
    yield host
    host.stop()


class FakeServer:
    """An OpenAI-compatible server: `kind` is "unknown", "vllm" or "llamacpp".

    `faults` are taken one a request: an int is answered as that status, a text as the body of a 200, "die" closes the
    connection. `context` is the model's, in characters. What it writes depends on the prompt and the seed only.
    """

    def __init__(self, kind: str, context: int = 100_000) -> None:
        self.kind, self.context = kind, context
        self.faults: list[int | str] = []
        self.delay = 0.0
        self.retry_after: str | None = None
        self.seen: list[dict[str, Any]] = []
        self.text: str | None = None
        self.refuses: str | None = None
        handler = type("Handler", (_Handler,), {"fake": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.root = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def spec(self) -> str:
        return f"openai:fake@{self.root}/v1"

    def stop(self) -> None:
        self.faults = ["die"] * 1000  # connections that are open stay open in their threads
        self._http.shutdown()
        self._http.server_close()

    def logprobs(self, body: dict[str, Any], text: str, used: int) -> dict[str, Any]:
        """The log-probabilities of a reply that is listed as one token a character (as many as `used` at a vLLM)."""
        if not body.get("logprobs"):
            return {}
        tokens = ["?"] * used if self.kind == "vllm" else list(text)
        if "prompt" in body:
            return {"logprobs": {"tokens": tokens, "token_logprobs": [-0.25] * len(tokens)}}
        return {"logprobs": {"content": [{"token": token, "logprob": -0.25} for token in tokens]}}

    def write(self, prompt: str, seed: int, temperature: float) -> list[str]:
        if self.text is not None:
            return list(self.text)
        key = hashlib.sha256(f"{prompt}|{seed if temperature else 0}".encode()).digest()
        rng = random.Random(key)
        return [rng.choice(PIECES) for _ in range(rng.randint(5, 40))]


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def reply(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        fake, path = self.fake, self.path
        if path == "/props" and fake.kind == "llamacpp":
            settings = {"n_ctx": fake.context}
            self.reply(200, {"default_generation_settings": settings, "total_slots": 4, "model_path": "fake.gguf"})
        elif path == "/version" and fake.kind == "vllm":
            self.reply(200, {"version": "0.32.0"})
        elif path == "/v1/models":
            owner = "vllm" if fake.kind == "vllm" else "someone"
            self.reply(200, {"data": [{"id": "fake", "owned_by": owner, "max_model_len": fake.context}]})
        else:
            self.reply(404, {"error": {"message": "not found"}})

    def do_POST(self) -> None:
        fake = self.fake
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fake.seen.append(body | {"path": self.path})
        if self.path == "/apply-template":
            self.reply(200, {"prompt": "".join(f"<{m['role']}>{m['content']}" for m in body["messages"])})
            return
        if self.path.startswith("/slots/"):
            self.reply(200, {})
            return
        fault = fake.faults.pop(0) if fake.faults else None
        time.sleep(fake.delay)
        if fault == "die":
            self.close_connection = True
            self.connection.close()
        elif isinstance(fault, int):
            headers = {"Retry-After": fake.retry_after} if fake.retry_after else {}
            self.reply(fault, {"error": {"message": "trouble"}}, headers)
        elif fault is not None:
            self.reply(200, fault)
        else:
            self.generate(body)

    def generate(self, body: dict[str, Any]) -> None:
        fake = self.fake
        prompt = body["prompt"] if "prompt" in body else json.dumps(body["messages"])
        if fake.refuses in body:
            self.reply(400, {"error": {"message": f"{fake.refuses} is not supported"}})
            return
        if len(prompt) > fake.context:
            message = f"the request exceeds the available context size ({fake.context})"
            self.reply(400, {"error": {"message": message}})
            return
        limit = body.get("n_predict") or body.get("max_tokens") or fake.context
        known = fake.kind != "unknown"
        count = body.get("n_cmpl", 1) if fake.kind == "llamacpp" else body.get("n", 1)
        outs = []
        for i in range(count):
            pieces = fake.write(prompt, body.get("seed", 0) + i, body["temperature"])
            used, text, stop = 0, "", None
            for piece in pieces[:limit]:
                used += 1
                text, stop = cut_at_stop(text + piece, body.get("stop", []) if known else [])
                if stop:
                    break
            outs.append((text, stop, used, used == limit and used < len(pieces)))
        if fake.kind == "llamacpp":
            kinds = ["word" if stop else "limit" if cut else "eos" for _, stop, _, cut in outs]
            items = [
                {"index": i, "content": text, "stop_type": kind, "stopping_word": stop or "",
                 "tokens_predicted": used, "tokens_evaluated": len(prompt),
                 **({"completion_probabilities": [{"logprob": -0.25}] * used} if body.get("n_probs") else {})}
                for i, ((text, stop, used, _), kind) in enumerate(zip(outs, kinds, strict=True))
            ]  # fmt: skip
            self.reply(200, items if count > 1 else items[0])
            return
        choices = [
            {"index": i, "text" if "prompt" in body else "message": text if "prompt" in body else {"content": text},
             "finish_reason": "length" if cut and not stop else "stop",
             **({"stop_reason": stop, "token_ids": [0] * used} if known else {}), **fake.logprobs(body, text, used)}
            for i, (text, stop, used, cut) in enumerate(outs)
        ]  # fmt: skip
        usage = {"prompt_tokens": len(prompt), "completion_tokens": sum(out[2] for out in outs)}
        self.reply(200, {"choices": choices, "usage": usage})


@pytest.fixture
def fake_server() -> Iterator[Callable[..., FakeServer]]:
    started: list[FakeServer] = []

    def start(kind: str = "unknown", **options: Any) -> FakeServer:
        started.append(FakeServer(kind, **options))
        return started[-1]

    yield start
    for server in started:
        server.stop()

"""A llama.cpp server without a model: `python scripted_server.py PORT LOG [SECONDS]`.

It speaks the native endpoints, writes what the policy `scripted?format=rstar` writes for the same question, prefix and
seed (so that a run against it must equal a run of that policy), takes SECONDS over each request, and appends to LOG,
for each reply that it has sent off, one line: the tokens in it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rstar_eval.solver.backends.scripted import ScriptedPolicy, generator
from rstar_eval.solver.formats.rstar import END_STEP, RStarFormat, prompt_text
from rstar_eval.solver.types import SampleRequest

MARK = "\x00"
HEAD, BETWEEN = prompt_text(MARK).split(MARK)
POLICY = ScriptedPolicy("scripted", RStarFormat(), generator("rstar", 0.2, 0.05), {})
KINDS = {"stop": "word", "eos": "eos", "length": "limit"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    log: Path
    seconds: float

    def log_message(self, *args: Any) -> None:
        pass

    def reply(self, body: Any, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path == "/props":
            self.reply({"default_generation_settings": {"n_ctx": 100_000}, "total_slots": 8, "model_path": "script"})
        else:
            self.reply({"error": {"message": "not found"}}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question, prefix = body["prompt"].removeprefix(HEAD).split(BETWEEN, 1)
        request = SampleRequest(
            question=question,
            prefix=prefix,
            n=body["n_cmpl"],
            seed=body["seed"],
            until="step" if END_STEP in body["stop"] else "block",
            temperature=body["temperature"],
            max_tokens=body["n_predict"],
        )
        result = asyncio.run(POLICY.sample(request))
        time.sleep(self.seconds)
        items = [
            {
                "index": i,
                "content": one.text,
                "stop_type": KINDS[one.finish],
                "stopping_word": one.stop or "",
                "tokens_predicted": one.tokens,
                "tokens_evaluated": result.prompt_tokens,
            }
            for i, one in enumerate(result.completions)
        ]
        self.reply(items if len(items) > 1 else items[0])
        with self.log.open("a") as log:
            log.write(f"{sum(one.tokens for one in result.completions)}\n")


if __name__ == "__main__":
    Handler.log, Handler.seconds = Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()

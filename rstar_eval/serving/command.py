"""`rstar-eval serve`: the solver on a port."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rstar_eval.errors import UserError

if TYPE_CHECKING:
    import uvicorn

    from rstar_eval.serving.service import Service

KEY = "RSTAR_EVAL_SERVE_KEY"
CONNECTIONS = 512
"""Connections at once beyond the queue's length; more are refused with status 503 before anything is read."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve_command(
    policy: Annotated[
        str | None, typer.Option(help="The model that writes steps (docs/policies.md).", show_default="smollm2")
    ] = None,
    reward: Annotated[
        str | None, typer.Option(help="Reward model that guides the search.", show_default="none")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Named settings: mini or paper.", show_default="none")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.", show_default="none")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A default search setting as key=value; may be repeated.", show_default="none"),
    ] = None,
    isolation: Annotated[
        str | None, typer.Option(help="Demand a sandbox level.", show_default="the strongest here")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Searches at once.", show_default="what the policy likes")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on (0: a free one).", min=0, max=65535)] = 8321,
    queue: Annotated[int, typer.Option(help="Requests that may wait; more are refused.", min=0)] = 64,
    max_rollouts: Annotated[int, typer.Option(help="The most rollouts a request may ask for.", min=1)] = 256,
    max_tokens: Annotated[
        int | None, typer.Option(help="The most completion tokens a request may spend.", show_default="no limit")
    ] = None,
    max_characters: Annotated[int, typer.Option(help="The longest question, in characters.", min=1)] = 20_000,
) -> None:
    """Serve the solver behind an OpenAI-compatible API. An API key comes from the variable RSTAR_EVAL_SERVE_KEY."""
    from rstar_eval.config import build_config, load_config_file, load_preset, parse_settings
    from rstar_eval.serving.request import Bounds

    given = {"policy": policy, "reward": reward, "isolation": isolation, "concurrency": concurrency}
    values = build_config(
        load_preset(preset) if preset else {},
        load_config_file(config) if config else {},
        parse_settings(settings or []),
        {key: value for key, value in given.items() if value is not None},
    )
    key = os.environ.get(KEY) or None
    if host not in _LOOPBACK and key is None:
        raise UserError(
            f"--host {host} can be reached from other machines and there is no API key", f"set {KEY}, or use 127.0.0.1"
        )
    try:
        import uvicorn

        from rstar_eval.serving.app import make_app
        from rstar_eval.serving.service import Service
    except ImportError as error:
        raise UserError(f"the server's packages are not here: {error}", "pip install 'rstar-eval[serve]'") from None
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    service = Service(values, queue=queue, notify=lambda text: logging.getLogger("rstar_eval").info(text))
    bounds = Bounds(max_characters, max_rollouts, max_tokens)
    app = make_app(service, bounds=bounds, api_key=key)
    options = uvicorn.Config(
        app, log_level="warning", timeout_graceful_shutdown=10, lifespan="off", limit_concurrency=queue + CONNECTIONS
    )
    server = uvicorn.Server(options)
    with _listener(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        try:
            asyncio.run(_serve(service, server, listener, f"http://{shown}:{listener.getsockname()[1]}/v1"))
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)


async def _serve(service: Service, server: uvicorn.Server, listener: socket.socket, url: str) -> None:
    """Load the models, then answer until SIGINT or SIGTERM; requests under way get ten seconds to end."""
    try:
        await service.start()
        listener.listen(128)  # before it is said: a client that reads the line may connect at once
        typer.echo(f"listening on {url}", err=True)
        await server.serve(sockets=[listener])
    finally:
        await service.close()


def _listener(host: str, port: int) -> socket.socket:
    """Return a bound socket: a taken port is told before the models are loaded."""
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise UserError(f"can't listen on {host} port {port}: {error.strerror}", "give another --port") from None
    return found

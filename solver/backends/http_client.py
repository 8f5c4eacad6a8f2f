"""JSON over HTTP with retries: the official OpenAI client, also for the endpoints that it has no method for.

The client retries connection failures and the statuses 408, 409, 429 and 5xx with exponential back-off and jitter, and
obeys Retry-After. What still fails after that is told apart here: a server that is gone, a key that is refused, a
request that the server will not serve.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rstar_eval.errors import BackendError, UserError

if TYPE_CHECKING:
    from openai import AsyncOpenAI


CONNECT_SECONDS, PROBE_SECONDS = 10.0, 30.0


class RefusedRequest(Exception):
    """The server answered with a status of the 4xx class: `status`, and its message."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(f"status {status}: {message}")


class RefusedKey(UserError):
    """The server refuses the key, or asks for one."""


class Unreachable(BackendError):
    """No server answers."""


class JsonClient:
    """Posts JSON to one server and reads JSON.

    `base_url` is what paths are appended to; `api_key` may be "" (servers on loopback need none); `retries` is how
    often a failed request is repeated; `timeout` is in seconds, for one attempt (0: no limit).
    """

    def __init__(self, base_url: str, api_key: str = "", *, retries: int = 6, timeout: float = 600.0) -> None:
        from openai import AsyncOpenAI, Timeout

        self.base_url = base_url.rstrip("/") + "/"
        self._client: AsyncOpenAI = AsyncOpenAI(
            base_url=self.base_url,
            api_key=api_key or "none",
            max_retries=retries,
            timeout=Timeout(None if timeout == 0 else timeout, connect=CONNECT_SECONDS),
        )

    async def post(self, path: str, body: Mapping[str, object]) -> Any:
        """Post `body` to `path` and return the reply's JSON.

        RefusedRequest for a 4xx reply that is not about the key; RefusedKey (a UserError) for one that is;
        BackendError when the server is unreachable (Unreachable), keeps failing or answers with no JSON.
        """
        return await self._call("post", path, body)

    async def get(self, path: str) -> Any:
        """Get `path` and return the reply's JSON. Errors as of `post`."""
        return await self._call("get", path, None)

    async def probe(self, path: str, *, needs_key: bool = False) -> Any:
        """Return the JSON at `path` without retries, or None if the server has no such page.

        Gateways answer an unknown page with all kinds of statuses, a refused key among them: with `needs_key`, a page
        that every server has, that one counts. UserError, at once, if no server can be reached: at the start of a run
        that is a wrong address.
        """
        try:
            return await self._call("get", path, None, self._client.with_options(max_retries=0, timeout=PROBE_SECONDS))
        except Unreachable as error:
            raise UserError(error.message, error.fix) from None
        except RefusedKey:
            if needs_key:
                raise
            return None
        except (RefusedRequest, BackendError):
            return None

    async def _call(
        self, method: str, path: str, body: Mapping[str, object] | None, client: AsyncOpenAI | None = None
    ) -> Any:
        import openai

        client = client or self._client
        try:
            if method == "get":
                reply = await client.get(path, cast_to=str)
            else:
                reply = await client.post(path, cast_to=str, body=body)
        except openai.APIConnectionError as error:
            cause = type(error.__cause__).__name__ if error.__cause__ else "connection failed"
            raise Unreachable(
                f"no answer from the server at {self.base_url} ({cause})", "start it, or correct the URL"
            ) from None
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise RefusedKey(
                f"the server at {self.base_url} refuses the key (status {error.status_code})",
                "set OPENAI_API_KEY or RSTAR_EVAL_API_KEY",
            ) from None
        except openai.APIStatusError as error:
            message = server_message(error.response.text)
            if error.status_code in (408, 409, 429) or error.status_code >= 500:
                raise BackendError(
                    f"the server at {self.base_url} keeps failing (status {error.status_code}: {message})"
                ) from None
            raise RefusedRequest(error.status_code, message) from None
        try:
            return json.loads(reply)
        except ValueError:
            raise BackendError(f"the server at {self.base_url} answered {path} with no JSON: {reply[:80]!r}") from None

    async def close(self) -> None:
        """Close the connections. May be called twice."""
        await self._client.close()


def server_message(text: str) -> str:
    """Return the message in an error reply of an OpenAI-compatible server, or the reply's beginning."""
    try:
        body = json.loads(text)
    except ValueError:
        return " ".join(text.split())[:200]
    error = body.get("error", body) if isinstance(body, dict) else body
    message = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(message).split())[:200]

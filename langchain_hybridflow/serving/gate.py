"""What stands before every route: who asks, from where, how often, and in which form."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from langchain_hybridflow.serving.identity import LOCAL, Identity, Tokens
from langchain_hybridflow.serving.problems import Problem
from langchain_hybridflow.serving.rates import RateLimits

__all__ = ["OPEN_PATHS", "Gate", "identity_of", "is_loopback"]

OPEN_PATHS: Final = frozenset({"/health", "/ready"})
"""What anybody may ask: it says nothing but whether the server is well."""

# What a proxy says of itself, or of the client that it speaks for.
_FORWARDED: Final = ("forwarded", "via", "x-real-ip")
_FORWARDED_PREFIX: Final = "x-forwarded-"


def is_loopback(host: str) -> bool:
    """Tell whether an address is this machine's own, reached from nowhere else.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def identity_of(connection: HTTPConnection) -> Identity:
    """Return who a request is from; it has come through a `Gate`."""
    found = connection.state.identity
    if not isinstance(found, Identity):
        raise TypeError("The request has not come through a Gate.")
    return found


class Gate:
    """Lets a request in if its token is known, its form is right, and it is not one too many.

    With tokens, every request needs one, as a bearer token or as the password of basic
    authentication, by which browsers ask for it. Without tokens, only this machine may ask, and
    no proxy on it, as that would speak for others. Bodies are JSON: a page in a browser can post
    forms and plain text to any address without asking, but no JSON.

    Args:
        app: What stands behind it.
        tokens: Whom to let in; `None` is everybody on this machine.
        rates: How often each may ask.
        open_paths: What may be asked without a token.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Tokens | None,
        rates: RateLimits | None = None,
        open_paths: Iterable[str] = OPEN_PATHS,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._rates = rates
        self._open = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http" or scope["path"] in self._open:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        found = self._identity(scope, headers)
        problem = found if isinstance(found, Problem) else _form(scope, headers)
        if problem is not None or not isinstance(found, Identity):
            await (problem or found).response()(scope, receive, send)  # type: ignore[union-attr]
            return
        scope.setdefault("state", {})["identity"] = found
        if self._rates is None:
            await self._app(scope, receive, send)
            return
        turn = await self._rates.turn(found)
        if turn.problem is not None:
            send = _with_headers(send, turn.headers)
            await turn.problem.response()(scope, receive, send)
            return
        await self._app(scope, receive, _with_headers(send, turn.headers))

    def _identity(self, scope: Scope, headers: Headers) -> Identity | Problem:
        if self._tokens is None:
            client = scope.get("client")
            direct = not any(
                name in _FORWARDED or name.startswith(_FORWARDED_PREFIX) for name in headers
            )
            return LOCAL if direct and client and is_loopback(client[0]) else _NO_TOKENS
        return self._tokens.find(_token(headers)) or _UNKNOWN


_NO_TOKENS: Final = Problem(
    status=403,
    code="no_tokens",
    message="This server has no tokens, so only its own machine may ask it, and not through a "
    "proxy. Set HYBRIDFLOW_TOKENS to open it to others.",
)
_UNKNOWN: Final = Problem(
    status=401,
    code="invalid_api_key",
    message="The token is missing or unknown. Send it as 'Authorization: Bearer TOKEN'.",
)
_NOT_JSON: Final = Problem(
    status=415, code="unsupported_media_type", message="The body must be application/json."
)


def _token(headers: Headers) -> str:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(given, validate=True).decode().partition(":")[2]
        except ValueError:  # no base64, or no text in it
            return ""
    return ""


def _form(scope: Scope, headers: Headers) -> Problem | None:
    if scope["method"] in {"GET", "HEAD", "OPTIONS"}:
        return None
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return None if media_type == "application/json" else _NOT_JSON


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    raw = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *raw]
        await send(message)

    return sending

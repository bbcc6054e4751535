"""What a failed call may have cost, and how to speak of it without giving secrets away."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from langchain_hybridflow.calls.tether import RunAbandoned

__all__ = ["answered", "describe_error", "may_have_cost", "retry_after_of", "status_of"]

_MAX_DESCRIPTION_CHARS = 300
# Shorter ones are placeholders, such as the "none" of local servers, and would blank words.
_MIN_SECRET_CHARS = 6
_KEY_LIKE = re.compile(
    r"\b(?:sk|pk|rk|gsk|hf|xai|nvapi|key|api)[-_](?=[A-Za-z_*-]*[0-9*A-Z])[A-Za-z0-9*_-]{6,}"
    r"|\bAIza[A-Za-z0-9_-]{20,}"
    r"|(?<=\b[Bb]earer)(?::\s*|\s+)(?=\S*[0-9*])[^\s'\",]{6,}"
)
# Known by name along the chain of causes: each provider's client has its own classes.
_NEVER_SENT = {
    "ClientConnectorError",
    "ConnectError",
    "ConnectTimeout",
    "ConnectTimeoutError",
    "ConnectionRefusedError",
    "EndpointConnectionError",
    "LocalProtocolError",
    "NewConnectionError",
    "PoolTimeout",
    "UnsupportedProtocol",
    "gaierror",
}
_UNCERTAIN = (
    "Timeout",
    "Deadline",
    "Protocol",
    "Connection",
    "NetworkError",
    "Read",
    "Write",
    "BrokenPipe",
    "EOF",
    "Decod",
)
# What langchain-openai says, in errors of no class of its own, when a server with status 200 sent
# something else than an answer: the page of a proxy, for one.
_UNREADABLE = (
    "Unexpected response type",
    "Received response with null value",
    "Response missing 'choices'",
)
# A gateway that gave up waiting does not know what the model behind it did.
_UNCERTAIN_STATUS = {408, 499, 504, 522, 524}
# Where a status may stand, in this order: aiohttp warns of its own `code`.
_STATUS_FIELDS = (
    ("error", "status_code"),
    ("response", "status_code"),
    ("error", "status"),
    ("error", "code"),
)
# Other things are called a code, too.
_HTTP_STATUSES = range(100, 600)
# Below 500, and yet no sign of a server that can answer.
_NOT_WELL = {408, 429, 499}


def _chain(error: BaseException, *, before: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = {id(before)}
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def may_have_cost(error: BaseException, *, handled: BaseException | None = None) -> bool:
    """Tell whether the provider may bill a call that ended with this error.

    A refused connection was never sent, and an HTTP error status is an answer that is not billed.
    A time-out, a cancellation, a connection that broke or an answer that cannot be read leaves it
    open: the model may have worked, so the money must be taken as spent.

    Args:
        error: How the call ended.
        handled: The error that was being handled when the call began; Python makes it the context
            of `error`, and it says nothing about the call.

    Example:
        >>> may_have_cost(ConnectionRefusedError()), may_have_cost(TimeoutError())
        (False, True)
    """
    if isinstance(error, RunAbandoned):  # it was not begun
        return False
    if not isinstance(error, Exception):  # broken off from outside, wherever it was
        return True
    chain = list(_chain(error, before=handled))
    names = _names(chain)
    if names & _NEVER_SENT:
        return False
    status = _status(chain)
    if status is not None:
        return status < 400 or status in _UNCERTAIN_STATUS
    return _is_uncertain(chain, names)


def answered(error: BaseException, *, handled: BaseException | None = None) -> bool | None:
    """Tell whether a failed call shows that its server is up, or down; `None` if neither.

    Args:
        error: How the call ended.
        handled: As in `may_have_cost`.

    Example:
        >>> answered(ConnectionRefusedError()), answered(KeyError("a mistake of ours"))
        (False, None)
    """
    if not isinstance(error, Exception):
        return None
    chain = list(_chain(error, before=handled))
    names = _names(chain)
    status = _status(chain)
    if status is not None and not names & _NEVER_SENT:
        return 200 <= status < 500 and status not in _NOT_WELL
    return False if names & _NEVER_SENT or _is_uncertain(chain, names) else None


def _names(chain: Iterable[BaseException]) -> set[str]:
    return {base.__name__ for link in chain for base in type(link).__mro__}


def _is_uncertain(chain: Iterable[BaseException], names: Iterable[str]) -> bool:
    return any(mark in name for name in names for mark in _UNCERTAIN) or any(
        isinstance(text, str) and text.startswith(_UNREADABLE)
        for link in chain
        for text in link.args[:1]
    )


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that a call was answered with; `None` if it was not answered."""
    return _status(_chain(error, before=None))


def retry_after_of(error: BaseException) -> str | None:
    """Return the Retry-After that a call was answered with, as it stands there."""
    for link in _chain(error, before=None):
        response = getattr(link, "response", None)
        headers = getattr(response, "headers", None) or _boto_metadata(response).get("HTTPHeaders")
        if isinstance(headers, Mapping):
            for name, value in headers.items():
                if str(name).lower() == "retry-after":
                    return str(value)
    return None


def _status(chain: Iterable[BaseException]) -> int | None:
    return next((status for link in chain for status in _statuses(link)), None)


def _statuses(error: BaseException) -> Iterator[int]:
    """The HTTP status of an error, wherever the clients of the providers put it.

    OpenAI's and Anthropic's on the error, httpx and requests on its response, aiohttp and Google
    under other names, and botocore in a dict.
    """
    response = getattr(error, "response", None)
    for holder, name in _STATUS_FIELDS:
        status = getattr(error if holder == "error" else response, name, None)
        if isinstance(status, int) and status in _HTTP_STATUSES:
            yield int(status)
    status = _boto_metadata(response).get("HTTPStatusCode")
    if isinstance(status, int):
        yield status


def _boto_metadata(response: object) -> Mapping[str, Any]:
    metadata = response.get("ResponseMetadata") if isinstance(response, dict) else None
    return metadata if isinstance(metadata, Mapping) else {}


def describe_error(error: BaseException, *, models: Iterable[BaseChatModel] = ()) -> str:
    """Describe an error in one line that may be stored and shown.

    Secrets of the models (their `SecretStr` fields, 6 characters or more) and anything that looks
    like an API key are blanked: the text of errors ends up in checkpoints, traces and logs.

    Example:
        >>> describe_error(ValueError("bad key sk-abcdef123456"))
        'ValueError: bad key ***'
    """
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - an error that cannot be printed is an error all the same
        text = ""
    for model in models:
        for secret in _secrets(vars(model)):
            text = text.replace(" ".join(secret.split()), "***")
    text = _KEY_LIKE.sub("***", text)
    if len(text) > _MAX_DESCRIPTION_CHARS:
        text = text[:_MAX_DESCRIPTION_CHARS] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _secrets(value: object) -> Iterator[str]:
    """The secrets in a value and in the containers within it."""
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        if len(secret) >= _MIN_SECRET_CHARS:
            yield secret
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _secrets(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _secrets(inner)

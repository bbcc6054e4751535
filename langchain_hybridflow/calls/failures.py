"""What a failed call may have cost, and how to speak of it without giving secrets away."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

__all__ = ["describe_error", "may_have_cost", "status_of"]

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
# A gateway that gave up waiting does not know what the model behind it did.
_UNCERTAIN_STATUS = {408, 499, 504, 522, 524}


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
    if not isinstance(error, Exception):  # broken off from outside, wherever it was
        return True
    chain = list(_chain(error, before=handled))
    names = {base.__name__ for link in chain for base in type(link).__mro__}
    if names & _NEVER_SENT:
        return False
    status = _status(chain)
    if status is not None:
        return status < 400 or status in _UNCERTAIN_STATUS
    return any(mark in name for name in names for mark in _UNCERTAIN)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that a call was answered with; `None` if it was not answered."""
    return _status(_chain(error, before=None))


def _status(chain: Iterable[BaseException]) -> int | None:
    statuses = (getattr(link, "status_code", None) for link in chain)
    return next((status for status in statuses if isinstance(status, int)), None)


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

"""Which failed calls are worth trying again, and how long to wait before that.

Only a call that the provider has answered with "not now" is tried again: a rate limit or a server
error. It has cost nothing for sure, so its reservation stands for the next try. Whatever may have
been billed is not repeated here: that would be a second purchase.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from time import time

from tenacity import RetryCallState, wait_exponential, wait_random

from langchain_hybridflow.calls.failures import retry_after_of, status_of

__all__ = ["MAX_WAIT_S", "retry_wait_s"]

MAX_WAIT_S = 8.0
"""A server that wants to be left alone for longer is taken to be down."""

_NOT_NOW = {429, 500, 502, 503, 529}
_BACKOFF = wait_exponential(multiplier=0.25, max=MAX_WAIT_S / 2) + wait_random(0, 0.25)


def retry_wait_s(error: BaseException, *, tries: int) -> float | None:
    """Say how long to wait before the next try, in seconds; `None` if there should be none.

    The server's own Retry-After counts, else the wait grows exponentially, with jitter.

    Args:
        error: How the last try ended.
        tries: How many there have been.

    Example:
        >>> retry_wait_s(ValueError("a mistake in the request"), tries=1) is None
        True
    """
    if status_of(error) not in _NOT_NOW:
        return None
    asked_s = _retry_after_s(error)
    if asked_s is not None:
        return asked_s if asked_s <= MAX_WAIT_S else None
    state = RetryCallState(None, None, (), {})  # type: ignore[arg-type]  # the wait reads no more
    state.attempt_number = tries
    return float(_BACKOFF(state))


def _retry_after_s(error: BaseException) -> float | None:
    value = (retry_after_of(error) or "").strip()
    if not value:
        return None
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(value).timestamp() - time(), 0.0)
    except ValueError:
        return None

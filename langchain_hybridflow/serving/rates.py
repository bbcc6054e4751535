"""How often each user may ask, counted by the library `limits`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from langchain_hybridflow.errors import ConfigurationError, MissingExtraError
from langchain_hybridflow.serving.identity import Identity
from langchain_hybridflow.serving.problems import STORE_RETRY_S, Problem

__all__ = ["RateLimits", "Turn"]

logger = logging.getLogger(__name__)

_WINDOW = "minute"
_PREFIX = "x-ratelimit-"
_STORAGE_S: Final = 2.0
_AT_ONCE: Final = 32  # a pool of connections refuses what is beyond it; here they wait

# To let everybody in would be to have no limits as soon as somebody brings the storage down.
_NOT_COUNTED: Final = Problem(
    status=503,
    code="rate_storage_unavailable",
    message="Requests cannot be counted, so none is taken. Try again later.",
    retry_after_s=STORE_RETRY_S,
)


@dataclass(frozen=True, slots=True)
class Turn:
    """What became of one request's turn.

    Args:
        headers: What is left, under the names that OpenAI uses.
        problem: Why it has none; `None` if it may go on.
    """

    headers: dict[str, str]
    problem: Problem | None = None


class RateLimits:
    """Counts the requests of each user, minute by minute.

    Args:
        requests_per_minute: How often a user may ask whose identity does not say otherwise.
        storage: Where it is counted: "memory://", each worker by itself, or a URL such as
            "redis://host:6379/0", all workers together.
        clock: Seconds since the epoch.

    Raises:
        MissingExtraError: `limits`, or the client of its storage, is not installed.
        ConfigurationError: The storage is none that it knows.
    """

    def __init__(
        self,
        requests_per_minute: int,
        *,
        storage: str = "memory://",
        clock: Callable[[], float] = time.time,
    ) -> None:
        if requests_per_minute < 1:
            raise ConfigurationError(
                f"requests_per_minute must be 1 or more, not {requests_per_minute}."
            )
        self._usual = requests_per_minute
        self._clock = clock
        self._limiter = _limiter(storage)
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def turn(self, identity: Identity) -> Turn:
        """Count a request, and say whether it is one too many, or could not be counted."""
        from limits import RateLimitItemPerMinute
        from limits.errors import StorageError

        most = identity.requests_per_minute or self._usual
        item = RateLimitItemPerMinute(most)
        try:
            async with asyncio.timeout(_STORAGE_S), self._free:
                granted = await self._limiter.hit(item, identity.key)
                window = await self._limiter.get_window_stats(item, identity.key)
        except (StorageError, TimeoutError) as error:
            logger.error("Requests cannot be counted (%s)", type(error.__cause__ or error).__name__)  # noqa: TRY400 - its text may hold the password of the storage
            return Turn({}, _NOT_COUNTED)
        wait_s = max(1.0, window.reset_time - self._clock())
        headers = {
            f"{_PREFIX}limit-requests": str(most),
            f"{_PREFIX}remaining-requests": str(max(0, window.remaining)),
            f"{_PREFIX}reset-requests": f"{wait_s:.0f}s",
        }
        if granted:
            return Turn(headers)
        message = f"At most {most:,} requests a {_WINDOW} are taken. Wait {wait_s:.0f} s."
        return Turn(
            headers,
            Problem(status=429, code="rate_limit_exceeded", message=message, retry_after_s=wait_s),
        )


def _limiter(storage: str) -> Any:
    try:
        from limits.aio.strategies import FixedWindowRateLimiter
        from limits.errors import ConfigurationError as UnknownStorage
        from limits.storage import storage_from_string
    except ImportError as error:
        raise MissingExtraError("Limiting requests", "serve") from error
    # Its async clients: a worker must not wait for the storage with its hands in its lap.
    name = storage if storage.startswith("async+") else f"async+{storage}"
    options = {"implementation": "redispy"} if "redis" in name.partition(":")[0] else {}
    try:
        storage_of_it = storage_from_string(name, wrap_exceptions=True, **options)
        return FixedWindowRateLimiter(storage_of_it)
    except UnknownStorage as error:
        kind = storage.partition(":")[0]
        raise ConfigurationError(
            f"Requests cannot be counted in a storage of the kind {kind!r}: take memory:// or a "
            f"redis:// URL."
        ) from error

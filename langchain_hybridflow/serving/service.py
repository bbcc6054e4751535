"""What all routes of a server share: for whom a run is, what is left, and what went wrong."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any, Final, TypeVar

from langchain_core.runnables import RunnableConfig
from starlette.requests import Request

from langchain_hybridflow.budget import Budget
from langchain_hybridflow.errors import ConfigurationError, HybridFlowError
from langchain_hybridflow.leaving import Receive
from langchain_hybridflow.serving.extension import header_text
from langchain_hybridflow.serving.gate import identity_of
from langchain_hybridflow.serving.identity import THREAD_HEADER
from langchain_hybridflow.serving.problems import Problem, Refused, problem_of
from langchain_hybridflow.serving.pump import Pump

__all__ = ["SETTLE_S", "Service"]

SETTLE_S: Final = 5.0
"""Seconds that a closing server waits for what its last streams have cost."""

_T = TypeVar("_T")

logger = logging.getLogger(__name__)


class Service:
    """Serves runs that are paid from one budget, each for the identity of its request.

    Args:
        budget: The budget of the models that are served.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._streams: set[asyncio.Task[None]] = set()

    def config(self, request: Request) -> RunnableConfig:
        """Return the config of a request's run. Nothing in it is from the body.

        Raises:
            Refused: The header that names the conversation holds no name.
        """
        thread = request.headers.get(THREAD_HEADER)
        try:
            named = identity_of(request).configurable(thread=thread or uuid.uuid4().hex)
        except ConfigurationError as error:
            raise Refused(400, "invalid_thread", f"{THREAD_HEADER}: {error}") from error
        return RunnableConfig(configurable=dict(named))

    async def aclose(self) -> None:
        """Close the budget, once the streams that were cut off have been booked."""
        if self._streams:
            await asyncio.wait(self._streams, timeout=SETTLE_S)
        await self.budget.aclose()

    def pump(
        self,
        source: Callable[[Callable[[], None]], AsyncIterator[_T]],
        receive: Receive,
        **options: Any,
    ) -> Pump[_T]:
        """Carry a stream to its client, and keep it in mind until it is booked.

        Args:
            source: As in `Pump`, as all else.
            receive: The request's.
            **options: `beat`, `beat_s`, `again_s`.
        """
        pump = Pump(source, receive, **options)
        self._streams.add(pump.task)  # the loop alone would forget a task that nobody awaits
        pump.task.add_done_callback(self._streams.discard)
        return pump

    def problem(self, error: BaseException, request: Request) -> Problem:
        """Say what the client is to know of an error, and log what it is not to know.

        Only the classes of errors are logged: their texts may quote prompts.
        """
        problem = problem_of(error, budget=self.budget)
        path, kinds = header_text(request.url.path), " from ".join(_kinds(error))
        if problem.status >= 500:
            logger.error("%s: %d %s (%s)", path, problem.status, problem.code, kinds)
        else:
            logger.info("%s: %d %s (%s)", path, problem.status, problem.code, kinds)
        return problem

    async def remaining_usd(self, config: RunnableConfig) -> Decimal | None:
        """Return what whoever a run is for can still spend, in USD; `None` without a limit."""
        if not self.budget.limits_usd:
            return None
        try:
            values = self.budget.scope_values(dict(config))
            snapshot = await self.budget.asnapshot(values)
        except HybridFlowError:
            return None  # the answer is there; it shall not fail for this
        accounts: list[dict[str, Any]] = [snapshot, *snapshot.get("scopes", ())]
        left = [one["usd"]["remaining"] for one in accounts if one["usd"]["remaining"] is not None]
        return min((Decimal(str(one)) for one in left), default=None)


def _kinds(error: BaseException) -> list[str]:
    kinds: list[str] = []
    link: BaseException | None = error
    while link is not None and len(kinds) < 5:
        kinds.append(type(link).__name__)
        link = link.__cause__ or link.__context__
    return kinds

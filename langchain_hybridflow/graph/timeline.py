"""When what happened to a subtask: the moments behind its record, for reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from langchain_hybridflow.budget import Amounts, BudgetSnapshot
from langchain_hybridflow.budget.snapshot import Gauge
from langchain_hybridflow.calls.observing import watched
from langchain_hybridflow.calls.steps import Call, Commit, Pause, Release, Reserve, Script, Snapshot
from langchain_hybridflow.routing import Tier

__all__ = ["Moment", "Timeline"]

T = TypeVar("T")

Moment = dict[str, Any]
"""`at` (seconds since the epoch), `event`, and the facts of the event; docs/metadata.md has all."""


class Timeline:
    """Notes the moments of a subtask, in plain JSON types.

    Args:
        moments: The list to append to.
        clock: Seconds since the epoch.

    Example:
        >>> moments: list[Moment] = []
        >>> Timeline(moments, clock=lambda: 9.0).note("queued", tier="edge")
        >>> moments
        [{'at': 9.0, 'event': 'queued', 'tier': 'edge'}]
    """

    def __init__(self, moments: list[Moment], *, clock: Callable[[], float]) -> None:
        self._moments = moments
        self._clock = clock

    def note(self, event: str, **facts: Any) -> None:
        """Note that something happens now."""
        self._moments.append({"at": self._clock(), "event": event, **facts})

    def of_call(self, script: Script[T], **facts: Any) -> Script[T]:
        """Return a purchase that leaves its moments.

        They are started, held, asked, paused, spent or released, and ended.
        """
        self.note("started", **facts)
        try:
            return (yield from watched(script, self._begins, self._happened))
        finally:
            self.note("ended", **facts)

    def of_decision(
        self, script: Script[T], *, expected_usd: Mapping[Tier, Decimal | None]
    ) -> Script[T]:
        """Return a decision that leaves the state of the budget at which it was made.

        Args:
            script: What decides.
            expected_usd: What the call is expected to cost on each tier, in USD.
        """
        costs = {tier: None if usd is None else str(usd) for tier, usd in expected_usd.items()}

        def happened(step: object, reply: object) -> None:
            if isinstance(step, Snapshot) and isinstance(reply, BudgetSnapshot):
                self.note("decided", expected_usd=costs, budget=_plain(reply))

        return watched(script, _nothing, happened)

    def _begins(self, step: object) -> None:
        if isinstance(step, Call):
            self.note("asked", tier=step.target.tier, model=step.target.name)
        elif isinstance(step, Pause):
            self.note("paused", seconds=step.seconds)

    def _happened(self, step: object, _: object) -> None:
        if isinstance(step, Reserve) and step.amounts:
            self.note("held", **_amounts(step.amounts))
        elif isinstance(step, Commit) and (step.actual or step.lease.amounts):
            self.note("spent", **_amounts(step.actual))
        elif isinstance(step, Release) and step.lease.amounts:
            self.note("released")


def _nothing(_: object) -> None:
    pass


def _amounts(amounts: Amounts) -> dict[str, Any]:
    return {
        "usd": str(amounts.usd),
        "cloud_tokens": amounts.cloud_tokens,
        "cloud_calls": amounts.cloud_calls,
    }


def _plain(snapshot: BudgetSnapshot) -> dict[str, Any]:
    """The state of the budget in plain JSON types; USD as text."""
    gauges: dict[str, Gauge[Any]] = {
        "usd": snapshot.usd,
        "cloud_tokens": snapshot.cloud_tokens,
        "cloud_calls": snapshot.cloud_calls,
    }
    shown: dict[str, Any] = {
        name: {
            "spent": _number(gauge.spent),
            "held": _number(gauge.held),
            "limit": _number(gauge.limit),
            "scope": gauge.scope,
        }
        for name, gauge in gauges.items()
    }
    return shown | {
        "deadline_s": snapshot.deadline_s,
        "elapsed_s": snapshot.elapsed_s,
        "shadow_price": snapshot.shadow_price,
    }


def _number(value: Decimal | int | None) -> str | int | None:
    return str(value) if isinstance(value, Decimal) else value

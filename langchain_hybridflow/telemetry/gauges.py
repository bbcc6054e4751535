"""Gauges of budgets for OpenTelemetry: read when they are collected, and at no other time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from langchain_hybridflow.errors import HybridFlowError
from langchain_hybridflow.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

__all__ = ["Gauged", "Reading", "observe"]

logger = logging.getLogger(__name__)

_FRESH_S: Final = 0.5
"""For how long a reading stands: all gauges of one collection are of one instant."""


class Reading(Protocol):
    """One number of a budget; see `langchain_hybridflow.budget.BudgetGauge`."""

    @property
    def name(self) -> str:
        """One of `names.BUDGET_GAUGES`."""
        ...

    @property
    def labels(self) -> Sequence[tuple[str, str]]:
        """What it is of."""
        ...

    @property
    def value(self) -> float:
        """The number."""
        ...


class Gauged(Protocol):
    """What has gauges: a budget."""

    def gauges(self) -> Sequence[Reading]:
        """Read them; may wait for the store of the budget."""
        ...


def observe(meter: Meter, gauged: Gauged) -> None:
    """Let a meter read the gauges of a budget whenever it collects.

    If the store does not answer there are none, and a warning is logged.
    """
    latest = _Latest(gauged)
    for name, meaning in names.BUDGET_GAUGES.items():
        meter.create_observable_gauge(
            f"hybridflow.budget.{name}", callbacks=[_callback(latest, name)], description=meaning
        )


class _Latest:
    """The last reading, for the gauges of one collection to share."""

    def __init__(self, gauged: Gauged) -> None:
        self._gauged = gauged
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._readings: Sequence[Reading] = ()

    def readings(self) -> Sequence[Reading]:
        with self._lock:
            if time.monotonic() - self._read_at > _FRESH_S:
                try:
                    self._readings = self._gauged.gauges()
                except HybridFlowError as error:
                    self._readings = ()
                    logger.warning("A budget cannot be observed: %s", error)
                self._read_at = time.monotonic()
            return self._readings


def _callback(latest: _Latest, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def read(options: CallbackOptions) -> Iterable[Observation]:  # noqa: ARG001 - who collects
        from opentelemetry.metrics import Observation

        return [
            Observation(one.value, dict(one.labels))
            for one in latest.readings()
            if one.name == name
        ]

    return read

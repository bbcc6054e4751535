"""The spans of runs and subtasks, kept while a run makes its way through LangGraph's nodes.

A run is no function of ours: its nodes are called one by one, from many threads and tasks. So its
spans are found by the run's id, and each child is told who its parent is.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from langchain_hybridflow.calls.observing import tell_decision
from langchain_hybridflow.plan import Subtask
from langchain_hybridflow.routing import RouteDecision
from langchain_hybridflow.telemetry import NO_SPAN, OpenSpan, Telemetry, names

__all__ = ["RunSpans"]

_MAX_RUNS = 1_024
"""Runs whose end nobody saw are given up, the oldest first."""


@dataclass(slots=True)
class _Open:
    root: OpenSpan
    subtasks: dict[str, OpenSpan] = field(default_factory=dict)
    is_leaving: bool = False

    def end(self) -> None:
        for span in (*self.subtasks.values(), self.root):
            span.end()


class RunSpans:
    """The open spans of a graph's runs in this process; does nothing without telemetry.

    A run that goes on after an interrupt, or in another process, has a new span, which says so.
    """

    def __init__(self, telemetry: Telemetry | None) -> None:
        self._telemetry = telemetry
        self._runs: OrderedDict[str, _Open] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._runs)

    def begin(self, run_id: str) -> None:
        """Begin the span of a run, below whatever span is current."""
        if self._telemetry is not None:
            with self._lock:
                self._open(self._telemetry, run_id, is_new=True)

    @contextmanager
    def current(self, run_id: str) -> Iterator[None]:
        """Make a run's span the current one of a block in a plain function."""
        run = self._runs.get(run_id)
        with (run.root if run else NO_SPAN).current():
            yield

    def subtask(self, run_id: str, subtask: Subtask) -> OpenSpan:
        """Find the span of a subtask, or begin it."""
        if self._telemetry is None:
            return NO_SPAN
        with self._lock:
            run = self._runs.get(run_id) or self._open(self._telemetry, run_id, is_new=False)
            if subtask.id not in run.subtasks:
                facts = {names.SUBTASK_ID: subtask.id, names.SUBTASK_ROLE: subtask.role.value}
                run.subtasks[subtask.id] = self._telemetry.start(
                    names.SUBTASK_SPAN, parent=run.root, attributes=facts
                )
            return run.subtasks[subtask.id]

    def route(self, run_id: str, subtask: Subtask, decision: RouteDecision) -> None:
        """Tell who is to answer a subtask."""
        tell_decision(self.subtask(run_id, subtask), decision)

    def finish(self, run_id: str, ended: Mapping[str, Any] | None) -> None:
        """End the spans of the subtasks whose records a node returns; some were never begun."""
        records = (ended or {}).get("results") or {}
        for record in records.values() if self._telemetry else ():
            self._finish(run_id, record)

    def _finish(self, run_id: str, record: Mapping[str, Any]) -> None:
        with self._lock:
            run = self._runs.get(run_id)
            span = run.subtasks.pop(record["id"], NO_SPAN) if run else NO_SPAN
        cost = record["cost_usd"]
        span.tell(
            {
                names.STATUS: record["status"],
                names.TIER: record["tier"],
                names.COST_USD: None if cost is None else float(cost),
                names.DEGRADED: record["degraded"],
                names.KEPT_LOCAL: record["kept_local"],
                names.ATTEMPTS: len(record["attempts"]),
            }
        )
        if record["status"] == "failed":
            span.fail("failed")
        span.end()
        self._leave_if_done(run_id)

    def interrupt(self, run_id: str, subtask_id: str | None) -> None:
        """End a run's span because it waits for a person, as soon as nothing else is at work."""
        with self._lock:
            run = self._runs.get(run_id)
            if run is None:
                return
            run.is_leaving = True
            span = run.subtasks.pop(subtask_id or "", NO_SPAN)
        span.tell({names.STATUS: "interrupted"})
        span.end()
        run.root.tell({names.STATUS: "interrupted"})
        self._leave_if_done(run_id)

    def end(
        self,
        run_id: str,
        report: Mapping[str, Any] | None = None,
        *,
        error: BaseException | None = None,
    ) -> None:
        """End a run's span, and what is still open below it."""
        with self._lock:
            run = self._runs.pop(run_id, None)
        if run is None:
            return
        if error is not None:
            run.root.fail(error)
            for span in run.subtasks.values():
                span.fail(error)
        if report is not None:
            cost = report["totals"]["cost_usd"]
            facts = {
                names.STATUS: "complete" if report["complete"] else "incomplete",
                names.COST_USD: None if cost is None else float(cost),
                names.DEGRADED: report["degraded"],
                names.KEPT_LOCAL: report["kept_local"],
            }
            run.root.tell(facts)
        run.end()

    def _open(self, telemetry: Telemetry, run_id: str, *, is_new: bool) -> _Open:
        facts = {names.RUN_ID: run_id, names.RESUMED: not is_new}
        run = self._runs[run_id] = _Open(telemetry.start(names.RUN_SPAN, attributes=facts))
        if len(self._runs) > _MAX_RUNS:
            self._runs.popitem(last=False)[1].end()
        return run

    def _leave_if_done(self, run_id: str) -> None:
        with self._lock:
            run = self._runs.get(run_id)
            if run is None or not run.is_leaving or run.subtasks:
                return
            del self._runs[run_id]
        run.root.end()

"""A run taken apart for pictures: pieces of work on a tier, lanes of slots, money over time."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from langchain_hybridflow.report.records import BudgetState, Moment, SubtaskRun, Tries
from langchain_hybridflow.report.run import Run

__all__ = [
    "PLANNING",
    "Gauge",
    "Level",
    "Piece",
    "gauges",
    "lanes",
    "pieces_of",
    "planning_pieces",
    "prices",
]

PLANNING = "/planning"
"""Stands in the place of a subtask's id for the work of the planner; no id has a slash."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One attempt at a tier, in seconds since the run began.

    Attributes:
        subtask_id: Whose work it is.
        tier: Who was asked.
        purpose: "answer" or "verify".
        status: "ok", "failed" or "refused".
        queued_s: When it stood in line for a slot.
        start_s: When it got one.
        end_s: When it was over.
        pauses: When it waited before it asked again, and for how long.
        accepted: Whether a verifier was content with it.
    """

    subtask_id: str
    tier: str
    purpose: str
    status: str
    queued_s: float
    start_s: float
    end_s: float
    pauses: tuple[tuple[float, float], ...] = ()
    accepted: bool | None = None


def pieces_of(one: SubtaskRun) -> list[Piece]:
    """Return the pieces of a subtask, in order; what was refused at once has none."""
    found = _pieces(one.id, one.timeline, one.attempts)
    if found or (one.tier is None and one.status == "skipped"):
        return found
    if one.end_s <= one.start_s and one.tier is None:
        return []
    tier = one.tier or (one.decision.tier if one.decision else "edge")
    status = "ok" if one.status == "ok" else "failed"
    return [Piece(one.id, tier, "answer", status, one.ready_s, one.start_s, one.end_s)]


def planning_pieces(run: Run) -> list[Piece]:
    """Return the pieces of the planner."""
    return _pieces(PLANNING, run.planning.timeline, run.planning.attempts)


def _pieces(name: str, timeline: Sequence[Moment], attempts: Sequence[Tries]) -> list[Piece]:
    waiting = list(attempts)
    found: list[Piece] = []
    piece: Piece | None = None
    queued_s: float | None = None
    for moment in timeline:
        if moment.event == "queued":
            queued_s = moment.at_s
        elif moment.event == "started" and moment.tier:
            attempt = _taken(waiting, moment)
            piece = Piece(
                name,
                moment.tier,
                moment.purpose,
                attempt.status if attempt else "ok",
                moment.at_s if queued_s is None else queued_s,
                moment.at_s,
                moment.at_s,
                accepted=attempt.accepted if attempt else None,
            )
        elif moment.event == "paused" and piece:
            piece = replace(piece, pauses=(*piece.pauses, (moment.at_s, moment.seconds)))
        elif moment.event == "ended" and piece:
            found.append(replace(piece, end_s=max(moment.at_s, piece.start_s)))
            piece = queued_s = None
    return found


def _taken(attempts: list[Tries], started: Moment) -> Tries | None:
    """Take the attempt that a moment is the beginning of."""
    for place, attempt in enumerate(attempts):
        if attempt.tier == started.tier and attempt.purpose == started.purpose:
            return attempts.pop(place)
    return None


def lanes(pieces: Iterable[Piece]) -> dict[str, list[list[Piece]]]:
    """Put the pieces of each tier into as few lanes as possible: the slots that were in use."""
    found: dict[str, list[list[Piece]]] = {}
    free: dict[str, list[tuple[float, int]]] = {}
    for piece in sorted(pieces, key=lambda one: (one.start_s, one.end_s)):
        if piece.status == "refused":
            continue
        rows, ends = found.setdefault(piece.tier, []), free.setdefault(piece.tier, [])
        if ends and ends[0][0] <= piece.start_s + 1e-6:
            _, lane = heapq.heappop(ends)
            rows[lane].append(piece)
        else:
            lane = len(rows)
            rows.append([piece])
        heapq.heappush(ends, (piece.end_s, lane))
    return found


Gauge = Literal["usd", "cloud_tokens", "cloud_calls"]


@dataclass(frozen=True, slots=True)
class Level:
    """What was spent and held of one limit from a moment on.

    Attributes:
        at_s: The moment.
        spent: Spent by this run.
        held: Held for its calls under way.
        others: Spent or held by others when a decision looked last.
    """

    at_s: float
    spent: float
    held: float
    others: float


def gauges(run: Run, gauge: Gauge) -> tuple[list[Level], float | None]:
    """Return how much of a limit was used over time, and the limit, if there is one."""
    spent, others, limit = Decimal(0), Decimal(0), None
    open_leases: dict[str, Decimal] = {}
    levels = [Level(0.0, 0.0, 0.0, 0.0)]
    for owner, moment in _moments(run):
        if moment.event == "held":
            open_leases[owner] = Decimal(getattr(moment, gauge))
        elif moment.event in ("spent", "released"):
            open_leases.pop(owner, None)
            spent += Decimal(getattr(moment, gauge)) if moment.event == "spent" else 0
        elif moment.event == "decided" and moment.budget:
            state = getattr(moment.budget, gauge)
            limit = state.limit if state.limit is not None else limit
            ours = spent + sum(open_leases.values())
            others = max(state.spent + state.held - ours, Decimal(0))
        else:
            continue
        held = sum(open_leases.values(), Decimal(0))
        levels.append(Level(moment.at_s, float(spent), float(held), float(others)))
    return levels, None if limit is None else float(limit)


def prices(run: Run) -> list[tuple[float, float]]:
    """Return the shadow price at each decision, in seconds and quality per USD."""
    found = []
    for _, moment in _moments(run):
        if moment.event == "decided" and isinstance(moment.budget, BudgetState):
            found.append((moment.at_s, moment.budget.shadow_price))
    return found


def _moments(run: Run) -> Iterator[tuple[str, Moment]]:
    """All moments in the order of time, with whose they are."""
    named = [("", moment) for moment in run.planning.timeline]
    named += [(one.id, moment) for one in run.subtasks for moment in one.timeline]
    yield from sorted(named, key=lambda pair: pair[1].at_s)

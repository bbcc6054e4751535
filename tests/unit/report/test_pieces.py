from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.report import Run
from langchain_hybridflow.report._pieces import Piece, gauges, lanes, pieces_of, prices
from tests.unit.report.runs import attempt, budget, call, output, record, small_plan, small_run


def run_with(first: dict[str, Any]) -> Run:
    rest = [record(name, "edge", 9.0, 9.5) for name in "234"]
    return Run.of(output(small_plan(), [first, *rest]))


def test_escalation_is_three_pieces() -> None:
    look = [
        {"at": 1.0, "event": "queued", "tier": "cloud", "purpose": "verify"},
        {"at": 1.2, "event": "started", "tier": "cloud", "purpose": "verify"},
        {"at": 1.5, "event": "ended", "tier": "cloud", "purpose": "verify"},
    ]
    moments = [*call("edge", 0.25, 1.0, queued=0.0), *look, *call("cloud", 2.0, 3.0)]
    attempts = [
        attempt("edge", accepted=False),
        attempt("cloud", purpose="verify"),
        attempt("cloud"),
    ]
    run = run_with(record("1", "cloud", 2.0, 3.0, timeline=moments, attempts=attempts))
    edge, verify, cloud = pieces_of(run["1"])
    assert (edge.tier, edge.queued_s, edge.start_s, edge.end_s) == ("edge", 0.0, 0.25, 1.0)
    assert (edge.accepted, verify.purpose, verify.tier) == (False, "verify", "cloud")
    assert (cloud.status, cloud.start_s, cloud.end_s) == ("ok", 2.0, 3.0)
    assert run["1"].escalated


def test_fallback_has_the_failed_call_first() -> None:
    moments = [*call("cloud", 0.0, 1.0), *call("edge", 1.0, 2.0)]
    attempts = [attempt("cloud", "failed"), attempt("edge")]
    run = run_with(record("1", "edge", 1.0, 2.0, timeline=moments, attempts=attempts))
    found = pieces_of(run["1"])
    assert [(piece.tier, piece.status) for piece in found] == [("cloud", "failed"), ("edge", "ok")]


def test_retries_are_pauses_of_one_piece() -> None:
    moments = call("edge", 0.0, 3.0)
    moments[3:3] = [{"at": 1.0, "event": "paused", "seconds": 0.5}]
    (piece,) = pieces_of(run_with(record("1", "edge", 0.0, 3.0, timeline=moments))["1"])
    assert piece.pauses == ((1.0, 0.5),)


def test_without_moments_the_record_is_one_piece() -> None:
    run = run_with(record("1", "edge", 1.0, 2.0, timeline=[]))
    assert pieces_of(run["1"]) == [Piece("1", "edge", "answer", "ok", 0.0, 1.0, 2.0)]


def test_skipped_subtask_has_no_piece() -> None:
    run = run_with(record("1", None, 1.0, 1.0))
    assert pieces_of(run["1"]) == []


def test_moments_that_do_not_fit_each_other_are_no_error() -> None:
    odd = [
        {"at": 1.0, "event": "ended", "tier": "edge"},
        {"at": 1.0, "event": "paused", "seconds": 1},
        {"at": 2.0, "event": "started"},
        {"at": 0.5, "event": "spent", "usd": "0.1"},
        {"at": 0.5, "event": "some other"},
    ]
    run = run_with(record("1", "edge", 1.0, 2.0, timeline=odd))
    assert len(pieces_of(run["1"])) == 1
    assert gauges(run, "usd")[0][-1].spent == pytest.approx(0.1)


def test_money_is_held_then_spent() -> None:
    levels, limit = gauges(small_run(), "usd")
    first_call = [(level.at_s, level.held, level.spent) for level in levels if level.at_s == 2.0]
    assert max(level.held for level in levels) == 0.004
    assert first_call[-1] == (2.0, 0.0, 0.001)
    assert (levels[-1].held, levels[-1].spent, limit) == (0.0, 0.002, 0.01)


def test_what_others_have_spent_is_not_the_runs_own() -> None:
    first = record("1", "cloud", 0.0, 1.0)
    first["timeline"][0]["budget"] = budget(spent="0.006", held="0.001", price=2.5)
    run = run_with(first)
    levels, _ = gauges(run, "usd")
    assert levels[1].others == 0.007
    assert prices(run)[0] == (0.0, 2.5)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 10)), max_size=30))
def test_lanes_are_as_few_as_calls_at_once(spans: list[tuple[float, float]]) -> None:
    pieces = [
        Piece(str(n), "edge", "answer", "ok", at, at, at + length)
        for n, (at, length) in enumerate(spans)
    ]
    rows = lanes(pieces).get("edge", [])
    assert sum(map(len, rows)) == len(pieces)
    for row in rows:
        assert all(one.end_s <= other.start_s + 1e-6 for one, other in pairwise(row))
    most = max(
        (sum(p.start_s <= q.start_s < p.end_s or p is q for p in pieces) for q in pieces), default=0
    )
    assert len(rows) <= max(most, bool(pieces))

"""A predictor that does not take the end of a text at its word."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.errors import ConfigurationError, RoutingError
from langchain_hybridflow.routing import GuardedPredictor, Prediction, RouteRequest

SHARES = st.floats(0, 1)


class ByText:
    """Foresees each text as it was told to; counts how often it was asked."""

    def __init__(self, *found: tuple[float, float]) -> None:
        self.found = [
            Prediction(edge_quality=edge, cloud_quality=cloud, seconds={"edge": 1.0}, why="words")
            for edge, cloud in found
        ]
        self.asked: list[list[str]] = []

    def predict(self, requests: Sequence[RouteRequest]) -> list[Prediction]:
        self.asked.append([request.text for request in requests])
        return self.found[: len(requests)]


def guarded(*found: tuple[float, float], slack: float = 0.0) -> Prediction:
    predictor = GuardedPredictor(ByText(*found), slack=slack)
    return predictor.predict([RouteRequest(text="x" * 100)])[0]


def test_whole_text_is_believed_when_its_beginnings_agree() -> None:
    found = guarded((0.4, 0.7), (0.4, 0.8), (0.3, 0.7))
    assert found == ByText((0.4, 0.7)).found[0]


def test_gain_is_that_of_the_beginning_that_promises_least() -> None:
    found = guarded((0.1, 0.9), (0.4, 0.7), (0.5, 0.6), slack=0.05)
    assert found.gain == pytest.approx(0.1 + 0.05)
    assert found.cloud_quality == pytest.approx(0.9)
    assert found.why == "words, but its beginning promises less"
    assert found.seconds == {"edge": 1.0}


@given(st.tuples(SHARES, SHARES), st.tuples(SHARES, SHARES), st.tuples(SHARES, SHARES))
def test_gain_is_never_above_a_beginning_plus_the_slack(
    whole: tuple[float, float], half: tuple[float, float], quarter: tuple[float, float]
) -> None:
    found = guarded(whole, half, quarter, slack=0.1)
    least = min(half[1] - half[0], quarter[1] - quarter[0]) + 0.1
    assert found.gain == pytest.approx(min(whole[1] - whole[0], least), abs=1e-9)


def test_all_views_of_all_requests_are_asked_for_at_once() -> None:
    inner = ByText(*[(0.5, 0.6)] * 6)
    texts = ["a" * 100, "b" * 200]
    found = GuardedPredictor(inner).predict([RouteRequest(text=text) for text in texts])
    assert len(found) == 2
    assert inner.asked == [["a" * 100, "a" * 50, "a" * 25, "b" * 200, "b" * 100, "b" * 50]]


@pytest.mark.parametrize("text", ["", "why?"])
def test_short_text_is_looked_at_whole(text: str) -> None:
    inner = ByText(*[(0.5, 0.6)] * 3)
    GuardedPredictor(inner).predict([RouteRequest(text=text)])
    assert inner.asked == [[text] * 3]


def test_no_request_is_no_prediction() -> None:
    assert GuardedPredictor(ByText()).predict([]) == []


def test_predictor_that_returns_too_few_is_an_error() -> None:
    with pytest.raises(RoutingError, match="3 requests"):
        GuardedPredictor(ByText((0.5, 0.6))).predict([RouteRequest(text="?")])


@pytest.mark.parametrize("shares", [(), (0.0,), (1.0,), (0.5, float("nan"))])
def test_shares_out_of_range_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ConfigurationError, match="beginnings"):
        GuardedPredictor(ByText(), beginnings=shares)


def test_slack_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="slack"):
        GuardedPredictor(ByText(), slack=-0.1)

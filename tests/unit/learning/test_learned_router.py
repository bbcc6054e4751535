from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from langchain_hybridflow.budget import BudgetSnapshot
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning import LearnedRouter
from langchain_hybridflow.learning._stages import Stages
from langchain_hybridflow.learning.features import FEATURE_SCHEMA, structure_matrix
from langchain_hybridflow.routing import (
    AnswerPredictor,
    EdgeAnswer,
    Predictor,
    Router,
    RouteRequest,
)
from tests.unit.learning.outcomes import columns, dataset, trained

PROOF = RouteRequest(
    text="Prove that the sequence 17 n + 4 converges modulo 5.",
    expected_cost_usd={"edge": Decimal(0), "cloud": Decimal("0.001")},
)
SUM = replace(PROOF, text="What is 3 + 4?\nA. 3\nB. 7\nC. 4")


@pytest.fixture(scope="module")
def router() -> LearnedRouter:
    return LearnedRouter(trained()[0], min_gain=0.3)


def test_learned_router_keeps_the_protocols_of_routing(router: LearnedRouter) -> None:
    assert isinstance(router, Router)
    assert isinstance(router.predictor, Predictor)
    assert isinstance(router.predictor, AnswerPredictor)


def test_learned_router_asks_the_cloud_only_where_it_adds_something(router: LearnedRouter) -> None:
    assert router.route(PROOF).tier == "cloud"
    assert router.route(SUM).tier == "edge"


def test_learned_router_stays_on_the_edge_when_the_price_is_high(router: LearnedRouter) -> None:
    dear = replace(PROOF, budget=BudgetSnapshot(shadow_price=1e6))
    assert router.route(dear).tier == "edge"


def test_prediction_is_the_same_alone_and_in_a_batch(router: LearnedRouter) -> None:
    requests = [RouteRequest(text=text) for text in columns(20, seed=3)["question"]]
    alone = [router.predictor.predict([request])[0] for request in requests]
    for one, other in zip(alone, router.predictor.predict(requests), strict=True):
        assert one.gain == pytest.approx(other.gain, abs=1e-5)
        assert one.output_tokens == pytest.approx(other.output_tokens, rel=1e-4)


def test_prediction_foresees_the_length_of_answers(router: LearnedRouter) -> None:
    proof, total = router.predictor.predict([PROOF, SUM])
    assert 300 < proof.output_tokens["cloud"] < 700
    assert 25 < total.output_tokens["cloud"] < 100
    assert proof.seconds == {}
    amounts = router.predictor.amounts([PROOF])["cloud_tokens"]
    assert amounts[0, 0] <= amounts[0, 1]


def test_nothing_but_the_request_changes_a_feature() -> None:
    # The same questions with all outcomes turned round have the same features.
    predictor, _ = trained()
    data = dataset(60, seed=2)
    turned = dataset(
        60,
        seed=2,
        edge_correct=[1 - int(score) for score in data.edge],
        cloud_correct=[1 - int(score) for score in data.cloud],
        cloud_tokens=[1] * 60,
    )
    found = [predictor.features(one.questions, one.structure)[0] for one in (data, turned)]
    assert found[0].tolist() == found[1].tolist()


def test_a_long_question_is_not_hard_because_it_is_long(router: LearnedRouter) -> None:
    padded = replace(SUM, text="Here is a question. " * 20 + SUM.text)
    assert router.route(padded).tier == "edge"


def test_explanation_adds_up_to_the_gain(router: LearnedRouter) -> None:
    found = router.explain(PROOF)
    total = found.start + sum(amount for _, amount in found.contributions)
    assert total == pytest.approx(found.prediction.gain, abs=1e-4)
    sizes = [abs(amount) for _, amount in found.contributions]
    assert sizes == sorted(sizes, reverse=True)
    assert "any request" in str(found)


def test_a_long_answer_of_the_edge_raises_the_gain(router: LearnedRouter) -> None:
    short, long = EdgeAnswer(text="x" * 80), EdgeAnswer(text="x" * 800)
    ((first,), (second,)) = (
        router.predictor.predict_answered([SUM], [answer]) for answer in (short, long)
    )
    assert second.gain > first.gain
    assert router.explain(SUM, answer=long).prediction == second


def test_predictor_refuses_an_answer_when_it_was_trained_without_any() -> None:
    predictor, _ = trained()
    predictor = replace(predictor, views={"text": Stages(before=predictor.views["text"].before)})
    with pytest.raises(ConfigurationError, match="trained without the length"):
        predictor.predict_answered([SUM], [EdgeAnswer(text="7")])


def test_predictor_refuses_features_of_another_version() -> None:
    with pytest.raises(ConfigurationError, match=f"version {FEATURE_SCHEMA + 1}"):
        replace(trained()[0], schema=FEATURE_SCHEMA + 1)


def test_predicting_nothing_gives_nothing(router: LearnedRouter) -> None:
    assert router.predictor.predict([]) == []
    assert router.predictor.predict_answered([], []) == []


@pytest.mark.parametrize(
    "text",
    ["", " ", "\ud800", "A" * 50_000, "A. \nB. \n", "\u3002\uff1f" * 40, "1e9 9,9.9\n(A) -.5"],
)
def test_any_text_gets_a_prediction(router: LearnedRouter, text: str) -> None:
    (found,) = router.predictor.predict([RouteRequest(text=text)])
    assert -1 <= found.gain <= 1


@pytest.fixture
def rows_like() -> Callable[[RouteRequest], list[float]]:
    def of(request: RouteRequest) -> list[float]:
        share = [t == "cloud" for t in request.parent_tiers]
        row = {
            "role": [request.role],
            "difficulty": [request.difficulty],
            "expected_output_tokens": [request.expected_output_tokens],
            "depth": [request.depth],
            "fan_in": [request.fan_in],
            "fan_out": [request.fan_out],
            "on_critical_path": [request.on_critical_path],
            "parent_cloud_share": [sum(share) / len(share) if share else None],
        }
        return [float(value) for value in structure_matrix(row, 1)[0]]

    return of


def test_structure_of_a_row_is_that_of_its_request(
    rows_like: Callable[[RouteRequest], list[float]],
) -> None:
    from langchain_hybridflow.learning import structure_values
    from langchain_hybridflow.plan import Role

    for request in (
        RouteRequest(text="?"),
        RouteRequest(
            text="?",
            role=Role.ANALYZE,
            difficulty=7,
            expected_output_tokens=200,
            depth=2,
            fan_in=2,
            fan_out=0,
            on_critical_path=True,
            parent_tiers=("edge", "cloud"),
        ),
    ):
        assert structure_values(request) == rows_like(request)


def test_declared_tag_counts(router: LearnedRouter) -> None:
    text = "Something that looks like none of them."
    said = [replace(PROOF, text=text, tag=tag) for tag in ("proof", "riddle", "sum")]
    proof, riddle, total = router.predictor.predict(said)
    assert proof.gain > riddle.gain
    assert total.edge_quality > riddle.edge_quality


@pytest.mark.parametrize("tag", [None, "cookery", ""])
def test_text_alone_decides_when_the_tag_is_unknown(router: LearnedRouter, tag: str | None) -> None:
    said = replace(SUM, tag=tag)
    answer = EdgeAnswer(text="x" * 300)
    assert router.predictor.predict([said]) == router.predictor.predict([SUM])
    ((late,), (plain,)) = (
        router.predictor.predict_answered([one], [answer]) for one in (said, SUM)
    )
    assert late == plain


def test_requests_with_and_without_tags_may_come_together(router: LearnedRouter) -> None:
    texts = columns(12, seed=3)["question"]
    tags = [None, "proof", "cookery", "sum"] * 3
    requests = [RouteRequest(text=x, tag=tag) for x, tag in zip(texts, tags, strict=True)]
    together = router.predictor.predict(requests)
    for request, found in zip(requests, together, strict=True):
        (alone,) = router.predictor.predict([request])
        assert found.gain == pytest.approx(alone.gain, abs=1e-5)


def test_tag_of_a_batch_is_that_of_its_requests(router: LearnedRouter) -> None:
    predictor = trained()[0]
    data = dataset(30, seed=4)
    found = predictor.foresee(data.questions, structure=data.structure, tags=data.tags)
    requests = [
        RouteRequest(text=text, tag=tag)
        for text, tag in zip(data.questions, data.tags or (), strict=True)
    ]
    gains = [one.gain for one in predictor.predict(requests)]
    assert found.gain == pytest.approx(gains, abs=1e-5)


def test_explanation_of_a_tagged_request_adds_up(router: LearnedRouter) -> None:
    found = router.explain(replace(PROOF, tag="proof"))
    total = found.start + sum(amount for _, amount in found.contributions)
    assert total == pytest.approx(found.prediction.gain, abs=1e-4)

"""The part of an evaluation's page that is about signals of confidence."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_hybridflow.errors import InputError
from langchain_hybridflow.report import ConfidenceEvaluation, evaluation_html
from langchain_hybridflow.report._curves import confidence_chart, risk_chart
from tests.unit.report.evaluations import evaluation
from tests.unit.report.pages import PAYLOADS, assert_harmless


def signal(**facts: Any) -> dict[str, Any]:
    """What `hybridflow calibrate --json` prints, made by hand."""
    return {
        "kind": "confidence",
        "method": "platt",
        "rows": 400,
        "missing": 10,
        "accuracy": 0.6,
        "auroc": 0.71,
        "aurc": 0.243,
        "aurc_oracle": 0.1,
        "ece": 0.031,
        "ece_noise": 0.03,
        "brier": 0.2,
        "reliability": [
            {"rows": 100, "predicted": 0.25, "observed": 0.3, "low": 0.2, "high": 0.4},
            {"rows": 290, "predicted": 1.0, "observed": 0.7, "low": 0.65, "high": 0.75},
        ],
        "coverage": [0.25, 0.5, 0.75, 1.0],
        "risk": [0.1, 0.2, 0.3, 0.4],
        "oracle": [0.0, 0.0, 0.2, 0.4],
        "min_score": 0.5763,
        "min_probability": 0.46,
        "cloud_share": 0.3,
        "cloud_share_low": 0.26,
        "cloud_share_high": 0.34,
        "kept_risk": 0.28,
        "kept_risk_low": 0.24,
        "kept_risk_high": 0.33,
        "notes": ["400 answers are few."],
    } | facts


def read(**facts: Any) -> ConfidenceEvaluation:
    return ConfidenceEvaluation.of(signal(**facts))


def test_page_of_one_signal_has_figures_curve_and_reliability() -> None:
    page = assert_harmless(evaluation_html({"logprob": signal()}))
    wanted = {"Confidence logprob", "Does it know when it is wrong?", "Figures of the signal"}
    assert wanted <= set(page.texts)
    assert {"30.0 %", "95 %: 26.0 to 34.0 %", "28.0 %", "0.710", "0.243"} <= set(page.texts)
    assert {"logprob (AURC 0.243)", "oracle (AURC 0.100)", "random", "290"} <= set(page.texts)
    assert "400 answers are few." in page.texts
    assert len(page.named("svg")) == 2


def test_several_signals_share_a_risk_curve_and_have_their_own_reliability() -> None:
    page = assert_harmless(evaluation_html({"a": signal(), "b": signal(aurc=0.2)}))
    assert {"2 signals compared", "a (AURC 0.243)", "b (AURC 0.200)"} <= set(page.texts)
    assert "a: 400 answers are few." in page.texts
    assert page.texts.count("random") == 1  # they were measured on the same answers
    assert len(page.named("svg")) == 3


def test_routers_and_signals_may_stand_on_one_page() -> None:
    page = assert_harmless(evaluation_html({"router": evaluation(), "signal": signal()}))
    assert {"2 evaluations", "Accuracy against cost", "Figures of the signal"} <= set(page.texts)
    assert len(page.named("svg")) == 5


def test_what_does_not_exist_is_a_dash() -> None:
    facts = dict.fromkeys(("auroc", "min_score", "min_probability", "kept_risk"))
    page = assert_harmless(evaluation_html({"none": signal(**facts)}))
    assert "-" in page.texts
    assert "all answers" in page.texts


def test_names_and_notes_are_harmless() -> None:
    hostile = signal(notes=list(PAYLOADS), method=PAYLOADS[0])
    page = assert_harmless(evaluation_html(dict.fromkeys(PAYLOADS[:3], hostile)))
    assert PAYLOADS[0] in page.text
    assert_harmless(evaluation_html({"$x^2$ _": hostile}, title=PAYLOADS[1]))


def test_reliability_is_drawn_where_it_belongs_with_its_intervals_and_counts() -> None:
    figure = confidence_chart(read())
    above, below = figure.axes
    diagonal, points, *_ = above.lines
    assert (list(diagonal.get_xdata()), list(diagonal.get_ydata())) == ([0, 100], [0, 100])
    assert list(points.get_xdata()) == [25, 100]
    assert list(points.get_ydata()) == pytest.approx([30, 70])
    (bars,) = (each for each in above.collections if len(each.get_paths()) == 2)
    ends = [[float(y) for _, y in path.vertices] for path in bars.get_paths()]
    assert ends == [pytest.approx([20, 40]), pytest.approx([65, 75])]
    assert [patch.get_height() for patch in below.patches] == [100, 290]
    assert [text.get_text() for text in below.texts] == ["100", "290"]
    # A bin of answers that are all said to be certain belongs to the last tenth.
    middle = [patch.get_x() + patch.get_width() / 2 for patch in below.patches]
    assert middle == pytest.approx([25, 95])


def test_risk_is_drawn_over_coverage_with_the_operating_point() -> None:
    figure = risk_chart({"mine": read()})
    lines = {str(line.get_label()): line for line in figure.axes[0].lines}
    mine, random = lines["mine (AURC 0.243)"], lines["random"]
    assert list(mine.get_xdata()) == [25, 50, 75, 100]
    assert list(mine.get_ydata()) == pytest.approx([10, 20, 30, 40])
    assert list(random.get_ydata()) == pytest.approx([40, 40])
    (star,) = (line for line in figure.axes[0].lines if line.get_marker() == "*")
    assert [*star.get_xdata(), *star.get_ydata()] == pytest.approx([70, 28])


def test_signals_on_other_answers_have_bounds_of_their_own() -> None:
    figure = risk_chart({"a": read(), "b": read(accuracy=0.5)})
    labels = [str(line.get_label()) for line in figure.axes[0].lines]
    assert labels.count("random") == 2


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rows": 0}, "rows"),
        ({"ece": float("nan")}, "ece"),
        ({"accuracy": 60}, "accuracy"),
        ({"risk": [0.1]}, "differ in length"),
        ({"reliability": []}, "reliability"),
        (
            {"reliability": [{"rows": 1, "predicted": 0, "observed": 0.5, "low": 0.6, "high": 1}]},
            "own interval",
        ),
        ({"coverage": None}, "coverage"),
    ],
)
def test_what_is_no_evaluation_of_a_signal_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=f"^mine: .*{why}"):
        evaluation_html({"mine": signal(**changes)})

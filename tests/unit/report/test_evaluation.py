from __future__ import annotations

from typing import Any

import pytest

from langchain_hybridflow.errors import ConfigurationError, InputError
from langchain_hybridflow.report import RouterEvaluation, evaluation_html
from tests.unit.report.evaluations import evaluation, figures
from tests.unit.report.pages import PAYLOADS, Page, assert_harmless


def test_page_of_one_router_has_figures_curve_calibration_and_categories() -> None:
    page = assert_harmless(evaluation_html({"mine": evaluation()}))
    wanted = {"Router mine", "Accuracy against cost", "Figures", "Calibration", "By category"}
    assert wanted <= set(page.texts)
    assert {"0.620", "90 %: 0.580 to 0.660", "35.0", "law", "math", "as saved"} <= set(page.texts)
    assert "Note: 3 rows were seen before." in page.texts
    assert len(page.named("svg")) == 3


def test_several_routers_are_drawn_together() -> None:
    page = assert_harmless(evaluation_html({"a": evaluation(), "b": evaluation(apgr=0.7)}))
    assert {"2 routers compared", "a", "b", "a, once the edge has answered"} <= set(page.texts)
    assert "a: Note: 3 rows were seen before." in page.texts


def test_what_is_not_there_is_left_out_or_a_dash() -> None:
    plain = figures(apgr=None, cpt50=None, cpt80=None) | {
        "curve": {"cloud_share": [0, 1], "accuracy": [0.8, 0.4]}
    }
    page = assert_harmless(evaluation_html({"worse": plain}))
    assert "-" in page.texts
    assert "Calibration" not in page.texts
    assert len(page.named("svg")) == 1


def test_names_and_warnings_are_harmless() -> None:
    categories = {payload: figures() for payload in PAYLOADS}
    hostile = evaluation(warnings=list(PAYLOADS), by_category=categories)
    page = assert_harmless(evaluation_html(dict.fromkeys(PAYLOADS[:3], hostile)))
    assert PAYLOADS[0] in page.text
    assert_harmless(evaluation_html({"$x^2$ _": hostile}, title=PAYLOADS[1]))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rows": 0}, "rows"),
        ({"apgr": float("nan")}, "apgr"),
        ({"edge_accuracy": 40}, "edge_accuracy"),
        ({"curve": {"cloud_share": [0, 1], "accuracy": [1]}}, "differ in length"),
        ({"curve": {"cloud_share": [0, 1], "accuracy": []}}, "differ in length"),
        ({"gains": {"edges": [0, 1], "counts": [1, 2]}}, "too few ends"),
        (
            {"reliability": [{"rows": 1, "predicted": 0, "observed": 0, "error": 1e308}]},
            "reliability.0.error",
        ),
        ({"curve": None}, "curve"),
    ],
)
def test_what_is_no_evaluation_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=f"^mine: .*{why}"):
        evaluation_html({"mine": evaluation(**changes)})


@pytest.mark.parametrize("value", [None, [], "x", 5])
def test_other_json_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="hybridflow evaluate --json"):
        RouterEvaluation.of(value)


def test_run_is_told_from_an_evaluation() -> None:
    with pytest.raises(InputError, match="hybridflow evaluate --json"):
        evaluation_html({"run": {"format": "hybridflow-run"}})


def test_no_evaluations_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least one"):
        evaluation_html({})


def test_text_is_what_the_reader_of_the_page_sees() -> None:
    assert "random is 0.5" in Page(evaluation_html({"a": evaluation()})).text

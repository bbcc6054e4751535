"""A calibrator as data: what it foresees, what it keeps, and what it refuses to be read from."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.errors import ArtifactError, ConfigurationError
from langchain_hybridflow.learning.confidence import (
    ConfidenceCalibrator,
    ConfidencePoint,
    IsotonicCurve,
    PlattCurve,
)

POINT = ConfidencePoint(min_score=0.5, cloud_share=0.25, tied_cloud_share=0.5)
ISOTONIC = ConfidenceCalibrator(
    curve=IsotonicCurve((0.2, 0.4, 0.9), (0.1, 0.5, 0.8)),
    point=POINT,
    signal={"name": "SampleAgreement", "samples": 5},
    on_missing="escalate",
    facts={"rows": 300, "notes": ["few"]},
)
PLATT = ConfidenceCalibrator(curve=PlattCurve(3.0, -1.0), point=POINT)

finite = st.floats(-1e6, 1e6)
knots = st.lists(
    st.tuples(finite, st.floats(0, 1)), min_size=1, max_size=8, unique_by=lambda k: k[0]
)


@given(knots, st.lists(finite, min_size=2, max_size=20))
def test_isotonic_curve_never_falls(points: list[tuple[float, float]], at: list[float]) -> None:
    scores = tuple(sorted(score for score, _ in points))
    curve = IsotonicCurve(scores, tuple(sorted(p for _, p in points)))
    found = [curve.at(one) for one in sorted(at)]
    assert found == sorted(found)
    assert all(0 <= one <= 1 for one in found)


@given(st.floats(0, 1e3), st.floats(-1e3, 1e3), st.lists(finite, min_size=2, max_size=20))
def test_sigmoid_never_falls(slope: float, intercept: float, at: list[float]) -> None:
    found = [PlattCurve(slope, intercept).at(one) for one in sorted(at)]
    assert found == sorted(found)
    assert all(0 <= one <= 1 for one in found)


def test_curve_is_level_beyond_its_knots() -> None:
    assert (ISOTONIC.probability(-9), ISOTONIC.probability(9)) == (0.1, 0.8)


def test_single_knot_makes_every_answer_alike() -> None:
    curve = IsotonicCurve((0.5,), (0.7,))
    assert {curve.at(score) for score in (0.0, 0.5, 1.0)} == {0.7}


@pytest.mark.parametrize("one", [ISOTONIC, PLATT], ids=["isotonic", "platt"])
def test_calibrator_comes_back_from_its_file(one: ConfidenceCalibrator, tmp_path: Path) -> None:
    one.save(tmp_path / "c.json")
    assert ConfidenceCalibrator.load(tmp_path / "c.json") == one


def test_calibrator_is_loaded_and_used_without_numpy_and_sklearn(tmp_path: Path) -> None:
    ISOTONIC.save(tmp_path / "c.json")
    code = (
        "import sys\n"
        "sys.modules['numpy'] = sys.modules['sklearn'] = sys.modules['scipy'] = None\n"
        "from langchain_hybridflow.verify import ConfidenceVerifier\n"
        f"found = ConfidenceVerifier.load({str(tmp_path / 'c.json')!r}).calibrator\n"
        "print(round(found.probability(0.3), 9), found.keeps(0.9))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (run.stdout.split(), run.returncode) == (["0.3", "True"], 0), run.stderr


def changed(**facts: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda plain: plain | facts


def without(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda plain: {key: value for key, value in plain.items() if key != name}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (changed(format="something"), "no calibrator"),
        (changed(version=99), "version 99"),
        (changed(method="magic"), "neither isotonic nor platt"),
        (changed(curve={"scores": [1.0, 0.0], "probabilities": [0.1, 0.2]}), "must rise"),
        (changed(curve={"scores": [0.0, 1.0], "probabilities": [0.2, 0.1]}), "must not fall"),
        (changed(curve={"scores": [0.0], "probabilities": [1.5]}), "in 0..1"),
        (changed(curve={"scores": [0.0], "probabilities": []}), "1 scores and 0"),
        (changed(curve={"scores": ["a"], "probabilities": [0.1]}), "finite number"),
        (changed(curve={"scores": [10**400], "probabilities": [0.1]}), "finite number"),
        (changed(curve={"scores": [float("nan")], "probabilities": [0.1]}), "finite number"),
        (changed(curve=[]), "no object"),
        (changed(point={"min_score": True, "cloud_share": 0.1}), "finite number"),
        (changed(point={"min_score": 0.1, "cloud_share": 1.1}), "Shares"),
        (changed(point={"min_score": 0.1}), "cloud_share"),
        (changed(on_missing="guess"), "on_missing"),
        (without("signal"), "signal"),
        (without("curve"), "curve"),
    ],
)
def test_bad_file_is_refused_with_the_reason(
    change: Callable[[dict[str, Any]], dict[str, Any]], why: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(change(ISOTONIC.to_json())))
    with pytest.raises(ArtifactError, match=why) as caught:
        ConfidenceCalibrator.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[1]", b'"x"', b"[" * 100_000])
def test_file_that_is_no_calibrator_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"c\.json"):
        ConfidenceCalibrator.load(tmp_path / "c.json")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="No such file"):
        ConfidenceCalibrator.load(tmp_path / "none.json")


def test_falling_sigmoid_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="slope"):
        PlattCurve(-1.0, 0.0)


def test_answer_without_a_score_follows_its_rule() -> None:
    assert (PLATT.keeps(None), ISOTONIC.keeps(None)) == (True, False)


def test_point_without_a_score_keeps_everything() -> None:
    assert ConfidencePoint(min_score=None, cloud_share=0.0).keeps(-1e300)


def test_tied_answers_go_by_a_lot_that_the_question_draws() -> None:
    questions = [f"What is {number} + 1?" for number in range(2_000)]
    kept = [POINT.keeps(0.5, question=one) for one in questions]
    assert sum(kept) / len(kept) == pytest.approx(0.5, abs=0.04)
    assert kept == [POINT.keeps(0.5, question=one) for one in questions]


def test_lots_decide_nothing_beside_the_tie() -> None:
    questions = [str(number) for number in range(50)]
    assert all(POINT.keeps(0.51, question=one) for one in questions)
    assert not any(POINT.keeps(0.49, question=one) for one in questions)

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning import decision_log
from langchain_hybridflow.learning.decision_log import LoggedDecision, read_log, write_log

ONE = LoggedDecision(
    decision_id="1",
    tier="cloud",
    propensity=0.9,
    edge_quality=0.25,
    cloud_quality=0.5,
    context=(1.0, 0.5),
    threshold=0.1,
    cost_usd=0.002,
    at=1.5,
)


def test_log_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    two = replace(ONE, decision_id="2", context=(), threshold=None, cost_usd=None, at=None)
    assert write_log(path, [ONE, two]) == 2
    assert read_log(path) == [ONE, two]


def test_last_line_counts_when_a_reward_comes_later(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    two, rewarded = replace(ONE, decision_id="2"), replace(ONE, reward=1.0)
    write_log(path, [ONE, two])
    write_log(path, [rewarded])
    assert read_log(path) == [rewarded, two]


def test_residual_is_the_reward_beyond_what_was_foreseen_of_the_tier() -> None:
    assert replace(ONE, reward=1.0).residual == 0.5
    assert replace(ONE, tier="edge", reward=1.0).residual == 0.75
    assert ONE.residual is None


def test_documented_keys_are_the_real_ones() -> None:
    text = decision_log.__doc__ or ""
    assert all(f"`{key}`" in text for key in ONE.to_json())


@pytest.mark.parametrize(
    "change",
    [
        {"propensity": 0.0},
        {"propensity": 1.5},
        {"reward": 1.1},
        {"edge_quality": float("nan")},
        {"tier": "fog"},
        {"decision_id": ""},
        {"cost_usd": float("inf")},
    ],
    ids=str,
)
def test_decision_is_refused_when_a_value_is_out_of_range(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        replace(ONE, **change)


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "{}", json.dumps({"format": 2}), json.dumps(ONE.to_json() | {"more": 1})],
)
def test_log_is_refused_with_the_number_of_the_line_that_is_none(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log.jsonl"
    write_log(path, [ONE])
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(ConfigurationError, match=r"log\.jsonl, line 3"):
        read_log(path)

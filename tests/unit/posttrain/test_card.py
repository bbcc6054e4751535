"""The card of a post-trained model, and the template that says its instructions."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from langchain_hybridflow.posttrain import CloudCounts, PosttrainResult, PosttrainSettings
from langchain_hybridflow.posttrain.card import model_card
from langchain_hybridflow.posttrain.finishing import with_instructions

SETTINGS = PosttrainSettings(
    model="org/small", data="/data/secret-place/train.jsonl", out="run", share=0.25, steps=9
)
RESULT = PosttrainResult(
    model_dir=Path("run/model"),
    steps=9,
    metrics={"local_accuracy": 0.25, "overall_accuracy": 0.75},
    cloud=CloudCounts(asked=8, bought=5, failed=1, usd=Decimal("0.0123")),
    stopped=None,
)


def card(
    settings: PosttrainSettings = SETTINGS,
    result: PosttrainResult = RESULT,
    *,
    cloud: str | None = "big",
    instructions: str = "",
) -> str:
    return model_card(settings, result, cloud=cloud, instructions=instructions)


def test_card_says_share_accuracy_calls_and_cost() -> None:
    text = card()
    assert "| cloud share | at most 25.0% of the prompts (rho 0.3333) |" in text
    assert "| responses that answer, and are right | 25.0% |" in text
    assert "| right, with the cloud's answer to those that ask | 75.0% |" in text
    assert "| cloud calls | 5 bought, 1 failed |" in text
    assert "| cost of the cloud | 0.0123 USD |" in text


def test_card_begins_with_what_the_hub_reads() -> None:
    _, head, _ = card().split("---\n", 2)
    assert yaml.safe_load(head)["base_model"] == "org/small"


def test_card_calls_a_cost_unknown_that_nobody_knows() -> None:
    counts = CloudCounts(bought=5, usd=None)
    assert "| cost of the cloud | unknown |" in card(result=replace(RESULT, cloud=counts))


def test_card_tells_names_and_no_places(tmp_path: Path) -> None:
    base = tmp_path / "my-base"
    base.mkdir()
    text = card(replace(SETTINGS, model=str(base)))
    assert "# my-base, post-trained" in text
    assert "| data | train.jsonl, verifier exact |" in text
    assert str(tmp_path) not in text
    assert "secret-place" not in text


def test_card_quotes_the_instructions_only_if_there_are_any() -> None:
    assert "    Answer or ask.\n    Think first." in card(
        instructions="Answer or ask.\nThink first."
    )
    assert "system message" not in card()


def test_card_says_that_nothing_was_measured_when_no_step_was_logged() -> None:
    assert "Nothing: no step was logged." in card(result=replace(RESULT, metrics={}))


@pytest.mark.parametrize("instructions", ["", "  \n"])
def test_template_stays_as_it_is_without_instructions(instructions: str) -> None:
    assert with_instructions("{{ messages }}", instructions) == "{{ messages }}"

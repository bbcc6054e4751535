"""What a response is worth: the tables of the paper, and what has no worth at all."""

from __future__ import annotations

from math import inf, nan

import pytest

from langchain_hybridflow.answer_or_ask import ASK_MARKER, read_reply
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain.rewards import RewardScheme, Status

ANSWER = read_reply("<think>6 * 7</think><answer>42</answer>")
BARE = read_reply("42")
ASKS = read_reply(f"<think>hard</think>{ASK_MARKER}")


@pytest.mark.parametrize(
    ("own", "well_formed", "v1", "v4"),
    [
        ("correct", True, 2.2, 1.0),
        ("correct", False, 2.0, 1.0),
        ("wrong", True, 0.2, 0.0),
        ("wrong", False, 0.0, 0.0),
        ("unverified", True, None, None),
    ],
)
def test_answer_is_rewarded_as_in_the_paper(
    own: Status, well_formed: bool, v1: float | None, v4: float | None
) -> None:
    reply = ANSWER if well_formed else BARE
    found = [RewardScheme.of(form).reward(reply, own=own) for form in ("v1", "v4")]
    assert found == [v1, v4]


@pytest.mark.parametrize(
    ("cloud", "reward"), [("correct", 0.5), ("wrong", 0.0), ("unverified", None), (None, None)]
)
@pytest.mark.parametrize("form", ["v1", "v4"])
def test_asking_is_rewarded_by_what_the_cloud_says(
    form: str, cloud: Status | None, reward: float | None
) -> None:
    assert RewardScheme.of(form).reward(ASKS, cloud=cloud) == reward


def test_asking_is_not_rewarded_for_an_answer_written_before_it() -> None:
    reply = read_reply(f"<think>6 * 7</think><answer>42</answer>{ASK_MARKER}")
    assert RewardScheme.of("v4").reward(reply, own="correct", cloud="wrong") == 0


@pytest.mark.parametrize("cloud", ["correct", "wrong", "unverified", None])
def test_asking_is_worth_nothing_in_task_tuning_whatever_the_cloud_says(
    cloud: Status | None,
) -> None:
    assert RewardScheme.of("v1").without_help().reward(ASKS, cloud=cloud) == 0


def test_own_values_replace_those_of_the_form() -> None:
    scheme = RewardScheme.of("v1", answer=3.0, help=0.25, format=0.0)
    assert (scheme.answer, scheme.help, scheme.format) == (3.0, 0.25, 0.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"answer": -1.0}, "answer must be >= 0"),
        ({"help": nan}, "help must be >= 0"),
        ({"format": inf}, "format must be >= 0"),
        ({"answer": 0.5, "help": 0.5}, "would learn to ask always"),
    ],
)
def test_scheme_refuses_values_that_cannot_be(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RewardScheme(**values)


def test_form_is_refused_when_there_is_none_of_that_name() -> None:
    with pytest.raises(ConfigurationError, match="choose v1 or v4"):
        RewardScheme.of("v2")  # type: ignore[arg-type]


def test_v4_refuses_a_reward_for_the_format() -> None:
    with pytest.raises(ConfigurationError, match="v4 knows no reward for the format"):
        RewardScheme.of("v4", format=0.1)

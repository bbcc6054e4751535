"""Errors carry their facts, and keep them on the way through other processes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from decimal import Decimal

import pytest
from langgraph.types import RetryPolicy

from langchain_hybridflow import errors
from langchain_hybridflow.errors import (
    BudgetExceeded,
    CloudDeclined,
    CloudShareExceeded,
    ConfigurationError,
    DeadlineExceeded,
    HybridFlowError,
    LedgerUnavailable,
    MissingExtraError,
    ModelCallError,
    PlanError,
    SubtaskError,
    UnknownPriceError,
)
from langchain_hybridflow.plan import PlanIssue

EXAMPLES = [
    ConfigurationError("a parameter"),
    MissingExtraError("The picture", "plot"),
    PlanError("Not a plan:", [PlanIssue("cycle", "2", "1 -> 2 -> 1")]),
    BudgetExceeded(dimension="usd", requested=2, remaining=1, limit=3, scope="run"),
    CloudShareExceeded(max_share=Decimal("0.3"), burst=9, remaining=0, held=2, scope="cloud-share"),
    UnknownPriceError("gpt-x"),
    LedgerUnavailable("redis://127.0.0.1:6379/0", "connection refused"),
    ModelCallError("No tier could answer", tier="edge", partial_text="Once"),
    CloudDeclined("3"),
    SubtaskError("3", "no answer"),
    DeadlineExceeded("The run", 1.5),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "travel", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_error_keeps_its_message_and_facts_when_it_travels(
    error: HybridFlowError, travel: Callable[[HybridFlowError], HybridFlowError]
) -> None:
    arrived = travel(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)


def test_every_error_is_in_one_tree() -> None:
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), HybridFlowError)


def test_langgraph_does_not_repeat_what_fails_on_purpose() -> None:
    assert not RetryPolicy().retry_on(HybridFlowError("no"))


@pytest.mark.parametrize(
    "url",
    [
        "redis://ann:s3cret@db:6379/0",
        "redis://:s3/c?r#et@db:6379/0",
        "postgresql://db:6379/0?user=a@b&password=s3cret",
        "postgresql://db:6379/0?password=s3cret",
    ],
)
def test_unavailable_ledger_keeps_the_password_to_itself(url: str) -> None:
    error = LedgerUnavailable(url, f"cannot reach {url}")
    for shown in (str(error), repr(error), str(vars(error))):
        assert "s3" not in shown
    assert error.url.startswith(url.partition("//")[0])

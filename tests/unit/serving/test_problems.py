from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from langchain_hybridflow import Budget, Limits, Scope, Window
from langchain_hybridflow.errors import (
    BudgetExceeded,
    CapabilityError,
    CircuitOpen,
    CloudShareExceeded,
    DeadlineExceeded,
    InputError,
    LedgerUnavailable,
    ModelCallError,
    PolicyViolation,
    SubtaskError,
)
from langchain_hybridflow.leaving import ClientGone
from langchain_hybridflow.serving import Problem, Refused, Service, problem_of

SECRET = "the prompt"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()


def exceeded(scope: str) -> BudgetExceeded:
    return BudgetExceeded(dimension="cloud_calls", requested=1, remaining=0, limit=8, scope=scope)


def caused(cause: Exception) -> ModelCallError:
    error = ModelCallError(f"No tier could answer: {SECRET}", tier="cloud")
    error.__cause__ = cause
    return error


class BadRequestError(Exception):
    status_code = 400


class ContextOverflowError(Exception):
    """As langchain-core's is called."""


class APITimeoutError(Exception):
    """As a client's is called."""


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Refused(418, "teapot", "No coffee."), 418, "teapot"),
        (InputError("The question is empty."), 400, "invalid_input"),
        (CapabilityError({"edge": ("tool calling",)}), 400, "unsupported"),
        (
            CapabilityError({"edge": ("room for a prompt of 9 tokens or more (it takes 4)",)}),
            400,
            "context_length_exceeded",
        ),
        (PolicyViolation("an address"), 403, "policy_violation"),
        (DeadlineExceeded("The run", 3.0), 504, "timeout"),
        (LedgerUnavailable("redis://host", "refused"), 503, "ledger_unavailable"),
        (CircuitOpen("cloud", failures=5, retry_in_s=12.3), 503, "upstream_unavailable"),
        (caused(ConnectionRefusedError(SECRET)), 503, "upstream_unavailable"),
        (caused(BadRequestError(SECRET)), 400, "invalid_request"),
        (caused(ContextOverflowError(SECRET)), 400, "context_length_exceeded"),
        (caused(APITimeoutError(SECRET)), 504, "timeout"),
        (caused(TimeoutError(SECRET)), 504, "timeout"),
        (SubtaskError("2", SECRET), 503, "upstream_unavailable"),
        (ClientGone(), 499, "client_closed_request"),
        (HTTPException(413, "Content Too Large"), 413, "request_too_large"),
        (exceeded("budget"), 402, "budget_exhausted"),
        (ZeroDivisionError(SECRET), 500, "server_error"),
    ],
)
def test_error_becomes_a_status_and_a_reason_without_the_prompt(
    error: Exception, status: int, code: str
) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.code) == (status, code)
    assert SECRET not in problem.message


def test_error_that_was_merely_being_handled_does_not_count() -> None:
    error = ZeroDivisionError()
    error.__context__ = InputError("The question is empty.")
    assert problem_of(error).status == 500


@pytest.mark.parametrize(
    ("scope", "wait_s"), [("budget", 12 * 3600), ("user", 1800), ("tenant", 300), ("run", None)]
)
def test_client_is_told_when_the_budget_begins_anew(scope: str, wait_s: int | None) -> None:
    budget = Budget(
        max_cloud_calls=8,
        window="day",
        scopes=[
            Scope("user", Limits(cloud_calls=8), window="1h"),
            Scope("tenant", Limits(cloud_calls=8), window=Window("1h", rolling=True)),
        ],
    )
    now = NOON + (1800 if scope == "user" else 0)
    problem = problem_of(exceeded(scope), budget=budget, now=lambda: now)
    assert problem.status == (402 if wait_s is None else 429)
    assert problem.retry_after_s == wait_s
    assert problem.headers().get("Retry-After") == (None if wait_s is None else str(wait_s))
    assert problem.headers()["x-should-retry"] == "false"
    assert problem.kind == "insufficient_quota"


@pytest.mark.parametrize(
    ("scope", "whose"), [("cloud-share", "server"), ("user-cloud-share", "user")]
)
def test_client_is_told_whose_share_the_cloud_has(scope: str, whose: str) -> None:
    error = CloudShareExceeded(max_share=Decimal("0.3"), burst=8, remaining=0, held=1, scope=scope)
    problem = problem_of(error, budget=Budget(max_cloud_share=0.3))
    assert (problem.status, problem.code) == (429, "budget_exhausted")
    assert f"the requests of this {whose} just now" in problem.message
    assert "0.3" not in problem.message


@pytest.mark.parametrize(("scope", "shown"), [("user", True), ("tenant", False), ("budget", False)])
def test_numbers_are_shown_to_whom_they_belong_only(scope: str, shown: bool) -> None:
    assert ("1 cloud calls are needed and 0 left" in problem_of(exceeded(scope)).message) is shown


def test_body_can_be_read_by_clients_of_openai_and_of_fastapi() -> None:
    body: dict[str, Any] = Problem(status=404, code="not_found", message="No.").body()
    assert body["detail"] == body["error"]["message"] == "No."
    assert body["error"]["type"] == "invalid_request_error"


def test_browser_is_asked_for_the_token_as_a_password() -> None:
    headers = Problem(status=401, code="invalid_api_key", message="No.").headers()
    assert headers["WWW-Authenticate"].startswith("Basic ")


def test_path_of_a_request_cannot_forge_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    path = "/page\r\nERROR: \x1b[31mforged"
    scope = {"type": "http", "path": path, "headers": [], "server": ("127.0.0.1", 80)}
    Service(Budget()).problem(ZeroDivisionError(), Request(scope))
    (record,) = caplog.records
    assert record.getMessage().isprintable()

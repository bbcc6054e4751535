from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_openai import ChatOpenAI
from pydantic import Field, SecretStr

from langchain_hybridflow.calls import describe_error
from langchain_hybridflow.calls.failures import answered, may_have_cost, status_of
from langchain_hybridflow.errors import DeadlineExceeded
from langchain_hybridflow.testing import ScriptedChatModel

REQUEST = httpx.Request("POST", "http://127.0.0.1/v1")


class StatusError(Exception):
    """The shape that the clients of the large providers share."""

    def __init__(self, status_code: int) -> None:
        self.status_code = status_code
        super().__init__(f"status {status_code}")


def http_error(status: int) -> httpx.HTTPStatusError:
    """As the clients raise it that talk httpx themselves, Mistral's for one."""
    response = httpx.Response(status, request=REQUEST)
    return httpx.HTTPStatusError(f"status {status}", request=REQUEST, response=response)


class CodeError(Exception):
    """The shape of Google's errors."""

    status = "UNAVAILABLE"

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"code {code}")


class BotoError(Exception):
    """The shape of the errors of AWS."""

    def __init__(self, status: int) -> None:
        self.response = {"Error": {}, "ResponseMetadata": {"HTTPStatusCode": status}}
        super().__init__(f"status {status}")


class AiohttpError(Exception):
    """The shape of the errors of aiohttp, whose `code` is out of use."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"status {status}")

    @property
    def code(self) -> int:
        raise DeprecationWarning


class Overloaded(Exception):
    """A provider's error of which nothing is known."""


class KeyedChatModel(ScriptedChatModel):
    api_key: SecretStr | None = None
    keys: dict[str, Any] = Field(default_factory=dict)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


# ------------------------------------------------------------------------------ may_have_cost


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("refused"),
        httpx.ConnectError("no route", request=REQUEST),
        httpx.ConnectTimeout("slow", request=REQUEST),
        httpx.PoolTimeout("busy", request=REQUEST),
        httpx.UnsupportedProtocol("no scheme", request=REQUEST),
        httpx.LocalProtocolError("newline in a header", request=REQUEST),
        socket.gaierror("unknown host"),
        caused(ConnectionError("wrapped"), httpx.ConnectError("refused")),
        StatusError(429),
        StatusError(401),
        StatusError(500),
        ValueError("unknown message type"),
        Overloaded("busy"),
    ],
    ids=repr,
)
def test_error_costs_nothing_when_no_answer_was_made(error: Exception) -> None:
    assert not may_have_cost(error)


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        DeadlineExceeded("The call", 1.0),
        httpx.ReadTimeout("slow", request=REQUEST),
        httpx.WriteTimeout("slow", request=REQUEST),
        httpx.ReadError("reset", request=REQUEST),
        httpx.WriteError("reset", request=REQUEST),
        httpx.CloseError("closed", request=REQUEST),
        httpx.RemoteProtocolError("cut", request=REQUEST),
        httpx.DecodingError("bad gzip", request=REQUEST),
        ConnectionResetError("reset"),
        BrokenPipeError("pipe"),
        EOFError("ended"),
        caused(RuntimeError("wrapped"), httpx.ReadTimeout("slow")),
        json.JSONDecodeError("half a body", "{", 1),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        StatusError(200),
        StatusError(408),
        StatusError(504),
        StatusError(524),
    ],
    ids=repr,
)
def test_error_may_have_cost_when_the_model_may_have_worked(error: Exception) -> None:
    assert may_have_cost(error)


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        SystemExit(1),
        GeneratorExit(),
        asyncio.CancelledError(),
        BaseException(),
    ],
    ids=repr,
)
def test_call_that_was_broken_off_may_have_cost(error: BaseException) -> None:
    assert may_have_cost(error)


def test_error_that_was_being_handled_before_the_call_says_nothing_about_it() -> None:
    older, error = ConnectionRefusedError("an older story"), TimeoutError("this call")
    error.__context__ = older
    assert may_have_cost(error, handled=older)
    assert not may_have_cost(error)


def test_hidden_context_of_an_error_counts() -> None:
    error = ConnectionError("Is the server running?")
    error.__context__ = httpx.ConnectError("refused")
    error.__suppress_context__ = True  # as `raise ... from None` does it
    assert not may_have_cost(error)


def test_chain_that_bites_its_tail_is_read_once() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert not may_have_cost(first)


# ------------------------------------------------------------------------------------- statuses

status_shapes = pytest.mark.parametrize(
    "shape", [StatusError, http_error, CodeError, BotoError, AiohttpError]
)


@pytest.mark.parametrize(
    "body",
    ["<html>Bad Gateway</html>", {"choices": None}, {"nonsense": 1}],
    ids=["page", "no choices", "something else"],
)
def test_answer_that_openais_integration_cannot_read_may_have_cost_and_is_an_outage(
    body: Any,
) -> None:
    model = ChatOpenAI(model="m", api_key=SecretStr("none"))
    with pytest.raises(Exception) as caught:  # noqa: PT011 - three types
        model._create_chat_result(body)
    assert (may_have_cost(caught.value), answered(caught.value)) == (True, False)


@status_shapes
@pytest.mark.parametrize(
    ("status", "cost", "is_up"),
    [(404, False, True), (429, False, False), (503, False, False), (504, True, False)],
)
def test_status_is_read_wherever_a_client_puts_it(
    shape: Callable[[int], Exception], status: int, cost: bool, is_up: bool
) -> None:
    error = shape(status)
    assert (status_of(error), may_have_cost(error), answered(error)) == (status, cost, is_up)


@status_shapes
def test_status_is_read_when_it_stands_on_the_cause(shape: Callable[[int], Exception]) -> None:
    assert status_of(caused(RuntimeError("wrapped"), shape(503))) == 503


@pytest.mark.parametrize("code", [7, 1006, True, "503", None], ids=repr)
def test_code_is_no_status_when_it_is_none_of_http(code: Any) -> None:
    assert status_of(CodeError(code)) is None


# ------------------------------------------------------------------------------ describe_error


def test_description_is_one_line_with_the_type() -> None:
    assert describe_error(ValueError("two\n  lines")) == "ValueError: two lines"


def test_description_is_the_type_alone_when_there_is_no_message() -> None:
    assert describe_error(TimeoutError()) == "TimeoutError"


def test_description_is_short_when_the_message_is_long() -> None:
    assert len(describe_error(ValueError("x" * 10**6))) < 350


@pytest.mark.parametrize(
    "key",
    [
        "sk-CANARY-0123456789",
        "sk-proj-CANARY_0123456789",
        "sk-ant-api03-CANARY0123456789",
        "gsk_CANARY0123456789",
        "hf_CANARY0123456789",
        "xai-CANARY0123456789",
        "AIzaCANARY0123456789abcdefghijklmnopqrs",
        "Bearer CANARY0123456789",
        "Bearer: CANARY0123456789",
    ],
)
def test_description_blanks_what_looks_like_a_key(key: str) -> None:
    described = describe_error(ValueError(f"Incorrect API key provided: '{key}'. Try again."))
    assert "CANARY" not in described
    assert described.endswith("Try again.")


@pytest.mark.parametrize(
    "text",
    [
        "key not found in cache",
        "task-force is on",
        "a risk-averse model",
        "the api is down",
        "bearer",
    ],
)
def test_description_keeps_what_is_no_key(text: str) -> None:
    assert describe_error(ValueError(text)) == f"ValueError: {text}"


def test_description_blanks_the_secrets_of_the_models() -> None:
    model = KeyedChatModel(responses=["x"], api_key=SecretStr("CANARY without any form"))
    described = describe_error(ValueError("bad CANARY without any form!"), models=[model])
    assert described == "ValueError: bad ***!"


def test_description_blanks_secrets_inside_a_models_containers() -> None:
    model = KeyedChatModel(responses=["x"], keys={"eu": [SecretStr("CANARY-eu-region")]})
    assert "CANARY" not in describe_error(ValueError("CANARY-eu-region is bad"), models=[model])


def test_description_blanks_a_secret_that_stands_where_the_text_is_cut() -> None:
    model = KeyedChatModel(responses=["x"], api_key=SecretStr("CANARY" * 20))
    text = "x" * 295 + "CANARY" * 20
    assert "CANARY" not in describe_error(ValueError(text), models=[model])


def test_description_is_not_blanked_to_nothing_by_the_placeholder_key_of_local_servers() -> None:
    model = KeyedChatModel(responses=["x"], api_key=SecretStr("none"))
    described = describe_error(ValueError("none of the tiers answered"), models=[model])
    assert described == "ValueError: none of the tiers answered"


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_description_of_an_error_that_cannot_be_printed_is_its_type() -> None:
    assert describe_error(Unprintable()) == "Unprintable"


@given(st.text())
def test_description_is_one_line_for_any_text(text: str) -> None:
    assert len(describe_error(ValueError(text)).splitlines()) == 1

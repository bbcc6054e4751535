"""Which failed calls are tried again, and when."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from email.utils import formatdate

import httpx
import pytest

from langchain_hybridflow.calls.retries import MAX_WAIT_S, retry_wait_s


@dataclass
class Response:
    headers: dict[str, str] = field(default_factory=dict)


class StatusError(Exception):
    def __init__(self, status_code: int, **headers: str) -> None:
        self.status_code = status_code
        self.response = Response({key.replace("_", "-"): value for key, value in headers.items()})
        super().__init__(f"status {status_code}")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
def test_retry_waits_longer_each_time_when_the_server_says_not_now(status: int) -> None:
    waits = [retry_wait_s(StatusError(status), tries=tries) for tries in (1, 3, 6, 60)]
    assert all(wait is not None and 0 < wait <= MAX_WAIT_S for wait in waits)
    assert waits[0] < waits[1] < waits[2]  # type: ignore[operator]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 422, 504])
def test_retry_is_refused_when_it_would_not_help_or_may_have_been_billed(status: int) -> None:
    assert retry_wait_s(StatusError(status), tries=1) is None


@pytest.mark.parametrize(
    "error", [TimeoutError(), ConnectionResetError(), ConnectionRefusedError(), ValueError()]
)
def test_retry_is_refused_when_there_was_no_answer(error: Exception) -> None:
    assert retry_wait_s(error, tries=1) is None


def test_retry_waits_as_asked_when_the_server_says_how_long() -> None:
    assert retry_wait_s(StatusError(429, retry_after="2.5"), tries=1) == 2.5
    date = formatdate(time.time() + 5, usegmt=True)
    wait_s = retry_wait_s(StatusError(429, retry_after=date), tries=1)
    assert wait_s is not None
    assert 2 < wait_s <= 5


def test_retry_is_refused_when_the_server_asks_for_too_long() -> None:
    assert retry_wait_s(StatusError(429, retry_after="3600"), tries=1) is None


@pytest.mark.parametrize("nonsense", ["soon", "-3", ""])
def test_retry_waits_some_time_when_the_header_is_nonsense(nonsense: str) -> None:
    wait_s = retry_wait_s(StatusError(503, retry_after=nonsense), tries=1)
    assert wait_s is not None
    assert 0 <= wait_s <= MAX_WAIT_S


def test_retry_waits_as_asked_when_another_client_says_it_in_its_own_way() -> None:
    request = httpx.Request("POST", "http://127.0.0.1/v1")
    response = httpx.Response(503, headers={"Retry-After": "1.5"}, request=request)
    plain = httpx.HTTPStatusError("busy", request=request, response=response)
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = plain
    amazons = Exception("busy")
    metadata = {"HTTPStatusCode": 503, "HTTPHeaders": {"retry-after": "1.5"}}
    amazons.response = {"ResponseMetadata": metadata}  # type: ignore[attr-defined]
    assert [retry_wait_s(error, tries=1) for error in (plain, wrapped, amazons)] == [1.5] * 3

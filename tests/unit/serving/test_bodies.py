from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.requests import Request

from langchain_hybridflow.serving import Refused
from langchain_hybridflow.serving.bodies import MAX_DEPTH, json_object


def request(body: bytes) -> Request:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def nested(levels: int) -> bytes:
    """An object around arrays, as many levels in all."""
    return b'{"a": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


async def test_object_is_read_with_all_the_numbers_that_json_has_room_for() -> None:
    found = await json_object(request(b'{"a": [1, -9223372036854775808, 0.5, 1e300]}'))
    assert found == {"a": [1, -(2**63), 0.5, 1e300]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"a": NaN}',
        b'{"a": 9223372036854775808}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5_000 + b"}",
        b'{"a": "\\ud800"}',
        b"\xff",
        nested(MAX_DEPTH + 1),
        nested(100_000),
    ],
)
async def test_body_that_nobody_could_handle_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as raised:
        await json_object(request(body))
    assert (raised.value.problem.status, raised.value.problem.code) == (400, "invalid_json")


async def test_body_may_be_nested_as_deep_as_anybody_needs() -> None:
    assert await json_object(request(nested(MAX_DEPTH)))


async def test_body_that_does_not_come_is_not_waited_for() -> None:
    async def receive() -> MutableMapping[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    slow = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(Refused) as raised:
        await json_object(slow, within_s=0)
    assert raised.value.problem.status == 408
    assert raised.value.problem.headers()["Connection"] == "close"

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest
from starlette.applications import Starlette

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.serving import RateLimits, check_address, check_workers
from langchain_hybridflow.serving.gate import is_loopback
from tests.unit.serving.servekit import (
    ADA,
    HELLO,
    TOKEN,
    application,
    client_of,
    completed,
    routed,
)

BODY = {"model": "hybridflow", "messages": HELLO}
AS_PASSWORD = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()


async def status(app: Starlette, headers: Mapping[str, str | bytes], **client: Any) -> int:
    async with client_of(app, headers=headers, **client) as asking:
        return (await asking.post("/v1/chat/completions", json=BODY)).status_code


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (f"Basic {AS_PASSWORD}", 200),
        (f"Bearer {TOKEN}x", 401),
        (f"Basic {base64.b64encode(TOKEN.encode()).decode()}", 401),
        ("Basic \N{SNOWMAN}".encode().decode("latin-1"), 401),
        ("Bearer", 401),
        (TOKEN, 401),
        ("", 401),
    ],
)
async def test_token_opens_the_gate_and_nothing_else_does(given: str, expected: int) -> None:
    app = application({"hybridflow": routed()})
    assert (
        await status(app, {"Authorization": given.encode("latin-1")} if given else {}) == expected
    )


@pytest.mark.parametrize(
    ("client", "headers", "expected"),
    [
        ("127.0.0.1", {}, 200),
        ("::1", {}, 200),
        ("::ffff:127.0.0.1", {}, 200),
        ("192.0.2.7", {}, 403),
        ("::ffff:192.0.2.7", {}, 403),
        ("testclient", {}, 403),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.7"}, 403),
        ("127.0.0.1", {"Forwarded": "for=192.0.2.7"}, 403),
        ("127.0.0.1", {"Via": "1.1 proxy"}, 403),
        ("127.0.0.1", {"X-Forwarded-Proto": "https"}, 403),
    ],
)
async def test_without_tokens_this_machine_alone_may_ask_and_no_proxy_on_it(
    client: str, headers: dict[str, str], expected: int
) -> None:
    app = application({"hybridflow": routed()}, tokens=None)
    assert await status(app, headers, client=(client, 9)) == expected


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_body_that_a_foreign_page_could_send_is_refused(kind: str) -> None:
    async with client_of(application({"hybridflow": routed()})) as client:
        headers = {"Content-Type": kind} if kind else {}
        said = await client.post("/v1/chat/completions", content=b"{}", headers=headers)
    assert (said.status_code, said.json()["error"]["code"]) == (415, "unsupported_media_type")


async def test_user_waits_for_a_turn_when_there_were_too_many_requests(require: Any) -> None:
    require("limits")
    rates = RateLimits(2)
    app = application({"hybridflow": routed()}, rates=rates)
    async with client_of(app) as client:
        said = [await client.post("/v1/chat/completions", json=BODY) for _ in range(3)]
    assert [one.status_code for one in said] == [200, 200, 429]
    assert [one.headers["x-ratelimit-remaining-requests"] for one in said] == ["1", "0", "0"]
    assert 1 <= int(said[2].headers["retry-after"]) <= 60
    assert said[2].json()["error"]["code"] == "rate_limit_exceeded"


async def test_nobody_is_let_in_when_requests_cannot_be_counted(
    require: Any, caplog: pytest.LogCaptureFixture
) -> None:
    require("limits")
    from limits.aio.storage import MemoryStorage

    class Down(MemoryStorage):
        STORAGE_SCHEME = ["async+down"]  # noqa: RUF012 - as the library has it
        base_exceptions = ConnectionError

        async def incr(self, *_: Any, **__: Any) -> int:
            raise ConnectionError("redis://:CANARY@host")

    said = await completed(
        application({"hybridflow": routed()}, rates=RateLimits(1, storage="down://"))
    )
    assert (said.status_code, said.json()["error"]["code"]) == (503, "rate_storage_unavailable")
    assert said.headers["retry-after"]
    assert "CANARY" not in said.text + caplog.text


def test_storage_that_is_unknown_is_refused(require: Any) -> None:
    require("limits")
    with pytest.raises(ConfigurationError, match="'ftp'"):
        RateLimits(1, storage="ftp://host")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.com", ""])
def test_server_without_tokens_is_not_started_for_others(host: str) -> None:
    with pytest.raises(ConfigurationError, match="HYBRIDFLOW_TOKENS"):
        check_address(host, has_tokens=False)
    check_address(host, has_tokens=True)


def test_several_workers_are_not_started_with_a_budget_each() -> None:
    with pytest.raises(ConfigurationError, match="4 workers"):
        check_workers(4, store="memory://")
    check_workers(1, store="memory://")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_is_known_by_all_its_names(host: str) -> None:
    assert is_loopback(host)


async def test_no_websocket_is_opened() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    app = application({"hybridflow": routed()})
    scope = {"type": "websocket", "path": "/", "headers": list(ADA.items())}
    await app(scope, _nothing, send)
    assert [one["type"] for one in sent] == ["websocket.close"]


async def _nothing() -> Any:
    return {"type": "websocket.connect"}

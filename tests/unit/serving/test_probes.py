from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from starlette.middleware import Middleware

from langchain_hybridflow import Breaker, Budget
from langchain_hybridflow.errors import LedgerUnavailable
from langchain_hybridflow.serving import (
    MeasuredApp,
    Readiness,
    RequestMetrics,
    Service,
    add_probe_routes,
)
from langchain_hybridflow.serving.metrics import MULTIPROCESS_DIR
from langchain_hybridflow.testing import ScriptedChatModel
from tests.unit.serving.servekit import application, client_of, completed, routed


async def test_server_is_ready_when_ledger_and_tiers_are_up() -> None:
    assert await Readiness(routed()).look() == {"ledger": "up", "edge": "up", "cloud": "up"}


async def test_tier_is_down_when_its_circuit_has_opened() -> None:
    broken = ScriptedChatModel(responses=[ConnectionRefusedError()])
    model = routed(broken, breaker=Breaker(fail_max=1))
    with pytest.raises(ConnectionRefusedError):
        await model.ainvoke("Hello")
    assert (await Readiness(model).look())["edge"] == "down"


async def test_tier_is_down_when_nobody_takes_connections_at_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    async def refuse(host: str, port: int) -> Any:
        asked.append((host, port))
        raise ConnectionRefusedError

    monkeypatch.setattr("asyncio.open_connection", refuse)
    key = SecretStr("none")
    edge = ChatOpenAI(base_url="http://127.0.0.1:11434/v1", model="llama", api_key=key)
    found = await Readiness(routed(edge)).look()
    assert (found["edge"], found["cloud"]) == ("down", "up")
    assert asked == [("127.0.0.1", 11434)]


async def test_finding_is_kept_for_a_while_whoever_asks() -> None:
    now = [0.0]
    broken = ScriptedChatModel(responses=[ConnectionRefusedError()])
    model = routed(broken, breaker=Breaker(fail_max=1))
    readiness = Readiness(model, keep_s=2, clock=lambda: now[0])
    assert (await readiness.look())["edge"] == "up"
    with pytest.raises(ConnectionRefusedError):
        await model.ainvoke("Hello")
    assert (await readiness.look())["edge"] == "up"
    now[0] = 2.0
    assert (await readiness.look())["edge"] == "down"


@pytest.mark.parametrize("away", ["ledger", "both tiers"])
async def test_server_is_not_ready_without_ledger_or_tiers(
    away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = routed()
    app = application({"hybridflow": model})
    readiness = Readiness(model)
    if away == "ledger":

        async def fail(*_: Any) -> Any:
            raise LedgerUnavailable("redis://host", "refused")

        monkeypatch.setattr(Budget, "asnapshot", fail)
    else:
        states = {"ledger": "up", "edge": "down", "cloud": "down"}
        monkeypatch.setattr(readiness, "_found", (1e12, states))
    add_probe_routes(app, readiness=readiness, service=Service(model.budget))
    async with client_of(app, headers={}) as client:
        said = await client.get("/ready")
        health = await client.get("/health")
    assert (said.status_code, said.json()["status"]) == (503, "not ready")
    assert health.json() == {"status": "ok"}


async def test_metrics_count_requests_by_the_routes_as_they_were_defined(
    require: Callable[..., None],
) -> None:
    require("prometheus_client")
    metrics, model = RequestMetrics(), routed()
    app = application({"hybridflow": model})
    service = Service(model.budget)
    add_probe_routes(app, readiness=Readiness(model), service=service, metrics=metrics)
    app.user_middleware.insert(0, Middleware(MeasuredApp, metrics=metrics))
    await completed(app)
    async with client_of(app) as client:
        for name in ("hybridflow", "models", "v1", "m", "a" * 500):
            await client.get(f"/v1/models/{name}")
            await client.get(f"/{name}")
            await client.request(f"X{name}", "/v1/models")
        text = (await client.get("/metrics")).text
    counts = [line for line in text.splitlines() if line.startswith("hybridflow_http_requests_to")]
    assert len(counts) == 5
    assert any('route="/v1/models/{name}",status="404"} 4.0' in line for line in counts)
    assert any('route="none",status="404"} 5.0' in line for line in counts)
    assert any('method="other"' in line and line.endswith(" 5.0") for line in counts)
    assert "hybridflow_http_requests_open 1.0" in text
    assert "hybridflow_budget_spent" in text


def test_worker_that_was_killed_is_taken_out_of_what_is_under_way(
    require: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("prometheus_client")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = [f"gauge_livesum_{pid}.db" for pid in (ended.pid, os.getpid())]
    for name in (*names, f"counter_{ended.pid}.db"):
        (tmp_path / name).touch()
    monkeypatch.setenv(MULTIPROCESS_DIR, str(tmp_path))
    RequestMetrics()
    left = sorted(file.name for file in tmp_path.iterdir())
    assert left == [f"counter_{ended.pid}.db", names[1]]


async def test_metrics_are_behind_the_token(require: Callable[..., None]) -> None:
    require("prometheus_client")
    model = routed()
    app = application({"hybridflow": model})
    add_probe_routes(
        app, readiness=Readiness(model), service=Service(model.budget), metrics=RequestMetrics()
    )
    async with client_of(app, headers={}) as client:
        assert (await client.get("/metrics")).status_code == 401

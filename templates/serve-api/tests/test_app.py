"""The server as it is set up here, asked in this process: change it along with the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serve_api.app import create_app
from serve_api.settings import Settings
from starlette.testclient import TestClient

ADA = "a-token-for-the-tests"
QUESTION = "What is 12 * 14?"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(
        sandbox_time_scale=0,
        store=f"sqlite:///{tmp_path}/budget.db",
        tokens=f'{{"{ADA}": {{"user": "ada", "tenant": "acme"}}}}',
    )
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as opened:
        opened.headers["Authorization"] = f"Bearer {ADA}"
        yield opened


@pytest.mark.parametrize("model", ["hybridflow", "hybridflow-graph", "edge", "cloud"])
def test_models_answer_as_openais_do(client: TestClient, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}]}
    said = client.post("/v1/chat/completions", json=body)
    assert "168" in said.json()["choices"][0]["message"]["content"]
    assert said.headers["x-hybridflow-tier"]


def test_model_and_graph_answer_by_langserve(client: TestClient) -> None:
    asked = {"messages": [{"type": "human", "content": QUESTION}]}
    assert (
        "168" in client.post("/model/invoke", json={"input": QUESTION}).json()["output"]["content"]
    )
    assert "168" in client.post("/graph/invoke", json={"input": asked}).json()["output"]["answer"]
    assert "168" in client.post("/ask/invoke", json={"input": QUESTION}).json()["output"]


def test_nobody_is_let_in_without_a_token(client: TestClient) -> None:
    del client.headers["Authorization"]
    assert client.get("/v1/models").status_code == 401
    assert client.get("/ready").json()["status"] == "ready"


def test_lists_of_names_may_hold_blanks() -> None:
    settings = Settings(allowed_hosts="a.example, b.example", cors_origins=" https://c.example,")
    assert settings.hosts() == ["a.example", "b.example"]
    assert settings.origins() == ["https://c.example"]


def test_metrics_tell_of_requests_and_of_the_budget(client: TestClient) -> None:
    client.get("/v1/models")
    text = client.get("/metrics").text
    assert (
        'hybridflow_http_requests_total{method="GET",route="/v1/models",status="200"} 1.0' in text
    )
    assert "hybridflow_budget_limit" in text

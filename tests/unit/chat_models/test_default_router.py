"""A model to which nobody has given a router."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from langchain_core.load import dumpd

from langchain_hybridflow import RoutedChatModel
from langchain_hybridflow.routing import DefaultRouter, RouteRequest
from langchain_hybridflow.sandbox import sandbox_cloud, sandbox_edge


def model(**fields: Any) -> RoutedChatModel:
    return RoutedChatModel(
        edge=sandbox_edge(time_scale=0), cloud=sandbox_cloud(time_scale=0), **fields
    )


@pytest.mark.parametrize("fields", [{}, {"router": None}])
def test_model_has_the_default_router_when_none_is_given(fields: dict[str, Any]) -> None:
    routed = model(**fields)
    assert isinstance(routed.router, DefaultRouter)
    decision = routed.invoke("What is 12 * 14?").response_metadata["hybridflow"]["decision"]
    assert (decision["router"], decision["tier"]) == ("default", "edge")


def test_default_router_is_written_down_by_its_arguments() -> None:
    dumped = dumpd(model(router=DefaultRouter(min_gain=0.4)))
    assert dumped["kwargs"]["router"] == {"name": "DefaultRouter", "min_gain": 0.4}


def test_default_router_survives_pickle() -> None:
    router = DefaultRouter(min_gain=0.1)
    request = RouteRequest(text="Why?")
    assert pickle.loads(pickle.dumps(router)).route(request) == router.route(request)

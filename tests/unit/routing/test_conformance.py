"""All routers of this package keep the contract of routers."""

from __future__ import annotations

import langchain_hybridflow.routing as routing
from langchain_hybridflow.routing import (
    AlwaysCloud,
    AlwaysEdge,
    CappedRouter,
    DefaultRouter,
    DifficultyRouter,
    RandomRouter,
    Router,
    SelfRouter,
    ThresholdRouter,
    UtilityRouter,
)
from langchain_hybridflow.routing.sticky import StickyRouter
from langchain_hybridflow.testing import RouterConformance
from tests.unit.routing.predicting import ByLength


class TestAlwaysEdge(RouterConformance):
    def make_router(self) -> Router:
        return AlwaysEdge()


class TestAlwaysCloud(RouterConformance):
    def make_router(self) -> Router:
        return AlwaysCloud()


class TestDefaultRouter(RouterConformance):
    def make_router(self) -> Router:
        return DefaultRouter()


class TestDifficultyRouter(RouterConformance):
    def make_router(self) -> Router:
        return DifficultyRouter()


class TestRandomRouter(RouterConformance):
    def make_router(self) -> Router:
        return RandomRouter(seed=7)


class TestThresholdRouter(RouterConformance):
    def make_router(self) -> Router:
        return ThresholdRouter(seed=7)


class TestStickyRouter(RouterConformance):
    def make_router(self) -> Router:
        return StickyRouter(RandomRouter(seed=7))


class TestCappedRouter(RouterConformance):
    def make_router(self) -> Router:
        return CappedRouter(RandomRouter(seed=7), max_share=0.5, burst=1e9)


class TestUtilityRouter(RouterConformance):
    def make_router(self) -> Router:
        return UtilityRouter(ByLength(), delay_weight_usd_per_s=0.001, price_per_usd=5.0)


class TestSelfRouter(RouterConformance):
    def make_router(self) -> Router:
        return SelfRouter()


class TestSelfRouterBehindAnother(RouterConformance):
    def make_router(self) -> Router:
        return SelfRouter(before=RandomRouter(cloud_share=0.4, seed=3))


def test_every_public_router_is_tested() -> None:
    tested = {type(one().make_router()) for one in RouterConformance.__subclasses__()}
    public = {
        kind
        for name in routing.__all__
        if isinstance(kind := getattr(routing, name), type)
        and kind is not Router
        and hasattr(kind, "route")
    }
    assert public <= tested

"""LangChain's `ChatModelUnitTests` for each routing, over fakes and over real clients."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_tests.unit_tests import ChatModelUnitTests
from standardkit import KEY, Cloud, Drawn, Edge, InProcess, Suite, client


class UnitSuite:
    """What the unit suite asks besides."""

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        """The one variable that the model itself reads, and the one that its clients' keys need."""
        environment = {"LC_OUTPUT_VERSION": "v1", "OPENAI_API_KEY": KEY}
        return environment, self.chat_model_params, {"output_version": "v1"}  # type: ignore[attr-defined]


class OverClients(Suite):
    """Both tiers are real clients, which call nobody."""

    def tier_model(self, tier: str) -> BaseChatModel:
        return client(tier)


class TestUnitInProcessEdge(Edge, UnitSuite, InProcess, ChatModelUnitTests):
    """Always the edge, scripted models."""


class TestUnitInProcessCloud(Cloud, UnitSuite, InProcess, ChatModelUnitTests):
    """Always the cloud, scripted models."""


class TestUnitInProcessMixed(Drawn, UnitSuite, InProcess, ChatModelUnitTests):
    """Both tiers, scripted models."""


class TestUnitHttpEdge(Edge, UnitSuite, OverClients, ChatModelUnitTests):
    """Always the edge, real clients."""


class TestUnitHttpCloud(Cloud, UnitSuite, OverClients, ChatModelUnitTests):
    """Always the cloud, real clients."""


class TestUnitHttpMixed(Drawn, UnitSuite, OverClients, ChatModelUnitTests):
    """Both tiers, real clients."""

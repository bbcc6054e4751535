"""LangChain's `ChatModelIntegrationTests` for each routing, in process and over real HTTP."""

from __future__ import annotations

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from standardkit import Cloud, Edge, InProcess, Mixed, Suite, client


# The suites send a document without a name; langchain-openai makes one up and says so.
@pytest.mark.filterwarnings("ignore:OpenAI may require a filename:UserWarning")
# openai's own parsed completions, which langchain-openai dumps when it streams into a class.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
class OverHttp(Suite):
    """Both tiers are real clients of the sandbox server."""

    base_url: str

    @pytest.fixture(autouse=True)
    def _serve(self, endpoints: str) -> None:
        self.base_url = endpoints

    def tier_model(self, tier: str) -> BaseChatModel:
        return client(tier, self.base_url)


class TestInProcessEdge(Edge, InProcess, ChatModelIntegrationTests):
    """Always the edge, scripted models."""


class TestInProcessCloud(Cloud, InProcess, ChatModelIntegrationTests):
    """Always the cloud, scripted models."""


class TestInProcessMixed(Mixed, InProcess, ChatModelIntegrationTests):
    """Both tiers in turn, scripted models."""


class TestHttpEdge(Edge, OverHttp, ChatModelIntegrationTests):
    """Always the edge, over HTTP."""


class TestHttpCloud(Cloud, OverHttp, ChatModelIntegrationTests):
    """Always the cloud, over HTTP."""


class TestHttpMixed(Mixed, OverHttp, ChatModelIntegrationTests):
    """Both tiers in turn, over HTTP."""

"""What the standard suites run on: three routings, over models in this process or over HTTP."""

from __future__ import annotations

import base64
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar

from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI

from langchain_hybridflow import Budget, RoutedChatModel
from langchain_hybridflow.budget import Price
from langchain_hybridflow.routing import (
    AlwaysCloud,
    AlwaysEdge,
    RandomRouter,
    RouteDecision,
    Router,
    RouteRequest,
)
from langchain_hybridflow.sandbox.server import create_app, running_server
from langchain_hybridflow.testing import ObedientChatModel

CLASSES = (RoutedChatModel, ObedientChatModel)
OVERRIDE = "obedient-override"
NOWHERE = "http://127.0.0.1:9/v1"  # unit tests build clients and call nobody
KEY = "sk-CANARY-0123456789"

_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_WAV = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00" + bytes(20)
_PDF = b"%PDF-1.1\n%%EOF\n"


def media(url: str, **_: Any) -> SimpleNamespace:
    """What the suites fetch, without the web."""
    content = {"png": _PNG, "wav": _WAV, "pdf": _PDF}[url.rsplit(".", 1)[1]]
    return SimpleNamespace(content=content)


@contextmanager
def serving() -> Iterator[str]:
    """Serve both tiers' models, and one that calls may ask for by name."""
    names = ("obedient-edge", "obedient-cloud", OVERRIDE)
    app = create_app({name: ObedientChatModel(model_name=name) for name in names}, api_key=KEY)
    with running_server(app) as base_url:
        yield base_url


class Alternating:
    """Edge, cloud, edge, cloud, ...: both tiers take part in every test of several calls."""

    def __init__(self) -> None:
        self._turns = itertools.cycle((AlwaysEdge(), AlwaysCloud()))
        self._lock = threading.Lock()

    def route(self, request: RouteRequest) -> RouteDecision:
        with self._lock:
            return next(self._turns).route(request)


class Edge:
    """Every call goes to the edge."""

    router: ClassVar[Router] = AlwaysEdge()


class Cloud:
    """Every call goes to the cloud."""

    router: ClassVar[Router] = AlwaysCloud()


class Mixed:
    """Calls go to both tiers in turn."""

    router: ClassVar[Router] = Alternating()


class Drawn:
    """Calls go to both tiers by a seeded draw, which, unlike a test's own router, can be dumped."""

    router: ClassVar[Router] = RandomRouter(seed=7)


def obedient(tier: str, **fields: Any) -> BaseChatModel:
    """A capable model in this process."""
    return ObedientChatModel(model_name=f"obedient-{tier}", **fields)


@cache
def client(tier: str, base_url: str = NOWHERE) -> BaseChatModel:
    """The real client of such a model behind an endpoint."""
    return ChatOpenAI(
        model=f"obedient-{tier}", base_url=base_url, api_key=KEY, max_retries=0, timeout=30
    )


class Suite:
    """The answers to the suites' questions that hold for every routing and every inner model."""

    router: ClassVar[Router]

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return RoutedChatModel

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        """Time-outs, retries and keys belong to the inner models' clients, and are refused here."""
        return {"temperature": 0, "max_tokens": 100, "stop": []}

    def tier_model(self, tier: str) -> BaseChatModel:
        raise NotImplementedError

    @property
    def chat_model_params(self) -> dict[str, Any]:
        prices = {"obedient-cloud": Price(2, 8), OVERRIDE: Price(2, 8)}
        return {
            "edge": self.tier_model("edge"),
            "cloud": self.tier_model("cloud"),
            "router": self.router,
            "budget": Budget(limit_usd=1_000, prices=prices),
        }

    supports_json_mode = True
    supports_image_inputs = True
    supports_image_urls = True
    supports_pdf_inputs = True
    supports_audio_inputs = True
    supports_image_tool_message = True
    supports_pdf_tool_message = True
    supports_anthropic_inputs = True
    model_override_value = OVERRIDE
    enable_vcr_tests = True  # nothing is recorded: the endpoints are ours, and answer live


class InProcess(Suite):
    """Both tiers are scripted models in this process."""

    def tier_model(self, tier: str) -> BaseChatModel:
        return obedient(tier)

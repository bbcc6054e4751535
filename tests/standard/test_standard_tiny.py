"""LangChain's standard suites, run on `TinyChatModel`: a real model, in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_hybridflow.sandbox import sandbox_edge
from langchain_hybridflow.sandbox.tiny import TinyChatModel


class Tiny:
    """What the suites ask. They talk about anything but puzzles, so most goes to `beyond`."""

    @pytest.fixture(autouse=True)
    def _extra(self, require: Callable[..., None]) -> None:
        for name in ("numpy", "onnxruntime", "safetensors", "tokenizers"):
            require(name, "install the extra tiny")

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return TinyChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"beyond": sandbox_edge(time_scale=0), "time_scale": 0}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        """There is no server to wait for, and no call to repeat."""
        return {"temperature": 0, "max_tokens": 100}


class TestUnitTiny(Tiny, ChatModelUnitTests):
    """Of the class."""


class TestTinyWithModelBeyond(Tiny, ChatModelIntegrationTests):
    """What it cannot read goes to the simulated edge."""


class TestTinyAlone(Tiny, ChatModelIntegrationTests):
    """It does not know."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"time_scale": 0}

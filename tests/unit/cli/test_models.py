"""Models by name: what is read, which key goes where, and what is said when it cannot be."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel

from langchain_hybridflow.cli import models
from langchain_hybridflow.cli.models import ModelSpec, read_prices
from langchain_hybridflow.errors import ConfigurationError, ModelSpecError
from langchain_hybridflow.testing import ScriptedChatModel


def key_of(spec: str, environ: dict[str, str]) -> str:
    model: Any = ModelSpec.parse(spec).build("edge", environ=environ)
    return model.openai_api_key.get_secret_value()


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("sandbox", ModelSpec("sandbox", "sandbox")),
        ("openai:gpt-4.1", ModelSpec("openai", "gpt-4.1")),
        ("ollama:llama3.2:3b", ModelSpec("ollama", "llama3.2:3b", "http://localhost:11434/v1")),
        ("azure_openai:my-model", ModelSpec("azure_openai", "my-model")),
        ("http://h:1/v1#org/name", ModelSpec("http", "org/name", "http://h:1/v1")),
        ("https://h/v1/#a:b", ModelSpec("http", "a:b", "https://h/v1")),
        ("  openai:x ", ModelSpec("openai", "x")),
    ],
)
def test_spec_is_read_in_every_form(text: str, spec: ModelSpec) -> None:
    assert ModelSpec.parse(text) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gpt-4.1",
        ":x",
        "openai:",
        "a b:c",
        "http://",
        "http://#x",
        "http://h:1/v1",
        "http://h:x/#m",
    ],
)
def test_spec_is_refused_when_it_names_no_model(text: str) -> None:
    with pytest.raises(ModelSpecError):
        ModelSpec.parse(text)


@pytest.mark.parametrize("url", ["http://me:hunter2@h/v1#m", "http://h/v1?key=hunter2#m"])
def test_url_with_a_secret_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ModelSpecError) as caught:
        ModelSpec.parse(url)
    assert "hunter2" not in str(caught.value)
    assert "HYBRIDFLOW_API_KEY" in str(caught.value)


@pytest.mark.parametrize(("place", "name"), [("edge", "sandbox-edge"), ("cloud", "sandbox-cloud")])
def test_sandbox_is_the_model_of_its_place(place: Any, name: str) -> None:
    model: Any = ModelSpec.parse("sandbox").build(place)
    assert model.model_name == name


def test_sandboxs_real_model_is_the_same_in_both_places(require: Any) -> None:
    require("onnxruntime", "install the extra tiny")
    model: Any = ModelSpec.parse("sandbox:tiny").build("edge", seed=2, time_scale=0)
    assert (model.model_name, model.time_scale) == ("sandbox-tiny", 0)
    assert model.beyond.seed == 2


def test_sandbox_model_that_there_is_not_is_refused() -> None:
    with pytest.raises(ModelSpecError, match="sandbox:tiny"):
        ModelSpec.parse("sandbox:huge")


def test_openai_model_needs_its_key() -> None:
    with pytest.raises(ModelSpecError, match="OPENAI_API_KEY"):
        ModelSpec.parse("openai:gpt-4.1").build("cloud", environ={})


def test_delegate_makes_no_hidden_calls_and_reports_usage() -> None:
    model: Any = ModelSpec.parse("openai:gpt-4.1").build("cloud", environ={"OPENAI_API_KEY": "k"})
    assert (model.max_retries, model.stream_usage, model.request_timeout) == (0, True, 120.0)


def test_server_gets_its_own_key_before_that_of_openai() -> None:
    keys = {"HYBRIDFLOW_API_KEY": "mine", "OPENAI_API_KEY": "theirs"}
    assert key_of("http://gpu-box:8000/v1#m", keys) == "mine"


@pytest.mark.parametrize(
    "url", ["https://gpu-box/v1", "http://127.0.0.1:1/v1", "http://localhost:1"]
)
def test_server_gets_openai_key_where_nobody_can_listen(url: str) -> None:
    assert key_of(f"{url}#m", {"OPENAI_API_KEY": "theirs"}) == "theirs"


def test_key_is_sent_without_the_line_break_of_its_file() -> None:
    assert key_of("http://gpu-box:8000/v1#m", {"HYBRIDFLOW_API_KEY": "mine\n"}) == "mine"


@pytest.mark.parametrize("spec", ["http://gpu-box:8000/v1#m", "ollama:llama3.2:3b"])
def test_openai_key_is_not_sent_in_clear_to_another_machine_nor_to_ollama(spec: str) -> None:
    assert key_of(spec, {"OPENAI_API_KEY": "theirs"}) == "none"


def test_other_provider_without_langchain_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(ModelSpecError, match="pip install langchain langchain-google-genai"):
        ModelSpec.parse("google_genai:gemini").build("cloud")


def install_langchain(monkeypatch: pytest.MonkeyPatch, init_chat_model: Any) -> None:
    """Put a `langchain` in place that knows this function only."""
    package, module = ModuleType("langchain"), ModuleType("langchain.chat_models")
    package.__spec__ = ModuleSpec("langchain", loader=None)
    module.init_chat_model = init_chat_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "langchain", package)
    monkeypatch.setitem(sys.modules, "langchain.chat_models", module)


def test_other_provider_is_built_by_langchain(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def init_chat_model(name: str, **options: Any) -> BaseChatModel:
        asked.update(options, name=name)
        return ScriptedChatModel(responses=["hi"])

    install_langchain(monkeypatch, init_chat_model)
    assert ModelSpec.parse("anthropic:claude").build("cloud").invoke("?").text == "hi"
    assert (asked["name"], asked["model_provider"], asked["max_retries"]) == (
        "claude",
        "anthropic",
        0,
    )


def test_provider_that_langchain_cannot_build_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def init_chat_model(name: str, **options: Any) -> BaseChatModel:
        raise ValueError("no such provider, sk-secret123456")

    install_langchain(monkeypatch, init_chat_model)
    with pytest.raises(ModelSpecError, match=r"nobody:x cannot be built: .* \*\*\*"):
        ModelSpec.parse("nobody:x").build("cloud")


@pytest.mark.parametrize(
    ("text", "name"),
    [("m=1,2", "m"), ("http://h/v1#m=1,2", "m"), ("openai:gpt-9=1,2", "gpt-9"), ("a=b=1,2", "a=b")],
)
def test_price_is_read_for_the_name_of_the_model(text: str, name: str) -> None:
    prices = read_prices([text])
    assert list(prices) == [name]
    assert (prices[name].input_usd_per_mtok, prices[name].output_usd_per_mtok) == (1, 2)


@pytest.mark.parametrize("text", ["", "m", "m=1", "=1,2", "m=1,2,3", "m=one,two", "m=-1,2"])
def test_price_is_refused_when_it_cannot_be_read(text: str) -> None:
    with pytest.raises(ConfigurationError):
        read_prices([text])

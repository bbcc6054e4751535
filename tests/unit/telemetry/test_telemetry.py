"""Names, and life without OpenTelemetry."""

from __future__ import annotations

import pickle
import subprocess
import sys
from importlib import import_module

import pytest

from langchain_hybridflow.telemetry import NO_SPAN, Telemetry, error_type, names

GEN_AI = "opentelemetry.semconv._incubating.attributes.gen_ai_attributes"


def run_python(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_names_are_those_of_the_conventions() -> None:
    known = {value for value in vars(import_module(GEN_AI)).values() if isinstance(value, str)}
    ours = {value for value in vars(names).values() if str(value).startswith("gen_ai.")}
    metrics = {names.USAGE_METRIC, names.DURATION_METRIC}
    assert len(ours) > 8
    assert ours - metrics <= known


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("openai", "OPENAI"),
        ("azure", "AZURE_AI_OPENAI"),
        ("anthropic", "ANTHROPIC"),
        ("amazon_bedrock", "AWS_BEDROCK"),
        ("google_genai", "GCP_GEMINI"),
        ("google_vertexai", "GCP_VERTEX_AI"),
        ("mistral", "MISTRAL_AI"),
        ("xai", "X_AI"),
        ("groq", "GROQ"),
        ("deepseek", "DEEPSEEK"),
    ],
)
def test_provider_has_the_name_of_the_conventions(provider: str, expected: str) -> None:
    values = import_module(GEN_AI).GenAiProviderNameValues
    assert names.provider_name(provider) == values[expected].value


def test_unknown_provider_keeps_its_name() -> None:
    assert names.provider_name("ollama") == "ollama"


def test_error_is_named_in_full() -> None:
    from langchain_hybridflow.errors import BudgetExceeded

    assert error_type(ValueError()) == "ValueError"
    kind = BudgetExceeded.__new__(BudgetExceeded)
    assert error_type(kind) == "langchain_hybridflow.errors.BudgetExceeded"


def test_pickled_telemetry_goes_to_the_providers_of_its_new_process() -> None:
    again = pickle.loads(pickle.dumps(Telemetry(record_content=True)))
    assert isinstance(again, Telemetry)
    assert again.record_content


WITHOUT = "import sys; sys.modules['opentelemetry'] = None\n"


def test_calls_work_without_opentelemetry() -> None:
    code = """
from langchain_hybridflow import HybridFlowGraph, RoutedChatModel
from langchain_hybridflow.testing import ScriptedChatModel
models = [ScriptedChatModel(responses=["."]) for _ in range(2)]
model = RoutedChatModel(edge=models[0], cloud=models[1])
graph = HybridFlowGraph(model).compile()
print(model.invoke("?").text, graph.invoke({"messages": [("user", "?")]})["answer"])
print(model.core.telemetry)
"""
    assert run_python(WITHOUT + code) == ". .\nNone"


def test_extra_is_named_when_telemetry_is_asked_for_without_it() -> None:
    code = """
from langchain_hybridflow.errors import MissingExtraError
from langchain_hybridflow.telemetry import Telemetry
try:
    Telemetry()
except MissingExtraError as error:
    print(error.extra)
"""
    assert run_python(WITHOUT + code) == "otel"


def test_sdk_that_is_set_up_after_the_model_is_told_of_calls() -> None:
    code = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from langchain_hybridflow import RoutedChatModel
from langchain_hybridflow.testing import ScriptedChatModel
models = [ScriptedChatModel(responses=["."]) for _ in range(2)]
model = RoutedChatModel(edge=models[0], cloud=models[1])
model.invoke("?")
before = model.core.telemetry.is_heard
provider, spans = TracerProvider(), InMemorySpanExporter()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
model.invoke("?")
print(before, len(spans.get_finished_spans()))
"""
    assert run_python(code) == "False 2"


def test_opentelemetry_is_not_imported_with_the_package() -> None:
    code = """
import sys
import langchain_hybridflow.telemetry
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    assert run_python(code) == "[]"


def test_span_that_is_none_takes_everything_and_does_nothing() -> None:
    with NO_SPAN as span, span.current():
        span.tell({"a": 1})
        span.event("e", {})
        span.fail("x")
    assert (span.is_recording, span.context) == (False, None)

"""Routed models and graphs as a web service: LangServe's routes and OpenAI's, behind a gate.

`templates/serve-api` is an application made of these parts. They need the extra `serve`; those
that do without LangServe need Starlette only.
"""

from __future__ import annotations

from langchain_hybridflow.errors import MissingExtraError

try:
    from langchain_hybridflow.serving.answerers import asking
    from langchain_hybridflow.serving.gate import Gate, identity_of
    from langchain_hybridflow.serving.identity import THREAD_HEADER, Identity, Tokens, hashed
    from langchain_hybridflow.serving.langserve_routes import add_langserve_routes
    from langchain_hybridflow.serving.metrics import MeasuredApp, RequestMetrics
    from langchain_hybridflow.serving.openai_routes import add_openai_routes
    from langchain_hybridflow.serving.probes import Readiness, add_probe_routes
    from langchain_hybridflow.serving.problems import Problem, Refused, problem_of
    from langchain_hybridflow.serving.rates import RateLimits
    from langchain_hybridflow.serving.running import check_address, check_workers, run
    from langchain_hybridflow.serving.service import Service
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "starlette":
        raise
    raise MissingExtraError("Serving models", "serve") from error

__all__ = [
    "THREAD_HEADER",
    "Gate",
    "Identity",
    "MeasuredApp",
    "Problem",
    "RateLimits",
    "Readiness",
    "Refused",
    "RequestMetrics",
    "Service",
    "Tokens",
    "add_langserve_routes",
    "add_openai_routes",
    "add_probe_routes",
    "asking",
    "check_address",
    "check_workers",
    "hashed",
    "identity_of",
    "problem_of",
    "run",
]

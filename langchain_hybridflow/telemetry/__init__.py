"""Spans and metrics for OpenTelemetry, where it is installed."""

from __future__ import annotations

from langchain_hybridflow.telemetry.spans import NO_SPAN, OpenSpan, error_type
from langchain_hybridflow.telemetry.telemetry import Telemetry

__all__ = ["NO_SPAN", "OpenSpan", "Telemetry", "error_type"]

"""A recorder of all that OpenTelemetry is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture(autouse=True)
def _telemetry_is_there(require: Callable[[str], None]) -> None:
    require("opentelemetry")

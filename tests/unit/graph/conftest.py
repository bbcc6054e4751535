"""What the tests of the graph share: see `flowkit`, and both faces of a graph as one fixture."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from flowkit import AsyncFace, Face, SyncFace


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Face:
    """The sync and the async face of a graph; a test that takes it holds for both."""
    return SyncFace() if request.param == "sync" else AsyncFace()

"""What the tests of the routed chat model share: every way to call it, over two fakes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

sys.path.insert(0, str(HERE))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    beta = pytest.mark.filterwarnings("ignore:The (method|function) .* is in beta")
    for item in items:
        if item.path.is_relative_to(HERE):  # the third version of event streams is one of the ways
            item.add_marker(beta)

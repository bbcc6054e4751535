"""Importing the budget is cheap."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("heavy", ["openai", "sklearn", "langgraph", "langchain_core", "pytest"])
def test_import_of_the_budget_leaves_heavy_packages_alone(heavy: str) -> None:
    code = f"import sys, langchain_hybridflow.budget; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

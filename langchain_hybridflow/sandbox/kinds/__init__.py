"""The kinds of problems in the sandbox, one file each."""

from __future__ import annotations

from typing import Final

from langchain_hybridflow.sandbox.kinds.base import Family, Story
from langchain_hybridflow.sandbox.kinds.dates import DATES
from langchain_hybridflow.sandbox.kinds.logic import LOGIC
from langchain_hybridflow.sandbox.kinds.money import MONEY
from langchain_hybridflow.sandbox.kinds.stock import STOCK
from langchain_hybridflow.sandbox.kinds.units import DISTANCE, VOLUME

__all__ = ["FAMILIES", "Family", "Story"]

FAMILIES: Final[tuple[Family, ...]] = (STOCK, MONEY, DISTANCE, VOLUME, DATES, LOGIC)
"""Every family of problems. Distance and volume problems are both of the kind `units`."""

"""What people look at: pictures of plans and runs."""

from __future__ import annotations

from langchain_hybridflow.report.plot import (
    GanttRow,
    TradeoffPoint,
    gantt_figure,
    plan_figure,
    save_png,
    tradeoff_figure,
)

__all__ = [
    "GanttRow",
    "TradeoffPoint",
    "gantt_figure",
    "plan_figure",
    "save_png",
    "tradeoff_figure",
]

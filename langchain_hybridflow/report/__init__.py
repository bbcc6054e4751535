"""What people look at: pictures of plans and runs, and the report as one HTML file."""

from __future__ import annotations

from langchain_hybridflow.report.confidence import ConfidenceEvaluation
from langchain_hybridflow.report.evaluation import RouterEvaluation, evaluation_html
from langchain_hybridflow.report.html import report_html, write_page
from langchain_hybridflow.report.plot import (
    GanttRow,
    TradeoffPoint,
    gantt_figure,
    plan_figure,
    save_png,
    tradeoff_figure,
)
from langchain_hybridflow.report.reading import load_runs, read_json
from langchain_hybridflow.report.run import Run

__all__ = [
    "ConfidenceEvaluation",
    "GanttRow",
    "RouterEvaluation",
    "Run",
    "TradeoffPoint",
    "evaluation_html",
    "gantt_figure",
    "load_runs",
    "plan_figure",
    "read_json",
    "report_html",
    "save_png",
    "tradeoff_figure",
    "write_page",
]

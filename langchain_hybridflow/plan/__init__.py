"""What is to be done: plans of subtasks, read from model output, checked, repaired and measured."""

from __future__ import annotations

from langchain_hybridflow.plan._repair import Repair, RepairCode
from langchain_hybridflow.plan.build import (
    DEFAULT_MAX_SUBTASKS,
    PlanBuilder,
    RepairedPlan,
    parse_plan,
)
from langchain_hybridflow.plan.draft import SubtaskDraft
from langchain_hybridflow.plan.metrics import (
    CriticalPath,
    compression_ratio,
    critical_path,
    depth,
    longest_remaining,
    slack,
    width,
)
from langchain_hybridflow.plan.models import Plan
from langchain_hybridflow.plan.parse import PlanParser
from langchain_hybridflow.plan.render import plan_to_xml, to_html, to_mermaid, to_tree
from langchain_hybridflow.plan.subtask import Role, Subtask
from langchain_hybridflow.plan.validate import IssueCode, PlanIssue, validate_subtasks

__all__ = [
    "DEFAULT_MAX_SUBTASKS",
    "CriticalPath",
    "IssueCode",
    "Plan",
    "PlanBuilder",
    "PlanIssue",
    "PlanParser",
    "Repair",
    "RepairCode",
    "RepairedPlan",
    "Role",
    "Subtask",
    "SubtaskDraft",
    "compression_ratio",
    "critical_path",
    "depth",
    "longest_remaining",
    "parse_plan",
    "plan_to_xml",
    "slack",
    "to_html",
    "to_mermaid",
    "to_tree",
    "validate_subtasks",
    "width",
]

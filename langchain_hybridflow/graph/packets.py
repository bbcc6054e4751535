"""What is sent to the nodes of subtasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_hybridflow.graph.state import SubtaskRecord
from langchain_hybridflow.plan import Plan, Subtask, longest_remaining, slack

__all__ = ["BEFORE_ALL", "early_work", "packet_of", "slot_packet", "works_of"]

_FIRST = 1e12
"""Urgency of a subtask whose place in the plan is not known yet: it came first, it goes first."""

BEFORE_ALL = 2 * _FIRST
"""Urgency of planning: everything waits for it."""

Update = dict[str, Any]


def works_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """Say what each subtask's node needs to know about its place in the plan."""
    urgency = longest_remaining(plan)
    spare = slack(plan)
    depths: dict[str, int] = {}
    for subtask_id in plan.order:
        parents = plan[subtask_id].depends_on
        depths[subtask_id] = 1 + max((depths[parent] for parent in parents), default=-1)
    return {
        subtask.id: {
            "subtask": subtask.model_dump(mode="json"),
            "urgency": urgency[subtask.id],
            "depth": depths[subtask.id],
            "fan_out": len(plan.dependents(subtask.id)),
            "on_critical_path": spare[subtask.id] == 0,
        }
        for subtask in plan.subtasks
    }


def early_work(subtask: Subtask, depth: int, place: int) -> dict[str, Any]:
    """Say what a subtask's node needs to know while the rest of the plan is being written."""
    return {
        "subtask": subtask.model_dump(mode="json"),
        "urgency": _FIRST - place,
        "depth": depth,
        "fan_out": None,
        "on_critical_path": None,
    }


def packet_of(
    packet: Update,
    work: dict[str, Any],
    subtask: Subtask,
    results: Mapping[str, SubtaskRecord],
    absent: frozenset[str],
) -> Update:
    """Pack what is sent to the node of a subtask: its work, and the results that are there."""
    there = {
        parent: {key: results[parent][key] for key in ("status", "answer", "tier", "kept_local")}
        for parent in subtask.depends_on
        if parent not in absent
    }
    return {
        "packet": {
            **packet,
            "work": work,
            "slot": None,
            "results": there,
            "previous": results.get(subtask.id),
        }
    }


def slot_packet(packet: Update, slot: int) -> Update:
    """Pack what is sent to a node that gets its work from the planner, as it is written."""
    return {"packet": {**packet, "work": None, "slot": slot, "results": {}, "previous": None}}

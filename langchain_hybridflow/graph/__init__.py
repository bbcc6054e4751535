"""From a plan to a LangGraph that runs it in dataflow, each subtask on the edge or in the cloud."""

from __future__ import annotations

from langchain_hybridflow.graph.flow import HybridFlowGraph
from langchain_hybridflow.graph.state import FlowInput, FlowOutput, FlowState, SubtaskRecord

__all__ = ["FlowInput", "FlowOutput", "FlowState", "HybridFlowGraph", "SubtaskRecord"]

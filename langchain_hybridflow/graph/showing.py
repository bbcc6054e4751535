"""What the reader of a stream gets to see of a subtask's calls."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables.config import set_config_context
from langgraph.config import get_config, get_stream_writer
from langgraph.graph.message import push_message

from langchain_hybridflow.calls.replies import DRAFT, DRAFT_THINKING
from langchain_hybridflow.plan import Role
from langchain_hybridflow.routing import Tier

__all__ = ["call_metadata", "drafting", "show_held"]

_NS_SEPARATOR = "|"  # LangGraph's, between the tasks that a task is nested in
_PLACE = "langgraph_checkpoint_ns"


def call_metadata(
    around: Mapping[str, Any], work: Mapping[str, Any], tier: Tier, model: str
) -> dict[str, Any]:
    """Return what the messages stream and traces say of the call of a subtask.

    The last subtask speaks for the run: its tokens are those of the run's own stream, so that they
    are seen without `subgraphs=True`. Those of all others are their subgraphs'.

    Args:
        around: The metadata of the node that calls.
        work: The subtask and its decision.
        tier: Who is asked.
        model: The name of the model that is asked.
    """
    place = {}
    if work["subtask"]["role"] == Role.GENERATE.value and _PLACE in around:
        task = str(around[_PLACE]).rpartition(_NS_SEPARATOR)[0]
        node = task.rpartition(_NS_SEPARATOR)[2].partition(":")[0]
        place = {_PLACE: task, "langgraph_node": node}
    return {
        **around,
        **place,
        "hybridflow_subtask": work["subtask"]["id"],
        "hybridflow_role": work["subtask"]["role"],
        "hybridflow_tier": tier,
        "hybridflow_model": model,
        "hybridflow_router": work["decision"]["router"],
    }


def drafting(state: Mapping[str, Any]) -> Callable[[ChatGenerationChunk], None]:
    """Return what tells the custom stream of what the edge writes before it is decided."""
    writer, subtask_id = get_stream_writer(), state["work"]["subtask"]["id"]

    def tell(draft: ChatGenerationChunk) -> None:
        extras = draft.message.additional_kwargs
        facts = {"text": extras.get(DRAFT, ""), "thinking": extras.get(DRAFT_THINKING, "")}
        writer({"event": "draft", "subtask_id": subtask_id, **facts})

    return tell


def show_held(work: Mapping[str, Any], model: str) -> None:
    """Show an edge answer that was held back while it was looked at, as one message."""
    held, config = work["held"], get_config()
    message = AIMessage(held["text"], id=held["message_id"] or uuid.uuid4().hex)
    metadata = call_metadata(config.get("metadata", {}), work, "edge", model)
    with set_config_context({**config, "metadata": metadata}) as context:
        context.run(push_message, message, state_key=None)

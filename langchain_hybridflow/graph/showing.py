"""What the reader of a stream gets to see of a subtask's calls."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.runnables.config import set_config_context
from langgraph.config import get_config
from langgraph.graph.message import push_message

from langchain_hybridflow.routing import Tier

__all__ = ["call_metadata", "show_held"]


def call_metadata(work: Mapping[str, Any], tier: Tier, model: str) -> dict[str, Any]:
    """Return what the messages stream and traces say of the call of a subtask.

    Args:
        work: The subtask and its decision.
        tier: Who is asked.
        model: The name of the model that is asked.
    """
    return {
        "hybridflow_subtask": work["subtask"]["id"],
        "hybridflow_role": work["subtask"]["role"],
        "hybridflow_tier": tier,
        "hybridflow_model": model,
        "hybridflow_router": work["decision"]["router"],
    }


def show_held(work: Mapping[str, Any], model: str) -> None:
    """Show an edge answer that was held back while it was looked at, as one message."""
    held, config = work["held"], get_config()
    message = AIMessage(held["text"], id=held["message_id"] or uuid.uuid4().hex)
    metadata = {**config.get("metadata", {}), **call_metadata(work, "edge", model)}
    with set_config_context({**config, "metadata": metadata}) as context:
        context.run(push_message, message, state_key=None)

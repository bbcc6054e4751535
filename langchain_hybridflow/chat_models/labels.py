"""What a routed model writes on its answers: who answered, why, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tracers import Run

from langchain_hybridflow.calls import Answer, Purchase

__all__ = ["counted", "label_chunk", "label_run", "labelled", "last_human_text"]

# Under this key of a generation's info a gateway says which model it chose. LangChain's tracers
# move it to the run's `ls_model_name` and `ls_provider`, by which LangSmith prices the tokens.
_GATEWAY = "lc_gateway_metadata"


def last_human_text(messages: list[BaseMessage]) -> str:
    """Return the text of the last human message, or of the last message if there is none.

    Example:
        >>> from langchain_core.messages import AIMessage, HumanMessage
        >>> last_human_text([HumanMessage("Why?"), AIMessage("Because.")])
        'Why?'
    """
    for message in reversed(messages):
        if message.type == "human":
            return message.text
    return messages[-1].text if messages else ""


def labelled(answer: Answer) -> ChatResult:
    """Return the answering model's result, with our record beside its own metadata."""
    result = answer.purchase.result
    first = result.generations[0]
    labelled = first.model_copy(
        update={
            "message": counted(answer.purchase, hybridflow=answer.metadata()),
            "generation_info": {**(first.generation_info or {}), **_resolved(answer, first)}
            or None,
        }
    )
    return ChatResult(generations=[labelled, *result.generations[1:]], llm_output=result.llm_output)


def counted(purchase: Purchase, **metadata: Any) -> AIMessage:
    """Return what a model answered, with its name and with the usage that was booked.

    Args:
        purchase: The answer.
        **metadata: What else its metadata is to say.
    """
    message = purchase.message
    named = {"model_name": purchase.attempt.model, **message.response_metadata, **metadata}
    update: dict[str, Any] = {"response_metadata": named}
    missing = _missing_usage(purchase)
    if missing:
        update["usage_metadata"] = add_usage(_reported_usage(message), missing)
    return message.model_copy(update=update)


def label_chunk(answer: Answer) -> ChatGenerationChunk:
    """Return our record as one last, empty chunk.

    Merging adds up what stands in more than one chunk, so it stands in this one only.
    """
    message = answer.purchase.message
    metadata: dict[str, Any] = {"hybridflow": answer.metadata()}
    generation = answer.purchase.result.generations[0]
    if "model_name" not in {**message.response_metadata, **(generation.generation_info or {})}:
        metadata["model_name"] = answer.purchase.attempt.model
    return ChatGenerationChunk(
        message=AIMessageChunk(
            content="",
            id=message.id,
            response_metadata=metadata,
            usage_metadata=_missing_usage(answer.purchase),
            chunk_position="last",
        ),
        generation_info=_resolved(answer, generation) or None,
    )


def label_run(handlers: Iterable[BaseCallbackHandler], run_id: UUID | None, answer: Answer) -> None:
    """Write on a call's run in traces who answered, so that traces can be filtered by it.

    A run's tags and metadata are fixed before the call, when nobody knows. Tracers keep the run
    open until the answer is there, and send what stands on it then.

    Args:
        handlers: Whoever listens to the call, tracers among them.
        run_id: The call's run.
        answer: Who answered, and by whose decision.
    """
    for handler in handlers:
        runs = getattr(handler, "run_map", None)
        run = runs.get(str(run_id)) if runs else None
        if isinstance(run, Run):
            last = answer.purchase.attempt
            facts = {
                "hybridflow_tier": last.tier,
                "hybridflow_model": last.model,
                "hybridflow_router": answer.decision.router,
            }
            # New ones: the runs of a batch share theirs.
            run.tags = [*(run.tags or ()), f"hybridflow:{last.tier}"]
            run.extra = {**(run.extra or {}), "metadata": {**run.metadata, **facts}}


def _resolved(answer: Answer, generation: ChatGeneration) -> dict[str, Any]:
    """Whom the run is to be counted for, unless an inner routed model has said so before."""
    if _GATEWAY in (generation.generation_info or {}) or not _gateways_are_known():
        return {}
    resolved = {
        "model": answer.purchase.attempt.model,
        "provider": answer.purchase.call.target.provider,
        "hybridflow_tier": answer.purchase.attempt.tier,
        "hybridflow_router": answer.decision.router,
    }
    return {_GATEWAY: {name: value for name, value in resolved.items() if value}}


@cache
def _gateways_are_known() -> bool:
    """Whether this LangChain takes the note out again; an older one would show it in answers."""
    return find_spec("langchain_core.utils._gateway") is not None


def _missing_usage(purchase: Purchase) -> UsageMetadata | None:
    """What has to be added to the provider's usage to make it what was booked."""
    usage, reported = purchase.usage, _reported_usage(purchase.message)
    if not usage.estimated:
        return None
    sent = usage.input_tokens - reported["input_tokens"]
    received = usage.output_tokens - reported["output_tokens"]
    return UsageMetadata(
        input_tokens=sent,
        output_tokens=received,
        total_tokens=usage.total_tokens - reported["total_tokens"],
    )


def _reported_usage(message: AIMessage) -> UsageMetadata:
    nothing = UsageMetadata(input_tokens=0, output_tokens=0, total_tokens=0)
    return message.usage_metadata or nothing

"""What a routed model writes on its answers: who answered, why, and what it cost."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_hybridflow.calls import Answer, TierModel

__all__ = ["label_chunk", "labelled", "last_human_text"]

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


def labelled(answer: Answer, target: TierModel) -> ChatResult:
    """Return the answering model's result, with our record beside its own metadata."""
    result = answer.purchase.result
    message = answer.purchase.message
    metadata = {
        "model_name": answer.purchase.attempt.model,
        **message.response_metadata,
        "hybridflow": answer.metadata(),
    }
    update: dict[str, Any] = {"response_metadata": metadata}
    missing = _missing_usage(answer)
    if missing:
        update["usage_metadata"] = add_usage(_reported_usage(message), missing)
    first = result.generations[0]
    labelled = ChatGeneration(
        message=message.model_copy(update=update),
        generation_info={**(first.generation_info or {}), **_resolved(answer, target, first)}
        or None,
    )
    return ChatResult(generations=[labelled, *result.generations[1:]], llm_output=result.llm_output)


def label_chunk(answer: Answer, target: TierModel) -> ChatGenerationChunk:
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
            usage_metadata=_missing_usage(answer),
            chunk_position="last",
        ),
        generation_info=_resolved(answer, target, generation) or None,
    )


def _resolved(answer: Answer, target: TierModel, generation: ChatGeneration) -> dict[str, Any]:
    """Whom the run is to be counted for, unless an inner routed model has said so before."""
    if _GATEWAY in (generation.generation_info or {}) or not _gateways_are_known():
        return {}
    resolved = {"model": answer.purchase.attempt.model, "provider": target.provider}
    return {_GATEWAY: {name: value for name, value in resolved.items() if value}}


@cache
def _gateways_are_known() -> bool:
    """Whether this LangChain takes the note out again; an older one would show it in answers."""
    return find_spec("langchain_core.utils._gateway") is not None


def _missing_usage(answer: Answer) -> UsageMetadata | None:
    """What has to be added to the provider's usage to make it what was booked."""
    usage, reported = answer.purchase.usage, _reported_usage(answer.purchase.message)
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

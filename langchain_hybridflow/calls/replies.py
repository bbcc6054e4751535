"""Read what an edge model says under the answer-or-ask contract, whole or as it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from langchain_hybridflow.answer_or_ask import Reply, ReplyReader

__all__ = ["ASK_TOOL_NAME", "DRAFT", "DRAFT_THINKING", "DRAFT_VOID", "Form", "Reading", "ask_tool"]

Form: TypeAlias = Literal["prompt", "tool", "trained"]
"""How an edge model asks for help."""

ASK_TOOL_NAME = "ask_for_help"

DRAFT = "hybridflow_draft"
"""In `additional_kwargs` of a chunk: a part of an answer that may still turn out to be none."""

DRAFT_THINKING = "hybridflow_draft_thinking"
"""Likewise: a part of the thinking before it."""

DRAFT_VOID = "hybridflow_draft_void"
"""Likewise: what was drafted up to here will not be the answer."""


def ask_tool(*, notes: bool) -> dict[str, Any]:
    """Describe the tool by which a model asks for help, with or without notes for the helper."""
    properties = {"notes": {"type": "string", "description": _NOTES}} if notes else {}
    parameters = {"type": "object", "properties": properties, "required": [*properties]}
    function = {"name": ASK_TOOL_NAME, "description": _WHEN, "parameters": parameters}
    return {"type": "function", "function": function}


_WHEN = (
    "Hand the question over to a stronger assistant, who answers in your place. Call it, and "
    "nothing else, when you are not confident that your own answer or your next step is right."
)
_NOTES = "What you have found out so far, in a few sentences."


@dataclass(slots=True)
class Reading:
    """Reads one reply.

    Attributes:
        form: How the model asks.
        tagged: Whether the answer stands between tags; see `read_reply`.
        asks: Whether the model may ask: then a certain marker ends its output.
        shares: Whether what it has worked out is wanted, too.
        drafts: Whether the reader of a stream gets to see what is being written.
        is_decided: Whether it is certain that the model asks, so that no more is wanted of it.
        has_drafted: Whether drafts have been shown.
    """

    form: Form
    tagged: bool = False
    asks: bool = True
    shares: bool = False
    drafts: bool = False
    is_decided: bool = False
    has_drafted: bool = False
    _reader: ReplyReader | None = None
    _called: str = ""

    def restart(self) -> None:
        """Forget what was read: the model is called again."""
        self._reader, self._called, self.is_decided = None, "", False

    def take(self, chunk: ChatGenerationChunk) -> list[ChatGenerationChunk]:
        """Read on; return what the reader of the stream may see of it: nothing, or a draft."""
        if self.form == "tool":
            self.is_decided = self.asks and not self.shares and self._calls_for_help(chunk.message)
            return self._drafted({DRAFT: chunk.text})
        if self._reader is None:
            self._reader = ReplyReader(tagged=self.tagged, stops=self.asks)
        pieces = self._reader.feed(chunk.text)
        self.is_decided = self._reader.asks
        drafts: dict[str, str] = {}
        for part, text in pieces:
            name = DRAFT if part == "answer" else DRAFT_THINKING
            drafts[name] = drafts.get(name, "") + text
        return self._drafted(drafts)

    def _calls_for_help(self, message: object) -> bool:
        """Whether it is certain that the tool is called: its name is complete, arguments follow."""
        for part in getattr(message, "tool_call_chunks", None) or ():
            name = part.get("name")
            if name:
                self._called = name
            if part.get("args") and self._called == ASK_TOOL_NAME:
                return True
        return False

    def _drafted(self, drafts: Mapping[str, str]) -> list[ChatGenerationChunk]:
        shown = {name: text for name, text in drafts.items() if text} if self.drafts else {}
        if not shown:
            return []
        self.has_drafted = True
        return [ChatGenerationChunk(message=AIMessageChunk(content="", additional_kwargs=shown))]

    def voided(self) -> tuple[ChatGenerationChunk, ...]:
        """Return what tells the reader of a stream that the draft is void, if there was one."""
        if not self.has_drafted:
            return ()
        self.has_drafted = False
        extras = {DRAFT_VOID: True}
        message = AIMessageChunk(content="", additional_kwargs=extras)
        return (ChatGenerationChunk(message=message),)

    def read(self, message: AIMessage) -> Reply:
        """Say what a whole message is."""
        if self.form == "tool":
            return self._read_calls(message)
        reader = ReplyReader(tagged=self.tagged, stops=self.asks)
        reader.feed(message.text)
        reply = reader.close()
        thinking = reply.thinking or _reasoning(message)
        return Reply(thinking, reply.answer, asks=reply.asks, well_formed=reply.well_formed)

    def _read_calls(self, message: AIMessage) -> Reply:
        calls = [*message.tool_calls, *message.invalid_tool_calls]
        asking = [call for call in calls if call["name"] == ASK_TOOL_NAME]
        noted = [_notes(call["args"]) for call in asking]
        thinking = "\n".join(part for part in (_reasoning(message), *noted) if part)
        return Reply(thinking, message.text.strip() or None, bool(asking), well_formed=True)

    def cleaned(
        self, result: ChatResult, reply: Reply, *, instead: str | None = None
    ) -> ChatResult:
        """Return a result without tags, markers and calls for help.

        Args:
            result: What the model returned.
            reply: What it was read to be.
            instead: The text to give, if it is not the answer of the reply.
        """
        first, *others = result.generations
        cleaned = [self._cleaned(first, reply, instead)]
        for other in others:  # several answers to one prompt, none of which may ask
            message = other.message
            own = self.read(message) if isinstance(message, AIMessage) else reply
            cleaned.append(self._cleaned(other, own, None))
        if all(new is old for new, old in zip(cleaned, result.generations, strict=True)):
            return result
        return ChatResult(generations=cleaned, llm_output=result.llm_output)

    def _cleaned(
        self, generation: ChatGeneration, reply: Reply, instead: str | None
    ) -> ChatGeneration:
        message = generation.message
        if not isinstance(message, AIMessage):
            return generation
        answer = (reply.answer or "") if instead is None else instead
        update: dict[str, Any] = {}
        if answer != message.text.strip():
            update["content"] = _with_text(message.content, answer)
            if reply.thinking and not _reasoning(message):
                extras = {**message.additional_kwargs, "reasoning_content": reply.thinking}
                update["additional_kwargs"] = extras
        if self.form == "tool":
            update |= _other_calls(message, update.get("content", message.content))
        if not update:
            return generation
        return ChatGeneration(
            message=_changed(message, update), generation_info=generation.generation_info
        )


def _changed(message: AIMessage, update: Mapping[str, Any]) -> AIMessage:
    """Return a copy of a message, whole even if it was put together from chunks."""
    fields = message.model_dump(exclude={"type", "tool_call_chunks", "chunk_position"})
    return AIMessage(**{**fields, **update})


def _other_calls(message: AIMessage, content: str | list[Any]) -> dict[str, Any]:
    """What changes in a message when its calls for help go, from its content, too."""
    calls = [call for call in message.tool_calls if call["name"] != ASK_TOOL_NAME]
    broken = [call for call in message.invalid_tool_calls if call["name"] != ASK_TOOL_NAME]
    if len(calls) + len(broken) == len(message.tool_calls) + len(message.invalid_tool_calls):
        return {}
    extras = {name: it for name, it in message.additional_kwargs.items() if name != "tool_calls"}
    update = {"tool_calls": calls, "invalid_tool_calls": broken, "additional_kwargs": extras}
    if isinstance(content, str):
        return update
    kept = [it for it in content if not (isinstance(it, dict) and it.get("name") == ASK_TOOL_NAME)]
    return {**update, "content": kept}


def _with_text(content: str | list[Any], text: str) -> str | list[Any]:
    """Return content with other text: where its first text stood, and nowhere else."""
    if isinstance(content, str):
        return text
    kept: list[Any] = []
    for block in content:
        if not isinstance(block, str) and block.get("type") != "text":
            kept.append(block)
        elif text:
            kept.append(text if isinstance(block, str) else {"type": "text", "text": text})
            text = ""
    return [*kept, text] if text else kept


def _reasoning(message: AIMessage) -> str:
    """What a provider gives as the model's reasoning, beside the text."""
    given = message.additional_kwargs.get("reasoning_content")
    if isinstance(given, str) and given.strip():
        return given.strip()
    if isinstance(message.content, str):
        return ""
    blocks = [block for block in message.content if isinstance(block, dict)]
    found = [block.get("reasoning") or block.get("thinking") for block in blocks]
    return "\n".join(part for part in found if isinstance(part, str)).strip()


def _notes(args: object) -> str:
    notes = args.get("notes") if isinstance(args, Mapping) else None
    return notes.strip() if isinstance(notes, str) else ""

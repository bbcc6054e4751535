"""What is offered to an edge model that may ask for help, and what it says to that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage

from langchain_hybridflow.answer_or_ask import ASK_MARKER, NO_HELP, Reply
from langchain_hybridflow.calls.buying import AttemptFailed
from langchain_hybridflow.calls.inner import TierModel, as_chunk
from langchain_hybridflow.calls.options import STRUCTURED_OUTPUT
from langchain_hybridflow.calls.replies import ASK_TOOL_NAME, Form, Reading, ask_tool
from langchain_hybridflow.calls.stripping import stripped, stripped_data
from langchain_hybridflow.calls.types import Purchase
from langchain_hybridflow.errors import ModelCallError
from langchain_hybridflow.routing import HelpForm, HelpTerms

__all__ = ["Offer", "forced_form", "form_of", "instructed", "no_help_because"]

_CONTRACT = f"""\
Decide at the end of your own work whether you can answer.
If you want to think first, do it between <think> and </think>.
Then do one of two things. If you are confident that you have the right answer, write it, and \
nothing else; call a tool if you have one that you need. If you are not, write exactly this, and \
stop:
{ASK_MARKER}"""

_TOOL_CONTRACT = (
    f"If you are not confident that your answer or your next step is right, call {ASK_TOOL_NAME} "
    f"and nothing else."
)

_TOLD: Mapping[Form, str] = {"prompt": _CONTRACT, "tool": _TOOL_CONTRACT, "trained": ""}


@dataclass(frozen=True, slots=True)
class Offer:
    """One call of the edge model under the contract: with help, or with help ruled out.

    Attributes:
        form: How the model asks.
        help: Whether it may ask.
        reading: Reads its reply.
        before: What it said when it might ask, if it was asked before.
        told: What it is told of that.
    """

    form: Form
    help: bool
    reading: Reading
    before: Reply | None = None
    told: str = ""

    @classmethod
    def of(
        cls, form: Form, terms: HelpTerms, *, help: bool, structured: bool, before: Reply | None
    ) -> Offer:
        """Make an offer.

        Args:
            form: How the model asks.
            terms: The router's.
            help: Whether it may ask.
            structured: Whether the answer has a form of its own.
            before: What it said when it might ask.
        """
        reading = Reading(
            form,
            tagged=form == "trained" and not structured,
            asks=help,
            shares=terms.share_reasoning != "none",
            drafts=terms.stream_draft,
        )
        told = _TOLD[form] if terms.instructions is None else terms.instructions
        return cls(form, help, reading, before, told)

    def prompt(self, messages: list[BaseMessage]) -> list[BaseMessage]:
        """Return the prompt: without parts of the format in it, and with what is to be said."""
        tagged = self.reading.tagged
        sent = messages if self.form == "tool" else stripped(messages, tagged=tagged)
        if self.told and (self.help or self.form == "trained"):
            sent = instructed(sent, self.told)
        return sent if self.help else instructed(sent, NO_HELP)

    def options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the call's options in neutral form, with the tool among them if it is one."""
        tools = list(options.get("tools") or ())
        if self.form != "tool":
            tools = stripped_data(tools, tagged=self.reading.tagged)
            return {**options, "tools": tools} if tools else dict(options)
        if not self.help:
            return dict(options)
        return {**options, "tools": [*tools, ask_tool(notes=self.reading.shares)]}

    def read(self, purchase: Purchase) -> Purchase:
        """Say what was bought: an answer as its reader gets it, or a reply that asks.

        Raises:
            AttemptFailed: Neither is there: the model has thought, perhaps, and said nothing.
        """
        reply = self.reading.read(purchase.message)
        instead: str | None = None
        if reply.asks and self.help:
            purchase = purchase.noted(asked=True)
        elif reply.answer is None and not _says_otherwise(purchase.message, self.form):
            instead = None if self.help else _last_resort(reply, self.before)
            if instead is None:
                empty = self.reading.cleaned(purchase.result, reply, instead="")
                raise _no_answer(replace(purchase, result=empty), reply)
        result = self.reading.cleaned(purchase.result, reply, instead=instead)
        if result is not purchase.result and purchase.call.streamed:
            purchase.call.streamed[:] = [as_chunk(result)]
        return replace(purchase, result=result, reply=reply)


def instructed(messages: Sequence[BaseMessage], text: str) -> list[BaseMessage]:
    r"""Return messages with more in the system message, which is made if there is none.

    Example:
        >>> from langchain_core.messages import HumanMessage
        >>> [
        ...     one.text
        ...     for one in instructed([SystemMessage("Be brief."), HumanMessage("?")], "Now!")
        ... ]
        ['Be brief.\n\nNow!', '?']
    """
    if not messages or not isinstance(messages[0], SystemMessage):
        return [SystemMessage(text), *messages]
    first, *rest = messages
    content = first.content
    if isinstance(content, str):
        more: Any = f"{content}\n\n{text}" if content.strip() else text
    else:
        more = [*content, {"type": "text", "text": f"\n\n{text}"}]
    return [first.model_copy(update={"content": more}), *rest]


def form_of(wanted: HelpForm, target: TierModel, options: Mapping[str, Any]) -> Form:
    """Choose how the edge model asks in a call.

    A model that cannot be offered the tool in this call is told in words.

    Args:
        wanted: What the router says.
        target: The edge model.
        options: The call's options in neutral form.
    """
    tools = options.get("tools")
    if wanted == "auto":
        trained = getattr(target.origin, "answers_or_asks", False) is True
        wanted = "trained" if trained else "tool" if tools else "prompt"
    if wanted != "tool":
        return wanted
    can = type(target.model).bind_tools is not BaseChatModel.bind_tools
    known = can and (target.model.profile or {}).get("tool_calling") is not False
    free = all(_name_of(tool) != ASK_TOOL_NAME for tool in tools or ())
    return "tool" if known and free and options.get("tool_choice") != "none" else "prompt"


def no_help_because(form: Form, target: TierModel, options: Mapping[str, Any]) -> str | None:
    """Say why the edge model may not ask in a call, though the router lets it; `None` if it may.

    An answer in a form that is forced has no place for asking. A model that has to call any of its
    tools can still call for help.
    """
    forced = forced_form(form, options)
    if forced is None and target.answers(dict(options)) > 1:
        return "several answers are wanted"
    return forced


def forced_form(form: Form, options: Mapping[str, Any]) -> str | None:
    """Say what forces a form of its own on an answer; `None` if nothing does.

    Args:
        form: How the edge model asks.
        options: The call's options in neutral form.
    """
    if options.get(STRUCTURED_OUTPUT) or options.get("response_format"):
        return "the answer has to have the form of a schema"
    choice = options.get("tool_choice")
    forced = choice not in (None, False, "auto", "none")
    if forced and not (form == "tool" and choice in (True, "any", "required")):
        return "a tool has to be called"
    return None


def _name_of(tool: object) -> object:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    return function.get("name") if isinstance(function, Mapping) else None


def _says_otherwise(message: AIMessage, form: Form) -> bool:
    """Whether a message without text is an answer all the same: a tool call, an image."""
    calls = [*message.tool_calls, *message.invalid_tool_calls]
    if any(form != "tool" or call["name"] != ASK_TOOL_NAME for call in calls):
        return True
    if any(message.additional_kwargs.get(name) for name in _ANSWERS):
        return True
    blocks = [] if isinstance(message.content, str) else message.content
    return any(
        isinstance(it, dict)
        and it.get("type") not in _NO_ANSWERS
        and not (form == "tool" and it.get("name") == ASK_TOOL_NAME)
        for it in blocks
    )


_ANSWERS = ("audio", "function_call", "refusal")
_NO_ANSWERS = frozenset({"reasoning", "reasoning_content", "redacted_thinking", "text", "thinking"})


def _last_resort(reply: Reply, before: Reply | None) -> str | None:
    """The best there is of a model that was to answer and did not."""
    first = before or reply
    return first.answer or reply.thinking or first.thinking or None


def _no_answer(purchase: Purchase, reply: Reply) -> AttemptFailed:
    """Return the failure of a reply that was paid for, and is none."""
    reason = purchase.message.response_metadata.get("finish_reason")
    hint = "; raise max_tokens" if reason == "length" else ""
    said = "it asked for help, which is not to be had" if reply.asks else "it wrote none"
    error = ModelCallError(
        f"the model gave no answer: {said} (finish reason: {reason or 'not given'}{hint})",
        tier=purchase.attempt.tier,
    )
    purchase = purchase.noted(status="failed", error=str(error), asked=reply.asks)
    return AttemptFailed(purchase.attempt, error, purchase=purchase)

"""Tell callbacks of what a call has bought besides its answer.

A message carries the usage of one model under one name. An edge answer that was not accepted, or
the call of a judge, was made by another one, and is billed all the same. So each gets a run of its
own below the run of the call: usage callbacks count it under its own model's name, traces show it.
It is reported when the call is over, by an error or a reader's leaving, too, so in traces it takes
no time; LangGraph streams none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.callbacks import AsyncCallbackManager, CallbackManager, Callbacks
from langchain_core.outputs import ChatGeneration, LLMResult

from langchain_hybridflow.calls import Purchase
from langchain_hybridflow.chat_models.context import CallContext
from langchain_hybridflow.chat_models.labels import counted

__all__ = ["ReportAsides"]

_NOT_STREAMED = "nostream"  # LangGraph shows no tokens of runs with this tag


@dataclass(slots=True)
class ReportAsides:
    """A step: give each purchase a run of its own below that of its call.

    Args:
        asides: What was bought.
        context: The call.
        callbacks: Those of the model itself.
    """

    asides: Sequence[Purchase]
    context: CallContext
    callbacks: Callbacks

    def perform(self) -> None:
        """Tell the callbacks."""
        for purchase in self.asides:
            manager = CallbackManager.configure(**self._listeners(purchase))
            manager.parent_run_id = self.context.run_id
            for run in manager.on_chat_model_start(**_start(purchase)):
                run.on_llm_end(_end(purchase))

    async def aperform(self) -> None:
        """Async twin of `perform`."""
        for purchase in self.asides:
            manager = AsyncCallbackManager.configure(**self._listeners(purchase))
            manager.parent_run_id = self.context.run_id
            for run in await manager.on_chat_model_start(**_start(purchase)):
                await run.on_llm_end(_end(purchase))

    def _listeners(self, purchase: Purchase) -> dict[str, Any]:
        """Who hears of it: the call's listeners, and those that LangChain finds by itself."""
        attempt = purchase.attempt
        facts = {
            "ls_model_type": "chat",
            "ls_model_name": attempt.model,
            "ls_provider": purchase.call.target.provider,
            "hybridflow_tier": attempt.tier,
            "hybridflow_purpose": attempt.purpose,
        }
        return {
            "inheritable_callbacks": list(self.context.handlers),
            "local_callbacks": self.callbacks,
            "local_tags": [_NOT_STREAMED, f"hybridflow:{attempt.tier}"],
            "local_metadata": {name: value for name, value in facts.items() if value is not None},
        }


def _start(purchase: Purchase) -> dict[str, Any]:
    attempt = purchase.attempt
    what = "verifies" if attempt.purpose == "verify" else "answers, not accepted"
    what = "asks for help" if attempt.asked else what
    name = f"{attempt.model} {what}"
    return {
        "serialized": {"name": name},
        "messages": [list(purchase.call.messages)],
        "name": name,
    }


def _end(purchase: Purchase) -> LLMResult:
    return LLMResult(generations=[[ChatGeneration(message=counted(purchase))]])

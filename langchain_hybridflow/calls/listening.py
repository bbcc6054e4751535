"""Notice what a model tells the callbacks of a call that is not streamed.

Some models stream by themselves inside a whole call, and report each token as it comes: those with
`streaming=True`, and those whose client knows nothing else. What has been reported has been seen,
so it is an answer that has begun, and no other model may go on with it.
"""

from __future__ import annotations

from copy import copy
from typing import Any, TypeVar

from langchain_core.callbacks import BaseCallbackHandler, BaseRunManager
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk
from typing_extensions import override

from langchain_hybridflow.calls.steps import Call
from langchain_hybridflow.calls.tether import RunAbandoned

__all__ = ["overheard"]

ManagerT = TypeVar("ManagerT", bound=BaseRunManager)


def overheard(call: Call, manager: ManagerT | None) -> ManagerT | None:
    """Return a run manager for a model, through which the call learns of each token.

    Args:
        call: The call that the model answers.
        manager: Whoever else listens to the call; `None` if nobody may hear of it.

    Returns:
        `None` if nobody listens: what nobody has seen can still be answered by another model.
    """
    if manager is None or not manager.handlers:
        return None
    listened = copy(manager)
    listened.handlers = [_Ear(call), *manager.handlers]  # first: before anybody sees the token
    return listened


class _Ear(BaseCallbackHandler):
    """Notes the tokens of one call; stops a model that goes on after it was given up."""

    raise_error = True
    run_inline = True

    def __init__(self, call: Call) -> None:
        self._call = call

    @override
    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(chunk, ChatGenerationChunk):
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=token))
        # In this order: either the one who gives up sees that it has begun, or we that it is over.
        self._call.take(chunk)
        if self._call.given_up:
            raise RunAbandoned

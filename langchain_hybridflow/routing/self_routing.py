"""The edge decides for itself, at the end of its own solving, whether it answers or asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from langchain_hybridflow.answer_or_ask import ASK_MARKER
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing.types import RouteDecision, Router, RouteRequest

__all__ = ["HelpForm", "HelpTerms", "SelfRouter", "ShareReasoning", "terms_of"]

HelpForm: TypeAlias = Literal["auto", "prompt", "tool", "trained"]
"""How an edge model is told that it may ask, and how it does so."""

ShareReasoning: TypeAlias = Literal["none", "summary", "full"]
"""How much of what an asking edge model has worked out goes along to the cloud."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HelpTerms:
    """On what terms an edge model may ask for help; see `SelfRouter`.

    Attributes:
        form: How it is told, and how it asks.
        share_reasoning: How much of its reasoning goes along.
        stream_draft: Whether a stream shows what it writes before it is decided.
        instructions: What it is told instead of the usual sentences; `None` for those.
    """

    form: HelpForm = "auto"
    share_reasoning: ShareReasoning = "none"
    stream_draft: bool = False
    instructions: str | None = None


class SelfRouter:
    """Let the edge model try first, and answer or ask for the cloud when it has tried.

    Other routers judge a question by its looks. Here the edge model works on it and says at the
    end of its own solving whether it knows the answer; if it asks, the cloud answers, once. What
    it writes is shown to nobody before that is decided. The budget has the last word: if the cloud
    is refused, or fails, the edge is asked again with help ruled out.

    It is the self-routing of arXiv 2509.24050. A model that was trained for it by
    `langchain_hybridflow.posttrain` knows best when to ask; any other is told in words.

    Args:
        contract: How the edge model is told, and asks. "prompt" adds instructions to the system
            message, for any chat model; "tool" offers it a tool `ask_for_help`, for models that
            call tools; "trained" adds nothing, for a model trained to the markers; "auto" takes
            "trained" if the model has an attribute `answers_or_asks` that is true, "tool" if the
            call brings tools along anyway, else "prompt".
        share_reasoning: How much of the edge's reasoning goes along to the cloud, as the notes of
            an unverified attempt: "none", a "summary" of at most 1,200 characters, or "full". What
            the policy does not let go to the cloud stays.
        stream_draft: Whether a stream shows what the edge writes before it is decided, marked as a
            draft: under `additional_kwargs["hybridflow_draft"]`, never as content.
        instructions: What the edge is told, in the system message, instead of the usual sentences;
            a model that was trained under some is told them, unless its chat template has them.
            Under "prompt" they name the marker, `answer_or_ask.ASK_MARKER`.
        before: A router that is asked first. What it sends to the cloud goes there at once, and
            the edge tries the rest.

    Raises:
        ConfigurationError: An argument is none of those named here, or instructions without the
            marker leave the model no way to ask.

    Example:
        >>> from langchain_hybridflow import RoutedChatModel
        >>> from langchain_hybridflow.answer_or_ask import ASK_MARKER
        >>> from langchain_hybridflow.testing import ScriptedChatModel
        >>> model = RoutedChatModel(
        ...     edge=ScriptedChatModel(responses=["<think>12, surely.</think>12", ASK_MARKER]),
        ...     cloud=ScriptedChatModel(responses=["-17/4"]),
        ...     router=SelfRouter(),
        ... )
        >>> model.invoke("What is 3 * 4?").text, model.invoke("What is 3 - 29/4?").text
        ('12', '-17/4')
    """

    def __init__(
        self,
        *,
        contract: HelpForm = "auto",
        share_reasoning: ShareReasoning = "none",
        stream_draft: bool = False,
        instructions: str | None = None,
        before: Router | None = None,
    ) -> None:
        _check("contract", contract, get_args(HelpForm))
        _check("share_reasoning", share_reasoning, get_args(ShareReasoning))
        if before is not None and not callable(getattr(before, "route", None)):
            raise ConfigurationError(
                f"before is a router, with a method route(request), or None; "
                f"{type(before).__name__} is none."
            )
        if contract == "prompt" and instructions is not None and ASK_MARKER not in instructions:
            raise ConfigurationError(
                f"These instructions do not tell the model how to ask: put {ASK_MARKER!r} into "
                f"them; it is answer_or_ask.ASK_MARKER."
            )
        self.contract = contract
        self.share_reasoning = share_reasoning
        self.stream_draft = stream_draft
        self.instructions = instructions
        self.before = before

    @property
    def terms(self) -> HelpTerms:
        """On what terms the edge may ask. Routers that wrap another one pass them on."""
        return HelpTerms(
            form=self.contract,
            share_reasoning=self.share_reasoning,
            stream_draft=self.stream_draft,
            instructions=self.instructions,
        )

    def route(self, request: RouteRequest) -> RouteDecision:
        """Send the call to the edge, which may ask; or to the cloud, if the router before does."""
        if self.before is None:
            return RouteDecision(
                tier="edge",
                reason="the edge tries first and may ask for help",
                router="self",
                expected_cost_usd=request.expected_cost_usd.get("edge"),
                may_ask=True,
            )
        decision = self.before.route(request)
        if decision.tier == "cloud":
            return decision
        reason = f"{decision.reason}; the edge may ask for help"
        return decision.model_copy(update={"may_ask": True, "reason": reason})


def terms_of(router: object) -> HelpTerms | None:
    """Return the terms on which a router lets the edge ask; `None` if it does not.

    Example:
        >>> from langchain_hybridflow.routing import AlwaysEdge, CappedRouter
        >>> terms_of(CappedRouter(SelfRouter(contract="tool"), max_share=1)).form
        'tool'
        >>> terms_of(AlwaysEdge()) is None
        True
    """
    terms = getattr(router, "terms", None)
    return terms if isinstance(terms, HelpTerms) else None


def _check(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigurationError(f"{name} is one of {', '.join(known)}, not {value!r}.")

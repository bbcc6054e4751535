"""What a router is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b
from typing import Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from langchain_hybridflow.budget import BudgetSnapshot
from langchain_hybridflow.plan import Role
from langchain_hybridflow.routing.capabilities import Needs

__all__ = ["TIERS", "RouteDecision", "RouteRequest", "Router", "Tier", "uniform_draw"]

Tier = Literal["edge", "cloud"]
"""Where a call goes: the cheap model close by, or the expensive one far away."""

TIERS: tuple[Tier, ...] = ("edge", "cloud")
"""Both of them."""

_NO_NEEDS = Needs()
_NO_BUDGET = BudgetSnapshot()


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRequest:
    """All that is known about a call before it is made.

    Nothing in here depends on an answer of the call that is being routed, so a router that reads
    only its request cannot leak the outcome into the decision.

    Attributes:
        text: What is asked: the task of a subtask, or the last human message of a plain call.
        tag: What kind of request it is, in the application's own words, such as "maths"; `None`
            if nobody has said. Calls say it as `hybridflow_tag` in their config.
        prompt: All text that would be sent: of every message, of tool calls and their results
            and, if there is a policy to read it, of tools, schemas and other call options.
        attachments: Whether something would be sent that `prompt` cannot show: an image, audio,
            a document.
        needs: What the call needs of the model that answers it.
        kept_local: Whether it builds on an answer that a policy kept on the edge.
        prompt_tokens: Estimated length of the whole prompt, in tokens.
        subtask_id: The id within the plan; `None` outside a plan.
        role: The subtask's role; `None` outside a plan.
        difficulty: The planner's estimate, 1 (trivial) to 9 (hardest); `None` if nobody gave one.
        expected_output_tokens: The planner's estimate of the answer's length, in tokens.
        depth: Length of the longest chain of dependencies above the subtask; roots have 0.
        fan_in: Number of subtasks it depends on.
        fan_out: Number of subtasks that depend on it; `None` while the plan is still streaming.
        on_critical_path: Whether the subtask lies on the plan's critical path as planned; `None`
            while the plan is still streaming.
        parent_tiers: The tiers that answered the subtasks it depends on.
        previous_tier: The tier that the conversation is on; `None` if it begins with this call,
            or nobody knows.
        cached_prompt_tokens: Estimated part of `prompt_tokens` that the previous tier has read
            before and probably has in its cache, so that going elsewhere costs it in full; 0 if
            its model has no price for cached tokens.
        expected_cost_usd: What the call would cost on each tier, in USD, what is cached at the
            price of cached tokens; `None` is unknown.
        budget: The live state of the budget.
    """

    text: str
    tag: str | None = None
    prompt: str = ""
    attachments: bool = False
    needs: Needs = _NO_NEEDS
    kept_local: bool = False
    prompt_tokens: int = 0
    subtask_id: str | None = None
    role: Role | None = None
    difficulty: int | None = None
    expected_output_tokens: int | None = None
    depth: int = 0
    fan_in: int = 0
    fan_out: int | None = None
    on_critical_path: bool | None = None
    parent_tiers: tuple[Tier, ...] = ()
    previous_tier: Tier | None = None
    cached_prompt_tokens: int = 0
    expected_cost_usd: dict[Tier, Decimal | None] = field(default_factory=dict)
    budget: BudgetSnapshot = _NO_BUDGET


class RouteDecision(BaseModel):
    """A router's answer: which tier, and why.

    Attributes:
        tier: The tier that is to answer; r_i of HybridFlow (arXiv 2512.22137), 1 = cloud.
        reason: The decision in words, for people.
        router: Name of the policy that decided.
        score: What the router compared, on the router's own scale; `None` if it compares nothing.
        threshold: What the score was compared with.
        price: The shadow price (lambda) at which it was decided; `None` if the policy has none.
        expected_cost_usd: What the call is expected to cost on the chosen tier, in USD; `None` is
            unknown.
        seed: The seed behind a random decision; `None` if nothing was drawn.
        allowed: The tiers that may answer this call, now or as a fallback: they can, and the
            policy lets them. Filled in by the routing core; a router may only leave tiers out.
        kept_local: Whether the cloud was ruled out by a policy, for this call or for one it
            builds on. Filled in by the routing core.
        decision_id: Identity under which a router that learns can be told what the answer was
            worth; `None` if it does not learn.
        propensity: Probability with which this tier was chosen, in (0, 1]; `None` if the router
            does not say.
        may_ask: Whether the edge, which is to answer, may ask for the cloud instead, on the terms
            of the router; see `SelfRouter`.

    Example:
        >>> RouteDecision(tier="edge", reason="difficulty 2 < 5", router="difficulty").tier
        'edge'
    """

    # NaN and infinity are not JSON, and a decision goes into checkpoints and metadata.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tier: Tier
    reason: str
    router: str
    score: float | None = None
    threshold: float | None = None
    price: float | None = Field(default=None, ge=0)
    expected_cost_usd: Decimal | None = None
    seed: int | None = None
    allowed: tuple[Tier, ...] = TIERS
    kept_local: bool = False
    decision_id: str | None = None
    propensity: float | None = Field(default=None, gt=0, le=1)
    may_ask: bool = False


@runtime_checkable
class Router(Protocol):
    """Chooses a tier for one call.

    Implementations must be safe to call from several threads at once and should answer within a
    millisecond. Raising is allowed: the caller then takes the fallback tier and notes the error
    in the decision's reason.
    """

    def route(self, request: RouteRequest) -> RouteDecision:
        """Decide where the call goes."""
        ...


def uniform_draw(seed: int, request: RouteRequest) -> float:
    """Draw a number in [0, 1) that depends only on the seed and on what is asked.

    The draw belongs to the question, not to the moment: it does not change with the order in
    which parallel subtasks happen to be routed, nor when a call is tried again.

    Example:
        >>> request = RouteRequest(text="How many apples?")
        >>> uniform_draw(7, request) == uniform_draw(7, request)
        True
    """
    key = f"{seed}\x00{request.subtask_id or ''}\x00{request.text}"
    # "surrogatepass": half a surrogate pair, as models do write, is still a question.
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64

"""Who is to answer: the filters first, then the router, for one call or for a whole plan."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from langchain_hybridflow.budget import RunBudget, Usage
from langchain_hybridflow.calls.buying import Buyer
from langchain_hybridflow.calls.deciding import check_decision, permit
from langchain_hybridflow.calls.failures import describe_error
from langchain_hybridflow.calls.steps import Script, Snapshot
from langchain_hybridflow.errors import CapabilityError, PolicyViolation, RoutingError
from langchain_hybridflow.plan import Plan
from langchain_hybridflow.routing import (
    PlanRouter,
    Policy,
    RouteDecision,
    Router,
    RouteRequest,
    Tier,
)

__all__ = ["Chooser"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chooser(Buyer):
    """The part of a `RoutingCore` that decides on tiers.

    Attributes:
        router: Decides the tier of a call.
        policy: Which tiers may see a call at all; `None` is both.
        on_router_error: The tier to take when the router itself fails, or "raise".
    """

    router: Router
    policy: Policy | None = None
    on_router_error: Tier | Literal["raise"] = "edge"

    def decide(
        self, request: RouteRequest, *, run: RunBudget, planned: RouteDecision | None = None
    ) -> Script[RouteDecision]:
        """Ask the filters and, if both tiers may answer, the router.

        The router's request has the live state of the budget and the expected costs filled in.

        Args:
            request: What is asked.
            run: The account that pays.
            planned: What the router has decided when it saw the whole plan; see `decide_plan`.

        Raises:
            CapabilityError: Neither tier has what the call needs.
            PolicyViolation: The policy allows no tier that has.
            RoutingError: The router failed and `on_router_error` is "raise".
        """
        permitted = permit(request, models=self.models, policy=self.policy)
        snapshot = yield Snapshot(run, request.subtask_id)
        costs = self.expected_costs(request)
        if len(permitted.allowed) > 1:
            if planned is not None:
                return planned
            return self._ask_router(replace(request, expected_cost_usd=costs, budget=snapshot))
        (tier,) = permitted.allowed
        return RouteDecision(
            tier=tier,
            reason=permitted.reason,
            router=permitted.filter,
            expected_cost_usd=costs[tier],
            allowed=permitted.allowed,
            kept_local=permitted.kept_local,
        )

    def decide_plan(
        self, plan: Plan, requests: Mapping[str, RouteRequest], *, run: RunBudget
    ) -> Script[Mapping[str, RouteDecision]]:
        """Let a router that can do so decide on all subtasks of a plan at once.

        It is asked about those that both tiers may answer; `decide` still asks the filters.

        Returns:
            Decisions by id; none if the router decides one by one, or fails: it is then asked for
            each, and the rules for its failures hold.
        """
        router = self.router
        if not isinstance(router, PlanRouter) or not requests:
            return {}
        snapshot = yield Snapshot(run, plan.sink.id)
        asked: dict[str, RouteRequest] = {}
        kept: set[str] = set()
        for one in (subtask_id for subtask_id in plan.order if subtask_id in requests):
            request = requests[one]
            if not kept.isdisjoint(plan[one].depends_on):
                request = replace(request, kept_local=True)
            with suppress(CapabilityError, PolicyViolation):
                permitted = permit(request, models=self.models, policy=self.policy)
                if permitted.kept_local:
                    kept.add(one)
                if len(permitted.allowed) > 1:
                    costs = self.expected_costs(request)
                    asked[one] = replace(request, expected_cost_usd=costs, budget=snapshot)
        try:
            decisions = dict(router.route_plan(plan, asked))
            for decision in decisions.values():
                check_decision(decision, type(router).__name__)
        except Exception as error:  # noqa: BLE001 - somebody else's router: it is asked again
            # Its text may quote the prompt, which is never logged.
            fault = type(error).__name__
            logger.warning("Router %s failed on a plan: %s", type(router).__name__, fault)
            return {}
        return {one: decisions[one] for one in asked if one in decisions}

    def expected_costs(self, request: RouteRequest) -> dict[Tier, Decimal | None]:
        """What the call would cost on each tier; who knows the conversation has it in its cache."""
        output_tokens = request.expected_output_tokens or self.max_output_tokens
        first = again = Usage(request.prompt_tokens, output_tokens)
        if request.cached_prompt_tokens:
            cached = min(request.cached_prompt_tokens, request.prompt_tokens)
            again = replace(first, cached_input_tokens=cached)
        return {
            tier: self.budget.cost_usd(
                tier, target.name, again if tier == request.previous_tier else first
            )
            for tier, target in self.models.items()
        }

    def _ask_router(self, request: RouteRequest) -> RouteDecision:
        name = type(self.router).__name__
        try:
            decision = self.router.route(request)
        except Exception as error:  # noqa: BLE001 - somebody else's router
            # Its text may quote the prompt, which a reason never does.
            return self._without_router(request, error, why=type(error).__name__)
        try:
            check_decision(decision, name)
        except RoutingError as error:
            return self._without_router(request, error, why=str(error))
        if decision.expected_cost_usd is None:
            cost = request.expected_cost_usd.get(decision.tier)
            return decision.model_copy(update={"expected_cost_usd": cost})
        return decision

    def _without_router(
        self, request: RouteRequest, error: Exception, *, why: str
    ) -> RouteDecision:
        name = type(self.router).__name__
        if self.on_router_error == "raise":
            fault = describe_error(error, models=self._given_models())
            raise RoutingError(
                f"Router {name} failed: {fault}. Mend the router, or set "
                f"on_router_error='edge' to go on without it."
            ) from error
        return RouteDecision(
            tier=self.on_router_error,
            reason=f"router {name} failed ({why}): {self.on_router_error}",
            router=name,
            expected_cost_usd=request.expected_cost_usd.get(self.on_router_error),
        )

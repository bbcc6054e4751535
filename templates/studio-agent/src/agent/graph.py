"""The graphs that Studio shows: `agent` plans each question anew, `schedule` has a known plan.

The environment says which models there are and what may be spent at most; see `.env.example`.
Whoever starts a run chooses among them with `Settings`, which Studio shows as a form.
"""

from __future__ import annotations

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from langchain_hybridflow import Budget, HybridFlowGraph, Limits, Plan, RoutedChatModel, Subtask
from langchain_hybridflow.cli.models import ModelSpec, read_prices
from langchain_hybridflow.routing import AlwaysCloud, AlwaysEdge, DifficultyRouter, ThresholdRouter
from langchain_hybridflow.sandbox import SANDBOX_PRICES
from langchain_hybridflow.verify import JudgeVerifier, SelfConsistency


def listed(variable: str, separator: str = ",") -> tuple[str, ...]:
    """The parts of an environment variable."""
    parts = (part.strip() for part in os.environ.get(variable, "").split(separator))
    return tuple(part for part in parts if part)


# ------------------------------------------------------------------ the server: what there is

EDGE_MODELS = listed("EDGE_MODELS") or ("sandbox",)
CLOUD_MODELS = listed("CLOUD_MODELS") or ("sandbox",)
LIMIT_USD = float(os.environ.get("LIMIT_USD") or "1")
TIME_SCALE = float(os.environ.get("SANDBOX_TIME_SCALE") or "1")
PRICES = {**SANDBOX_PRICES, **read_prices(listed("PRICES", ";"))}

# All runs are counted here, whatever their settings are.
LEDGER = Budget(store=os.environ.get("BUDGET_STORE") or None).ledger


# ------------------------------------------------------------------ the form: what a run chooses


class Settings(BaseModel):
    """What a run is done with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    edge: Literal[EDGE_MODELS] = Field(  # type: ignore[valid-type]
        EDGE_MODELS[0],
        description="The cheap model close by.",
        json_schema_extra={"enum": list(EDGE_MODELS)},
    )
    cloud: Literal[CLOUD_MODELS] = Field(  # type: ignore[valid-type]
        CLOUD_MODELS[0],
        description="The expensive model.",
        json_schema_extra={"enum": list(CLOUD_MODELS)},
    )
    router: Literal["difficulty", "threshold", "always-edge", "always-cloud"] = Field(
        "difficulty",
        description="Who answers a subtask: by its difficulty, by a threshold that rises as the "
        "budget is used up, or always the same.",
    )
    limit_usd: float = Field(
        min(0.05, LIMIT_USD),
        ge=0,
        le=LIMIT_USD,
        description="What this run may spend. The limit of the server holds in addition.",
    )
    on_exhausted: Literal["edge", "ask", "raise"] = Field(
        "edge",
        description="When the money is used up: the edge answers, you are asked for more, or the "
        "subtask fails.",
    )
    approve_cloud: bool = Field(default=False, description="Ask me before each call to the cloud.")
    verify: Literal["no", "self-consistency", "judge"] = Field(
        "no",
        description="How answers of the edge are checked; those that fail go on to the cloud. "
        "For real models: the sandbox's cannot judge.",
    )
    deadline_s: float = Field(120, gt=0, le=3_600, description="Seconds that a run may take.")


ROUTERS = {
    "difficulty": DifficultyRouter,
    "threshold": ThresholdRouter,
    "always-edge": AlwaysEdge,
    "always-cloud": AlwaysCloud,
}
VERIFIERS = {"no": None, "self-consistency": SelfConsistency(), "judge": JudgeVerifier()}


def model_for(settings: Settings) -> RoutedChatModel:
    """Both models, under the budget of a run; made once for equal settings."""
    return RoutedChatModel(
        edge=ModelSpec.parse(settings.edge).build("edge", time_scale=TIME_SCALE),
        cloud=ModelSpec.parse(settings.cloud).build("cloud", time_scale=TIME_SCALE),
        router=ROUTERS[settings.router](),
        verify=VERIFIERS[settings.verify],
        max_output_tokens=1_024,  # the longest answer; what it would cost is held for each call
        budget=Budget(
            limit_usd=LIMIT_USD,
            window="day",
            per_run=Limits(usd=settings.limit_usd),
            deadline_s=settings.deadline_s,
            on_exhausted=settings.on_exhausted,
            liftable=["run"],  # nobody lifts the limit of the server
            prices=PRICES,
            ledger=LEDGER,
        ),
    )


flow = HybridFlowGraph(
    model_for,
    context_schema=Settings,
    approve_cloud=lambda settings: settings.approve_cloud,
    planner="always",
    stream_plan=False,  # the plan is a step of its own, where a run can be stopped and edited
    edge_slots=1,
    cloud_slots=8,
)

# ------------------------------------------------------------------ the graphs

agent = flow.compile(name="HybridFlow agent")

TEAMS = ("Plumbing", "Garden", "Kitchen")

schedule = flow.compile(
    plan=Plan(
        subtasks=[
            Subtask(
                id="start",
                task="What is the date on which work on the harbour starts?",
                role="explain",
            ),
            *(
                Subtask(
                    id=team.lower(),
                    task=f"What is the date on which the {team} team is done? Take the date on "
                    f"which work on the harbour starts from [start].",
                    depends_on=["start"],
                    difficulty=6,
                )
                for team in TEAMS
            ),
            Subtask(
                id="end",
                task="What is the date on which all the teams are done? Take the date on which "
                "the Plumbing team is done from [plumbing], the date on which the Garden team is "
                "done from [garden] and the date on which the Kitchen team is done from [kitchen].",
                role="generate",
                depends_on=[team.lower() for team in TEAMS],
            ),
        ]
    ),
    name="Schedule",
)

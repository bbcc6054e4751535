"""The public names of the package, by what somebody wants to do, and what each says of itself."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from importlib import import_module

PACKAGE = "langchain_hybridflow"

# In the search, pages that explain come before those that list.
BEHIND_THE_PAGES = "---\nsearch:\n  boost: 0.4\n---\n"


@dataclass(frozen=True)
class Name:
    """A public name: where it is imported from, and its first sentence.

    Args:
        module: The package that lists it in `__all__`.
        name: The name there.
        value: What it stands for.
    """

    module: str
    name: str
    value: object

    @property
    def path(self) -> str:
        """The name with its module, as the reference's anchors have it."""
        return f"{self.module}.{self.name}"

    @property
    def has_docstring(self) -> bool:
        """Whether it can have a docstring of its own: classes and functions, not constants."""
        return inspect.isclass(self.value) or inspect.isroutine(self.value)

    @property
    def summary(self) -> str:
        """The first sentence of its docstring; of a constant, that it is one."""
        if not self.has_docstring:
            return (
                "A type for annotations." if "typing" in repr(type(self.value)) else "A constant."
            )
        return (inspect.getdoc(self.value) or "").partition("\n")[0]


@dataclass(frozen=True)
class Part:
    """A page of the reference.

    Args:
        slug: The page's file name.
        title: Its heading.
        about: What its names are for, in Markdown.
        modules: The packages whose public names stand there.
        first: Those that most users need, in the order of a reader's interest, with spaces between
            them; the others follow.
        only: If given, no other names: the rest of `__all__` is there for the package itself.
    """

    slug: str
    title: str
    about: str
    modules: tuple[str, ...]
    first: str
    only: tuple[str, ...] = ()

    def names(self) -> list[Name]:
        """Return the names of the page, each object once, those that come first in front."""
        found: dict[str, Name] = {}
        seen: list[object] = []
        for short in self.modules:
            module = import_module(f"{PACKAGE}.{short}")
            for name in module.__all__:
                value = getattr(module, name)
                again = inspect.isclass(value) and any(value is one for one in seen)
                if again or (self.only and name not in self.only):
                    continue
                seen.append(value)
                found[name] = Name(module.__name__, name, value)
        order = {name: place for place, name in enumerate(self.first.split())}
        return sorted(found.values(), key=lambda one: (order.get(one.name, len(order)), one.name))


PARTS = (
    Part(
        "graph",
        "Graph and plans",
        "A question becomes a plan of subtasks, and the plan a LangGraph. "
        "Start with `HybridFlowGraph`; `Plan` and `Subtask` are for plans that you know.",
        ("graph", "plan", "planner"),
        "HybridFlowGraph Plan Subtask Role ChatPlanner Planner FlowInput FlowOutput "
        "SubtaskRecord FlowState parse_plan validate_subtasks",
    ),
    Part(
        "chat_model",
        "Chat model",
        "One LangChain chat model made of two. What happens to a call is told in "
        "[The routed chat model](../chat_model.md), what an answer says of it in "
        "[Records](../metadata.md).",
        ("chat_models", "agents", "calls", "telemetry"),
        "RoutedChatModel HybridFlowMiddleware Breaker Telemetry",
        ("RoutedChatModel", "HybridFlowMiddleware", "Breaker", "OnError", "Attempt", "Telemetry"),
    ),
    Part(
        "budget",
        "Budgets and stores",
        "What may be spent, by whom, in which window, and where it is counted: "
        "[Budgets](../budgets.md).",
        ("budget", "budget.stores"),
        "Budget Limits Scope Window Price Pacing LearnedEstimate BudgetAlert BudgetSnapshot "
        "BudgetGauge open_ledger MemoryLedger SQLiteLedger RedisLedger PostgresLedger "
        "FailOpenLedger Ledger",
    ),
    Part(
        "routing",
        "Routers and policies",
        "A router picks the tier of a call, with a reason; a policy says before it which tiers may "
        "see it. A router of your own is a class with one method, `route`. With `SelfRouter` the "
        "edge answers or asks: [Self-routing](../self-routing.md).",
        ("routing", "answer_or_ask"),
        "Router RouteRequest RouteDecision DefaultRouter SelfRouter DifficultyRouter UtilityRouter "
        "ThresholdRouter CappedRouter AlwaysEdge AlwaysCloud RandomRouter KeepLocal Verdict "
        "PlanRouter Predictor Prediction",
    ),
    Part(
        "learning",
        "Learning",
        "From your own questions to a router that has learnt from them (extra `learning`): "
        "[profile](../profile.md), then [train, evaluate and tune](../router.md).",
        ("learning", "profiling", "profiling.scoring"),
        "profile_questions profile_plans load_dataset train evaluate tune LearnedRouter "
        "OnlineRouter check_drift check_gate evaluate_policy",
    ),
    Part(
        "posttrain",
        "Post-training",
        "Teach a model of your own when to ask (extra `rl`): [how to](../posttrain.md).",
        ("posttrain",),
        "PosttrainSettings posttrain PosttrainResult GAPGTrainer GAPGConfig CloudAnswers "
        "verifier_of AnswerVerifier Ruling RewardScheme PromptFilter",
    ),
    Part(
        "verify",
        "Checks of edge answers",
        "For `RoutedChatModel(verify=...)`: "
        "[Checking the edge's answer](../chat_model.md#checking-the-edges-answer).",
        ("verify",),
        "JudgeVerifier SelfConsistency LogprobVerifier PredictorVerifier Verdict",
    ),
    Part(
        "report",
        "Report",
        "Runs as pictures and as one HTML file (extra `report`): [Reports](../report.md).",
        ("report",),
        "Run report_html evaluation_html load_runs write_page",
    ),
    Part(
        "serving",
        "Serving",
        "Models and graphs as a web service (extra `serve`). `templates/serve-api` in the source "
        "puts them together.",
        ("serving", "openai_wire", "leaving"),
        "Service Gate Tokens RateLimits add_openai_routes add_langserve_routes "
        "add_probe_routes run",
    ),
    Part(
        "sandbox",
        "Sandbox",
        "Problems with exact answers and two models that solve them, offline; a real, small model "
        "(extra `tiny`); and a server that offers any chat models in OpenAI's format, with faults "
        "on demand (extra `sandbox`).",
        ("sandbox", "sandbox.server", "sandbox.tiny"),
        "sandbox_edge sandbox_cloud SANDBOX_PRICES generate_problems is_correct "
        "generate_puzzles is_solved sandbox_tiny_edge TinyChatModel "
        "running_server serve Fault Faults",
    ),
    Part(
        "testing",
        "Testing",
        "Fakes without mocks, and the suites that every ledger and every router must pass, yours "
        "included. The suites want pytest.",
        ("testing",),
        "ScriptedChatModel ObedientChatModel ManualClock OutageLedger RouterConformance "
        "LedgerConformance",
    ),
    Part(
        "errors",
        "Errors",
        "One tree: `except HybridFlowError` catches all that the package raises on purpose. Each "
        "message says what happened, with the numbers, and what to do.",
        ("errors",),
        "HybridFlowError BudgetExceeded ConfigurationError PlanError ModelCallError",
    ),
)


def linkable() -> dict[str, Name]:
    """Return the names that mean one thing only, wherever they are said."""
    found: dict[str, list[Name]] = {}
    for part in PARTS:
        for one in part.names():
            found.setdefault(one.name, []).append(one)
    return {name: ones[0] for name, ones in found.items() if len(ones) == 1}


def page(part: Part) -> str:
    """Return a page of the reference: a table of its names, and a directive for each."""
    names = part.names()
    rows = "\n".join(
        f"| [`{one.name}`](#{one.path}) | {one.summary.replace('|', chr(92) + '|')} |"
        for one in names
    )
    entries = "\n\n".join(f"::: {one.path}" for one in names)
    homes = " and ".join(f"`{PACKAGE}.{short}`" for short in part.modules)
    return (
        f"{BEHIND_THE_PAGES}# {part.title}\n\n{part.about}\n\nIn {homes}.\n\n"
        f"| Name | |\n|---|---|\n{rows}\n\n{entries}\n"
    )

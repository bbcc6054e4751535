# %% [markdown]
# # How do I use it in an agent of `create_agent`?
#
# In one of two ways: as the agent's model, or as a middleware if the model is not yours to choose.
# Tools, structured output and streaming work in both. An agent calls its model several times for
# one question, so this is also where a hard limit matters most.
#
# The models here are `ObedientChatModel`s. They do by rule what a prompt says: call the tool that
# is spoken of, and say what it returned.

# %%
from langchain.agents import create_agent

from langchain_hybridflow import Budget, Price, RoutedChatModel
from langchain_hybridflow.agents import HybridFlowMiddleware
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.testing import ObedientChatModel

edge, cloud = ObedientChatModel(model_name="little"), ObedientChatModel(model_name="big")
PRICES = {"big": Price(2, 8)}  # USD for a million tokens of prompt, and of answer


def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"It is sunny in {city}."


def tell(messages) -> None:
    """Print who said what."""
    for message in messages:
        record = message.response_metadata.get("hybridflow")
        calls = [f"{call['name']}({call['args']})" for call in getattr(message, "tool_calls", ())]
        who = record["tier"] if record else ""
        print(f"{message.type:6}{who:8}{message.text or ', '.join(calls)}")


question = {"messages": [("user", "How is the weather in Paris?")]}

# %% [markdown]
# ## As the agent's model
#
# A router sees each call of the agent by itself. Here the edge says which tool to call, and the
# cloud reads what it returned and writes the answer. A router is any class with this one method.

# %%
from langchain_hybridflow.routing import RouteDecision, RouteRequest


class CloudReadsResults:
    """The edge picks the tools; whatever a tool has returned is read by the cloud."""

    def route(self, request: RouteRequest) -> RouteDecision:
        has_result = "sunny" in request.prompt
        return RouteDecision(
            tier="cloud" if has_result else "edge",
            reason="there is a result" if has_result else "a tool is to be picked",
            router="results",
        )


model = RoutedChatModel(
    edge=edge,
    cloud=cloud,
    router=CloudReadsResults(),
    budget=Budget(limit_usd=1, prices=PRICES),
)
agent = create_agent(model, [weather])
tell(agent.invoke(question)["messages"])

# %% [markdown]
# ## As a middleware
#
# The agent below was built around a model of its own. It is not called: the middleware hands each
# of its calls, with messages, tools and settings, to the routed model.

# %%
own = ObedientChatModel(model_name="the agent's own")
agent = create_agent(own, [weather], middleware=[HybridFlowMiddleware(model)])
tell(agent.invoke(question)["messages"])

# %% [markdown]
# ## An agent that does not stop
#
# This tool always says that one has to ask again, so the agent goes on until LangGraph stops it
# after 30 steps. The budget stops the spending long before: after three calls the edge has to do.

# %%
from langchain_core.messages import AIMessage
from langgraph.errors import GraphRecursionError

from langchain_hybridflow.testing import ScriptedChatModel


def status(order: str) -> str:
    """Tell the status of an order."""
    return f"The order {order} is not known yet, ask again."


def again(messages) -> AIMessage:
    """What a model says that asks for the status, for ever."""
    call = {"name": "status", "args": {"order": "17"}, "id": f"call-{len(messages)}"}
    return AIMessage("", tool_calls=[call])


budget = Budget(max_cloud_calls=3, prices=PRICES)
model = RoutedChatModel(
    edge=ScriptedChatModel(responses=[again], model_name="little"),
    cloud=ScriptedChatModel(responses=[again], model_name="big"),
    router=AlwaysCloud(),
    budget=budget,
)
agent = create_agent(model, [status])
tiers = []
try:
    for step in agent.stream(
        {"messages": [("user", "What is the status of the order 17?")]},
        {"recursion_limit": 30},
        stream_mode="updates",
    ):
        said = step.get("model", {}).get("messages", ())
        tiers += [message.response_metadata["hybridflow"]["tier"] for message in said]
except GraphRecursionError:
    print("LangGraph has stopped the agent.")

print(" ".join(tiers))
print("cloud calls:", budget.snapshot()["cloud_calls"]["spent"])

# %% [markdown]
# With `on_exhausted="raise"` the agent ends at the first call that does not fit, and the error has
# the numbers:

# %%
from langchain_hybridflow.errors import BudgetExceeded

strict = model.model_copy(
    update={"budget": Budget(max_cloud_calls=3, on_exhausted="raise", prices=PRICES)}
)
try:
    create_agent(strict, [status]).invoke(
        {"messages": [("user", "What is the status of the order 17?")]}
    )
except BudgetExceeded as error:
    print(error)

# %% [markdown]
# ## What to take away
#
# - `create_agent(routed, tools)` if the model is yours to choose,
#   `middleware=[HybridFlowMiddleware(routed)]` if not.
# - Every turn of an agent is routed alone: the cheap turns (which tool?) need not go where the
#   hard ones go.
# - A recursion limit counts steps, a budget counts money. An agent that runs in circles is stopped
#   by the one that is reached first, and with `on_exhausted="edge"` it runs in circles for
#   nothing.
#
# More: [the routed chat model](../docs/chat_model.md),
# [budgets](../docs/budgets.md#when-it-is-used-up).

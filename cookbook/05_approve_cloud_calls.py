# %% [markdown]
# # Can I say yes or no to each call to the cloud?
#
# Yes. With `approve_cloud=True` a graph stops before each cloud call of a subtask, says what is to
# be asked and what that will probably cost, and waits: for seconds or for days, as it waits in a
# checkpoint. Nothing leaves, and nothing is spent, before somebody has said yes. Whatever is
# refused, the edge answers.

# %%
import textwrap

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from langchain_hybridflow import Budget, HybridFlowGraph, RoutedChatModel
from langchain_hybridflow.routing import DifficultyRouter
from langchain_hybridflow.sandbox import (
    SANDBOX_PRICES,
    generate_problems,
    is_correct,
    sandbox_cloud,
    sandbox_edge,
)

model = RoutedChatModel(
    edge=sandbox_edge(time_scale=0),
    cloud=sandbox_cloud(time_scale=0),
    router=DifficultyRouter(threshold=5),
    budget=Budget(limit_usd=1, prices=SANDBOX_PRICES),
)
graph = HybridFlowGraph(model, approve_cloud=True, stream_plan=False).compile(InMemorySaver())

problem = generate_problems(3)[1]
print(textwrap.fill(problem.question, 95))

# %% [markdown]
# ## The run stops, and asks
#
# The edge plans the subtasks. Those that do not go to the cloud are answered; the others wait,
# each with a question.

# %%
thread = {"configurable": {"thread_id": "first"}}
out = graph.invoke({"messages": [("user", problem.question)]}, thread)


def questions(out) -> list:
    return sorted(out.get("__interrupt__", ()), key=lambda asked: asked.value["subtask_id"])


for asked in questions(out):
    it = asked.value
    print(f"{it['subtask_id']}  {it['model']}, about {it['expected_cost_usd']} USD: {it['reason']}")
    print(f"   {it['task']}")
print("spent so far:", model.budget.snapshot()["usd"]["spent"], "USD")

# %% [markdown]
# ## Answers, one for each question
#
# An interrupt has an id, and `Command(resume=...)` takes an answer for each id. Here a person says
# yes to the first question of each round, and no to the others.

# %%


def resumed(graph, out, thread, says_yes) -> dict:
    """Answer questions until there are no more."""
    while asked := questions(out):
        answers = {one.id: {"approve": says_yes(number)} for number, one in enumerate(asked)}
        print({one.value["subtask_id"]: answers[one.id]["approve"] for one in asked})
        out = graph.invoke(Command(resume=answers), thread)
    return out


out = resumed(graph, out, thread, lambda number: number == 0)

for name, result in out["results"].items():
    remark = "though the cloud was wanted" if result["degraded"] else ""
    print(f"{name:3}{result['tier']:7}{result['cost_usd']} USD  {remark}")
print(out["answer"].splitlines()[-1], "| right:", is_correct(problem, out["answer"]))

# %% [markdown]
# ## What does a no cost?
#
# The same question, with yes to all and with no to all.

# %%
for name, verdict in {"yes": True, "no": False}.items():
    thread = {"configurable": {"thread_id": name}}
    out = graph.invoke({"messages": [("user", problem.question)]}, thread)
    while asked := questions(out):
        out = graph.invoke(Command(resume={one.id: {"approve": verdict} for one in asked}), thread)
    cost = out["report"]["totals"]["cost_usd"]
    last = out["answer"].splitlines()[-1]
    print(f"{name:4}{cost} USD  {last}  right: {is_correct(problem, out['answer'])}")

# %% [markdown]
# ## What to take away
#
# - `approve_cloud=True`, a checkpointer, and `Command(resume={id: {"approve": ...}})`. With
#   `InMemorySaver` a question lives as long as the process; with SQLite or PostgreSQL you can
#   answer it tomorrow.
# - A no is not an error: the edge answers, and the record says `degraded`. Here one yes at the
#   right place was worth as much as yes to all: the first subtask and the longest of the teams
#   decide the date.
# - To be asked only when the money is used up, use `Budget(on_exhausted="ask")`.
#
# More: [when it is used up](../docs/budgets.md#when-it-is-used-up), [Studio](../docs/studio.md).

# %% [markdown]
# # How do I make sure that private data never reach the cloud?
#
# With a policy. `KeepLocal` reads all text that would be sent, before any router is asked, and
# what it finds stays on the edge: under every router and budget, also if the edge fails, and with
# all that builds on the answer. This notebook looks at the wire: the cloud model stands behind a
# web server here, and we read what that server got.

# %%
import textwrap
from contextlib import ExitStack

from langchain_openai import ChatOpenAI

from langchain_hybridflow import Budget, HybridFlowGraph, Plan, Price, RoutedChatModel, Subtask
from langchain_hybridflow.routing import AlwaysCloud, KeepLocal
from langchain_hybridflow.sandbox.server import create_app, running_server
from langchain_hybridflow.testing import ScriptedChatModel

app = create_app({"big": ScriptedChatModel(responses=["The cloud's answer."])})
running = ExitStack()
cloud = ChatOpenAI(model="big", base_url=running.enter_context(running_server(app)), api_key="none")


def private_edge(messages) -> str:
    """A local model that has the patient's file."""
    return (
        "She is ill for eight weeks." if "patient-4711" in messages[-1].text else "Dear madam, ..."
    )


plan = Plan(
    subtasks=[
        Subtask(id="file", task="For how long is patient-4711 ill?", role="explain"),
        Subtask(id="law", task="What does the law say about sick pay?"),
        Subtask(
            id="letter",
            task="Write the letter, by [file] and [law].",
            role="generate",
            depends_on=["file", "law"],
        ),
    ]
)
question = {"messages": [("user", "Write a letter about her sick pay.")]}


def wire(since: int) -> str:
    """All that the cloud has got since request number `since`."""
    return "\n".join(str(request.body["messages"]) for request in list(app.state.log)[since:])


def routed(**options) -> RoutedChatModel:
    """A router that always wants the cloud: the worst case."""
    budget = Budget(limit_usd=1, prices={"big": Price(2, 8)})
    edge = ScriptedChatModel(responses=[private_edge])
    return RoutedChatModel(edge=edge, cloud=cloud, router=AlwaysCloud(), budget=budget, **options)


# %% [markdown]
# ## Without a policy

# %%
HybridFlowGraph(routed()).compile(plan=plan).invoke(question)
seen = wire(since=0)
print("the number of the patient has left the house:", "patient-4711" in seen)

# %% [markdown]
# ## With one
#
# The subtask about the patient stays, as its text matches. The letter's own task has no number in
# it, but it is written from an answer that was kept: so it stays, too. The law goes to the cloud.

# %%
policy = KeepLocal(patterns={"a patient's number": r"patient-\d+"})
model = routed(policy=policy, on_edge_error="fallback")

before = len(app.state.log)
out = HybridFlowGraph(model).compile(plan=plan).invoke(question)
for name in ("file", "law", "letter"):
    result = out["results"][name]
    print(f"{name:7}{result['tier']:6} {result['decision']['reason']}")

seen = wire(since=before)
for secret in ("patient-4711", "eight weeks"):
    print(f"{secret!r} on the wire:", secret in seen)
print("\nall that the cloud got:\n")
print(textwrap.fill(seen, 100))

# %% [markdown]
# ## The ready detectors, and what they do not find
#
# By default `KeepLocal` looks for API keys, card numbers and IBANs (with their checksums), e-mail
# addresses, IP addresses, telephone and social security numbers. It reads by pattern, so it finds
# the usual ways of writing them.

# %%
from langchain_hybridflow.routing import RouteRequest

for text in (
    "Write to ada@example.org",
    "Write to ada (at) example (dot) org",
    "Write to the lady who designed the first program",
    "My card is 4111 1111 1111 1111",
    "My card is 4111 1111 1111 1112",
):
    verdict = KeepLocal()(RouteRequest(text=text, prompt=text))
    print(f"{text:50} {verdict.reason or 'may leave'}")

# %% [markdown]
# ## If the edge fails
#
# Then private data still do not leave: the subtask fails, and so does what needs it.

# %%
broken = model.model_copy(
    update={"edge": ScriptedChatModel(responses=[ConnectionRefusedError("no edge")])}
)
before = len(app.state.log)
out = HybridFlowGraph(broken).compile(plan=plan).invoke(question)
for name in ("file", "law", "letter"):
    print(f"{name:7}{out['results'][name]['status']}")
print("'patient-4711' on the wire:", "patient-4711" in wire(since=before))
running.close()

# %% [markdown]
# ## What to take away
#
# - A policy stands before routers, budgets and fallbacks, and what it keeps is kept with all that
#   follows from it.
# - It is worth cutting a question into subtasks for this alone: the part without secrets can still
#   use the good model.
# - Patterns find spellings, not meanings. Where you know what is private, say it yourself: a
#   policy is any function from a request to the tiers that may see it, and one that fails keeps
#   everything local.
# - The question is part of each subtask's prompt. Put secrets into the subtask that needs them,
#   not into the question.
#
# More: [who answers](../docs/chat_model.md#who-answers).

# %% [markdown]
# # How do I set it up for Ollama and OpenAI?
#
# With `ChatOpenAI` for both, as Ollama speaks OpenAI's protocol. So that this notebook runs
# offline, two web servers on this machine stand in for them; they speak the same protocol, and the
# sandbox's models answer. **Two lines change for the real ones**, and they are marked.

# %%
from contextlib import ExitStack

from langchain_openai import ChatOpenAI
from openai import APIConnectionError

from langchain_hybridflow import Budget, RoutedChatModel
from langchain_hybridflow.routing import DifficultyRouter
from langchain_hybridflow.sandbox import generate_problems, is_correct, sandbox_cloud, sandbox_edge
from langchain_hybridflow.sandbox.server import create_app, running_server

servers = {name: ExitStack() for name in ("ollama", "openai")}
apps = {
    "ollama": create_app({"llama3.2:3b": sandbox_edge(time_scale=0)}),
    "openai": create_app({"gpt-4.1": sandbox_cloud(time_scale=0)}),
}
urls = {name: servers[name].enter_context(running_server(app)) for name, app in apps.items()}

# %% [markdown]
# ## The two lines
#
# With Ollama on this machine and a key in `OPENAI_API_KEY` they are
#
# ```python
# edge = ChatOpenAI(model="llama3.2:3b", base_url="http://localhost:11434/v1", api_key="none")
# cloud = ChatOpenAI(model="gpt-4.1")
# ```

# %%
edge = ChatOpenAI(model="llama3.2:3b", base_url=urls["ollama"], api_key="none")  # <- this one
cloud = ChatOpenAI(model="gpt-4.1", base_url=urls["openai"], api_key="none")  # <- and this one

model = RoutedChatModel(
    edge=edge,
    cloud=cloud,
    router=DifficultyRouter(threshold=4),
    budget=Budget(limit_usd=5),
    max_output_tokens=4_096,
)

# %% [markdown]
# The price of `gpt-4.1` is known. For a model that is not in the list say `prices={"name":
# Price(2, 8)}`: an unknown price is an error, never zero.
#
# The servers got one request each. What the longest answer would cost was held in the budget
# before it was sent.

# %%
problem = generate_problems(4)[3]

for question in ("What is 12 * 14?", problem.question):
    answer = model.invoke(question)
    record = answer.response_metadata["hybridflow"]
    print(f"{record['tier']:6}{record['model']:13}{record['cost_usd']:>9} USD", end="   ")
    print(record["decision"]["reason"])

print("right:", is_correct(problem, answer.text))
for name, app in apps.items():
    for request in app.state.log:
        limit = request.body.get("max_completion_tokens") or request.body.get("max_tokens")
        print(f"{name} was asked for {request.model}; longest answer: {limit or 'as it likes'}")

# %% [markdown]
# ## Ollama is not running
#
# The most likely fault of such a set-up. The edge's server is stopped here, and the same easy
# question is asked again.

# %%
servers["ollama"].close()

answer = model.invoke("What is 12 * 14?")
record = answer.response_metadata["hybridflow"]
for attempt in record["attempts"]:
    print(f"{attempt['tier']:6}{attempt['status']:8}{attempt['cost_usd']:>9} USD", end="   ")
    print(attempt["error"] or "")

# %% [markdown]
# The cloud has answered, and it is paid for. After five such failures in a row the edge is left
# alone for half a minute and calls fall back at once. Where silence would be dear, or where the
# edge is there for privacy, say that it is an error:

# %%
strict = model.model_copy(update={"on_edge_error": "raise"})
try:
    strict.invoke("What is 12 * 14?")
except APIConnectionError as error:
    print(f"{type(error).__name__}: {error}")

servers["openai"].close()

# %% [markdown]
# ## What to take away
#
# - Any OpenAI-compatible server is an edge: Ollama, vLLM, llama.cpp, LM Studio. Only `base_url`
#   and `model` change.
# - A stopped Ollama does not stop you, it costs you: its calls go to the cloud, within the budget.
#   Watch `attempts`, or set `on_edge_error="raise"`.
# - On the command line it is `hybridflow ask "..." --edge ollama:llama3.2:3b --cloud
#   openai:gpt-4.1 --limit-usd 0.05`.
#
# More: [when a tier fails](../docs/chat_model.md#when-a-tier-fails),
# [prices](../docs/budgets.md#what-is-limited).

# %% [markdown]
# # Can I put the router into the chain that I have?
#
# You have a chain of prompt, model and parser, and its model is an expensive one. A
# `RoutedChatModel` takes the model's place and sends each question to a cheap model or to the
# expensive one. Prompt, parser, streaming and batches stay.
#
# Everything here runs offline: both models are those of the sandbox, which answer word problems
# and err as real models do. Any two LangChain chat models can stand in their place
# ([03](03_ollama_and_openai.ipynb)).

# %%
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_hybridflow import Budget, RoutedChatModel
from langchain_hybridflow.routing import DifficultyRouter
from langchain_hybridflow.sandbox import (
    SANDBOX_PRICES,
    generate_problems,
    is_correct,
    sandbox_cloud,
    sandbox_edge,
)

edge, cloud = sandbox_edge(time_scale=0), sandbox_cloud(time_scale=0)

# %% [markdown]
# ## The chain as it was

# %%
prompt = ChatPromptTemplate.from_template("{question}")
before = prompt | cloud | StrOutputParser()

print(before.invoke({"question": "What is 12 * 14?"}))

# %% [markdown]
# ## The same chain, with two models
#
# The model is new, the chain is not. `DifficultyRouter` is a plain rule that asks nobody: it reads
# how hard a question looks, from 1 to 9, and sends what is at least 4 to the cloud.


# %%
def routed(threshold: int) -> RoutedChatModel:
    """Both models; what looks at least that hard goes to the cloud."""
    return RoutedChatModel(
        edge=edge,
        cloud=cloud,
        router=DifficultyRouter(threshold=threshold),
        budget=Budget(limit_usd=5, prices=SANDBOX_PRICES),
        max_output_tokens=4_096,  # of each answer: what that would cost is held before it is asked
    )


model = routed(4)
after = prompt | model | StrOutputParser()

print(after.invoke({"question": "What is 12 * 14?"}))
for piece in after.stream({"question": "What is 15 * 3?"}):
    print(piece, end="|")

# %% [markdown]
# Every message says who answered, and why:

# %%
problems = generate_problems(30, seed=1)

for question in ("What is 12 * 14?", problems[0].question):
    record = (prompt | model).invoke({"question": question}).response_metadata["hybridflow"]
    print(f"{record['tier']:5}  {record['decision']['reason']}")

# %% [markdown]
# ## What does it change on a day's questions?
#
# Thirty small sums and thirty word problems, asked as one batch of both chains. The sandbox knows
# the right answers.

# %%
sums = {f"What is {n} * {n + 5}?": str(n * (n + 5)) for n in range(11, 41)}
questions = [{"question": one} for one in [*sums, *(problem.question for problem in problems)]]


def right(answers: list[str]) -> tuple[int, int]:
    """How many sums, and how many problems, were answered right."""
    small, large = answers[: len(sums)], answers[len(sums) :]
    return (
        sum(text.endswith(f"Answer: {it}") for text, it in zip(small, sums.values(), strict=True)),
        sum(is_correct(problem, text) for problem, text in zip(problems, large, strict=True)),
    )


print("               sums right  problems right  cloud calls      USD")
for name, threshold in {"cloud alone": 1, "both": 4, "edge alone": 10}.items():
    model = routed(threshold)
    small, large = right((prompt | model | StrOutputParser()).batch(questions))
    spent = model.budget.snapshot()
    calls, usd = spent["cloud_calls"]["spent"], float(spent["usd"]["spent"])
    print(f"{name:12} {small:9}/30 {large:12}/30 {calls:12} {usd:8.4f}")

# %% [markdown]
# ## What to take away
#
# - The chain stays as it is; only its model changes. Answers carry a record of who gave them, and
#   why.
# - Half of the calls stay on your machine, and no answer gets worse. But the money hardly changes:
#   easy questions are also the cheap ones. What a router saves in USD, it saves on the *hard*
#   questions, by knowing which of them the edge can do ([08](08_write_your_own_router.ipynb),
#   [12](12_compare_with_your_setup.ipynb)) or by cutting them into parts
#   ([07](07_why_did_it_go_to_the_cloud.ipynb)).
# - Set `max_output_tokens` above your longest answers: under a limit in USD, longer ones are cut.
#
# More: [the routed chat model](../docs/chat_model.md), [what a record says](../docs/metadata.md).

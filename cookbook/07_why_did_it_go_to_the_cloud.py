# %% [markdown]
# # Why did this call go to the cloud?
#
# Each answer has a record of its decision, a run knows it of each subtask, and a router that
# foresees something can explain it. Here is the whole way from one call to a page that can be
# mailed.

# %%
import re
import tempfile
from pathlib import Path

from IPython.display import Image

from langchain_hybridflow import Budget, HybridFlowGraph, RoutedChatModel
from langchain_hybridflow.plan import critical_path
from langchain_hybridflow.report import Run, plan_figure, report_html, save_png
from langchain_hybridflow.routing import DefaultRouter, DifficultyRouter, RouteRequest
from langchain_hybridflow.sandbox import (
    SANDBOX_PRICES,
    generate_problems,
    is_correct,
    sandbox_cloud,
    sandbox_edge,
)

folder = Path(tempfile.mkdtemp())
model = RoutedChatModel(
    edge=sandbox_edge(time_scale=0),
    cloud=sandbox_cloud(time_scale=0),
    router=DifficultyRouter(threshold=5),
    budget=Budget(limit_usd=1, prices=SANDBOX_PRICES),
    max_output_tokens=4_096,
)

# %% [markdown]
# ## One call
#
# `reason` is for people, `score` and `threshold` are what was compared, `allowed` says who could
# have answered. A router that foresees something can also explain it: the table at the end is what
# the router that is used by default thinks of this question. Its parts add up to the gain.

# %%
problem = generate_problems(4)[3]
answer = model.invoke(problem.question)
record = answer.response_metadata["hybridflow"]
for key in ("tier", "router", "reason", "score", "threshold", "allowed"):
    print(f"{key:18}{record['decision'][key]}")
print(f"\nright: {is_correct(problem, answer.text)}, {record['cost_usd']} USD\n")

print(DefaultRouter().explain(RouteRequest(text=problem.question)))

# %% [markdown]
# ## A run of subtasks
#
# The same question, cut into subtasks by the planner. What would the other tier have cost?

# %%
out = HybridFlowGraph(model).compile().invoke({"messages": [("user", problem.question)]})
run = Run.of(out, score=is_correct(problem, out["answer"]))

print("   answered by   USD       edge would   cloud would  why")
for one in run.subtasks:
    edge, cloud = one.expected_usd["edge"], one.expected_usd["cloud"]
    print(f"{one.id:3}{one.tier:8} {one.cost_usd:12.6f}{edge:13}{cloud:13}", end="   ")
    print(one.decision.reason)
share = f"{run.cloud_share:.0%} of the subtasks in the cloud"
print(f"\nright: {run.score == 1}, {run.cost_usd} USD, {share}")

# %% [markdown]
# ## As a picture
#
# Colours say who answered; heavy lines are the longest way to the answer, by the planner's
# estimates.

# %%
tiers = {one.id: one.tier for one in run.subtasks}
save_png(
    plan_figure(run.plan, tiers=tiers, critical=critical_path(run.plan).ids),
    folder / "plan.png",
    dpi=90,
)
Image(folder / "plan.png")

# %% [markdown]
# ## As a page
#
# One HTML file with the plan, the work over time, the budget, and each decision with what the
# other tier would have cost. It loads nothing from elsewhere. `run.save("run.json")` and
# `hybridflow report run.json -o report.html` do the same later; `run` as the last line of a cell
# shows itself.

# %%
page = report_html([run])
(folder / "report.html").write_text(page, encoding="utf-8")
print("says why:", "planned difficulty 6 &gt;= 5" in page)
print("addresses:", set(re.findall(r"https?://[^/\"' <]+", page)) - {"http://www.w3.org"} or "none")

# %% [markdown]
# ![The page of such a run](../docs/images/report-run.png)
#
# ## What to take away
#
# - `response_metadata["hybridflow"]` of a message, `out["results"]` and `out["report"]` of a
#   graph: why, for how much, and what else was tried. `Run.of(out)` reads them for you.
# - The single call went to the cloud because the question *looks* hard as a whole. Cut into
#   subtasks, fewer than half of them are hard, and those are short: the same answer for a quarter
#   of the money.
# - A decision that puzzles you is a question to the router: `explain`, of the one used by default
#   and of those you train, says what spoke for the cloud.
#
# More: [the report](../docs/report.md), [all keys](../docs/metadata.md).

# %% [markdown]
# # How do I get my graph into LangGraph Studio?
#
# Copy the folder `templates/studio-agent`, install it, say `langgraph dev`, and Studio opens in
# the browser. It draws the graph, shows the settings of a run as a form, and lets you stop, edit
# and fork runs. This notebook looks at what is in that folder and what Studio makes of it; the
# server itself is not needed for that.
#
# ```console
# $ cp -r templates/studio-agent my-agent && cd my-agent
# $ python -m venv .venv && . .venv/bin/activate
# $ pip install -e '.[dev]'
# $ langgraph dev
# ```

# %%
import json
import os
import sys
import tempfile
from pathlib import Path

from IPython.display import Image

from langchain_hybridflow.report import Run, plan_figure, save_png

template = Path("..", "templates", "studio-agent")
print(json.dumps(json.loads((template / "langgraph.json").read_text())["graphs"], indent=2))

# %% [markdown]
# `langgraph.json` names the graphs, and `src/agent/graph.py` makes them. It imports as it is, with
# the sandbox's models where `.env` names no others:

# %%
os.environ["SANDBOX_TIME_SCALE"] = "0"
sys.path.insert(0, str(template / "src"))
from agent.graph import Settings, agent, schedule

# %% [markdown]
# ## What Studio draws
#
# `agent` makes a plan for each question, so it has one node for all subtasks. `schedule` was
# compiled for a plan that is known, and is drawn as that plan is:

# %%
for graph in (agent, schedule):
    print(f"{graph.name}: {', '.join(name for name in graph.nodes if not name.startswith('__'))}")
for edge in schedule.get_graph().edges:
    print(f"   {edge.source} -> {edge.target}")

# %% [markdown]
# ![The graph `schedule` as Studio draws it](../docs/images/studio-schedule.png)
#
# ## The form
#
# Studio makes a form of the class of the runtime context. A field of your own is a line in
# `Settings`.

# %%
for name, field in Settings.model_json_schema()["properties"].items():
    choices = "|".join(map(str, field.get("enum", ()))) or field["type"]
    print(f"{name:14}{field['default']!s:12}{choices}")

# %% [markdown]
# ## A run with other settings
#
# What the form sends is the `context` of a run. The right answer is 2025-07-04.

# %%
question = (
    "On 13 April 2025 the plans for the harbour are approved; 15 days after that the work starts. "
    "It takes the Plumbing team 9 weeks and another 4 days, counted from the start of work. "
    "It takes the Garden team 5 weeks and another 3 days, counted from the start of work. "
    "Only 7 days after the start of work the Kitchen team is done. "
    "On which date is everything done?"
)
asked = {"messages": [("user", question)]}

for router in ("always-edge", "difficulty"):
    out = schedule.invoke(asked, context=Settings(router=router))
    print(f"{router:13}{out['answer'].splitlines()[-1]}  {out['report']['totals']['cost_usd']} USD")

run = Run.of(out)  # the second one, as it went
picture = Path(tempfile.mkdtemp()) / "run.png"
tiers = {one.id: one.tier for one in run.subtasks}
save_png(plan_figure(run.plan, tiers=tiers), picture, dpi=90)
Image(picture)

# %% [markdown]
# ## What to take away
#
# - Copy the folder, name your models in `.env`, change `Settings` and `model_for`: that is all
#   there is to change.
# - Compile a plan that you know (`compile(plan=...)`), and Studio draws your process; without one
#   it draws the machine that makes plans.
# - One budget is above all forms: a run may ask for less than the server allows, never for more.
# - Prices, slots and the critical path are not drawn by Studio; they are in `report`, and
#   `hybridflow report` draws them ([07](07_why_did_it_go_to_the_cloud.ipynb)).
#
# More: [Studio](../docs/studio.md).

# %% [markdown]
# # How do I write a router of my own, and is it any good?
#
# A router is a class with one method, from a request to a decision. Writing one takes ten lines;
# the two questions after that are whether it holds up in a program (threads, odd input, prompts
# that must not leak), and whether it buys more right answers than others *for the same money*.

# %%
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from IPython.display import Image
from matplotlib.figure import Figure

from langchain_hybridflow import Budget, HybridFlowGraph, RoutedChatModel
from langchain_hybridflow.report import save_png
from langchain_hybridflow.routing import AlwaysCloud, AlwaysEdge, DifficultyRouter, RandomRouter
from langchain_hybridflow.sandbox import (
    SANDBOX_PRICES,
    generate_problems,
    is_correct,
    sandbox_cloud,
    sandbox_edge,
)

# %% [markdown]
# ## The router
#
# The idea: the cloud is worth its price where the edge is likely to err, and where an error
# spreads, as several subtasks build on the answer. It is written to a file, so that its test can
# import it.

# %%
folder = Path(tempfile.mkdtemp())
(folder / "my_router.py").write_text('''
from langchain_hybridflow.routing import RouteDecision, RouteRequest


class HardOrShared:
    """Cloud for what is hard, and for what several others build on."""

    def __init__(self, hard: int = 6) -> None:
        self.hard = hard

    def route(self, request: RouteRequest) -> RouteDecision:
        level, dependents = request.difficulty or 1, request.fan_out or 0
        if level >= self.hard:
            tier, reason = "cloud", f"difficulty {level} >= {self.hard}"
        elif dependents > 1:
            tier, reason = "cloud", f"{dependents} subtasks build on it"
        else:
            tier, reason = "edge", f"difficulty {level} < {self.hard}, and nothing spreads"
        return RouteDecision(tier=tier, reason=reason, router="hard-or-shared", score=float(level))
''')
sys.path.insert(0, str(folder))
from my_router import HardOrShared

# %% [markdown]
# ## Does it hold up?
#
# `RouterConformance` is the test suite that the package's own routers pass: huge and odd texts,
# unknown prices, budgets that are used up, eight threads at once, nothing of the prompt in a
# reason. You say how a router is made.

# %%
(folder / "test_my_router.py").write_text("""
from langchain_hybridflow.testing import RouterConformance
from my_router import HardOrShared


class TestHardOrShared(RouterConformance):
    def make_router(self):
        return HardOrShared()
""")
command = [sys.executable, "-mpytest", "-q", "--color=no", "test_my_router.py"]
tested = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
print(tested.stdout.splitlines()[-1].split(" in ")[0])

# %% [markdown]
# ## Is it any good?
#
# The same 20 problems for each router, cut into the same subtasks. Random routers show what money
# alone buys.

# %%
problems = generate_problems(20, seed=5)


def measured(router) -> tuple[int, float]:
    """Right answers of 20, and USD."""
    budget = Budget(limit_usd=1, prices=SANDBOX_PRICES)
    model = RoutedChatModel(
        edge=sandbox_edge(time_scale=0),
        cloud=sandbox_cloud(time_scale=0),
        router=router,
        budget=budget,
    )
    graph = HybridFlowGraph(model, planner="always", stream_plan=False).compile()
    asked = [{"messages": [("user", problem.question)]} for problem in problems]
    answers = [graph.invoke(one)["answer"] for one in asked]
    right = sum(map(is_correct, problems, answers))
    return right, float(budget.snapshot()["usd"]["spent"])


routers = {
    "edge": AlwaysEdge(),
    "random 25%": RandomRouter(cloud_share=0.25),
    "random 50%": RandomRouter(cloud_share=0.5),
    "difficulty 5": DifficultyRouter(threshold=5),
    "difficulty 6": DifficultyRouter(threshold=6),
    "mine": HardOrShared(),
    "cloud": AlwaysCloud(),
}
found = {name: measured(router) for name, router in routers.items()}
clever = ("difficulty 5", "difficulty 6", "mine")
for name, (right, usd) in found.items():
    print(f"{name:14}{right:3} of 20{usd:9.4f} USD")

# %% [markdown]
# Read off the line between the random ones what chance gets for the money of each router:

# %%
by_chance = sorted((usd, right) for name, (right, usd) in found.items() if name not in clever)


def chance_for(spent: float) -> float:
    """Right answers that random calls to the cloud get for so many USD."""
    for (low, less), (high, more) in pairwise(by_chance):
        if low <= spent <= high:
            return less + (more - less) * (spent - low) / (high - low)
    raise ValueError(f"{spent} USD lie outside what was measured.")


for name in clever:
    right, usd = found[name]
    print(f"{name:13}{right:3} right; chance, for {usd:.4f} USD: {chance_for(usd):.1f}")

figure = Figure(figsize=(6.4, 3.4), layout="constrained")
axes = figure.add_subplot(
    xlabel="cost of 20 answers, USD", ylabel="right answers of 20", ylim=(0, 21)
)
axes.plot(*zip(*by_chance, strict=True), "o--", color="0.6", label="chance")
for name, marker in zip(clever, "sD*", strict=True):
    right, usd = found[name]
    axes.plot(usd, right, marker, markersize=9, label=name)
axes.legend(loc="lower right")
save_png(figure, folder / "routers.png", dpi=90)
Image(folder / "routers.png")

# %% [markdown]
# ## What to take away
#
# - A class with `route(request) -> RouteDecision` is all; `RouterConformance` finds what would
#   break in production.
# - Accuracy alone says nothing about a router, as more money buys more of it. Compare at equal
#   spend: random calls to the cloud are the line to beat, and here all three routers lie well
#   above it.
# - Mine has one right answer more than "difficulty 6", for a third more money, on 20 problems.
#   That is no difference. Before you believe one, measure on hundreds
#   ([12](12_compare_with_your_setup.ipynb) shows intervals).
#
# More: [routers](../docs/router.md), [pacing](../docs/budgets.md#pacing) for a router that reads
# the price of money.

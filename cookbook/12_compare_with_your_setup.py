# %% [markdown]
# # Is it better than what I have?
#
# Measure it on questions of yours whose answers you know. Here "what I have" is the expensive
# model alone; put your own model, chain or router into `ways` instead. On the way a router is
# trained on the same kind of questions: profile, train, evaluate, tune. Accuracy comes with an
# interval, as questions are a sample.

# %%
import tempfile
from pathlib import Path

from IPython.display import Image
from matplotlib.figure import Figure

from langchain_hybridflow import Budget, HybridFlowGraph, RoutedChatModel
from langchain_hybridflow.learning import (
    LearnedRouter,
    TrainingSettings,
    evaluate,
    load_dataset,
    train,
    tune,
)
from langchain_hybridflow.plan import critical_path
from langchain_hybridflow.profiling import aprofile_questions, share_interval
from langchain_hybridflow.report import Run, save_png
from langchain_hybridflow.routing import AlwaysCloud, AlwaysEdge, DifficultyRouter
from langchain_hybridflow.sandbox import (
    SANDBOX_PRICES,
    generate_problems,
    is_correct,
    sandbox_cloud,
    sandbox_edge,
)

folder = Path(tempfile.mkdtemp())
edge, cloud = sandbox_edge(time_scale=0), sandbox_cloud(time_scale=0)

# %% [markdown]
# ## Profile
#
# 300 questions, each asked of both models. With your own: a file with `question` and `answer`, and
# a scorer.

# %%
profile = await aprofile_questions(
    "sandbox:300", edge=edge, cloud=cloud, out=folder / "profile", instructions="", limit_usd=5
)
for name, tier in profile.summary.tiers.items():
    low, high = tier.interval
    print(f"{name:6}{tier.accuracy:.0%} right, 95 % interval {low:.0%} to {high:.0%}")

# %% [markdown]
# ## Train, evaluate, tune
#
# 200 of them teach a router which questions are worth the cloud, 100 tell how well it has learnt.
# APGR is 0.5 for a router that guesses.

# %%
data = load_dataset(profile.outcomes)
seen, unseen = data.take(range(200)), data.take(range(200, 300))
predictor, report = train(seen, settings=TrainingSettings(models=("forest",), trees=100))

found = evaluate(predictor, unseen)
interval = found.apgr_interval
print(f"APGR {found.before.apgr:.2f}, 90 % interval {interval.low:.2f} to {interval.high:.2f}")

point = tune(predictor, unseen, min_quality=0.7)
print(f"for 70 % right answers it asks the cloud in {point.cloud_share:.0%} of cases")

# %% [markdown]
# ## Compare
#
# 60 new questions, the same ones for each way of answering. Seconds are those of the models at
# real speed, computed from the tokens of their answers along the longest way to the answer, so
# that they do not depend on this machine.

# %%
problems = generate_problems(60, seed=11)
PRICES = {"prices": SANDBOX_PRICES, "limit_usd": 5}


def speed(tier: str, tokens: int) -> float:
    """When the last of so many tokens is there, in seconds."""
    return {"edge": edge, "cloud": cloud}[tier].tier_profile.due_s(tokens)


def by_model(router):
    """One call for a question. Your own model or chain goes here."""
    model = RoutedChatModel(
        edge=edge, cloud=cloud, router=router, max_output_tokens=4_096, budget=Budget(**PRICES)
    )

    def answer(question: str) -> tuple[str, float]:
        message = model.invoke(question)
        tier = message.response_metadata["hybridflow"]["tier"]
        return message.text, speed(tier, message.usage_metadata["output_tokens"])

    return answer, model.budget


def by_subtasks(router):
    """A plan for a question."""
    model = RoutedChatModel(edge=edge, cloud=cloud, router=router, budget=Budget(**PRICES))
    graph = HybridFlowGraph(model, planner="always", stream_plan=False).compile()

    def answer(question: str) -> tuple[str, float]:
        run = Run.of(graph.invoke({"messages": [("user", question)]}))
        planning = sum(speed(one.tier, one.output_tokens) for one in run.planning.attempts)
        took = {one.id: speed(one.tier, one.output_tokens) for one in run.subtasks}
        return run.answer, planning + critical_path(run.plan, took).length

    return answer, model.budget


ways = {
    "what I have": by_model(AlwaysCloud()),
    "edge alone": by_model(AlwaysEdge()),
    "learned router": by_model(LearnedRouter(predictor, min_gain=point.min_gain)),
    "subtasks": by_subtasks(DifficultyRouter()),
}

results = {}
for name, (answer, budget) in ways.items():
    answers = [answer(problem.question) for problem in problems]
    right = [
        is_correct(problem, text) for problem, (text, _) in zip(problems, answers, strict=True)
    ]
    seconds = sum(took for _, took in answers) / len(answers)
    results[name] = (right, float(budget.snapshot()["usd"]["spent"]), seconds)

print("                right  95 % interval      USD  seconds")
for name, (right, usd, seconds) in results.items():
    low, high = share_interval(sum(right), len(right))
    print(f"{name:15}{sum(right):3}/60{low:10.0%} to {high:.0%}{usd:11.4f}{seconds:9.1f}")

# %% [markdown]
# Intervals of two ways overlap easily. As all were asked the same questions, more can be said: on
# which of them do they differ?

# %%
mine = results["what I have"][0]
for name in ("learned router", "subtasks"):
    pairs = list(zip(mine, results[name][0], strict=True))
    better, worse = pairs.count((False, True)), pairs.count((True, False))
    print(f"{name:15} only it is right: {better:2}, only what I have: {worse:2}")

figure = Figure(figsize=(6.4, 3.4), layout="constrained")
axes = figure.add_subplot(xlabel="cost of 60 answers, USD", ylabel="right answers", ylim=(0, 1.05))
unbeaten = []  # the Pareto front: nothing cheaper is as good
for name, (right, usd, seconds) in sorted(results.items(), key=lambda item: item[1][1]):
    share = sum(right) / len(right)
    low, high = share_interval(sum(right), len(right))
    axes.errorbar(usd, share, [[share - low], [high - share]], fmt="o", color="0.2", capsize=3)
    axes.annotate(f"{name}, {seconds:.0f} s", (usd, share), (7, -12), textcoords="offset points")
    if not unbeaten or share > unbeaten[-1][1]:
        unbeaten.append((usd, share))
axes.plot(*zip(*unbeaten, strict=True), "--", color="0.6", zorder=0)
axes.set_xlim(-0.03, 0.65)
save_png(figure, folder / "ways.png", dpi=90)
Image(folder / "ways.png")

# %% [markdown]
# ## What to take away
#
# - Subtasks are as good as the expensive model alone here (4 to 1 on five questions is no proof
#   that they are better), for a fifth of the money.
# - The learned router saves money by giving up answers, hardly better than chance does: these
#   questions all look alike, and 200 of them teach little. That is what an APGR of 0.58 says,
#   before anything was spent on comparing.
# - The sandbox is a closed world. Its figures say how to measure, not how good *your* models are:
#   profile them on a few hundred questions of your own, which costs about as much as asking the
#   expensive model that often.
#
# More: [profile](../docs/profile.md), [train and tune](../docs/router.md), [reports of many
# runs](../docs/report.md#compare-runs).

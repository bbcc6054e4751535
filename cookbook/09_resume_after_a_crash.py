# %% [markdown]
# # What happens when my process dies in the middle of a run?
#
# With a checkpointer the run goes on where it stopped: what is finished is not asked, and not
# paid, again. Here a process is killed by SIGKILL, which cannot be caught, in the middle of a call
# to the cloud; another process resumes the run.

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

from langchain_hybridflow import Budget
from langchain_hybridflow.sandbox import SANDBOX_PRICES, generate_problems, is_correct

folder = Path(tempfile.mkdtemp())
(folder / "answer.py").write_text('''
"""python answer.py THREAD QUESTION [CALL]: answer, and die in call number CALL to the cloud.

Without a question the run of the thread is resumed.
"""
import os, signal, sqlite3, sys, time
from langchain_core.callbacks import BaseCallbackHandler
from langgraph.checkpoint.sqlite import SqliteSaver
from langchain_hybridflow import Budget, HybridFlowGraph, RoutedChatModel
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.sandbox import SANDBOX_PRICES, sandbox_cloud, sandbox_edge

name, question, dies_in = sys.argv[1], sys.argv[2], int(sys.argv[3])


class PowerCut(BaseCallbackHandler):
    """Writes each call down, and ends the process in one of them."""

    calls = 0

    def on_chat_model_start(self, *args, **kwargs):
        self.calls += 1
        with open(f"{name}.calls", "a") as file:
            file.write("call\\n")
        if self.calls == dies_in:
            time.sleep(1)  # the call is under way
            os.kill(os.getpid(), signal.SIGKILL)


model = RoutedChatModel(
    edge=sandbox_edge(time_scale=0),
    cloud=sandbox_cloud(time_scale=0).model_copy(update={"callbacks": [PowerCut()]}),
    router=AlwaysCloud(),
    budget=Budget(limit_usd=1, store="sqlite:///budget.db", name=name, prices=SANDBOX_PRICES),
)
saver = SqliteSaver(sqlite3.connect("runs.db", check_same_thread=False))
graph = HybridFlowGraph(model, cloud_slots=1, stream_plan=False).compile(saver)
asked = {"messages": [("user", question)]} if question else None  # None: go on
out = graph.invoke(asked, {"configurable": {"thread_id": name}}, durability="sync")
print(out["answer"])
''')
problem = generate_problems(3)[1]


def answer(name: str, question: str, *, dies_in: int = 0) -> subprocess.CompletedProcess:
    command = [sys.executable, "answer.py", name, question, str(dies_in)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def bill(name: str) -> str:
    """What a run has asked for so far, and what the budget has booked."""
    budget = Budget(
        limit_usd=1, store=f"sqlite:///{folder}/budget.db", name=name, prices=SANDBOX_PRICES
    )
    booked = budget.snapshot()["cloud_calls"]
    budget.close()
    calls = (folder / f"{name}.calls").read_text().count("call")
    return f"{calls} calls begun, {booked['spent']} booked, {booked['held']} held"


# %% [markdown]
# ## A run that is left in peace, for comparison

# %%
whole = answer("whole", problem.question)
print(whole.stdout.splitlines()[-1], "| right:", is_correct(problem, whole.stdout))
print(bill("whole"))

# %% [markdown]
# ## A run that is killed in its fourth call

# %%
killed = answer("killed", problem.question, dies_in=4)
print("exit status:", killed.returncode)
print(bill("killed"))

# %% [markdown]
# Three subtasks are answered, booked, and in the checkpoint. The fourth call was under way: nobody
# knows whether the provider will bill it, so the budget still holds its worst case, and books it
# after ten minutes (`lease_ttl_s`).
#
# ## The run is resumed, by another process

# %%
resumed = answer("killed", "")
print(resumed.stdout.splitlines()[-1], "| right:", is_correct(problem, resumed.stdout))
print(bill("killed"))
print("the same answer:", resumed.stdout == whole.stdout)

# %% [markdown]
# ## What to take away
#
# - `invoke(None, config)` with the same thread goes on. Paid for twice is at most what was under
#   way at that moment, or had ended only milliseconds before; here one call, and it is counted.
# - Two things have to outlive the process: the checkpoints (SQLite, PostgreSQL) and the budget's
#   store. A budget in memory would begin anew with nothing spent.
# - `durability="sync"` writes a subtask's answer down before LangGraph goes on. Its default writes
#   behind the work, and can lose the last answers, which are then asked again.
#
# More: [what holds, and what does not](../docs/budgets.md#what-holds-and-what-does-not), [what a
# failed call costs](../docs/decisions/0003-what-a-failed-call-costs.md).

# %% [markdown]
# # Can a whole team share one budget that nobody passes?
#
# Yes: the budget's counters are put into a store that all processes share, and each call reserves
# its worst case there before it is made. Scopes are limits for each user, tenant or whatever a
# call is for, windows begin anew each day or hour. Here the store is an SQLite file; on several
# machines it is Redis or PostgreSQL, by another URL.

# %%
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())  # so that each run of this notebook begins with nothing spent
os.environ["TEAM_STORE"] = f"sqlite:///{folder}/team.db"

(folder / "team.py").write_text("""
import os

from langchain_hybridflow import Budget, Limits, RoutedChatModel, Scope, Window
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.sandbox import SANDBOX_PRICES, sandbox_cloud, sandbox_edge

team = Budget(
    limit_usd=5,
    max_cloud_calls=20,
    window="day",
    scopes=[Scope("user", Limits(cloud_calls=8), window=Window("1h", rolling=True))],
    name="team",
    store=os.environ["TEAM_STORE"],
    prices=SANDBOX_PRICES,
)
model = RoutedChatModel(
    edge=sandbox_edge(time_scale=0),
    cloud=sandbox_cloud(time_scale=0),
    router=AlwaysCloud(),  # everybody wants the cloud, always
    budget=team,
)
""")
sys.path.insert(0, str(folder))
from team import model, team

# %% [markdown]
# ## For whom a call is
#
# It is read from the call's config, never from its messages. A call that does not say so is
# refused before anybody is asked.
# %%
from langchain_hybridflow import HybridFlowError

ada = {"configurable": {"user_id": "ada"}}
print(model.invoke("What is 12 * 14?", ada).response_metadata["hybridflow"]["tier"])
try:
    model.invoke("What is 12 * 14?")
except HybridFlowError as error:
    print(f"{type(error).__name__}: {error}")

# %% [markdown]
# ## Three users, three processes, four threads each
#
# Each user asks 12 times, all at once. That is 36 calls for a team that has 19 left, and users who
# may make 8 an hour.

# %%
asking = """
import sys
from concurrent.futures import ThreadPoolExecutor
from team import model

config = {"configurable": {"user_id": sys.argv[1]}}
sys.stdin.read()  # wait for the others
with ThreadPoolExecutor(4) as pool:
    answers = list(pool.map(lambda n: model.invoke(f"What is 12 * {n}?", config), range(12)))
print(sum(answer.response_metadata["hybridflow"]["tier"] == "cloud" for answer in answers))
"""


def together(program: str) -> list[int]:
    """Run a program for each user at once; what each of them printed."""
    command = [sys.executable, "-c", program]
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": folder}
    users = [subprocess.Popen([*command, name], **pipe) for name in ("ada", "bob", "cleo")]
    return [int(user.communicate("")[0]) for user in users]


by_cloud = together(asking)
print("asked:               36")
print("answered by cloud:  ", sum(by_cloud))
print("answered by edge:   ", 36 - sum(by_cloud))
print("nobody more than 8: ", max(by_cloud) <= 8)

# %% [markdown]
# Who got how many depends on who was faster. That they are 19 together, and 20 with the one from
# above, does not. The calls that did not fit were answered by the edge, and their records say
# `degraded`.

# %%
spent = team.snapshot()
for dimension in ("cloud_calls", "usd"):
    account = spent[dimension]
    print(
        f"{dimension:12} limit {account['limit']}, spent {account['spent']}, held {account['held']}"
    )

# %% [markdown]
# ## Why not a counter of my own?
#
# Because a counter that is read, compared and written has gaps between these steps, and others
# come in between. The same 36 calls with such a counter, which stops at 19:

# %%
with sqlite3.connect(folder / "counter.db") as file:
    file.execute("CREATE TABLE counter (used INTEGER)")
    file.execute("INSERT INTO counter VALUES (0)")

counting = """
import sqlite3, sys, time
from concurrent.futures import ThreadPoolExecutor

def call(_):
    file = sqlite3.connect("counter.db", timeout=30, isolation_level=None)
    (used,) = file.execute("SELECT used FROM counter").fetchone()
    if used >= 19:
        return 0
    time.sleep(0.02)  # the model answers
    file.execute("UPDATE counter SET used = ?", (used + 1,))
    return 1

sys.stdin.read()
with ThreadPoolExecutor(4) as pool:
    print(sum(pool.map(call, range(12))))
"""
print("more than 19 calls made:", sum(together(counting)) > 19)

# %% [markdown]
# ## What to take away
#
# - One budget in one store: processes and machines may come and go, the limit holds at every
#   instant, as a call's worst case is reserved before it is made.
# - A limit is for the team, scopes are for each user, and a call must fit into all of them.
# - `user_id` is whatever the caller's config says. On a server, set it there from who has logged
#   in ([11](11_serve_it.ipynb)), and never let clients send it.
# - `hybridflow budget show --store sqlite:///team.db` shows all of it, `watch` shows it live.
#
# More: [budgets](../docs/budgets.md).

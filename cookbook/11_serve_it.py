# %% [markdown]
# # How do I serve it to others, each with a budget of their own?
#
# Copy the folder `templates/serve-api`, and start it. It is a web service with the API of OpenAI
# (and LangServe's), so every client of OpenAI can use your pair of models. Whose money is spent
# follows from the caller's token, never from what a request says. Here it is started on this
# machine, and asked by the client `openai`.
#
# ```console
# $ cp -r templates/serve-api my-service && cd my-service
# $ python -m venv .venv && . .venv/bin/activate
# $ pip install -e .
# $ python -m serve_api
# ```

# %%
import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

folder = Path(shutil.copytree("../templates/serve-api", Path(tempfile.mkdtemp()) / "my-service"))

tokens = {
    "token-of-ada-0123456789": {"user": "ada", "tenant": "acme"},
    "token-of-bob-0123456789": {"user": "bob", "tenant": "acme"},
}
settings = {
    "HYBRIDFLOW_TOKENS": json.dumps(tokens),  # better: the name of a file
    "HYBRIDFLOW_USER_LIMIT_USD": "0.01",  # for each user and day
    "HYBRIDFLOW_LIMIT_USD": "1",  # for all of them together
    "HYBRIDFLOW_ON_EXHAUSTED": "raise",  # or the edge answers
    "HYBRIDFLOW_SANDBOX_TIME_SCALE": "0",
}

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
url = f"http://127.0.0.1:{port}"

# The interpreter of the environment that the template was installed into.
python = os.environ.get("SERVE_PYTHON", sys.executable)
with (folder / "server.log").open("w") as log:
    server = subprocess.Popen(
        [python, "-m", "serve_api", "--port", str(port)],
        cwd=folder,
        env=os.environ | settings,
        stdout=log,
        stderr=log,
    )


atexit.register(server.kill)  # if this notebook is left before its end


def is_up() -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


while not is_up():
    if server.poll() is not None:
        raise RuntimeError((folder / "server.log").read_text())
    time.sleep(0.05)
print(httpx.get(f"{url}/health").status_code)

# %% [markdown]
# ## Ask it with the client of OpenAI
#
# Headers say who answered and what it cost. Four models are served: `hybridflow` (routed),
# `hybridflow-graph` (by a plan of subtasks), and `edge` and `cloud` by themselves.

# %%
from openai import APIStatusError, OpenAI

ada = OpenAI(base_url=f"{url}/v1", api_key="token-of-ada-0123456789", max_retries=0)
bob = OpenAI(base_url=f"{url}/v1", api_key="token-of-bob-0123456789", max_retries=0)
print([model.id for model in ada.models.list()])

question = [{"role": "user", "content": "What is 12 * 14?"}]
for model in ("edge", "cloud"):
    answer = ada.chat.completions.with_raw_response.create(model=model, messages=question)
    print(answer.parse().choices[0].message.content.splitlines()[-1])
    for name in ("tier", "cost-usd", "remaining-usd"):
        print(f"   x-hybridflow-{name}: {answer.headers.get(f'x-hybridflow-{name}')}")

# %% [markdown]
# ## A budget for each
#
# Ada asks until she is refused. She then says that she is bob; and then bob himself asks.

# %%


def ask(client: OpenAI, **options) -> str:
    """The answer's tier, or the refusal."""
    try:
        answer = client.chat.completions.with_raw_response.create(
            model="cloud", messages=question, max_tokens=900, **options
        )
    except APIStatusError as error:
        return f"{error.status_code} {error.code}"
    return answer.headers["x-hybridflow-tier"]


answered = 0
while (said := ask(ada)) == "cloud":
    answered += 1
print(f"ada: {answered} answers, then {said}")
print("ada, with user='bob' in the request:", ask(ada, user="bob"))
print("bob:", ask(bob))
print("somebody:", ask(OpenAI(base_url=f"{url}/v1", api_key="guessed", max_retries=0)))

# %% [markdown]
# A refusal says why, and when it is worth asking again (here: the seconds until midnight UTC,
# which are left out).

# %%
refused = httpx.post(
    f"{url}/v1/chat/completions",
    headers={"Authorization": "Bearer token-of-ada-0123456789"},
    json={"model": "cloud", "messages": question, "max_tokens": 900},
)
print(refused.status_code, "Retry-After" in refused.headers)
print(refused.json()["error"]["message"].partition(" It begins anew")[0])

server.terminate()
print("ended in good order:", server.wait(timeout=30) in {0, -15})

# %% [markdown]
# ## What to take away
#
# - Who pays follows from the token alone: a request cannot choose its user, its budget or its
#   thread.
# - Ada was refused before all of her money was spent. A call is let in only if its *longest*
#   answer would fit; a lower `max_tokens` lets more of them in.
# - Workers share the budget through its store (`--workers 4`), machines through Redis or
#   PostgreSQL.
# - Without tokens the server listens on 127.0.0.1 and answers nobody else.
#
# More: [a web service](../docs/serve.md), [the template](../templates/serve-api/README.md),
# [whose budget it is](../docs/budgets.md#for-whom).

"""One of several processes that learn into one file."""

from __future__ import annotations

from langchain_hybridflow.learning.online_store import SQLiteOnlineStore
from langchain_hybridflow.testing import logged_decision

PROCESSES, EACH = 8, 24


def learn_a_share(path: str, process: int) -> None:
    store = SQLiteOnlineStore(path, context_size=2, timeout_s=60)
    for number in range(process * EACH, (process + 1) * EACH):
        store.note([logged_decision(number)])
        # The neighbour's: half of the rewards come from another process than the decision.
        rewarded = (number + number % 2 * EACH) % (PROCESSES * EACH)
        store.reward({str(rewarded): 1.0})

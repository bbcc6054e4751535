"""A process that spends from a ledger: `python ledger_worker.py JOB URL OPTIONS`, both in JSON.

What it has to say it prints, one JSON value a line. Not a test; the tests of ledgers run it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from langchain_hybridflow.budget import Account, Amounts, Budget, Lease, Ledger, Limits
from langchain_hybridflow.budget.stores.opening import open_ledger
from langchain_hybridflow.errors import BudgetExceeded

WORST = Amounts(usd_micros=700, cloud_tokens=100, cloud_calls=1)


def account(limit: int) -> Account:
    return Account("team", "team", Limits(cloud_calls=limit))


def say(value: object) -> None:
    # One write, so that the lines of several processes do not mix.
    os.write(1, json.dumps(value).encode() + b"\n")


def spend(ledger: Ledger, worker: str, *, calls: int, limit: int) -> None:
    """Make calls until the budget is empty or enough were made; say what was bought."""
    granted = tokens = 0
    for turn in range(calls):
        lease_id = f"{worker}/{turn}"
        answer = ledger.reserve(lease_id, WORST, accounts=[account(limit)], ttl_s=600)
        if not isinstance(answer, Lease):
            continue
        cost = turn % 100
        ledger.commit(lease_id, Amounts(usd_micros=7 * cost, cloud_tokens=cost, cloud_calls=1))
        granted += 1
        tokens += cost
    say({"granted": granted, "tokens": tokens})


def hold(ledger: Ledger, worker: str, *, ttl_s: float, limit: int) -> None:
    """Reserve, say so, and be killed before anything is settled."""
    ledger.reserve(worker, WORST, accounts=[account(limit)], ttl_s=ttl_s)
    say("held")
    signal.pause()


def fork(ledger: Ledger, worker: str, *, children: int, calls: int, limit: int) -> None:
    """Use the ledger, then let children use the same object, then use it again."""
    ledger.snapshot([account(limit)])
    pids = []
    for child in range(children):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                spend(ledger, f"{worker}/{child}", calls=calls, limit=limit)
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    spend(ledger, f"{worker}/parent", calls=calls, limit=limit)
    failed = [pid for pid in pids if os.waitpid(pid, 0)[1] != 0]
    say({"failed": len(failed)})


def answer(ledger: Ledger, worker: str, *, prompts: int, share: float, burst: int) -> None:
    """Answer prompts under a cap on the share of cloud calls; say who has answered them."""
    budget = Budget(max_cloud_share=share, share_burst=burst, ledger=ledger)
    cloud = 0
    for _ in range(prompts):
        run = budget.start_run()
        try:
            lease = run.reserve("call/0-cloud", WORST)
            cloud += 1
        except BudgetExceeded:
            lease = run.reserve("call/1-edge", Amounts())
        run.commit(lease, lease.amounts)
    say({"cloud": cloud, "prompts": prompts})


def answer_and_stop(
    ledger: Ledger, worker: str, *, share: float, burst: int, before: str, ttl_s: float
) -> None:
    """Answer a prompt of a known run; stop before its call is settled, or after it was counted."""
    budget = Budget(max_cloud_share=share, share_burst=burst, ledger=ledger, lease_ttl_s=ttl_s)
    run = budget.start_run(worker)
    lease = run.reserve("1/0-cloud", WORST)
    if before == "the next":
        run.commit(lease, WORST)
    say("stopped")
    signal.pause()


def main(job: dict[str, Any], url: str, options: dict[str, Any]) -> None:
    work = {
        "spend": spend,
        "hold": hold,
        "fork": fork,
        "answer": answer,
        "answer_and_stop": answer_and_stop,
    }[job.pop("do")]
    work(open_ledger(url, **options), **job)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))

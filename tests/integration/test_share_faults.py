"""A cap on the share of cloud calls holds for many processes, whatever goes wrong between them.

No prompt is counted twice, so that no call is given back twice; and no call is forgotten.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from langchain_hybridflow import Budget, RoutedChatModel
from langchain_hybridflow.budget import Amounts, Ledger
from langchain_hybridflow.errors import LedgerUnavailable
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.testing import ScriptedChatModel
from tests.integration.cutting_proxy import CuttingProxy
from tests.integration.fault_stores import (
    FaultStore,
    fresh_ledger,
    fresh_namespace,
    opened_store,
)
from tests.integration.ledger_kit import said, start

SHARE, BURST = 0.25, 3
TTL_S = 60.0


@pytest.fixture(scope="module", params=["sqlite", "redis", "postgres"])
def store(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    require: Callable[[str], None],
) -> Iterator[FaultStore]:
    folder = tmp_path_factory.mktemp(request.param)
    with opened_store(request.param, folder, require) as opened:
        yield opened


def capped(ledger: Ledger, *, share: float = SHARE, burst: int = BURST) -> Budget:
    return Budget(max_cloud_share=share, share_burst=burst, ledger=ledger, lease_ttl_s=TTL_S)


def routed(budget: Budget) -> Any:
    return RoutedChatModel(
        edge=ScriptedChatModel(responses=["edge"]),
        cloud=ScriptedChatModel(responses=["cloud"]),
        router=AlwaysCloud(),
        budget=budget,
    )


def after_all(store: FaultStore, namespace: str) -> dict[str, Any]:
    """How the share stands when all leases have ended."""
    now = fresh_ledger(store, namespace=namespace)
    later = fresh_ledger(store, namespace=namespace, clock=lambda: now.now() + TTL_S + 1)
    later.expire()
    assert later.reconcile().differences == ()
    shown = capped(later).snapshot()["cloud_share"]
    now.close()
    later.close()
    assert shown["held"] == 0
    assert isinstance(shown, dict)
    return shown


def test_share_holds_for_many_processes(store: FaultStore) -> None:
    namespace = fresh_namespace()
    job = {"do": "answer", "prompts": 40, "share": SHARE, "burst": BURST}
    workers = [
        start({**job, "worker": str(number)}, store.url(), namespace=namespace, timeout_s=20)
        for number in range(4)
    ]
    heard = [line for worker in workers for line in said(worker)]
    cloud = sum(one["cloud"] for one in heard)
    shown = after_all(store, namespace)
    assert (shown["prompts"], shown["cloud_calls"]) == (160, cloud)
    # With some prompts of others under way, as many parts may not be there yet.
    assert SHARE * 160 - 4 <= cloud <= SHARE * 160 + BURST


@pytest.mark.parametrize("before", ["its settlement", "the next"])
def test_prompt_of_a_killed_process_counts_once_when_it_is_resumed(
    store: FaultStore, before: str
) -> None:
    """Killed before its call was settled, the call is charged; after, the prompt was counted."""
    namespace = fresh_namespace()
    job = {"do": "answer_and_stop", "share": SHARE, "burst": BURST, "before": before}
    worker = start({**job, "worker": "the run", "ttl_s": TTL_S}, store.url(), namespace=namespace)
    assert worker.stdout is not None
    assert worker.stdout.readline() == '"stopped"\n'
    worker.kill()
    worker.communicate(timeout=30)
    ledger = fresh_ledger(store, namespace=namespace)
    for _ in range(2):
        run = capped(ledger).start_run("the run")
        run.commit(run.reserve("1/0-cloud", Amounts(cloud_calls=1)), Amounts(cloud_calls=1))
    ledger.close()
    shown = after_all(store, namespace)
    assert (shown["prompts"], shown["cloud_calls"]) == (1, 3)


@pytest.mark.parametrize("store", ["redis", "postgres"], indirect=True)  # a file has no line
def test_prompt_counts_once_when_the_line_is_cut(store: FaultStore) -> None:
    """Before the refill, inside of it, or in the place of its reply: it is sent once more."""
    namespace, prompts = fresh_namespace(), 0
    with CuttingProxy(store.port) as proxy:
        ledger = fresh_ledger(store, port=proxy.port, namespace=namespace, timeout_s=5)
        budget = capped(ledger, share=0.5, burst=50)
        model = routed(budget)
        model.invoke("?")
        prompts += 1
        for when in ("before", "inside", "after"):
            for _ in range(4):
                proxy.cut(when, marker=b"refill")
                assert model.invoke("?").text == "cloud"
                prompts += 1
        assert proxy.cuts_made == 12
        ledger.close()
    shown = after_all(store, namespace)
    assert (shown["prompts"], shown["cloud_calls"]) == (prompts, prompts)


def test_share_holds_when_the_store_is_killed_while_models_are_asked(store: FaultStore) -> None:
    """An answer that could not be counted is counted with the next reservation, or is lost."""
    namespace = fresh_namespace()
    ledger = fresh_ledger(store, namespace=namespace, timeout_s=0.5)
    model = routed(capped(ledger))
    answers: list[str] = []
    failures: list[BaseException] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.append(model.invoke("?").text)
            except LedgerUnavailable as error:
                failures.append(error)

    def wait_for(many: list[Any], more: int) -> None:
        wanted, end = len(many) + more, time.monotonic() + 60
        while len(many) < wanted:
            assert time.monotonic() < end
            time.sleep(0.002)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        wait_for(answers, 25)
        store.down()
        wait_for(failures, 4)
        store.up()
    wait_for(answers, 25)
    stop.set()
    for thread in threads:
        thread.join(timeout=30)
    ledger.close()
    shown = after_all(store, namespace)
    made = len(model.cloud.calls)
    assert shown["prompts"] <= len(answers)
    assert made <= shown["cloud_calls"]
    assert made <= SHARE * len(answers) + BURST

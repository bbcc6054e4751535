"""What goes wrong around a ledger in Redis: not a unit is lost, and no limit is passed."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from langchain_hybridflow.budget import NOTHING, Amounts, Lease
from langchain_hybridflow.budget.stores.redis import RedisLedger
from langchain_hybridflow.errors import LedgerUnavailable
from tests.integration.cutting_proxy import CuttingProxy, Moment
from tests.integration.ledger_kit import ALL, ONE, Shoppers, fresh, limited, said, start
from tests.integration.redis_server import RedisServer, free_port

TIMEOUT_S = 0.5
LONGEST_S = 2 * 2 * TIMEOUT_S + 1.0
"""Two attempts, each with the time to connect and the time to answer; and a busy machine."""


@pytest.fixture
def own_server(require: Callable[[str], None], tmp_path: Path) -> Iterator[RedisServer]:
    """A server that keeps what it has acknowledged, for one test to kill."""
    require("redis")
    require("redis-server")
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with RedisServer(tmp_path, *options) as server:
        yield server


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[CuttingProxy]:
    with CuttingProxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def cut_ledger(proxy: CuttingProxy) -> Iterator[RedisLedger]:
    """A ledger behind the proxy, connected."""
    url = f"redis://127.0.0.1:{proxy.port}/0"
    ledger = RedisLedger(url, namespace=fresh(), timeout_s=TIMEOUT_S)
    ledger.now()
    yield ledger
    ledger.close()


def test_limit_holds_exactly_when_8_processes_spend_200_times_each(
    redis_server: RedisServer,
) -> None:
    namespace = fresh()
    jobs = [{"do": "spend", "worker": f"w{n}", "calls": 200, "limit": 1_000} for n in range(8)]
    workers = [start(job, redis_server.url, namespace=namespace) for job in jobs]
    bought = [said(worker, timeout_s=90)[0] for worker in workers]
    assert sum(each["granted"] for each in bought) == 1_000
    tokens = sum(each["tokens"] for each in bought)
    ledger = RedisLedger(redis_server.url, namespace=namespace)
    state = ledger.snapshot([limited(1_000)])[0]
    assert state.used == Amounts(usd_micros=7 * tokens, cloud_tokens=tokens, cloud_calls=1_000)
    assert (state.held, state.overdraft) == (NOTHING, NOTHING)
    assert ledger.reconcile().differences == ()
    ledger.close()


def test_limit_holds_exactly_when_a_process_forks_with_an_open_connection(
    redis_server: RedisServer,
) -> None:
    namespace = fresh()
    job = {"do": "fork", "worker": "w", "children": 4, "calls": 50, "limit": 200}
    *bought, end = said(start(job, redis_server.url, namespace=namespace), timeout_s=90)
    assert end == {"failed": 0}
    assert sum(each["granted"] for each in bought) == 200


def test_lease_is_charged_when_its_process_was_killed_before_it_committed(
    redis_server: RedisServer,
) -> None:
    namespace = fresh()
    job = {"do": "hold", "worker": "lost", "ttl_s": 30, "limit": 10}
    process = start(job, redis_server.url, namespace=namespace)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == "held"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    ledger = RedisLedger(redis_server.url, namespace=namespace)
    assert ledger.snapshot([ALL])[0].held == ONE
    later = RedisLedger(
        redis_server.url, namespace=namespace, clock=lambda: ledger.now() + 31
    )  # rather than waiting
    assert [lease.id for lease in later.expire()] == ["lost"]
    assert (later.snapshot([ALL])[0].used, later.snapshot([ALL])[0].held) == (ONE, NOTHING)
    ledger.close()
    later.close()


def test_ledger_fails_closed_and_goes_on_when_its_server_is_killed_and_restarted(
    own_server: RedisServer,
) -> None:
    """None of the purchases is lost, and none is counted twice."""
    ledger = RedisLedger(own_server.url, namespace=fresh(), timeout_s=TIMEOUT_S)
    shoppers = Shoppers(ledger, threads=4, patience_s=30)
    for _ in range(2):
        shoppers.wait_for_more(shoppers.committed, 40)
        own_server.kill()
        shoppers.wait_for_more(shoppers.refused_after_s, 8)
        own_server.start()
    shoppers.wait_for_more(shoppers.committed, 40)
    shoppers.stop()
    state = ledger.snapshot([ALL])[0]
    assert state.used.cloud_calls == len(shoppers.committed)
    assert (state.held, state.overdraft) == (NOTHING, NOTHING)
    assert ledger.reconcile().differences == ()
    assert max(shoppers.refused_after_s) < LONGEST_S
    ledger.close()


@pytest.mark.parametrize("when", ["before", "inside", "after"])
def test_call_counts_once_when_the_line_is_cut_in_the_middle_of_it(
    proxy: CuttingProxy, cut_ledger: RedisLedger, when: Moment
) -> None:
    proxy.cut(when, marker=b"EVALSHA")
    lease = cut_ledger.reserve("a", ONE, accounts=[limited(1)], ttl_s=60)
    assert isinstance(lease, Lease)
    assert cut_ledger.snapshot([ALL])[0].held == ONE
    proxy.cut(when, marker=b"EVALSHA")
    cut_ledger.commit("a", ONE)
    state = cut_ledger.snapshot([ALL])[0]
    assert (state.used, state.held, state.overdraft) == (ONE, NOTHING, NOTHING)
    assert proxy.cuts_made == 2


@pytest.mark.parametrize("when", ["before", "inside", "after"])
async def test_async_call_counts_once_when_the_line_is_cut_in_the_middle_of_it(
    proxy: CuttingProxy, cut_ledger: RedisLedger, when: Moment
) -> None:
    await cut_ledger.anow()
    await cut_ledger.asnapshot([ALL])
    proxy.cut(when, marker=b"EVALSHA")
    lease = await cut_ledger.areserve("a", ONE, accounts=[limited(1)], ttl_s=60)
    assert isinstance(lease, Lease)
    proxy.cut(when, marker=b"EVALSHA")
    await cut_ledger.acommit("a", ONE)
    state = (await cut_ledger.asnapshot([ALL]))[0]
    assert (state.used, state.held, state.overdraft) == (ONE, NOTHING, NOTHING)
    assert proxy.cuts_made == 2
    await cut_ledger.aclose()


@pytest.mark.parametrize(
    ("when", "held"), [("before", NOTHING), ("inside", NOTHING), ("after", ONE)]
)
def test_reserve_fails_closed_and_can_be_sent_again_when_the_line_stays_cut(
    proxy: CuttingProxy, cut_ledger: RedisLedger, when: Moment, held: Amounts
) -> None:
    proxy.cut(when, marker=b"EVALSHA", times=2)
    with pytest.raises(LedgerUnavailable):
        cut_ledger.reserve("a", ONE, accounts=[limited(1)], ttl_s=60)
    assert cut_ledger.snapshot([ALL])[0].held == held
    assert isinstance(cut_ledger.reserve("a", ONE, accounts=[limited(1)], ttl_s=60), Lease)
    assert cut_ledger.snapshot([ALL])[0].held == ONE


def test_ledger_fails_closed_in_time_when_its_server_says_nothing(
    proxy: CuttingProxy, cut_ledger: RedisLedger
) -> None:
    proxy.silence(on=True)
    begin = time.monotonic()
    with pytest.raises(LedgerUnavailable, match=r"(?i)time"):
        cut_ledger.reserve("a", ONE, accounts=[ALL], ttl_s=60)
    assert time.monotonic() - begin < LONGEST_S
    proxy.silence(on=False)
    assert cut_ledger.snapshot([ALL])[0].held == NOTHING


async def test_async_ledger_fails_closed_in_time_when_its_server_says_nothing(
    proxy: CuttingProxy, cut_ledger: RedisLedger
) -> None:
    proxy.silence(on=True)
    begin = time.monotonic()
    with pytest.raises(LedgerUnavailable, match=r"(?i)time"):
        await cut_ledger.areserve("a", ONE, accounts=[ALL], ttl_s=60)
    assert time.monotonic() - begin < LONGEST_S
    await cut_ledger.aclose()


async def test_last_of_very_many_tasks_fails_in_time_when_the_server_says_nothing(
    proxy: CuttingProxy, cut_ledger: RedisLedger
) -> None:
    await cut_ledger.asnapshot([ALL])
    proxy.silence(on=True)
    begin = time.monotonic()
    calls = (cut_ledger.areserve(f"{n}", ONE, accounts=[ALL], ttl_s=60) for n in range(300))
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(answer) for answer in answers} == {LedgerUnavailable}
    assert time.monotonic() - begin < LONGEST_S + TIMEOUT_S
    await cut_ledger.aclose()


async def test_cancelled_reserve_ends_in_time_when_the_server_says_nothing(
    proxy: CuttingProxy, cut_ledger: RedisLedger
) -> None:
    await cut_ledger.asnapshot([ALL])
    proxy.silence(on=True)
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await cut_ledger.areserve("a", ONE, accounts=[ALL], ttl_s=60)
    assert time.monotonic() - begin < LONGEST_S
    await cut_ledger.aclose()


async def test_cancelled_reserve_frees_what_it_opened_when_its_reply_is_lost(
    proxy: CuttingProxy, cut_ledger: RedisLedger
) -> None:
    await cut_ledger.asnapshot([ALL])
    proxy.cut("after", marker=b"reserve")
    task = asyncio.ensure_future(cut_ledger.areserve("a", ONE, accounts=[ALL], ttl_s=60))
    while not proxy.cuts_made:
        await asyncio.wait([task], timeout=0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await cut_ledger.asnapshot([ALL]))[0].held == NOTHING
    assert isinstance(await cut_ledger.areserve("a", ONE, accounts=[ALL], ttl_s=60), Lease)
    await cut_ledger.aclose()


async def test_connections_are_not_lost_when_calls_are_cancelled_all_the_time(
    redis_server: RedisServer,
) -> None:
    ledger = RedisLedger(redis_server.url, namespace=fresh())
    await ledger.asnapshot([ALL])
    for turns in range(400):
        task = asyncio.ensure_future(ledger.asnapshot([ALL]))
        for _ in range(turns % 25):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    answers = await asyncio.gather(*(ledger.asnapshot([ALL]) for _ in range(100)))
    assert len(answers) == 100
    await ledger.aclose()


def test_nothing_is_reserved_when_no_server_is_there(require: Callable[[str], None]) -> None:
    require("redis")
    url = f"redis://user:s3cret-CANARY@127.0.0.1:{free_port()}/0"
    ledger = RedisLedger(url, timeout_s=TIMEOUT_S)
    with pytest.raises(LedgerUnavailable) as caught:
        ledger.reserve("a", ONE, accounts=[ALL], ttl_s=60)
    assert "s3cret-CANARY" not in str(caught.value)
    assert "refused" in str(caught.value)

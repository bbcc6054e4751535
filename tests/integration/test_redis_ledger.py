"""What only a ledger in Redis has: its server's clock, keys, connections and moods."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from langchain_hybridflow.budget import NOTHING, Account, Amounts, Denial, Lease, Limits
from langchain_hybridflow.budget.stores.redis import RedisLedger
from langchain_hybridflow.errors import ConfigurationError, LedgerError, LedgerUnavailable
from langchain_hybridflow.testing import ManualClock
from tests.integration.redis_server import RedisServer, free_port

NUMBERS = count()
ONE = Amounts(usd_micros=700, cloud_tokens=100, cloud_calls=1)
CLUSTER = ("--cluster-enabled", "yes", "--cluster-port")
TEAM = Account("team", "team", Limits(cloud_calls=1_000))


def fresh() -> str:
    return f"redis_{next(NUMBERS)}"


@pytest.fixture
def namespace() -> str:
    return fresh()


@pytest.fixture
def ledger(redis_server: RedisServer, namespace: str) -> Iterator[RedisLedger]:
    ledger = RedisLedger(redis_server.url, namespace=namespace, timeout_s=10)
    yield ledger
    ledger.close()


@pytest.fixture
def start_server(
    require: Callable[[str], None], tmp_path: Path
) -> Iterator[Callable[..., RedisServer]]:
    """Starts servers with options of their own, for one test."""
    require("redis")
    require("redis-server")
    servers: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        folder = tmp_path / str(len(servers))
        folder.mkdir()
        server = RedisServer(folder, *options)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()


def size(server: RedisServer, namespace: str, key: str, command: str) -> int:
    """How long a list, hash or set of the ledger is."""
    return int(server.ask(f"{command} hybridflow:{{{namespace}}}:{key}").removeprefix(":"))


def connections(server: RedisServer) -> int:
    """How many connections the server has, but for the one that asks."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as line:
        line.sendall(b"CLIENT LIST\r\n")
        reply = line.makefile("rb")
        length = int(reply.readline()[1:])
        return len(reply.read(length).splitlines()) - 1


# Time


def test_now_is_the_time_of_the_server(ledger: RedisLedger) -> None:
    before = time.time()
    assert before - 1.0 <= ledger.now() <= time.time() + 1.0


def test_now_does_not_ask_the_server_when_it_has_asked_once(
    start_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = start_server()
    ledger = RedisLedger(server.url, namespace=namespace)
    first = ledger.now()
    server.kill()
    assert first <= ledger.now() < first + 60.0
    ledger.close()


def test_time_stands_still_when_the_clock_of_the_server_is_set_back(
    redis_server: RedisServer, namespace: str
) -> None:
    clock = ManualClock(5_000_000_000.0)  # after the server's
    ahead = RedisLedger(redis_server.url, namespace=namespace, clock=clock)
    ahead.reserve("a", ONE, accounts=[TEAM], ttl_s=10)
    behind = RedisLedger(redis_server.url, namespace=namespace)
    assert behind.now() >= 5_000_000_000.0
    assert behind.expire() == ()
    clock.advance(10)
    ahead.now()
    assert behind.snapshot([TEAM])[0].used == ONE
    assert behind.now() >= 5_000_000_010.0
    ahead.close()
    behind.close()


# Numbers


def test_counters_are_exact_when_they_are_larger_than_what_lua_prints(ledger: RedisLedger) -> None:
    account = Account("large", "large", Limits(cloud_tokens=2**53))
    odd = 10**15 - 1
    for number in range(9):
        amounts = Amounts(cloud_tokens=odd)
        assert isinstance(ledger.reserve(f"{number}", amounts, accounts=[account], ttl_s=60), Lease)
    for number in range(4):
        ledger.commit(f"{number}", Amounts(cloud_tokens=odd - 1))
    state = ledger.snapshot([account])[0]
    assert (state.used.cloud_tokens, state.held.cloud_tokens) == (4 * (odd - 1), 5 * odd)
    assert ledger.reconcile().differences == ()


def test_reserve_raises_and_holds_nothing_when_a_counter_would_pass_2_to_the_53(
    ledger: RedisLedger,
) -> None:
    account = Account("large", "large")
    for number in range(9):
        ledger.reserve(f"{number}", Amounts(cloud_tokens=10**15), accounts=[account], ttl_s=60)
    with pytest.raises(LedgerError, match="9,007,199,254,740,991"):
        ledger.reserve("last", Amounts(cloud_tokens=10**15), accounts=[TEAM, account], ttl_s=60)
    team, large = ledger.snapshot([TEAM, account])
    assert (team.held, large.held) == (NOTHING, Amounts(cloud_tokens=9 * 10**15))


def test_commit_raises_and_leaves_the_lease_open_when_a_counter_would_pass_2_to_the_53(
    ledger: RedisLedger,
) -> None:
    account = Account("large", "large")
    for number in range(9):
        ledger.reserve(f"{number}", Amounts(cloud_tokens=10**15), accounts=[account], ttl_s=60)
    ledger.reserve("last", Amounts(cloud_tokens=1), accounts=[account], ttl_s=60)
    with pytest.raises(LedgerError):
        ledger.commit("last", Amounts(cloud_tokens=10**15))
    assert ledger.commit("last", Amounts(cloud_tokens=2)) is True
    assert ledger.reconcile().differences == ()


@pytest.mark.parametrize("amount", [2**53, 10**18, 2**64])
def test_reserve_raises_when_an_amount_is_larger_than_lua_can_count(
    ledger: RedisLedger, amount: int
) -> None:
    with pytest.raises(LedgerError):
        ledger.reserve("a", Amounts(cloud_tokens=amount), accounts=[TEAM], ttl_s=60)


def test_snapshot_raises_when_it_asks_for_more_than_lua_takes(ledger: RedisLedger) -> None:
    accounts = [Account(f"user/{number}", "user") for number in range(1_499)]
    assert len(ledger.snapshot(accounts)) == 1_499
    with pytest.raises(LedgerError, match="fewer"):
        ledger.snapshot(accounts * 3)


# Old work is done in passing, and nothing piles up


def test_all_leases_are_charged_once_when_very_many_expire_together(
    redis_server: RedisServer, namespace: str
) -> None:
    clock = ManualClock(1_000.0)
    ledger = RedisLedger(redis_server.url, namespace=namespace, clock=clock)
    for number in range(200):
        ledger.reserve(f"{number}", ONE, accounts=[TEAM], ttl_s=1 + number / 100)
    clock.advance(10)
    # The last of the queue is refused as a late one, though its turn to be settled has not come.
    assert ledger.commit("199", ONE) is False
    assert ledger.snapshot([TEAM])[0].used.cloud_calls > 32
    left = {lease.id for lease in ledger.expire()}
    assert "150" in left
    assert "199" not in left
    assert ledger.snapshot([TEAM])[0].used == Amounts(
        usd_micros=200 * 700, cloud_tokens=20_000, cloud_calls=200
    )
    assert ledger.expire() == ()
    assert ledger.reconcile().differences == ()
    ledger.close()


def test_store_stays_small_when_leases_come_and_go(
    redis_server: RedisServer, namespace: str
) -> None:
    clock = ManualClock(1_000.0)
    ledger = RedisLedger(redis_server.url, namespace=namespace, clock=clock, settled_keep_s=20)
    for number in range(700):
        run = Account(f"run/{number}", "run", keep_s=30.0)
        ledger.reserve(f"{number}", ONE, accounts=[TEAM, run], ttl_s=60)
        ledger.commit(f"{number}", ONE)
        clock.advance(1)
    assert size(redis_server, namespace, "open", "HLEN") == 0
    assert size(redis_server, namespace, "expiries", "ZCARD") == 0
    assert size(redis_server, namespace, "settled", "HLEN") <= 37
    assert size(redis_server, namespace, "remembered", "LLEN") <= 37
    assert size(redis_server, namespace, "journal", "LLEN") <= 257
    assert size(redis_server, namespace, "counters", "HLEN") <= 33
    assert size(redis_server, namespace, "fading", "ZCARD") <= 33
    assert size(redis_server, namespace, "opening", "HLEN") <= 257
    assert ledger.snapshot([TEAM])[0].used.cloud_calls == 700
    assert ledger.reconcile().differences == ()
    ledger.close()


def test_settled_id_is_forgotten_when_its_time_is_over(
    redis_server: RedisServer, namespace: str
) -> None:
    clock = ManualClock(1_000.0)
    ledger = RedisLedger(redis_server.url, namespace=namespace, clock=clock, settled_keep_s=20)
    ledger.reserve("old", ONE, accounts=[TEAM], ttl_s=60)
    ledger.commit("old", ONE)
    assert ledger.commit("old", ONE) is False
    clock.advance(21)
    for number in range(16):  # the script looks for old ones now and then
        ledger.reserve(f"new {number}", ONE, accounts=[TEAM], ttl_s=60)
        ledger.commit(f"new {number}", ONE)
    with pytest.raises(LedgerError, match="forgotten"):
        ledger.commit("old", ONE)
    ledger.close()


# Reconciling


def test_reconcile_finds_and_mends_counters_that_were_deleted(
    ledger: RedisLedger, redis_server: RedisServer, namespace: str
) -> None:
    ledger.reserve("spent", ONE, accounts=[TEAM], ttl_s=600)
    ledger.commit("spent", ONE)
    ledger.reserve("open", ONE, accounts=[TEAM], ttl_s=600)
    before = ledger.snapshot([TEAM])
    redis_server.ask(f"HDEL hybridflow:{{{namespace}}}:counters team")
    found = ledger.reconcile()
    assert {(d.column, d.dimension, d.journal) for d in found.differences} == {
        (column, dimension, amount)
        for column in ("used", "held")
        for dimension, amount in zip(
            ("usd_micros", "cloud_tokens", "cloud_calls"), ONE, strict=True
        )
    }
    assert found.repaired is False
    assert ledger.reconcile(repair=True).repaired is True
    assert ledger.snapshot([TEAM]) == before
    assert ledger.reconcile().differences == ()


async def test_reconcile_lets_leases_expire_again_when_their_index_was_deleted(
    redis_server: RedisServer, namespace: str
) -> None:
    clock = ManualClock(1_000.0)
    ledger = RedisLedger(redis_server.url, namespace=namespace, clock=clock)
    await ledger.areserve("open", ONE, accounts=[TEAM], ttl_s=10)
    redis_server.ask(f"DEL hybridflow:{{{namespace}}}:expiries")
    clock.advance(10)
    assert await ledger.aexpire() == ()
    await ledger.areconcile(repair=True)
    assert [lease.id for lease in await ledger.aexpire()] == ["open"]
    await ledger.aclose()


def test_repair_loses_nothing_when_others_go_on_booking(
    ledger: RedisLedger, redis_server: RedisServer, namespace: str
) -> None:
    ledger.reserve("first", ONE, accounts=[TEAM], ttl_s=600)
    ledger.commit("first", ONE)
    redis_server.ask(f"HDEL hybridflow:{{{namespace}}}:counters team")

    async def book_and_repair() -> None:
        async def book(number: int) -> None:
            await ledger.areserve(f"{number}", ONE, accounts=[TEAM], ttl_s=600)
            await ledger.acommit(f"{number}", ONE)

        await asyncio.gather(*(book(n) for n in range(100)), ledger.areconcile(repair=True))
        await ledger.aclose()

    asyncio.run(book_and_repair())
    ledger.reconcile(repair=True)
    assert ledger.snapshot([TEAM])[0].used.cloud_calls == 101
    assert ledger.reconcile().differences == ()


# Connections


def test_connections_end_with_their_event_loop_when_nobody_closes_them(
    start_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = start_server()
    ledger = RedisLedger(server.url, namespace=namespace)

    async def use() -> None:
        await asyncio.gather(*(ledger.asnapshot([TEAM]) for _ in range(100)))

    for _ in range(3):
        asyncio.run(use())
    # The server may see the end of a connection a moment later; those that stay, it sees at once.
    end = time.monotonic() + 5
    while connections(server) and time.monotonic() < end:
        time.sleep(0.01)
    assert connections(server) == 0


async def test_few_connections_are_enough_when_very_many_tasks_call(
    start_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = start_server()
    ledger = RedisLedger(server.url, namespace=namespace, timeout_s=10)
    await asyncio.gather(*(ledger.asnapshot([TEAM]) for _ in range(500)))
    assert connections(server) <= 32
    await ledger.aclose()


def test_ledger_goes_on_when_the_server_has_forgotten_the_script(
    ledger: RedisLedger, redis_server: RedisServer
) -> None:
    ledger.now()
    redis_server.ask("SCRIPT FLUSH")
    assert isinstance(ledger.reserve("a", ONE, accounts=[TEAM], ttl_s=60), Lease)


def test_ledger_works_over_a_unix_socket(
    start_server: Callable[..., RedisServer], tmp_path: Path, namespace: str
) -> None:
    start_server("--unixsocket", "redis.sock")
    ledger = RedisLedger(f"unix://{tmp_path}/0/redis.sock", namespace=namespace)
    assert isinstance(ledger.reserve("a", ONE, accounts=[TEAM], ttl_s=60), Lease)
    ledger.close()


@pytest.mark.parametrize("cluster", [False, True])
def test_ledger_works_when_the_server_is_a_node_of_a_cluster(
    start_server: Callable[..., RedisServer], namespace: str, cluster: bool
) -> None:
    """A cluster refuses a script whose keys are not all in one slot."""
    server = start_server(*CLUSTER, str(free_port()))
    server.ask("CLUSTER ADDSLOTSRANGE 0 16383")
    end = time.monotonic() + 20
    while not server.ask("GET nothing").startswith("$"):
        assert time.monotonic() < end
        time.sleep(0.01)
    ledger = RedisLedger(server.url, namespace=namespace, cluster=cluster, timeout_s=10)
    ledger.reserve("a", ONE, accounts=[TEAM], ttl_s=60)
    assert ledger.commit("a", ONE) is True

    async def use() -> None:
        await ledger.areserve("b", ONE, accounts=[TEAM], ttl_s=60)
        assert await ledger.arelease("b") is True
        await ledger.aswap_note("team", expected_version=0, text="price 0.5")
        assert (await ledger.areconcile()).differences == ()

    asyncio.run(use())
    assert ledger.snapshot([TEAM])[0].used == ONE
    ledger.close()


# Moods of the server: each is an error before anything is spent, with advice


def test_error_says_so_when_the_server_wants_a_password(
    start_server: Callable[..., RedisServer],
) -> None:
    server = start_server("--requirepass", "right")
    with pytest.raises(LedgerUnavailable, match="password"):
        RedisLedger(server.url).now()


def test_error_does_not_tell_the_password_when_it_is_wrong(
    start_server: Callable[..., RedisServer],
) -> None:
    server = start_server("--requirepass", "right")
    ledger = RedisLedger(f"redis://:wr0ng-CANARY@127.0.0.1:{server.port}/0")
    with pytest.raises(LedgerUnavailable, match="password") as caught:
        ledger.now()
    assert "CANARY" not in str(caught.value)
    assert "CANARY" not in repr(caught.value.__dict__)


def test_error_says_so_when_the_server_is_a_replica(
    start_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = start_server("--replicaof", "127.0.0.1 1")
    with pytest.raises(LedgerUnavailable, match="primary"):
        RedisLedger(server.url, namespace=namespace).now()


def test_error_says_so_when_the_cluster_is_down(
    start_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = start_server(*CLUSTER, str(free_port()))
    with pytest.raises(LedgerUnavailable, match="cluster"):
        RedisLedger(server.url, namespace=namespace).now()


def test_error_says_so_and_nothing_is_booked_when_the_server_has_no_memory(
    start_server: Callable[..., RedisServer], namespace: str
) -> None:
    server = start_server()
    ledger = RedisLedger(server.url, namespace=namespace)
    ledger.reserve("a", ONE, accounts=[TEAM], ttl_s=600)
    server.ask("CONFIG SET maxmemory 1")
    with pytest.raises(LedgerUnavailable, match="memory"):
        ledger.commit("a", ONE)
    server.ask("CONFIG SET maxmemory 0")
    assert ledger.snapshot([TEAM])[0].held == ONE
    assert ledger.commit("a", ONE) is True
    assert ledger.reconcile().differences == ()
    ledger.close()


def test_error_says_so_when_the_keys_have_another_layout(
    ledger: RedisLedger, redis_server: RedisServer, namespace: str
) -> None:
    redis_server.ask(f'SET hybridflow:{{{namespace}}}:clock "9 0"')
    with pytest.raises(ConfigurationError, match="layout '9'"):
        ledger.reserve("a", ONE, accounts=[TEAM], ttl_s=60)


def test_warning_is_logged_once_when_the_server_may_evict_counters(
    start_server: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server("--maxmemory-policy", "allkeys-lru")
    ledger = RedisLedger(server.url)
    with caplog.at_level(logging.WARNING, logger="langchain_hybridflow"):
        ledger.snapshot([TEAM])
        ledger.snapshot([TEAM])
    assert [record.message for record in caplog.records if "allkeys-lru" in record.message] == [
        caplog.records[0].message
    ]
    ledger.close()


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru"])
def test_nothing_is_logged_when_the_server_evicts_no_key_of_the_ledger(
    start_server: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    server = start_server("--maxmemory-policy", policy)
    ledger = RedisLedger(server.url)
    ledger.snapshot([TEAM])
    assert not caplog.records
    ledger.close()


def test_error_is_logged_when_the_server_has_lost_the_ledger(
    ledger: RedisLedger,
    redis_server: RedisServer,
    namespace: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger.reserve("a", ONE, accounts=[TEAM], ttl_s=60)
    redis_server.ask(f"DEL hybridflow:{{{namespace}}}:clock")
    assert not isinstance(ledger.reserve("a", ONE, accounts=[TEAM], ttl_s=60), Denial)
    assert "start from zero" in caplog.text


def test_nothing_is_logged_when_threads_are_the_first_to_use_a_ledger(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        ledger = RedisLedger(redis_server.url, namespace=fresh(), timeout_s=10)
        threads = [threading.Thread(target=ledger.snapshot, args=([TEAM],)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ledger.close()
    assert not caplog.records

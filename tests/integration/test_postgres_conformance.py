"""The conformance suite of ledgers on a real PostgreSQL server, and behind a pooler."""

from __future__ import annotations

from itertools import count
from urllib.parse import urlencode

import hypothesis
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from langchain_hybridflow import Budget, RoutedChatModel
from langchain_hybridflow.budget import NOTHING, Account, Amounts, Limits, Refill
from langchain_hybridflow.budget.rules import OnExpiry
from langchain_hybridflow.budget.stores.postgres import PostgresLedger
from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.routing import AlwaysCloud
from langchain_hybridflow.testing import (
    LedgerConformance,
    LedgerShareConformance,
    ManualClock,
    ScriptedChatModel,
    ledger_state_machine,
)
from tests.integration.postgres_server import PostgresServer

NUMBERS = count()


def fresh(prefix: str) -> str:
    return f"{prefix}_{next(NUMBERS)}"


class TestPostgresLedger(LedgerConformance):
    threads, turns = 16, 4

    @pytest.fixture(autouse=True)
    def server(self, postgres_server: PostgresServer) -> None:
        self.url = postgres_server.url

    def make_ledger(self, clock: ManualClock) -> PostgresLedger:
        self.namespace = fresh("suite")
        return PostgresLedger(self.url, namespace=self.namespace, timeout_s=10, clock=clock)

    def another_handle(self, ledger: object, clock: ManualClock) -> PostgresLedger:
        return PostgresLedger(self.url, namespace=self.namespace, timeout_s=10, clock=clock)


class TestPostgresLedgerShares(LedgerShareConformance):
    threads, turns = 16, 4

    @pytest.fixture(autouse=True)
    def server(self, postgres_server: PostgresServer) -> None:
        self.url = postgres_server.url

    def make_ledger(self, clock: ManualClock) -> PostgresLedger:
        self.namespace = fresh("shares")
        return PostgresLedger(self.url, namespace=self.namespace, timeout_s=10, clock=clock)

    def another_handle(self, ledger: object, clock: ManualClock) -> PostgresLedger:
        return PostgresLedger(self.url, namespace=self.namespace, timeout_s=10, clock=clock)


def test_tables_without_the_function_get_it_at_the_first_refill(
    postgres_server: PostgresServer,
) -> None:
    """Those that an earlier version has made; all else in them stays."""
    namespace = fresh("older")
    older = PostgresLedger(postgres_server.url, namespace=namespace)
    account = Account("share", "cloud-share", Limits(cloud_calls=1))
    one = Amounts(cloud_calls=1)
    older.reserve("a", one, accounts=[account], ttl_s=60)
    older.commit("a", one)
    older.close()
    with psycopg.connect(postgres_server.url) as connection:
        connection.execute(f'DROP FUNCTION "{namespace}".refill')
    assert not has_refill(postgres_server.url, namespace)
    ledger = PostgresLedger(postgres_server.url, namespace=namespace)
    assert ledger.refill("p", [Refill("share", 1_000_000)]) is True
    assert has_refill(postgres_server.url, namespace)
    assert ledger.refill("p", [Refill("share", 1_000_000)]) is False
    assert ledger.snapshot([account])[0].used == NOTHING
    assert ledger.reconcile().differences == ()
    ledger.close()


def test_cap_on_old_tables_is_refused_before_a_call_when_the_user_may_not_add_to_them(
    postgres_server: PostgresServer,
) -> None:
    """After it, the answer would be paid for and lost."""
    namespace, user = fresh("older"), fresh("guest")
    owner = PostgresLedger(postgres_server.url, namespace=namespace)
    owner.snapshot([Account("any", "any")])
    owner.close()
    with psycopg.connect(postgres_server.url) as connection:
        connection.execute(f'DROP FUNCTION "{namespace}".refill')
        connection.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'guest'")
        connection.execute(f'GRANT USAGE ON SCHEMA "{namespace}" TO {user}')
        connection.execute(f'GRANT ALL ON ALL TABLES IN SCHEMA "{namespace}" TO {user}')
    url = make_conninfo(postgres_server.url, user=user, password="guest")
    ledger = PostgresLedger(as_url(url), namespace=namespace)
    cloud = ScriptedChatModel(responses=["cloud"])
    model = RoutedChatModel(
        edge=ScriptedChatModel(responses=["edge"]),
        cloud=cloud,
        router=AlwaysCloud(),
        budget=Budget(max_cloud_share=0.5, ledger=ledger),
    )
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"Let its owner make one call"):
            model.invoke("?")
    assert cloud.calls == []
    uncapped = Budget(max_cloud_calls=5, ledger=ledger).start_run()
    uncapped.commit(uncapped.reserve("a", Amounts(cloud_calls=1)), Amounts(cloud_calls=1))
    ledger.close()


def as_url(conninfo: str) -> str:
    parts = conninfo_to_dict(conninfo)
    place = f"{parts.pop('host')}:{parts.pop('port')}/{parts.pop('dbname')}"
    return f"postgresql://{parts.pop('user')}:{parts.pop('password')}@{place}?{urlencode(parts)}"


def has_refill(url: str, namespace: str) -> bool:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT to_regproc(%s)", (f'"{namespace}".refill',)).fetchone()
    return row is not None and row[0] is not None


def check_two_handles(url: str, on_expiry: OnExpiry) -> None:
    def two_handles(clock: ManualClock) -> list[PostgresLedger]:
        namespace = fresh("machine")
        return [
            PostgresLedger(url, namespace=namespace, timeout_s=10, on_expiry=on_expiry, clock=clock)
            for _ in range(2)
        ]

    case = ledger_state_machine(two_handles, on_expiry=on_expiry).TestCase
    case.settings = hypothesis.settings(max_examples=15, stateful_step_count=30, deadline=None)
    case().runTest()


@pytest.mark.parametrize("on_expiry", ["charge", "refund"])
def test_ledger_says_what_the_model_says_when_two_handles_take_turns(
    postgres_server: PostgresServer, on_expiry: OnExpiry
) -> None:
    check_two_handles(postgres_server.url, on_expiry)


def test_ledger_says_what_the_model_says_when_a_pooler_changes_its_connections(
    pooler: str,
) -> None:
    check_two_handles(pooler, "charge")

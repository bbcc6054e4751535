"""The PostgreSQL ledger passes the public conformance suite of its administration."""

from __future__ import annotations

from itertools import count

import pytest

from langchain_hybridflow.budget.stores.postgres import PostgresLedger
from langchain_hybridflow.testing import LedgerAdminConformance, ManualClock
from tests.integration.postgres_server import PostgresServer

NUMBERS = count()


class TestPostgresLedgerAdmin(LedgerAdminConformance):
    turns = 20

    @pytest.fixture(autouse=True)
    def server(self, postgres_server: PostgresServer) -> None:
        self.url = postgres_server.url

    def make_ledger(self, clock: ManualClock) -> PostgresLedger:
        namespace = f"admin_{next(NUMBERS)}"
        return PostgresLedger(self.url, namespace=namespace, timeout_s=10, clock=clock)


def test_nothing_is_made_when_somebody_looks_where_no_ledger_is(
    postgres_server: PostgresServer,
) -> None:
    import psycopg

    ledger = PostgresLedger(postgres_server.url, namespace="nobody", timeout_s=10)
    assert (ledger.list_keys(), ledger.open_leases()) == ((), ())
    ledger.close()
    with psycopg.connect(postgres_server.url) as db:
        found = db.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'nobody'").fetchall()
    assert found == []

"""The conformance suite of ledgers on a real PostgreSQL server, and behind a pooler."""

from __future__ import annotations

from itertools import count

import hypothesis
import pytest

from langchain_hybridflow.budget.rules import OnExpiry
from langchain_hybridflow.budget.stores.postgres import PostgresLedger
from langchain_hybridflow.testing import LedgerConformance, ManualClock, ledger_state_machine
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

"""Where a ledger keeps its counters beyond one process: a SQLite file, Redis, PostgreSQL.

`open_ledger` opens the one that a URL names. Each has the rules of `Ledger` and passes the same
conformance suite; clients of servers are imported only when a ledger is made.
"""

from langchain_hybridflow.budget.stores.opening import open_ledger
from langchain_hybridflow.budget.stores.postgres import PostgresLedger
from langchain_hybridflow.budget.stores.redis import RedisLedger
from langchain_hybridflow.budget.stores.sqlite import SQLiteLedger

__all__ = ["PostgresLedger", "RedisLedger", "SQLiteLedger", "open_ledger"]

"""The tables and functions of `PostgresLedger`, for a namespace (a schema of the database).

Each method of the ledger is one call of one function: one round trip, and one transaction that no
lost connection can leave open. Locks are taken in one order, so that calls do not end in deadlocks:
the lease of the call, then counters by key. What works on other leases (expiry, clearing away)
passes over those that are locked.

The columns of amounts are usd (micro-USD), tokens and calls, always in this order. See
`_sqlite_statements` for what the tables are for.
"""

from __future__ import annotations

from typing import Final

from langchain_hybridflow.budget.stores._sql_postgres_functions import FUNCTIONS
from langchain_hybridflow.budget.stores._sql_postgres_upkeep import UPKEEP

__all__ = ["SCHEMA_VERSION", "adding", "in_schema", "migration"]

SCHEMA_VERSION: Final = 1

_TABLES: Final = """
IF NOT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'NAMESPACE') THEN
  CREATE SCHEMA NS;  -- asked for only then: it takes a right that who uses a schema may lack
END IF;

CREATE TABLE NS.schema_version (version integer PRIMARY KEY);

CREATE TABLE NS.counters (
  key text COLLATE "C" PRIMARY KEY,
  used_usd bigint NOT NULL DEFAULT 0,
  used_tokens bigint NOT NULL DEFAULT 0,
  used_calls bigint NOT NULL DEFAULT 0,
  held_usd bigint NOT NULL DEFAULT 0,
  held_tokens bigint NOT NULL DEFAULT 0,
  held_calls bigint NOT NULL DEFAULT 0,
  over_usd bigint NOT NULL DEFAULT 0,
  over_tokens bigint NOT NULL DEFAULT 0,
  over_calls bigint NOT NULL DEFAULT 0,
  leases bigint NOT NULL DEFAULT 0,  -- open ones
  written_at float8,                 -- null: made for a reservation that is still being judged
  keep_s float8,
  look_at float8                     -- when to see whether it can be forgotten
) WITH (fillfactor = 50);            -- room for new versions of a row on its own page
CREATE INDEX counters_look ON NS.counters (look_at) WHERE look_at IS NOT NULL;

CREATE TABLE NS.leases (
  id text COLLATE "C" PRIMARY KEY,    -- a digest, if it is too long for an index
  long_id text,                       -- what it is a digest of
  call text NOT NULL,                 -- which call has opened it
  state smallint NOT NULL DEFAULT 0,  -- 0 open, 1 committed, 2 released, 3 expired
  usd bigint NOT NULL,
  tokens bigint NOT NULL,
  calls bigint NOT NULL,
  keys text[] NOT NULL,
  accounts text NOT NULL,
  expires_at float8 NOT NULL,
  settled_at float8,
  used_usd bigint, used_tokens bigint, used_calls bigint,
  over_usd bigint, over_tokens bigint, over_calls bigint,
  actual bigint[]                     -- what a commit said
) WITH (fillfactor = 80);
CREATE INDEX leases_open ON NS.leases (expires_at) WHERE state = 0;
CREATE INDEX leases_settled ON NS.leases (settled_at) WHERE state > 0;

CREATE TABLE NS.openings (
  key text COLLATE "C" PRIMARY KEY,
  used_usd bigint NOT NULL,
  used_tokens bigint NOT NULL,
  used_calls bigint NOT NULL,
  over_usd bigint NOT NULL,
  over_tokens bigint NOT NULL,
  over_calls bigint NOT NULL
);

CREATE TABLE NS.notes (
  key text COLLATE "C" PRIMARY KEY,
  version bigint NOT NULL,
  text text NOT NULL,
  forget_at float8
);
CREATE INDEX notes_forget ON NS.notes (forget_at) WHERE forget_at IS NOT NULL;
"""

# Written out wherever they are used: a call of a function costs more than they do.
_CLOCK: Final = "coalesce(p_now, extract(epoch FROM clock_timestamp())::float8)"
_DUE: Final = "EXISTS (SELECT 1 FROM NS.leases o WHERE o.state = 0 AND o.expires_at <= at)"

# For this transaction only. One plan for all calls, and by index, however small the tables are
# when it is made: else each call plans anew, which takes longer than all the rest.
_SETTINGS: Final = """PERFORM set_config('lock_timeout', p_wait, true),
          set_config('plan_cache_mode', 'force_generic_plan', true),
          set_config('enable_seqscan', 'off', true);"""

# One statement: all of it or nothing, whoever else starts at the same time.
_MIGRATION: Final = """
DO $migration$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('langchain-hybridflow NAMESPACE', 0));
  -- Not to_regclass: it may answer from a cache, from before the lock.
  IF EXISTS (SELECT 1 FROM pg_catalog.pg_tables
             WHERE schemaname = 'NAMESPACE' AND tablename = 'schema_version') THEN
    RETURN;
  END IF;
  TABLES
  FUNCTIONS
  INSERT INTO NS.schema_version VALUES (VERSION);
END
$migration$
"""

_ADDING: Final = """
DO $migration$
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('langchain-hybridflow NAMESPACE', 0));
  IF EXISTS (SELECT 1 FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n
             ON n.oid = p.pronamespace
             WHERE n.nspname = 'NAMESPACE' AND p.proname = 'FUNCTION_NAME') THEN
    RETURN;
  END IF;
  FUNCTION
END
$migration$
"""


def in_schema(text: str, namespace: str) -> str:
    """SQL with the names of a namespace (a checked one: letters, digits and underscores)."""
    schema = f'"{namespace}"'
    return (
        text.replace("NS.", f"{schema}.")
        .replace("SCHEMA NS;", f"SCHEMA {schema};")
        .replace("NAMESPACE", namespace)
    )


def migration(namespace: str) -> str:
    """The statement that makes tables and functions, if there are none yet."""
    text = (
        _MIGRATION.replace("(VERSION)", f"({SCHEMA_VERSION})")
        .replace("  TABLES", _TABLES)
        .replace("  FUNCTIONS", FUNCTIONS + UPKEEP)
    )
    return in_schema(_filled(text), namespace)


def adding(name: str, function: str, namespace: str) -> str:
    """The statement that adds a function to the tables, if it is not there yet.

    Tables that an earlier version of the package has made stay as they are.
    """
    text = _ADDING.replace("FUNCTION_NAME", name).replace("  FUNCTION\n", function)
    return in_schema(_filled(text), namespace)


def _filled(text: str) -> str:
    return text.replace("SETTINGS", _SETTINGS).replace("CLOCK", _CLOCK).replace("DUE", _DUE)

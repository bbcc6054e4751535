"""Refills of `PostgresLedger`: their steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from langchain_hybridflow.budget.share import Refill, taken_id
from langchain_hybridflow.budget.stores._sql_postgres_admin import PostgresAdminSteps
from langchain_hybridflow.budget.stores._sql_postgres_connections import Query
from langchain_hybridflow.budget.stores._sql_postgres_functions import REFILL
from langchain_hybridflow.budget.stores._sql_postgres_schema import adding, in_schema
from langchain_hybridflow.budget.stores._sql_postgres_steps import Steps, array, indexed
from langchain_hybridflow.errors import ConfigurationError

__all__ = ["PostgresAllSteps"]

_THERE: Final = "SELECT to_regproc(%s) IS NOT NULL"

_REFILL: Final = """
    SELECT outcome, at
    FROM NS.refill(%s, %s, %s, %s::text[], %s::bigint[], %s::float8[], %s::float8, %s, %s)"""


class PostgresAllSteps(PostgresAdminSteps):
    """The steps of a ledger and its administration, and refills."""

    _refills = False

    def refill(self, refill_id: str, refills: Sequence[Refill]) -> Steps[bool]:
        """Whether this call has counted the prompt."""
        yield from self._prepare_refills()
        name = indexed(refill_id)
        given = sorted(refills, key=lambda one: indexed(one.key))
        values = (
            name,
            None if name == refill_id else refill_id,
            self._new_call(),
            array(indexed(one.key) for one in given),
            array(one.micro_calls for one in given),
            array(one.keep_s for one in given),
        )
        ((outcome, _),) = yield from self._turn("refill", values)
        if outcome == "open":
            raise taken_id(refill_id)
        return bool(outcome == "refilled")

    def _prepare_refills(self) -> Steps[None]:
        """Make sure, once, that the function is there: tables may be older than it."""
        if self._refills:
            return
        yield from self._prepare()
        self._sql["refill"] = in_schema(_REFILL, self._namespace)
        ((found,),) = yield Query(_THERE, (f'"{self._namespace}".refill',))
        if not found:
            try:
                yield Query(adding("refill", REFILL, self._namespace), None)
            except ConfigurationError as error:
                raise ConfigurationError(
                    f"A cap on the share of cloud calls needs a function that is not in the schema "
                    f"{self._namespace!r}: an earlier version of langchain-hybridflow made it, and "
                    f"this user may not add to it. Let its owner make one call under a budget with "
                    f"max_cloud_share, or leave the cap out. {error}"
                ) from error
        self._refills = True

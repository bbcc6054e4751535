"""A budget for people and dashboards, in plain JSON types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_hybridflow.budget.accounts import BookEntry
from langchain_hybridflow.budget.share import share_scope
from langchain_hybridflow.budget.snapshot import BudgetSnapshot, ShareGauge
from langchain_hybridflow.budget.types import AccountState

__all__ = ["overview"]


def overview(
    name: str,
    own: tuple[BookEntry, AccountState],
    scopes: Iterable[tuple[BookEntry, AccountState]] = (),
) -> dict[str, Any]:
    """Return what `Budget.snapshot` says of its accounts.

    Args:
        name: Name of the budget.
        own: The budget's own account.
        scopes: The accounts of its scopes, and the buckets of its caps on shares.
    """
    plain = {"name": name, **_counted(*own)}
    others: list[dict[str, Any]] = []
    for entry, state in scopes:
        if entry.share is None:
            others.append({"scope": entry.scope, **_counted(entry, state)})
            continue
        shown = ShareGauge.of(entry.share, state).to_json()
        if entry.scope == share_scope():
            plain["cloud_share"] = shown
        else:
            others.append({"scope": entry.scope, "cloud_share": shown})
    return plain | ({"scopes": others} if others else {})


def _counted(entry: BookEntry, state: AccountState) -> dict[str, Any]:
    gauges = BudgetSnapshot.of((state,))
    plain: dict[str, Any] = {}
    for key, gauge, unit in (
        ("usd", gauges.usd, float),
        ("cloud_tokens", gauges.cloud_tokens, int),
        ("cloud_calls", gauges.cloud_calls, int),
    ):
        limit, remaining = gauge.limit, gauge.remaining
        plain[key] = {
            "limit": None if limit is None else unit(limit),
            "spent": unit(gauge.spent),
            "held": unit(gauge.held),
            "remaining": None if remaining is None else unit(remaining),
        }
    plain["overdraft_usd"] = float(state.overdraft.usd)
    if entry.window is not None:
        starts_at, ends_at = entry.window.span(state.at)
        plain["window"] = {"id": str(entry.window), "starts_at": starts_at, "ends_at": ends_at}
    return plain

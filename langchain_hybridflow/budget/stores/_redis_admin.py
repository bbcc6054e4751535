"""What the administration of a `RedisLedger` asks of its script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_hybridflow.budget.admin import Reset, archive_of, still_in_use
from langchain_hybridflow.budget.stores._redis_requests import Request, lease_of, too_large
from langchain_hybridflow.budget.types import Amounts, Lease

__all__ = ["list_keys", "open_leases", "reset"]


def list_keys(prefix: str) -> Request[tuple[str, ...]]:
    """List the keys that begin so and have counters or a note."""

    def read(answer: Sequence[Any]) -> tuple[str, ...]:
        return tuple(sorted({key.decode() for key in answer[1]}))

    return Request("keys", (prefix,), read)


def open_leases(key: str | None) -> Request[tuple[Lease, ...]]:
    """List the open leases, the next to expire first."""

    def read(answer: Sequence[Any]) -> tuple[Lease, ...]:
        flat = answer[1]
        pairs = zip(flat[::2], flat[1::2], strict=True)
        leases = (lease_of(lease_id.decode(), record) for lease_id, record in pairs)
        found = (
            lease
            for lease in leases
            if key is None or any(account.key == key for account in lease.accounts)
        )
        return tuple(sorted(found, key=lambda lease: (lease.expires_at, lease.id)))

    return Request("leases", (), read)


def reset(key: str, *, force: bool) -> Request[Reset]:
    """Move what is booked under a key, in counters and journal."""
    archive = archive_of(key)

    def read(answer: Sequence[Any]) -> Reset:
        match answer:
            case [b"open", leases]:
                raise still_in_use(key, int(leases))
            case [b"reset", leases, *numbers]:
                used, overdraft = map(int, numbers[:3]), map(int, numbers[3:])
                return Reset(key, archive, Amounts(*used), Amounts(*overdraft), int(leases))
        raise too_large(archive)

    return Request("reset", (key, archive, "1" if force else "0"), read)

"""What an answer over HTTP says about its routing: in a field of its body, and in headers."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

__all__ = ["HEADER_PREFIX", "extension", "header_text", "routing_headers"]

HEADER_PREFIX: Final = "x-hybridflow-"
"""What the names of the headers begin with."""

_KEPT: Final = ("tier", "model", "cost_usd", "usage_estimated", "degraded", "escalated")
_KEPT_OF_GRAPHS: Final = ("complete", "missing", "degraded")
_MAX_HEADER_CHARS: Final = 256


def extension(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the field `hybridflow` of an answer, from the metadata of its message.

    Args:
        metadata: `response_metadata` of a routed model's answer, or of a graph's.

    Returns:
        The field under its name; nothing if no routed model answered.

    Example:
        >>> record = {"tier": "edge", "cost_usd": "0", "decision": {"reason": "easy"}}
        >>> extension({"hybridflow": record})
        {'hybridflow': {'tier': 'edge', 'cost_usd': '0', 'reason': 'easy'}}
    """
    record = metadata.get("hybridflow")
    if not isinstance(record, Mapping):
        return {}
    totals = record.get("totals")
    if not isinstance(totals, Mapping):
        facts = {name: record[name] for name in _KEPT if name in record}
        return {"hybridflow": facts | {"reason": record["decision"]["reason"]}}
    calls = {tier: totals[tier]["calls"] for tier in ("edge", "cloud")}
    facts = {name: record[name] for name in _KEPT_OF_GRAPHS if name in record}
    return {
        "hybridflow": facts
        | {
            "tier": "+".join(tier for tier, number in calls.items() if number) or "none",
            "cost_usd": totals["cost_usd"],
            "reason": " and ".join(f"{number} {tier} calls" for tier, number in calls.items()),
            "totals": dict(totals),
        }
    }


def routing_headers(fields: Mapping[str, Any], remaining_usd: Decimal | None) -> dict[str, str]:
    """Return the headers of an answer; what is not known is left out.

    Args:
        fields: What `extension` has made.
        remaining_usd: What the caller can still spend.

    Example:
        >>> routing_headers({"hybridflow": {"tier": "edge", "reason": "so"}}, None)
        {'x-hybridflow-tier': 'edge', 'x-hybridflow-reason': 'so'}
    """
    facts = fields.get("hybridflow", {})
    said = {
        "tier": facts.get("tier"),
        "reason": facts.get("reason"),
        "cost-usd": facts.get("cost_usd"),
        "remaining-usd": None if remaining_usd is None else f"{remaining_usd:f}",
    }
    return {
        f"{HEADER_PREFIX}{name}": header_text(value)
        for name, value in said.items()
        if value is not None
    }


def header_text(value: object) -> str:
    r"""Return a text that may stand in a header: one line of printable ASCII, at most 256 of it.

    Example:
        >>> header_text("schwer: 7 \u2265 5\r\nX-Evil: 1")
        'schwer: 7 ? 5 X-Evil: 1'
    """
    line = " ".join(str(value).split())[:_MAX_HEADER_CHARS]
    return "".join(char if " " <= char <= "~" else "?" for char in line)

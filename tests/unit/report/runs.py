"""Outputs of graphs, made by hand: every moment is where a test wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_hybridflow.plan import Plan, Subtask, critical_path
from langchain_hybridflow.report import Run

EPOCH = 1_795_000_000.0


def gauge(spent: str | int, held: str | int, limit: str | int | None) -> dict[str, Any]:
    return {"spent": spent, "held": held, "limit": limit, "scope": "budget"}


def budget(
    spent: str = "0", held: str = "0", limit: str | None = "0.01", price: float = 0.0
) -> dict[str, Any]:
    return {
        "usd": gauge(spent, held, limit),
        "cloud_tokens": gauge(0, 0, None),
        "cloud_calls": gauge(0, 0, None),
        "deadline_s": None,
        "elapsed_s": 0.0,
        "shadow_price": price,
    }


def attempt(tier: str, status: str = "ok", **facts: Any) -> dict[str, Any]:
    known = {
        "tier": tier,
        "model": f"{tier}-model",
        "status": status,
        "input_tokens": 100,
        "output_tokens": 20,
        "usage_estimated": False,
        "cost_usd": "0.001" if tier == "cloud" else "0",
        "error": None if status == "ok" else "TimeoutError",
        "purpose": "answer",
        "accepted": None,
        "score": None,
        "verdict": None,
    }
    return known | facts


def call(tier: str, start: float, end: float, *, queued: float | None = None) -> list[Any]:
    """The moments of a call, in seconds since the run began."""
    money = {"usd": "0.004", "cloud_tokens": 500, "cloud_calls": 1}
    cost = {"usd": "0.001", "cloud_tokens": 120, "cloud_calls": 1}
    moments = [
        {"at": start if queued is None else queued, "event": "queued", "tier": tier},
        {"at": start, "event": "started", "tier": tier},
        {"at": start, "event": "asked", "tier": tier, "model": f"{tier}-model"},
        {"at": end, "event": "ended", "tier": tier},
    ]
    if tier == "cloud":
        moments.insert(2, {"at": start, "event": "held", **money})
        moments.insert(4, {"at": end, "event": "spent", **cost})
    return moments


def record(
    name: str, tier: str | None, start: float, end: float, *, ready: float = 0.0, **facts: Any
) -> dict[str, Any]:
    """A subtask's record, in seconds since the run began."""
    decided = {
        "at": ready,
        "event": "decided",
        "expected_usd": {"edge": "0", "cloud": "0.002"},
        "budget": budget(),
    }
    known: dict[str, Any] = {
        "id": name,
        "status": "ok" if tier else "skipped",
        "answer": f"answer {name}" if tier else None,
        "error": None if tier else "needs the result of 1, which has none",
        "tier": tier,
        "model": f"{tier}-model" if tier else None,
        "decision": tier
        and {
            "tier": tier,
            "reason": "planned difficulty 7 >= 5",
            "router": "difficulty",
            "score": 7.0,
            "threshold": 5.0,
            "price": None,
            "expected_cost_usd": "0.002",
            "allowed": ["edge", "cloud"],
            "kept_local": False,
        },
        "attempts": [attempt(tier)] if tier else [],
        "cost_usd": "0.001" if tier == "cloud" else "0",
        "input_tokens": 100,
        "output_tokens": 20,
        "degraded": False,
        "kept_local": False,
        "ready_at": ready,
        "started_at": start,
        "ended_at": end,
        "timeline": [decided, *call(tier, start, end, queued=ready)] if tier else [],
    }
    return known | facts


def shifted(value: Any) -> Any:
    """Make epochs of seconds since the beginning."""
    if isinstance(value, Mapping):
        times = ("at", "ready_at", "started_at", "ended_at")
        return {k: EPOCH + v if k in times else shifted(v) for k, v in value.items()}
    return [shifted(one) for one in value] if isinstance(value, list) else value


def output(plan: Plan, records: list[dict[str, Any]], **facts: Any) -> dict[str, Any]:
    """What a graph returns."""
    results = {one["id"]: one for one in records}
    spans = {one["id"]: one["ended_at"] - one["started_at"] for one in records}
    path = critical_path(plan, spans)
    totals = {
        tier: {
            "calls": sum(a["tier"] == tier for r in records for a in r["attempts"]),
            "refused": 0,
            "input_tokens": 100,
            "output_tokens": 20,
            "cost_usd": "0.001" if tier == "cloud" else "0",
        }
        for tier in ("edge", "cloud")
    }
    report = {
        "complete": records[-1]["status"] == "ok",
        "totals": totals,
        "planning": {"source": "given", "reason": "", "attempts": []},
        "makespan_s": max(one["ended_at"] for one in records),
        "critical_path": list(path.ids),
        "critical_path_s": path.length,
        "subtasks": [{"id": one} for one in plan.order],
    }
    out = {
        "answer": records[-1]["answer"] or "nothing",
        "plan": plan.model_dump(mode="json"),
        "results": results,
        "report": report,
        "messages": [{"type": "human", "content": "What is it?"}],
    }
    return dict(shifted(out | facts))


def small_plan(task: str = "What follows?") -> Plan:
    return Plan(
        subtasks=[
            Subtask(id="1", task="What is given?", role="explain"),
            Subtask(id="2", task=task, depends_on=["1"]),
            Subtask(id="3", task="What else?", depends_on=["1"]),
            Subtask(id="4", task="So what?", role="generate", depends_on=["2", "3"]),
        ]
    )


def small_output(**facts: Any) -> dict[str, Any]:
    """Four subtasks: two on each tier, one of which waits for its slot."""
    return output(
        small_plan(),
        [
            record("1", "edge", 0.0, 1.0),
            record("2", "cloud", 1.0, 2.0, ready=1.0),
            record("3", "edge", 1.5, 4.0, ready=1.0),
            record("4", "cloud", 4.0, 5.0, ready=4.0),
        ],
        **facts,
    )


def small_run(**facts: Any) -> Run:
    return Run.of(small_output(), **facts)


def chain_run(count: int) -> Run:
    """A run of so many subtasks, four at a time."""
    names = [str(number) for number in range(1, count + 1)]
    plan = Plan(
        subtasks=[
            Subtask(id="1", task="?", role="explain"),
            *[
                Subtask(id=name, task=f"Part {name}?", depends_on=[str(max(1, int(name) - 4))])
                for name in names[1:-1]
            ],
            Subtask(id=names[-1], task="All?", role="generate", depends_on=names[-5:-1]),
        ]
    )
    records = [
        record(name, "cloud" if place % 3 else "edge", place / 4, place / 4 + 0.25, ready=place / 4)
        for place, name in enumerate(plan.order)
    ]
    return Run.of(output(plan, records))


def hostile(payloads: Sequence[str]) -> Run:
    """A run with a payload in every text that a model, a plan or a person can write."""
    names = [str(number) for number in range(1, len(payloads) + 1)]
    subtasks = [Subtask(id="1", task=payloads[0], role="explain")]
    subtasks += [
        Subtask(id=name, task=payload, depends_on=["1"])
        for name, payload in zip(names[1:-1], payloads[1:-1], strict=True)
    ]
    subtasks.append(
        Subtask(id=names[-1], task=payloads[-1], role="generate", depends_on=names[1:-1])
    )
    records = [
        record(name, None if place % 5 == 3 else "cloud", 0.0, 1.0, model=text, error=text)
        for place, (name, text) in enumerate(zip(names, payloads, strict=True))
    ]
    for one, payload in zip(records, payloads, strict=True):
        if one["decision"]:
            one["answer"] = payload
            one["decision"] |= {"reason": payload, "router": payload}
        one["attempts"] = [
            attempt("edge", "failed", error=payload, model=payload, verdict=payload),
            attempt("cloud", accepted=False, model=payload, verdict=payload),
        ]
    everything = "\n".join(payloads)
    out = output(Plan(subtasks=subtasks), records, answer=everything)
    out["report"]["planning"] = {
        "source": everything,
        "reason": everything,
        "attempts": [attempt("edge", error=everything, model=everything)],
    }
    return Run.of(out, question=everything, label=everything)

"""What `hybridflow evaluate --json` prints, made by hand."""

from __future__ import annotations

from typing import Any

SHARES = [place / 10 for place in range(11)]


def figures(**facts: Any) -> dict[str, Any]:
    return {
        "rows": 1_000,
        "edge_accuracy": 0.4,
        "cloud_accuracy": 0.8,
        "apgr": 0.62,
        "apgr_oracle": 1.1,
        "cpt50": 35.0,
        "cpt80": 62.5,
        "auroc": 0.68,
        "brier": 0.2,
        "ece": 0.02,
        "regret": 0.11,
    } | facts


def evaluation(**facts: Any) -> dict[str, Any]:
    accuracy = [0.4 + 0.4 * share**0.8 for share in SHARES]
    return (
        figures()
        | {
            "seen_in_training": 3,
            "apgr_low": 0.58,
            "apgr_high": 0.66,
            "operating_point": {"min_gain": 0.1, "cloud_share": 0.4, "accuracy": 0.6},
            "after_edge": figures(apgr=0.7),
            "by_category": {"law": figures(rows=60), "math": figures(rows=90)},
            "curve": {
                "cloud_share": SHARES,
                "accuracy": accuracy,
                "low": [value - 0.02 for value in accuracy],
                "high": [min(value + 0.02, 1.0) for value in accuracy],
                "oracle": [min(0.4 + 1.2 * share, 0.85) for share in SHARES],
            },
            "reliability": [
                {"rows": 100, "predicted": x / 10, "observed": x / 10 + 0.02, "error": 0.03}
                for x in range(-1, 8)
            ],
            "gains": {"edges": [-0.5, 0.0, 0.5], "counts": [300, 700]},
            "warnings": ["Note: 3 rows were seen before."],
        }
        | facts
    )

"""The figures of a router, as JSON and on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.table import Table

    from langchain_hybridflow.learning import Metrics

__all__ = ["COLUMNS", "PLAIN", "cells", "figures", "figures_table"]

COLUMNS: Final = ("APGR", "CPT50 %", "CPT80 %", "AUROC", "Brier", "ECE", "regret")

PLAIN: Final[dict[str, Any]] = {"box": None, "pad_edge": False, "padding": (0, 2, 0, 0)}
"""How tables look."""

_KEYS: Final = ("apgr", "cpt50", "cpt80", "auroc", "brier", "ece", "regret")
_PERCENT: Final = frozenset({"cpt50", "cpt80"})


def figures(metrics: Metrics) -> dict[str, Any]:
    """Return the figures under the keys that docs/router.md lists; those do not change.

    CPT is in percent, as RouteLLM writes it; all others are fractions.
    """
    briers = [b for b in (metrics.brier_edge, metrics.brier_cloud) if b is not None]
    return {
        "rows": metrics.rows,
        "edge_accuracy": metrics.edge_accuracy,
        "cloud_accuracy": metrics.cloud_accuracy,
        "apgr": metrics.apgr,
        "apgr_10_points": metrics.apgr_10,
        "apgr_oracle": metrics.apgr_oracle,
        "cpt50": None if metrics.cpt_50 is None else 100 * metrics.cpt_50,
        "cpt80": None if metrics.cpt_80 is None else 100 * metrics.cpt_80,
        "auroc": metrics.auroc,
        "brier": sum(briers) / len(briers) if briers else None,
        "brier_edge": metrics.brier_edge,
        "brier_cloud": metrics.brier_cloud,
        "ece": metrics.ece,
        "ece_equal_mass": metrics.ece_equal_mass,
        "ece_noise": metrics.ece_noise,
        "regret": metrics.regret,
    }


def figures_table(title: str, rows: Mapping[str, Mapping[str, Any]], *, bold: str = "") -> Table:
    """Show the figures of several routers below each other."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", **PLAIN)
    table.add_column("")
    for heading in COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, found in rows.items():
        table.add_row(name, *cells(found), style="bold" if name == bold else "")
    return table


def cells(found: Mapping[str, Any]) -> list[str]:
    """Write the figures of one router; what is unknown is a dash.

    Example:
        >>> cells({"apgr": 0.5, "cpt50": 50.0, "auroc": None})
        ['0.500', '50.0', '-', '-', '-', '-', '-']
    """
    return [_written(key, found.get(key)) for key in _KEYS]


def _written(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if key in _PERCENT else f"{value:.3f}"

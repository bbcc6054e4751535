"""The demo's picture: the plan with who did what, and the trade-off below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_hybridflow.plan import Plan
from langchain_hybridflow.report import TradeoffPoint, plan_figure, tradeoff_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["save_picture"]

_DPI = 160


def save_picture(
    plan: Plan,
    *,
    tiers: Mapping[str, str],
    critical: Sequence[str],
    points: Sequence[TradeoffPoint],
    path: Path,
) -> None:
    """Draw a plan and a trade-off, one above the other, as one PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    figures = [plan_figure(plan, tiers=tiers, critical=critical), tradeoff_figure(points)]
    _save_stacked(figures, path)


def _save_stacked(figures: Sequence[Figure], path: Path) -> None:
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.image import imsave

    images = []
    for figure in figures:
        figure.set_dpi(_DPI)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        images.append(np.asarray(canvas.buffer_rgba()))
    width = max(image.shape[1] for image in images)
    rows = []
    for image in images:
        left = (width - image.shape[1]) // 2
        margins = ((0, 0), (left, width - image.shape[1] - left), (0, 0))
        rows.append(np.pad(image, margins, constant_values=255))
    # Without the name of the software the same picture is the same file, whatever draws it.
    metadata: Any = {"Software": None}
    imsave(path, np.concatenate(rows), dpi=_DPI, format="png", metadata=metadata)

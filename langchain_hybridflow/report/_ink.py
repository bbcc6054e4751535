"""What all pictures share: colours, text that fits, axes without clutter."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from langchain_hybridflow.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font

__all__ = [
    "BAD",
    "CLOUD",
    "EDGE",
    "FAINT",
    "GRID",
    "INK",
    "MUTED",
    "PAPER",
    "color_of",
    "fitted",
    "new_figure",
    "plain_axes",
    "printable",
    "tint_of",
    "width_of",
]

INK = "#1F2937"
MUTED = "#5B6472"
FAINT = "#B4BBC6"
GRID = "#E5E7EB"
PAPER = "#FFFFFF"
BAD = "#B3261E"
# Okabe and Ito's blue and vermilion, which all kinds of colour vision tell apart.
EDGE = "#0072B2"
CLOUD = "#D55E00"
_COLORS = {"edge": EDGE, "cloud": CLOUD}
_TINTS = {"edge": "#EDF6FC", "cloud": "#FEF3EB"}
_POINTS_PER_INCH = 72
_ELLIPSIS = "…"
_LONGEST_LINE = 200  # in characters: more than any box holds
_LONGEST_TEXT = 2_000


def color_of(tier: str | None) -> str:
    """Return the strong colour of a tier."""
    return _COLORS.get(tier or "", MUTED)


def tint_of(tier: str | None) -> str:
    """Return the pale colour of a tier."""
    return _TINTS.get(tier or "", "#F6F7F9")


def new_figure(width: float, height: float, *, extra: str = "plot") -> Figure:
    """Return an empty white figure of so many inches.

    Args:
        width: In inches.
        height: In inches.
        extra: The extra to name if matplotlib is missing.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Drawing a picture", extra) from error
    return Figure(figsize=(width, height), facecolor="white")


def plain_axes(axes: Axes, *, grid: Literal["x", "y", "both"]) -> None:
    """Take away what carries no information, and put a pale grid behind the rest."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(length=0, colors=MUTED, labelsize=8.5)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=MUTED, fontsize=8.5)


def printable(text: str) -> str:
    """Return text on one line, with a box for every character that the font does not have."""
    known = _font(bold=False).get_charmap()
    words = " ".join(text.split())
    return "".join(char if ord(char) in known else "\u25a1" for char in words)


def width_of(text: str, *, size: float, bold: bool = False) -> float:
    """Return how wide a line of text is, in inches, at a font size in points."""
    font = _font(bold=bold)
    font.set_size(size, _POINTS_PER_INCH)
    font.set_text(text)
    pixels, _ = font.get_width_height()
    return float(pixels) / 64 / _POINTS_PER_INCH


def fitted(text: str, *, width: float, size: float, lines: int) -> list[str]:
    """Break text into lines that are no wider than `width` inches; what is left over is cut.

    Words that are wider than a line are broken.
    """
    words = list(_short_words(printable(text[:_LONGEST_TEXT]).split(), width, size))
    filled: list[str] = []
    while words and len(filled) < lines:
        line = words.pop(0)
        while words and width_of(f"{line} {words[0]}", size=size) <= width:
            line = f"{line} {words.pop(0)}"
        filled.append(line)
    if words:
        last = filled[-1]
        while last and width_of(last + _ELLIPSIS, size=size) > width:
            last = last[:-1].rstrip()
        filled[-1] = last + _ELLIPSIS
    return filled


def _short_words(words: Iterable[str], width: float, size: float) -> Iterator[str]:
    for word in words:
        rest = word
        while rest:
            ends = range(1, min(len(rest), _LONGEST_LINE) + 1)
            fits = bisect_right(ends, width, key=lambda end: width_of(rest[:end], size=size))
            yield rest[: max(fits, 1)]
            rest = rest[max(fits, 1) :]


def _font(*, bold: bool) -> FT2Font:
    """The font that comes with matplotlib, so that pictures look the same everywhere.

    matplotlib keeps one for each thread; it holds the text being measured.
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    weight = "bold" if bold else "normal"
    return get_font(findfont(FontProperties(family="DejaVu Sans", weight=weight)))

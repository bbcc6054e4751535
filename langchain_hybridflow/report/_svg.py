"""A matplotlib figure as a piece of a page: no ids that clash, colours that follow the page.

Style attributes become attributes, so that the page can forbid inline styles; the colours of the
palette become CSS variables, so that it can be dark; artists with a `mark` can be pointed at.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any, Final

from langchain_hybridflow.report._ink import BAD, CLOUD, EDGE, FAINT, GRID, INK, MUTED, PAPER
from langchain_hybridflow.report._markup import Html, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["inline_svg", "mark"]

# matplotlib's settings and the filters of warnings belong to the whole process.
_ALONE: Final = threading.Lock()

_MARK: Final = "mark-"
_SVG: Final = "{http://www.w3.org/2000/svg}"
_LINK: Final = "{http://www.w3.org/1999/xlink}href"
_VARIABLES: Final = {
    INK: "ink",
    MUTED: "muted",
    FAINT: "faint",
    GRID: "grid",
    PAPER: "paper",
    EDGE: "edge",
    CLOUD: "cloud",
    BAD: "bad",
}
_COLORS: Final = {color.lower(): f"var(--hf-{name}, {color})" for color, name in _VARIABLES.items()}
_KEPT: Final = frozenset(
    {
        "fill",
        "fill-opacity",
        "font-size",
        "font-weight",
        "opacity",
        "stroke",
        "stroke-dasharray",
        "stroke-dashoffset",
        "stroke-linecap",
        "stroke-linejoin",
        "stroke-opacity",
        "stroke-width",
        "text-anchor",
    }
)
_FONT: Final = re.compile(r"(?P<weight>bold|[1-9]00)?\s*(?P<size>[\d.]+px)")
_BLANKS: Final = re.compile(r">\s+<")
_EMPTY: Final = re.compile(r"(<g></g>)+|<defs></defs>")
_REFERENCE: Final = re.compile(r"#([\w-]+)")


def mark(artist: Any, name: str) -> None:
    """Let an artist be pointed at: its element gets `data-of="name"`."""
    artist.set_gid(_MARK + name)


def inline_svg(figure: Figure, *, name: str, label: str, scope: str = "") -> Html:
    """Return a figure as an `svg` element.

    Args:
        figure: Any figure whose texts have no control characters.
        name: Unique on the page; of letters, digits and dashes.
        label: What the picture shows, for those who cannot see it.
        scope: Stands before the names of marks, which must be unique on a page.
    """
    import matplotlib as mpl

    figure.set_facecolor("none")
    for axes in figure.axes:
        axes.set_facecolor("none")
    written = io.StringIO()
    nobody = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": name}
    with _ALONE, mpl.rc_context(settings), warnings.catch_warnings():
        # The reader's browser has more characters than the font that the text is measured with.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(written, format="svg", metadata=nobody)
    root = ET.fromstring(written.getvalue())  # noqa: S314 - our own
    used = set(_REFERENCE.findall(written.getvalue()))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
                parent.remove(child)
        _translate(parent, name, scope, used)
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "class": "chart",
        "role": "img",
        "aria-label": plain(label),
    }
    text = ET.tostring(root, encoding="unicode", short_empty_elements=False)
    return Html(_EMPTY.sub("", _BLANKS.sub("><", text)))


def _translate(element: ET.Element, prefix: str, scope: str, used: set[str]) -> None:
    element.tag = element.tag.removeprefix(_SVG)
    element.attrib = dict(_attributes(element, prefix, scope, used))


def _attributes(
    element: ET.Element, prefix: str, scope: str, used: set[str]
) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in element.attrib.items():
        if key == "style":
            found += _styles(value)
        elif key == "id":
            if value.startswith(_MARK):
                found += [("class", "mark"), ("data-of", scope + value.removeprefix(_MARK))]
            elif value in used:
                found.append((key, f"{prefix}-{value}"))
        elif key == _LINK:
            found.append(("href", value.replace("#", f"#{prefix}-")))
        elif key == "transform" and value.startswith("rotate(-0 "):
            continue
        elif "url(#" in value:
            found.append((key, value.replace("url(#", f"url(#{prefix}-")))
        else:
            found.append((key, _COLORS.get(value.lower(), value)))
    return found


def _styles(style: str) -> list[tuple[str, str]]:
    """The declarations of a style as attributes; what is not known is dropped."""
    found = []
    for declaration in style.split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font" and (font := _FONT.search(value)):
            found.append(("font-size", font["size"]))
            if font["weight"]:
                found.append(("font-weight", font["weight"]))
        elif key in _KEPT:
            found.append((key, _COLORS.get(value.lower(), value)))
    return found

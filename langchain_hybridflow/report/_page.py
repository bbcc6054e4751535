"""One file that is a page: it loads nothing, and runs no script but its own.

The page's own policy names the hashes of its one style sheet and its one script, so that the
browser runs nothing else, whatever a model has written.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

from langchain_hybridflow.report._markup import Html, Node, join, tag

__all__ = ["asset", "figure", "legend", "page", "section", "tiles"]

_ZOOM: Final = (
    ("in", "+", "Larger"),
    ("out", "\u2212", "Smaller"),
    ("fit", "fit", "As wide as the page"),
    ("full", "1:1", "Full size"),
)


def page(title: str, *content: Node) -> str:
    """Return a whole HTML page.

    Args:
        title: Of the window; plain text.
        *content: What stands in the body.
    """
    style, script = asset("report.css"), asset("report.js")
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    )
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content="hybridflow report"),
        tag("title", title),
        # Without one the browser asks the server that the page came from.
        Html('<link rel="icon" href="data:,">'),
        Html(f"<style>{style}</style>"),
    )
    body = join(*content, Html(f"<script>{script}</script>"))
    html = tag("html", tag("head", head), "\n", tag("body", body), lang="en")
    return f"<!doctype html>\n{html}\n"


def section(title: str, *content: Node, id: str | None = None) -> Html:
    """Return a part of the page with a heading."""
    return tag("section", tag("h2", title), *content, id=id)


def figure(svg: Html, *caption: Node, zooms: bool = False, label: str = "") -> Html:
    """Return a picture with what is said below it.

    Args:
        svg: The picture.
        *caption: What is said below it.
        zooms: Whether it can be made larger and moved about.
        label: What the pane shows, for those who cannot see it.
    """
    buttons = (
        tag("button", sign, type="button", title=title, aria_label=title, data_zoom=name)
        for name, sign, title in _ZOOM
    )
    tools = tag("div", *buttons, class_="tools", hidden=True) if zooms else None
    pane = tag("div", svg, class_="pane", tabindex=0, role="group", aria_label=label or "A picture")
    return tag("figure", tools, pane, tag("figcaption", *caption) if caption else None)


def legend(*entries: tuple[str, str]) -> Html:
    """Return what the colours of a picture mean: pairs of a class and words."""
    return tag("ul", *(tag("li", words, class_=name) for name, words in entries), class_="legend")


def tiles(*entries: tuple[str, str, str]) -> Html:
    """Return figures in a row: name, figure, and what is to be said of it."""
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", value, tag("small", note) if note else None))
            for name, value, note in entries
        ),
        class_="tiles",
    )


@cache
def asset(name: str) -> str:
    """Read a file of ours that goes into pages."""
    return files("langchain_hybridflow.report").joinpath("assets", name).read_text("utf-8")


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"

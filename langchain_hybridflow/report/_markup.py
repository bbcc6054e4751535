"""HTML that cannot be forgotten to be escaped: text is escaped, and only `Html` is not."""

from __future__ import annotations

import html
from typing import Final

__all__ = ["Html", "Node", "join", "plain", "tag"]

_VOID: Final = frozenset({"br", "hr", "input", "meta"})
_LONGEST: Final = 50_000


class Html(str):
    """Text that is HTML already. Made by `tag` and `join` only, and of our own constants."""

    __slots__ = ()


Node = Html | str | int | float | None
"""What may stand inside an element: HTML, text (which is escaped), or nothing."""


def tag(name: str, /, *children: Node, **attributes: str | float | bool | None) -> Html:
    """Make an element.

    Args:
        name: Of the element.
        *children: What stands in it; `None` is nothing.
        **attributes: `class_` is `class`, `data_of` is `data-of`; `True` has no value, and `None`
            and `False` leave the attribute out.

    Example:
        >>> tag("p", "1 < 2 ", tag("b", "& so on"), class_="sum", hidden=False)
        '<p class="sum">1 &lt; 2 <b>&amp; so on</b></p>'
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        label = key.rstrip("_").replace("_", "-")
        written.append(f" {label}" if value is True else f' {label}="{_escaped(str(value))}"')
    opening = f"<{name}{''.join(written)}>"
    return Html(opening if name in _VOID else f"{opening}{join(*children)}</{name}>")


def join(*children: Node) -> Html:
    """Put pieces side by side.

    Example:
        >>> join("a & ", tag("br"), None, 3)
        'a &amp; <br>3'
    """
    return Html("".join(_shown(child) for child in children))


def plain(text: str) -> str:
    r"""Return text without what a page should not obey: control characters, and bidi overrides.

    Example:
        >>> plain("a\x00b\u202ec")
        'a\ufffdb\ufffdc'
    """
    if text.isprintable():
        return text
    return "".join(char if char in "\n\t" or not _acts(char) else "\ufffd" for char in text)


def _shown(child: Node) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    text = str(child)
    left_out = len(text) - _LONGEST
    if left_out > 0:
        text = f"{text[:_LONGEST]} … ({left_out:,} more characters)"
    return _escaped(text)


def _escaped(text: str) -> str:
    return html.escape(plain(text), quote=True)


def _acts(char: str) -> bool:
    code = ord(char)
    return (
        code < 0x20
        or 0x7F <= code < 0xA0
        or 0x202A <= code <= 0x202E
        or 0x2066 <= code <= 0x2069
        or 0xD800 <= code <= 0xDFFF
        or (code & 0xFFFE) == 0xFFFE
    )

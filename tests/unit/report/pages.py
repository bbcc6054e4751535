"""Pages read by a parser, as a browser does."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

VOID = {"br", "hr", "input", "link", "meta"}

PAYLOADS = (
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    "</style><script>window.pwned=1</script>",
    "</title><script>window.pwned=1</script>",
    "</textarea></svg></details><img src=x onerror=window.pwned=1>",
    '"><img src=x onerror="window.pwned=1">',
    "' onmouseover='window.pwned=1' x='",
    "<svg/onload=window.pwned=1>",
    "<svg><style><img src=x onerror=window.pwned=1></style></svg>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "<a href='javascript:window.pwned=1'>click</a>",
    "<img src='https://example.com/beacon.png'>",
    "<link rel=stylesheet href=//example.com/x.css><base href=//example.com>",
    "<meta http-equiv=refresh content='0;url=https://example.com'>",
    "<!--<script>--><script>window.pwned=1</script>",
    "<![CDATA[<script>window.pwned=1</script>]]>",
    "&lt;script&gt;window.pwned=1&lt;/script&gt; &#60;script&#62;",
    "{{constructor.constructor('window.pwned=1')()}} ${window.pwned=1}",
    "$x^2$ \\frac{1}{0} $\\undefinedmacro{$ _^",
    "a\x00b\x1b[31mc\u202ed\u2066e\u2028f\ufffe",
    "\u4f60\u597d \U0001f600 \u0645\u0631\u062d\u0628\u0627",
    "x" * 3_000,
)


class Page(HTMLParser):
    """The elements and texts of a page; raises if they are not nested as they should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def values(self, attribute: str) -> list[str]:
        return [one[attribute] for _, one in self.elements if attribute in one]


def policy_of(page: Page) -> str:
    (found,) = (one["content"] for one in page.named("meta") if "http-equiv" in one)
    return found


def inline(html: str, tag: str) -> list[str]:
    return re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)


def digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def assert_harmless(html: str) -> Page:
    """Check that a page has one script and one style sheet, ours, and loads nothing."""
    page = Page(html)
    (script,), (style,) = inline(html, "script"), inline(html, "style")
    assert f"script-src '{digest(script)}'" in policy_of(page)
    assert f"style-src '{digest(style)}'" in policy_of(page)
    assert "default-src 'none'" in policy_of(page)
    names = {name for name, _ in page.elements}
    assert not names & {
        "iframe",
        "img",
        "base",
        "object",
        "embed",
        "form",
        "style2",
        "foreignobject",
    }
    assert [one["href"] for one in page.named("link")] == ["data:,"]
    assert not page.values("src")
    assert not page.values("style")
    assert not [name for _, one in page.elements for name in one if name.startswith("on")]
    for link in (*page.values("href"), *page.values("xlink:href")):
        assert link.startswith("#") or link == "data:,", link
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert "\x00" not in html
    return page

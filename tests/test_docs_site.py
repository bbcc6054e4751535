"""The site of the documentation: it builds strictly, its links lead on, and it stays at home.

It is built once, by the mkdocs of this environment, into a folder of the tests.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.integration.browser import open_browser

ROOT = Path(__file__).parent.parent

# What a page loads by itself when it is opened; a link of <a> is followed by a reader only.
LOADS = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "img": "src",
    "link": "href",
    "object": "data",
    "script": "src",
    "source": "src",
    "video": "src",
}
LINK_TYPES_THAT_LOAD_NOTHING = {"canonical", "next", "prev"}
URL_IN_STYLE = re.compile(r"url\(\s*['\"]?(?P<url>[^'\")]+)")
IMPORT_IN_STYLE = re.compile(r"@import\b[^;]*")

pytestmark = pytest.mark.timeout(300)


class PageParser(HTMLParser):
    """What a page defines, what it links to, and what it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.base = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        target = given.get(LOADS.get(tag, ""))
        if target and given.get("rel") not in LINK_TYPES_THAT_LOAD_NOTHING:
            self.loads.append(target)
        self.loads += URL_IN_STYLE.findall(given.get("style", ""))


def parsed(path: Path) -> PageParser:
    parser = PageParser()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, require: Callable[..., None]) -> Path:
    for name in ("mkdocs", "material", "mkdocstrings"):
        require(name, "pip install -e '.[docs]', or run `make docs`")
    into = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(into)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if not line.startswith("INFO")]
        pytest.fail("\n".join(told)[-10_000:], pytrace=False)
    return into


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, PageParser]:
    return {path: parsed(path) for path in sorted(site.rglob("*.html"))}


def test_links_within_the_site_lead_to_pages_and_anchors(
    site: Path, pages: dict[Path, PageParser]
) -> None:
    wrong = [
        f"{path.relative_to(site)}: {target}"
        for path, page in pages.items()
        if path.name != "404.html"  # its links are from the root of a server
        for target in page.links
        if not urlsplit(target).scheme and not leads_somewhere(target, path, pages)
    ]
    assert not wrong, "\n".join(wrong)


def leads_somewhere(target: str, path: Path, pages: dict[Path, PageParser]) -> bool:
    parts = urlsplit(target)
    place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not place.exists():
        return False
    anchor = unquote(parts.fragment)
    return not anchor or place not in pages or anchor in pages[place].anchors


def test_links_to_elsewhere_are_well_formed(pages: dict[Path, PageParser]) -> None:
    for path, page in pages.items():
        for target in page.links:
            parts = urlsplit(target)
            if parts.scheme:
                assert parts.scheme in {"http", "https"}, f"{path.name}: {target}"
                is_local = parts.hostname in {"127.0.0.1", "localhost"}
                assert is_local or "." in (parts.hostname or ""), f"{path.name}: {target}"
                assert is_local or parts.scheme == "https", f"{path.name}: {target}"


def test_pages_load_nothing_from_elsewhere(site: Path, pages: dict[Path, PageParser]) -> None:
    for path, page in pages.items():
        for target in page.loads:
            assert not urlsplit(target).scheme or target.startswith("data:"), f"{path}: {target}"
            assert not target.startswith("//"), f"{path.name}: {target}"
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not IMPORT_IN_STYLE.search(text)
        assert all(url.startswith("data:") for url in URL_IN_STYLE.findall(text)), style.name


def test_every_file_that_a_page_loads_is_there(site: Path, pages: dict[Path, PageParser]) -> None:
    for path, page in pages.items():
        for target in page.loads:
            if path.name != "404.html" and not target.startswith("data:"):
                place = path.parent / unquote(urlsplit(target).path)
                assert place.exists(), f"{path.relative_to(site)} loads {target}"


def test_search_knows_the_pages(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    assert {"budgets.html", "concepts.html", "cli.html", "api/budget.html"} <= found


@pytest.mark.allow_hosts(["127.0.0.1"])  # the browser's driver
def test_search_finds_pages_when_the_site_is_opened_as_files(
    site: Path, require: Callable[..., None]
) -> None:
    for needed in ("selenium", "chromium", "chromedriver"):
        require(needed)
    with open_browser() as browser:
        browser.open(site / "concepts.html")
        browser.run("document.querySelector('[data-md-toggle=search]').click()")
        field = browser.driver.find_element("css selector", ".md-search__input")
        field.send_keys("shadow price")
        links = "return [...document.querySelectorAll('.md-search-result__link')].map(a => a.href)"
        found = browser.wait(lambda driver: driver.execute_script(links))
        assert any("/budgets.html" in link for link in found)
        assert browser.console() == []


def test_reference_has_every_public_name(site: Path, pages: dict[Path, PageParser]) -> None:
    from docs.hooks.parts import PARTS

    known = set().union(*(pages[path].anchors for path in site.glob("api/*.html")))
    for part in PARTS:
        for one in part.names():
            assert one.path in known, f"{one.path} is not in the reference"


def public_names() -> Iterator[tuple[str, object]]:
    """All of `__all__` of the packages that the reference is about."""
    from docs.hooks.parts import PACKAGE, PARTS

    for part in PARTS:
        for short in part.modules:
            module = importlib.import_module(f"{PACKAGE}.{short}")
            for name in module.__all__:
                if not part.only or name in part.only:
                    yield f"{module.__name__}.{name}", getattr(module, name)


def test_pages_of_the_reference_leave_nothing_out() -> None:
    from docs.hooks.parts import PARTS

    listed = {id(one.value) for part in PARTS for one in part.names()}
    assert not [path for path, value in public_names() if id(value) not in listed]


def test_public_classes_and_functions_say_what_they_are() -> None:
    for path, value in public_names():
        if isinstance(value, type):
            assert (vars(value).get("__doc__") or "").strip(), f"{path} has no docstring"
        elif callable(value) and hasattr(value, "__code__"):
            assert (value.__doc__ or "").strip(), f"{path} has no docstring"


def test_all_public_packages_are_in_the_reference() -> None:
    import langchain_hybridflow
    from docs.hooks.parts import PARTS

    # What is said on the command line is in a reference of its own; these two serve the others.
    beside = {"cli", "delimiters", "planner", "leaving", "openai_wire"}
    folder = Path(langchain_hybridflow.__file__).parent
    there = {path.parent.name for path in folder.glob("*/__init__.py")}
    there |= {path.stem for path in folder.glob("[!_]*.py")}
    assert there - beside <= {short for part in PARTS for short in part.modules}


def test_links_of_llms_text_lead_to_plain_pages_of_the_site(site: Path) -> None:
    text = (site / "llms.txt").read_text(encoding="utf-8")
    listed = text.partition("## Documentation")[2].partition("\n## ")[0]
    targets = re.findall(r"\]\(([^)#]+)\)", listed)
    assert "budgets.md" in targets
    assert all((site / target).exists() for target in targets)


def test_whole_documentation_is_one_text_for_language_models(site: Path) -> None:
    text = (site / "llms-full.txt").read_text(encoding="utf-8")
    assert text.startswith("# langchain-hybridflow\n")
    assert "# Budgets\n" in text
    assert "## langchain_hybridflow.budget.Budget(" in text
    assert "`--limit-usd USD`" in text

"""What MkDocs does beyond its own: pages from outside docs, the reference, and links between them.

Named in mkdocs.yml. Nothing here reaches the network, and nothing is written outside the site.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parents[2]))  # MkDocs loads this file alone

from docs.hooks import llms, parts, sources

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

CODE_NAME = re.compile(r"(?<![\[`\w])`(?P<name>[A-Za-z]\w+)(?P<rest>\([^`\n]*\))?`(?![\]`])")
HEADING = re.compile(r"^(#+ .*)$", re.MULTILINE)
ESCAPED_BAR = re.compile(r"`[^`\n]*\\\|[^`\n]*`")
CONTENTS = re.compile(r"^- \[[^]\n]+\]\(#[^)\n]+\) ·.*\n(?:(?:- |  )\[.*\n)*", re.MULTILINE)
FIGURE = re.compile(r'<img alt="(?P<alt>[^"]*)" src="(?P<src>[^"]*images/[\w-]+\.svg)" ?/?>')

NAMES = parts.linkable()
ELSEWHERE = sources.pages_elsewhere()


def on_config(config: MkDocsConfig) -> None:
    """Write out the patterns of the navigation: all decisions, all recipes."""
    config.nav = [expanded(entry) for entry in config.nav or []]


def expanded(entry: object) -> object:
    """Replace a pattern by the pages that it stands for, in the order of their names."""
    if not isinstance(entry, dict):
        return entry
    ((title, value),) = entry.items()
    if isinstance(value, list):
        return {title: [one for old in value for one in as_list(expanded(old))]}
    return {title: matching(value)} if "*" in value else entry


def as_list(entry: object) -> Sequence[object]:
    """Return what stands in place of an entry of a list, which a bare pattern may be."""
    return matching(entry) if isinstance(entry, str) and "*" in entry else [entry]


def matching(pattern: str) -> list[str]:
    """Return the pages that a pattern stands for."""
    docs = sources.ROOT / "docs"
    there = {path.relative_to(docs).as_posix() for path in docs.glob(pattern)}
    return sorted(there | {place for place in ELSEWHERE if PurePosixPath(place).match(pattern)})


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not under docs, and whatever pages link to."""
    for place, page in ELSEWHERE.items():
        files.append(File.generated(config, place, content=page.text))
        for name, picture in page.pictures.items():
            beside = PurePosixPath(place).with_name(name).as_posix()
            files.append(File.generated(config, beside, content=picture))
    for part in parts.PARTS:
        files.append(File.generated(config, f"api/{part.slug}.md", content=parts.page(part)))
    places = places_of(files)
    for file in files.documentation_pages():
        for wanted in places.files_wanted(file.content_string, source_of(file.src_uri)):
            path = sources.ROOT / wanted
            if path.is_file() and files.get_file_from_path(places.place_of(wanted)) is None:
                copy = File.generated(config, places.place_of(wanted), abs_src_path=str(path))
                files.append(copy)
    return files


def places_of(files: Files) -> sources.Places:
    """Say where the source of each page is, and of each picture of a notebook."""
    pages = {source_of(file.src_uri): file.src_uri for file in files.documentation_pages()}
    pictures = {
        page.source.with_name(name): PurePosixPath(place).with_name(name).as_posix()
        for place, page in ELSEWHERE.items()
        for name in page.pictures
    }
    return sources.Places(pages | pictures)


def source_of(place: str) -> PurePosixPath:
    """Return the file in the repository that a page is made of."""
    page = ELSEWHERE.get(place)
    return page.source if page else PurePosixPath("docs", place)


def on_page_markdown(markdown: str, page: Page, files: Files, **_: object) -> str:
    """Make links lead to places of the site, and names of the package to the reference."""
    place = page.file.src_uri
    text = places_of(files).rewritten(markdown, source_of(place))
    text = ESCAPED_BAR.sub(lambda match: match[0].replace("\\|", "|"), text)
    text = CONTENTS.sub("", text)  # the site has its own beside the page
    return text if place.startswith("api/") or place == "changelog.md" else with_names_linked(text)


def with_names_linked(text: str) -> str:
    """Link a name of the package to the reference, where a section says it first."""
    seen: set[str] = set()

    def change(match: re.Match[str]) -> str:
        if match[0].startswith("#"):
            seen.clear()
            return match[0]
        name = match["name"]
        # `train` may be a command, and `serve` an extra.
        is_sure = not name.islower() or "_" in name or match["rest"]
        if name not in NAMES or name in seen or not (is_sure and NAMES[name].has_docstring):
            return match[0]
        seen.add(name)
        return f"[{match[0]}][{NAMES[name].path}]"

    either = re.compile(rf"{HEADING.pattern}|{CODE_NAME.pattern}", re.MULTILINE)
    return sources.outside_fences(text, either, change)


def on_page_content(html: str, **_: object) -> str:
    """Put drawings into the page itself, where they take its colours, light or dark."""

    def change(match: re.Match[str]) -> str:
        drawing = sources.ROOT / "docs" / "images" / PurePosixPath(match["src"]).name
        return f'<div class="figure">{drawing.read_text(encoding="utf-8")}</div>'

    return FIGURE.sub(change, html)


def on_post_build(config: MkDocsConfig) -> None:
    """Write what a language model reads: the whole documentation as one text, and pages alone."""
    site = Path(config.site_dir)
    site.joinpath("llms-full.txt").write_text(llms.full(), encoding="utf-8")
    for place in llms.HOW:  # which llms.txt names as they are in the repository
        text = sources.ROOT.joinpath("docs", place).read_text(encoding="utf-8")
        site.joinpath(place).write_text(text, encoding="utf-8")

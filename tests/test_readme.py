"""The code of the README and of the pages under docs runs, as it stands there, and links lead on.

Every fenced `python` block is executed; the blocks of one file share their names, as they would in
a reader's session. A block that needs more than the package and its sandbox (a real model, a
running server) has `<!-- needs: something -->` on the line above, and is only compiled.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "benchmarks" / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]
}
FENCE = re.compile(
    r"(?P<needs><!--\s*needs:[^\n]*-->\s*\n)?^```python\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    line: int
    code: str
    needs_more: bool


def blocks(text: str) -> Iterator[Block]:
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        yield Block(line=line, code=match["code"], needs_more=match["needs"] is not None)


def compiled(block: Block, path: Path) -> object:
    # Padded, so that a traceback shows the page's own line numbers.
    return compile("\n" * block.line + block.code, str(path), "exec")


BLOCKS = {name: list(blocks(path.read_text(encoding="utf-8"))) for name, path in PAGES.items()}


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_blocks_are_found_with_their_line_and_mark() -> None:
    text = "a\n```python\nx = 1\n```\n<!-- needs: Ollama -->\n```python\ny\n```\n```sh\nls\n```\n"
    assert list(blocks(text)) == [
        Block(line=2, code="x = 1\n", needs_more=False),
        Block(line=6, code="y\n", needs_more=True),
    ]


def test_readme_shows_code_that_runs() -> None:
    assert any(not block.needs_more for block in BLOCKS["README.md"])


@pytest.mark.parametrize("name", [name for name, found in BLOCKS.items() if found])
def test_every_block_is_python(name: str) -> None:
    for block in BLOCKS[name]:
        compiled(block, PAGES[name])


@pytest.mark.parametrize("name", [name for name, found in BLOCKS.items() if found])
def test_blocks_run_in_order(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # whatever the code writes
    names: dict[str, object] = {"__name__": "__main__"}
    for block in BLOCKS[name]:
        if not block.needs_more:
            exec(compiled(block, PAGES[name]), names)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PAGES)
def test_links_within_the_project_lead_somewhere(name: str) -> None:
    path = PAGES[name]
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        place, _, anchor = target.partition("#")
        page = (path.parent / place) if place else path
        assert page.exists(), f"{name} links to {target}"
        assert not anchor or anchor in anchors(page), f"{name} links to {target}"


def test_readme_and_errors_name_extras_that_exist() -> None:
    """Wrongly named, they send a reader to a package index in vain."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = set(project["optional-dependencies"])
    readme = PAGES["README.md"].read_text(encoding="utf-8")
    listed = re.search(r"^.*\bExtras: ([^(]+)", readme, re.MULTILINE)
    assert listed is not None
    assert set(re.findall(r"`(\w+)`", listed[1])) <= extras
    for source in (ROOT / "langchain_hybridflow").rglob("*.py"):
        code = source.read_text(encoding="utf-8")
        named = set(re.findall(r'MissingExtraError\(\s*[^)]*?"(\w+)"\s*,?\s*\)', code))
        assert named <= extras, f"{source.name} names {named - extras}"

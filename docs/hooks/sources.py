"""Pages of the site that are not under docs, and where links between files of the repository lead.

A page is written so that its links work where the repository is browsed. On the site some files
have other places, and others are no pages: links are rewritten when it is built.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

ROOT = Path(__file__).resolve().parents[2]

# Between fences nothing is a link.
FENCED = re.compile(r"^( *)(```|~~~).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<before>\]\()(?P<target>[^)\s]+)(?P<after>\))")


@dataclass(frozen=True)
class Page:
    """A page of the site.

    Args:
        source: Its file in the repository, from its root.
        text: Its Markdown, with links as they are in the repository.
        pictures: Pictures that belong to it, by their name beside the page.
    """

    source: PurePosixPath
    text: str
    pictures: Mapping[str, bytes]


def pages_elsewhere() -> dict[str, Page]:
    """Return the pages that come from outside docs, by their place on the site."""
    found = {
        "readme.md": read("README.md"),
        "changelog.md": read("CHANGELOG.md"),
        "benchmarks.md": read("benchmarks/README.md"),
        "cookbook/index.md": read("cookbook/README.md"),
    }
    for readme in sorted(ROOT.glob("templates/*/README.md")):
        # MkDocs takes a folder `templates` for its own.
        found[f"starters/{readme.parent.name}.md"] = read(readme.relative_to(ROOT).as_posix())
    for notebook in sorted(ROOT.glob("cookbook/*.ipynb")):
        found[f"cookbook/{notebook.stem}.md"] = read_notebook(notebook)
    return found


def read(source: str) -> Page:
    """Read a page of Markdown."""
    return Page(PurePosixPath(source), (ROOT / source).read_text(encoding="utf-8"), {})


def read_notebook(path: Path) -> Page:
    """Read a notebook as a page: text, code, and what came out when it was run."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    pictures: dict[str, bytes] = {}
    text: list[str] = []
    for cell in cells:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            text.append(source)
        elif cell["cell_type"] == "code" and source:
            text.append(fenced(source, "python"))
            text += [shown(one, path.stem, pictures) for one in cell["outputs"]]
    return Page(
        PurePosixPath(path.relative_to(ROOT).as_posix()), "\n\n".join(text) + "\n", pictures
    )


def shown(output: Mapping[str, object], stem: str, pictures: dict[str, bytes]) -> str:
    """Show an output of a cell in its richest form that needs no script."""
    from base64 import b64decode

    if output["output_type"] == "stream":
        return fenced("".join(output["text"]), "text")  # type: ignore[arg-type]
    data: Mapping[str, object] = output.get("data", {})  # type: ignore[assignment]
    if "image/png" in data:
        name = f"{stem}-{len(pictures) + 1}.png"
        pictures[name] = b64decode("".join(data["image/png"]))  # type: ignore[arg-type]
        return f"![What the cell above shows]({name})"
    for kind in ("text/html", "image/svg+xml"):
        if kind in data:
            # Without empty lines, at which Markdown would begin to read it.
            markup = re.sub(r"\n\s*\n", "\n", "".join(data[kind]).strip())  # type: ignore[arg-type]
            return f'<div class="output">{markup}</div>'
    if "text/markdown" in data:
        return "".join(data["text/markdown"])  # type: ignore[arg-type]
    return fenced("".join(data.get("text/plain", "")), "text")  # type: ignore[arg-type]


def fenced(text: str, language: str) -> str:
    """Put a text between fences that are longer than any in it."""
    ticks = "`" * max(3, 1 + max((len(one) for one in re.findall(r"`{3,}", text)), default=0))
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"


def outside_fences(text: str, change: re.Pattern[str], by: object) -> str:
    """Substitute in what stands between the blocks of code."""
    parts: list[str] = []
    end = 0
    for block in FENCED.finditer(text):
        parts += [change.sub(by, text[end : block.start()]), block[0]]  # type: ignore[call-overload]
        end = block.end()
    return "".join([*parts, change.sub(by, text[end:])])  # type: ignore[call-overload]


@dataclass(frozen=True)
class Places:
    """Where the files of the repository are on the site.

    Args:
        site: The place on the site of each page, and of what else is made for it, by its source.
    """

    site: Mapping[PurePosixPath, str]

    def rewritten(self, text: str, source: PurePosixPath) -> str:
        """Return a page's text with links as the site wants them."""
        here = PurePosixPath(self.site[source]).parent

        def change(match: re.Match[str]) -> str:
            place, mark, anchor = match["target"].partition("#")
            if not place or ":" in place or place.startswith("/"):
                return match[0]
            target = self.place_of(PurePosixPath(normpath(source.parent / place)))
            return f"{match['before']}{relpath(target, here)}{mark}{anchor}{match['after']}"

        return outside_fences(text, LINK, change)

    def place_of(self, target: PurePosixPath) -> str:
        """Return where a file or folder of the repository is on the site."""
        for page in (target, target / "README.md"):
            if page in self.site:
                return self.site[page]
        if target.is_relative_to("docs"):
            return target.relative_to("docs").as_posix()
        return f"files/{target.as_posix()}.txt"

    def files_wanted(self, text: str, source: PurePosixPath) -> set[PurePosixPath]:
        """Return the files that are linked to and are no pages: the site has copies of them."""
        targets = {
            PurePosixPath(normpath(source.parent / place))
            for match in LINK.finditer(FENCED.sub("", text))
            if (place := match["target"].partition("#")[0]) and ":" not in place
        }
        return {one for one in targets if self.place_of(one).startswith("files/")}

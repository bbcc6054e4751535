"""Draw Mermaid text from standard input as a PNG, with Chromium and the npm package mermaid.

python docs/images/draw_mermaid.py docs/images/studio-schedule.png < schedule.mmd
"""

from __future__ import annotations

import html
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

MERMAID = "mermaid@11.17.2"
MARGIN_PX = 12
CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")


def main() -> None:
    """Draw it twice: the first time to see how large it is."""
    picture = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        page = write_page(Path(folder), sys.stdin.read())
        drawn = chromium(page, "--dump-dom")
        size = re.search(r'viewBox="[-\d.]+ [-\d.]+ ([\d.]+) ([\d.]+)"', drawn)
        if size is None:
            sys.exit("Mermaid could not read the text.")
        width, height = (int(float(part)) + 2 * MARGIN_PX for part in size.groups())
        chromium(page, f"--window-size={width},{height}", f"--screenshot={picture}")


def write_page(folder: Path, text: str) -> Path:
    """Write a page that draws the text, and the library beside it."""
    pack = ["npm", "pack", "--silent", MERMAID]
    subprocess.run(pack, cwd=folder, check=True, capture_output=True)  # noqa: S603 - our own
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        archive.extract("package/dist/mermaid.min.js", folder, filter="data")
    page = folder / "page.html"
    page.write_text(
        f'<body style="margin:{MARGIN_PX}px;background:white">'
        f'<pre class="mermaid" style="margin:0">{html.escape(text)}</pre>'
        '<script src="package/dist/mermaid.min.js"></script>'
        '<script>mermaid.initialize({startOnLoad: true, securityLevel: "loose"})</script>',
        encoding="utf-8",
    )
    return page


def chromium(page: Path, *options: str) -> str:
    """Open the page, and wait until it is drawn."""
    command = [*CHROMIUM, "--virtual-time-budget=8000", *options, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - likewise


if __name__ == "__main__":
    main()

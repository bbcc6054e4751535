"""Write the parts of docs that are made from the code: cli.md and llms.txt.

    python docs/hooks/refresh.py

A test compares them with the code; run this when it fails, and look at the diff.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from docs.hooks import command_line, llms, sources

MADE = {
    "docs/cli.md": command_line.reference,
    "docs/llms.txt": llms.short,
}


def main() -> None:
    """Write those that have changed."""
    for place, made in MADE.items():
        path = sources.ROOT / place
        text = made()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{place} is written anew.\n")


if __name__ == "__main__":
    main()

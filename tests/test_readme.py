"""The README's own code runs, as it stands there.

Every fenced `python` block is executed; the blocks of one file share their names, as they would in
a reader's session. A block that needs more than the package and its sandbox (a real model, a
running server) has `<!-- needs: something -->` on the line above, and is only compiled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
FENCE = re.compile(
    r"(?P<needs><!--\s*needs:[^\n]*-->\s*\n)?^```python\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    line: int
    code: str
    needs_more: bool


def blocks(text: str) -> Iterator[Block]:
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code"))
        yield Block(line=line, code=match["code"], needs_more=match["needs"] is not None)


def compiled(block: Block) -> object:
    # Padded, so that a traceback shows the README's own line numbers.
    return compile("\n" * block.line + block.code, str(README), "exec")


BLOCKS = list(blocks(README.read_text(encoding="utf-8")))


def test_blocks_are_found_with_their_line_and_mark() -> None:
    text = "a\n```python\nx = 1\n```\n<!-- needs: Ollama -->\n```python\ny\n```\n```sh\nls\n```\n"
    assert list(blocks(text)) == [
        Block(line=2, code="x = 1\n", needs_more=False),
        Block(line=6, code="y\n", needs_more=True),
    ]


def test_every_block_is_python() -> None:
    for block in BLOCKS:
        compiled(block)


def test_blocks_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runnable = [block for block in BLOCKS if not block.needs_more]
    assert runnable, "the README shows no code that runs with the sandbox alone"
    monkeypatch.chdir(tmp_path)  # whatever the code writes
    names: dict[str, object] = {"__name__": "__main__"}
    for block in runnable:
        exec(compiled(block), names)  # type: ignore[arg-type]

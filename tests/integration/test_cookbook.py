"""The notebooks of the cookbook are what their scripts give, when they are run here and now."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COOKBOOK = ROOT / "cookbook"
SOURCES = sorted(COOKBOOK.glob("[0-9][0-9]_*.py"))
MOST_CELLS = 12
MOST_BYTES = 200_000
LINK = re.compile(r"\]\((?P<place>[^)#\s]+)(?:#(?P<anchor>[^)\s]+))?\)")

each_source = pytest.mark.parametrize("source", SOURCES, ids=[path.stem for path in SOURCES])


@pytest.fixture(autouse=True)
def tools(require: Callable[[str], None]) -> None:
    for name in ("jupytext", "nbclient", "ipykernel"):
        require(name)


def read(source: Path) -> list[tuple[str, str]]:
    """The cells of a script: what kind, and what is in it."""
    from cookbook.build import read_source

    return [(cell.cell_type, cell.source) for cell in read_source(source).cells]


def notebook(outputs: list[dict[str, object]]) -> object:
    """A notebook of one cell, and what it has put out."""
    import nbformat

    cell = nbformat.v4.new_code_cell("1 + 1", outputs=[nbformat.from_dict(one) for one in outputs])
    return nbformat.v4.new_notebook(cells=[cell])


def said(text: str) -> dict[str, object]:
    return {"output_type": "stream", "name": "stdout", "text": text}


def shown(picture: str) -> dict[str, object]:
    return {"output_type": "display_data", "data": {"image/png": picture}, "metadata": {}}


@each_source
def test_notebook_is_what_its_script_gives(
    source: Path, environment: Callable[[str], Path]
) -> None:
    if source.stem == "11_serve_it":
        environment("serve")  # its server runs there
    command = [sys.executable, str(COOKBOOK / "build.py"), "--check", source.stem]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@each_source
def test_notebook_has_the_cells_of_its_script(source: Path) -> None:
    """Without running anything: it tells at once which notebooks were forgotten."""
    import nbformat

    target = source.with_suffix(".ipynb")
    assert target.exists(), "run `make cookbook`"
    cells = nbformat.read(target, as_version=4).cells
    found = [(cell.cell_type, cell.source) for cell in cells]
    assert found == read(source), "run `make cookbook` and look at the diff"


@each_source
def test_notebook_is_small_and_holds_nothing_of_this_machine(source: Path) -> None:
    from cookbook.build import TELLING

    text = source.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert len(text) < MOST_BYTES
    pictureless = re.sub(r'"image/png": "[^"]*"', "", text)
    assert TELLING.search(pictureless) is None
    assert str(ROOT) not in pictureless
    assert '"timestamp"' not in text
    assert '"iopub.' not in text


@each_source
def test_notebook_begins_with_a_question_and_ends_with_what_to_take_away(source: Path) -> None:
    cells = read(source)
    assert 5 <= len(cells) <= MOST_CELLS
    first, last = cells[0], cells[-1]
    assert first[0] == last[0] == "markdown"
    assert re.match(r"# [^\n]*\?\n", first[1])
    assert "## What to take away\n" in last[1]
    assert "More: [" in last[1]


@each_source
def test_links_of_a_notebook_lead_somewhere(source: Path) -> None:
    text = "\n".join(cell for kind, cell in read(source) if kind == "markdown")
    for link in LINK.finditer(text):
        if "://" in link["place"]:
            continue
        page = COOKBOOK / link["place"]
        assert page.exists(), link[0]
        if link["anchor"]:
            headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
            assert link["anchor"] in anchors, link[0]


def test_readme_lists_each_notebook_under_its_question() -> None:
    rows = re.findall(
        r"^\| (\d\d) \| (.+?) \| \[.+?\]\((.+?)\.ipynb\) \|$",
        (COOKBOOK / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    wanted = [
        (source.stem[:2], read(source)[0][1].splitlines()[0].removeprefix("# "), source.stem)
        for source in SOURCES
    ]
    assert rows == wanted


def test_difference_is_none_when_only_a_picture_is_drawn_a_little_otherwise() -> None:
    from cookbook.build import difference

    before, after = notebook([said("2"), shown("A" * 400)]), notebook([said("2"), shown("B" * 440)])
    assert not difference(before, after)
    assert not difference(before, copy.deepcopy(before))


@pytest.mark.parametrize(
    "after",
    [
        [said("3"), shown("A" * 400)],
        [said("2")],
        [said("2"), shown("A" * 800)],
        [said("2"), shown("A" * 400), said("more")],
    ],
    ids=["other text", "no picture", "a much larger picture", "more text"],
)
def test_difference_is_told_when_a_notebook_says_something_else(
    after: list[dict[str, object]],
) -> None:
    from cookbook.build import difference

    assert difference(notebook([said("2"), shown("A" * 400)]), notebook(after))


@pytest.mark.parametrize(
    "output",
    [
        {"output_type": "stream", "name": "stderr", "text": "DeprecationWarning: old"},
        said("wrote /home/ada/report.html"),
        said("<object object at 0x7f5978226f50>"),
    ],
    ids=["a warning", "a path", "an address"],
)
def test_output_is_refused_when_it_warns_or_tells_about_the_machine(
    output: dict[str, object],
) -> None:
    from cookbook.build import check_output

    with pytest.raises(SystemExit):
        check_output(output)


@pytest.mark.parametrize(
    ("host", "reached"),
    [("127.0.0.1", True), ("192.0.2.1", False), ("example.org", False)],
)
def test_processes_of_a_notebook_reach_nothing_but_this_machine(host: str, reached: bool) -> None:
    from cookbook.build import closed_world

    program = f"import socket; socket.create_connection(({host!r}, 9), timeout=1)"
    with closed_world() as (folder, environment):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    refused = "PermissionError: The cookbook runs offline" in done.stderr
    assert done.returncode == 1  # nobody listens on port 9 of this machine
    assert refused != reached


def test_check_says_what_to_do_when_a_notebook_is_not_what_its_script_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import nbformat

    from cookbook import build

    source = tmp_path / "01_sum.py"
    source.write_text("# %%\nprint(1 + 1)\n", encoding="utf-8")
    stale = notebook([said("3\n")])
    nbformat.write(stale, source.with_suffix(".ipynb"))
    monkeypatch.setattr(build, "run", lambda fresh: fresh)
    assert build.build(source, check=True)
    assert "make cookbook" in capsys.readouterr().out

"""What is done to pages on their way to the site: links, notebooks, names, signatures."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from docs.hooks import sources
from docs.hooks.parts import PARTS, linkable, page
from docs.hooks.sources import Places

PLACES = Places(
    {
        PurePosixPath("docs/budgets.md"): "budgets.md",
        PurePosixPath("docs/decisions/0001-waves.md"): "decisions/0001-waves.md",
        PurePosixPath("README.md"): "readme.md",
        PurePosixPath("templates/serve-api/README.md"): "starters/serve-api.md",
        PurePosixPath("benchmarks/README.md"): "benchmarks.md",
    }
)


@pytest.mark.parametrize(
    ("source", "link", "there"),
    [
        ("README.md", "docs/budgets.md#pacing", "budgets.md#pacing"),
        ("README.md", "templates/serve-api", "starters/serve-api.md"),
        ("docs/budgets.md", "../benchmarks/README.md#faults", "benchmarks.md#faults"),
        ("docs/budgets.md", "images/pacing.png", "images/pacing.png"),
        ("docs/decisions/0001-waves.md", "../../benchmarks/README.md", "../benchmarks.md"),
        ("benchmarks/README.md", "../docs/images/pacing.png", "images/pacing.png"),
        (
            "templates/serve-api/README.md",
            "serve_api/settings.py",
            "../files/templates/serve-api/serve_api/settings.py.txt",
        ),
        ("docs/budgets.md", "#pacing", "#pacing"),
        ("docs/budgets.md", "https://arxiv.org/abs/2512.22137", "https://arxiv.org/abs/2512.22137"),
        ("docs/budgets.md", "mailto:a@b.example", "mailto:a@b.example"),
    ],
)
def test_links_lead_to_places_of_the_site(source: str, link: str, there: str) -> None:
    rewritten = PLACES.rewritten(f"See [it]({link}).", PurePosixPath(source))
    assert rewritten == f"See [it]({there})."


def test_links_in_blocks_of_code_are_left_alone() -> None:
    text = "```md\n[it](docs/budgets.md)\n```\n[it](docs/budgets.md)\n"
    rewritten = PLACES.rewritten(text, PurePosixPath("README.md"))
    assert rewritten == "```md\n[it](docs/budgets.md)\n```\n[it](budgets.md)\n"


def test_files_that_are_no_pages_are_wanted() -> None:
    text = (
        "[a](serve_api/models.py) [b](README.md) [c](https://x.example/a.py)\n```\n[d](e.py)\n```"
    )
    wanted = PLACES.files_wanted(text, PurePosixPath("templates/serve-api/README.md"))
    assert wanted == {PurePosixPath("templates/serve-api/serve_api/models.py")}


def notebook(tmp_path: Path, *cells: dict[str, Any]) -> Path:
    path = tmp_path / "01_one.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return path


def code(source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"cell_type": "code", "source": [source], "outputs": list(outputs)}


def test_notebook_becomes_text_code_and_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    printed = {"output_type": "stream", "name": "stdout", "text": ["1\n", "```\n"]}
    title = {"cell_type": "markdown", "source": ["# Title\n", "text"]}
    found = sources.read_notebook(notebook(tmp_path, title, code("print(1)", printed)))
    assert found.source == PurePosixPath("01_one.ipynb")
    assert found.text == (
        "# Title\ntext\n\n```python\nprint(1)\n```\n\n````text\n1\n```\n````\n"  # longer fences
    )


def test_pictures_of_a_notebook_are_files_beside_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    png = base64.b64encode(b"picture").decode()
    shown = {"output_type": "display_data", "data": {"image/png": png, "text/plain": "<Figure>"}}
    found = sources.read_notebook(notebook(tmp_path, code("figure", shown)))
    assert found.pictures == {"01_one-1.png": b"picture"}
    assert "](01_one-1.png)" in found.text


def test_html_of_a_notebook_is_one_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    shown = {"output_type": "execute_result", "data": {"text/html": "<b>\n\n  1\n\n</b>\n"}}
    found = sources.read_notebook(notebook(tmp_path, code("run", shown)))
    assert '<div class="output"><b>\n  1\n</b></div>' in found.text


def test_names_that_mean_two_things_are_not_linked() -> None:
    names = linkable()
    assert names["Budget"].path == "langchain_hybridflow.budget.Budget"
    assert "Verdict" not in names  # of a policy, and of a check


def test_page_of_the_reference_lists_what_it_describes() -> None:
    for part in PARTS:
        text = page(part)
        for one in part.names():
            assert f"(#{one.path})" in text
            assert f"\n::: {one.path}\n" in text


def test_first_names_of_a_page_exist() -> None:
    for part in PARTS:
        names = [one.name for one in part.names()]
        assert names[: len(part.first.split())] == part.first.split()


@pytest.fixture
def building(require: Callable[..., None]) -> Any:
    require("mkdocs", "pip install -e '.[docs]'")
    from docs.hooks import building

    return building


def test_name_is_linked_where_a_section_says_it_first(building: Any) -> None:
    text = (
        "# A `Budget`\n\n`Budget`, `Budget(limit_usd=5)`, `train`, `Unknown`\n\n## B\n\n`Budget`\n"
    )
    to = "langchain_hybridflow.budget.Budget"
    assert building.with_names_linked(text) == (
        f"# A `Budget`\n\n[`Budget`][{to}], `Budget(limit_usd=5)`, `train`, `Unknown`\n\n"
        f"## B\n\n[`Budget`][{to}]\n"
    )


def test_name_in_a_link_or_in_code_is_left_alone(building: Any) -> None:
    text = "[`Budget`](budgets.md)\n```python\n# `Budget`\n```\n"
    assert building.with_names_linked(text) == text


def test_models_of_pydantic_are_shown_with_their_arguments(require: Callable[..., None]) -> None:
    require("griffe", "pip install -e '.[docs]'")
    import griffe

    from docs.hooks.docstrings import Docstrings

    package = griffe.load(
        "langchain_hybridflow",
        search_paths=[sources.ROOT],
        extensions=griffe.load_extensions(Docstrings),
    )
    written = package["chat_models.routed.RoutedChatModel"].all_members["__init__"].parameters
    assert {"edge", "cloud", "budget", "router", "verify"} <= {one.name for one in written}
    assert written["edge"].default is None  # it must be given
    assert str(written["edge"].annotation) == "BaseChatModel"
    assert written["max_retries"].default == "2"

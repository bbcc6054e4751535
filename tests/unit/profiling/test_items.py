"""Reading a user's questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.profiling import Item, read_items
from langchain_hybridflow.profiling.items import items_of
from langchain_hybridflow.profiling.scoring import ChoiceScorer


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_json_lines_bring_everything_along(tmp_path: Path) -> None:
    row = {"id": 7, "prompt": "6 * 7?", "answer": 42, "category": "sums", "year": 2020}
    [item] = read_items(written(tmp_path / "q.jsonl", [row | {"group": "g", "context": "Sums."}]))
    assert item == Item(
        id="7",
        question="6 * 7?",
        reference=42,
        group="g",
        tag="sums",
        context="Sums.",
        extra={"year": 2020},
    )


def test_csv_is_read_with_choices_as_json(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text('text,reference,choices\nLargest?,B,"[""2"", ""3""]"\n')
    [item] = read_items(path)
    assert item.question == "Largest?\n\nA. 2\nB. 3"
    assert (item.id, item.reference) == ("1", "B")


def test_parquet_is_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"question": ["a?", "b?"], "answer": [1.5, None], "options": [["x", "y"], None]}
    pq.write_table(pa.table(columns), tmp_path / "q.parquet")
    first, second = read_items(tmp_path / "q.parquet")
    assert first.choices == {"A": "x", "B": "y"}
    assert (second.choices, second.reference) == ({}, None)


@pytest.mark.parametrize(
    ("choices", "answer"),
    [
        (["x", "y"], "B"),
        (["x", "y"], 1),
        (["x", "y"], "y"),
        ({"A": "x", "B": "y"}, "B"),
        ({"1": "x", "2": "y"}, "2"),
        ({"label": ["1", "2"], "text": ["x", "y"]}, "2"),
    ],
)
def test_choices_get_letters_whatever_their_form(choices: Any, answer: Any) -> None:
    [item] = items_of({"question": ["Which?"], "choices": [choices], "answer": [answer]})
    assert item.question.endswith("A. x\nB. y")
    assert ChoiceScorer().score(item, "B").value == 1
    assert ChoiceScorer().score(item, "A").value == 0


def test_values_that_are_no_json_are_made_plain(tmp_path: Path) -> None:
    import datetime

    columns = {"question": ["?"], "day": [datetime.date(2020, 1, 2)], "odd": [float("nan")]}
    [item] = items_of(columns)
    assert item.extra == {"day": "2020-01-02", "odd": None}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"query": ["?"]}, "no column question, text or prompt; its columns are query"),
        ({"question": []}, "holds no question"),
        ({"question": ["?", " "]}, "row 2"),
        ({"question": ["?", None]}, "row 2"),
        ({"question": ["a?", "b?"], "id": [1, 1]}, "more than once, such as '1'"),
        ({"question": ["?"], "choices": [["x"]]}, "offers 1 choices"),
        ({"question": ["?"], "choices": [["x"] * 27]}, "offers 27 choices"),
        ({"question": ["?"], "choices": [5]}, "no list and no dict"),
    ],
)
def test_question_that_cannot_be_asked_is_refused(columns: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        items_of(columns)


@pytest.mark.parametrize("data", ["no.jsonl", "sandbox", "sandbox:0", "sandbox:x", "q.txt"])
def test_data_that_is_not_there_is_refused(data: str) -> None:
    with pytest.raises(ConfigurationError):
        read_items(data)


def test_sandbox_gives_the_same_problems_for_the_same_seed() -> None:
    assert read_items("sandbox:3", seed=4) == read_items("sandbox:5", seed=4)[:3]
    assert read_items("sandbox:3", seed=4) != read_items("sandbox:3", seed=5)


def test_hash_of_an_item_is_of_what_the_models_see() -> None:
    item = Item(id="1", question="?", reference="a")
    assert item.sha256 == Item(id="2", question="?", reference="b").sha256
    assert item.sha256 != Item(id="1", question="?", context="more").sha256


def test_unknown_plan_feature_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="hardness"):
        Item(id="1", question="?", plan={"hardness": 3})

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning import Dataset, concatenate, load_dataset
from tests.unit.learning.outcomes import columns, dataset

ROW: dict[str, Any] = {"question": "1 + 1?", "weak_correct": 1, "strong_correct": 0.5}


def rows_of(table: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]


@pytest.mark.parametrize("name", ["data.jsonl", "data.jsonl.gz", "data.parquet"])
def test_dataset_is_the_same_whatever_format_it_is_read_from(name: str, tmp_path: Path) -> None:
    table, path = columns(60), tmp_path / name
    if name.endswith(".parquet"):
        from pyarrow import parquet
        from pyarrow import table as arrow_table

        parquet.write_table(arrow_table(table), path)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows_of(table)).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    found = load_dataset(path)
    assert found.questions == tuple(table["question"])
    assert found.edge.tolist() == table["edge_correct"]
    assert found.tags == tuple(table["tag"])
    assert found.answer_chars is not None
    assert found.costs["cloud_tokens"].tolist() == table["cloud_tokens"]


def test_dataset_understands_the_names_that_others_give_the_tiers() -> None:
    found = Dataset.from_rows({name: [value] for name, value in ROW.items()})
    assert (found.edge[0], found.cloud[0]) == (1.0, 0.5)


def test_hardness_is_the_mean_of_the_models_that_were_asked() -> None:
    table = {name: [value] * 3 for name, value in ROW.items()}
    found = Dataset.from_rows(
        table
        | {"correct:a": [1, None, None], "score:b": [0.5, 0.25, None], "question": list("xyz")}
    )
    assert found.hardness is not None
    assert found.hardness[:2].tolist() == [0.75, 0.25]
    assert np.isnan(found.hardness[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weak_correct": [float("nan")]}, "first is nan in row 1"),
        ({"weak_correct": [2]}, "from 0 to 1"),
        ({"weak_correct": ["yes"]}, "number was expected"),
        ({"strong_correct": [1, 1]}, "length"),
        ({"depth": ["deep"]}, "must hold numbers"),
    ],
)
def test_dataset_says_what_is_wrong_when_a_column_is_bad(
    change: dict[str, list[Any]], message: str
) -> None:
    table = {name: [value] for name, value in ROW.items()}
    with pytest.raises(ConfigurationError, match=message):
        Dataset.from_rows(table | change)


def test_dataset_names_the_columns_when_one_is_missing() -> None:
    with pytest.raises(ConfigurationError, match=r"'edge_correct' or 'weak_correct'.*question"):
        Dataset.from_rows({"question": ["?"], "cloud_correct": [1]})


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"[1]\n", "data.jsonl"), (b"{", "data.jsonl"), (b"x", "data.jsonl.gz"), (b"x", "data.txt")],
)
def test_loading_refuses_when_the_file_is_not_a_table(
    content: bytes, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=name):
        load_dataset(tmp_path / name)


def test_loading_refuses_when_parquet_is_broken(tmp_path: Path) -> None:
    (tmp_path / "data.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigurationError, match="not a readable Parquet file"):
        load_dataset(tmp_path / "data.parquet")


def test_repeated_questions_share_a_group_and_are_reported() -> None:
    table = columns(60)
    table["question"][1] = table["question"][0].upper()
    found = Dataset.from_rows(table)
    assert found.groups[0] == found.groups[1]
    assert "1 of 60 rows repeat a question" in found.notes[0]


def test_overlap_counts_rows_of_the_test_that_training_has_seen() -> None:
    data = dataset(60)
    assert data.take(range(40, 60)).overlap(data.take(range(50))) == (10, 10)


def test_taking_rows_keeps_every_column_in_step() -> None:
    data = dataset(60)
    part = data.take([7, 3])
    assert part.questions == (data.questions[7], data.questions[3])
    assert part.edge.tolist() == data.edge[[7, 3]].tolist()
    assert part.groups == ("group 7", "group 3")
    assert part.costs["cloud_tokens"].tolist() == data.costs["cloud_tokens"][[7, 3]].tolist()


def test_concatenated_tables_have_none_where_a_column_is_missing() -> None:
    assert concatenate([{"a": [1]}, {"a": [2], "b": [3]}]) == {"a": [1, 2], "b": [None, 3]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (dataset(10), "too few"),
        (dataset(60, group=["one"] * 60), "too few"),
        (dataset(60, edge_correct=[1] * 60), "score 1 on all 60 rows"),
        (dataset(60, cloud_correct=[0] * 60), "score 0 on all 60 rows"),
        (dataset(60, edge_correct=columns(60)["cloud_correct"]), "adds nothing"),
    ],
)
def test_training_data_are_refused_when_nothing_can_be_learnt(data: Dataset, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        data.check_trainable()


def test_tags_may_be_missing_in_some_rows_or_all() -> None:
    table = {name: [value] * 4 for name, value in ROW.items()} | {"question": list("wxyz")}
    found = Dataset.from_rows(table | {"category": ["law", None, float("nan"), " "]})
    assert found.tags == ("law", "", "", "")
    assert Dataset.from_rows(table | {"category": [None] * 4}).tags is None


@pytest.mark.parametrize("length", [None, float("nan"), float("inf"), -5])
def test_lengths_of_answers_count_only_if_all_are_known(length: float | None) -> None:
    table = {name: [value] * 2 for name, value in ROW.items()} | {"question": list("xy")}
    assert Dataset.from_rows(table | {"weak_answer_chars": [10, length]}).answer_chars is None

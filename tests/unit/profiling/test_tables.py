"""The tables of a profile: what training reads, and what people read."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.learning import load_dataset, read_table
from langchain_hybridflow.profiling import Item, Outcome
from langchain_hybridflow.profiling.records import LONG_COLUMNS, PLAN_COLUMNS, Key
from langchain_hybridflow.profiling.summary import paired_interval, share_interval, summarise
from langchain_hybridflow.profiling.tables import Wide, long_table, wide_table, write_table


def outcomes(item: Item, *scores: tuple[str, float | None], **facts: Any) -> dict[Key, Outcome]:
    made: dict[Key, Outcome] = {}
    for tier, score in scores:
        sample = sum(key.tier == tier for key in made)
        status = "unscored" if score is None else "scored"
        given: dict[str, Any] = {"tier": tier, "model": f"m-{tier}", "sample": sample}
        given |= {"status": status, "score": score, "answer_chars": 3, "no_answer": False}
        one = Outcome.about(item, **given, **facts)
        made[one.key] = one
    return made


def asked(item_id: str = "1", **facts: Any) -> Item:
    return Item(id=item_id, question=f"Question {item_id}?", **facts)


def test_wide_table_has_the_means_over_samples() -> None:
    made = outcomes(
        asked(),
        ("edge", 0.0),
        ("edge", 1.0),
        ("edge", None),
        ("cloud", 1.0),
        output_tokens=10,
        seconds=2.0,
        usd=Decimal("0.25"),
    )
    [row] = rows(wide_table(made))
    assert (row["edge_correct"], row["cloud_correct"], row["samples"]) == (0.5, 1.0, 1)
    assert (row["edge_tokens"], row["edge_seconds"], row["cloud_usd"]) == (10, 2.0, 0.25)
    assert (row["edge_model"], row["cloud_model"]) == ("m-edge", "m-cloud")


def rows(wide: Wide) -> list[dict[str, Any]]:
    return [
        dict(zip(wide.columns, row, strict=True))
        for row in zip(*wide.columns.values(), strict=True)
    ]


def test_wide_table_leaves_out_what_lacks_a_score_and_says_why() -> None:
    good, unscored, alone = asked("1"), asked("2"), asked("3")
    made = outcomes(good, ("edge", 1.0), ("cloud", 1.0))
    made |= outcomes(unscored, ("edge", None), ("cloud", 1.0))
    made |= outcomes(alone, ("cloud", 1.0))
    wide = wide_table(made, item_ids=["3", "2", "1", "0"])
    assert wide.columns["id"] == ["1"]
    assert wide.left_out == {"3": "missing", "2": "unscored", "0": "missing"}


def test_wide_table_of_nothing_has_its_columns() -> None:
    assert wide_table({}).columns == {
        name: [] for name in ("id", "question", "edge_correct", "cloud_correct")
    }


def test_column_of_the_data_never_hides_one_of_ours() -> None:
    extra = {"edge_correct": 1, "weak_correct": 1, "difficulty": "hard", "text": "x", "year": 2020}
    [row] = rows(wide_table(outcomes(asked(extra=extra), ("edge", 0.0), ("cloud", 1.0))))
    assert row["edge_correct"] == 0.0
    assert row["year"] == 2020
    assert {"data:edge_correct", "data:weak_correct", "data:difficulty", "data:text"} <= row.keys()
    assert not {"difficulty", "weak_correct", "text"} & row.keys()


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_training_reads_the_wide_table_as_it_is(tmp_path: Path, ending: str) -> None:
    made: dict[Key, Outcome] = {}
    for number in range(4):
        item = asked(str(number), group=f"g{number % 2}", tag="t", plan={"depth": 1})
        made |= outcomes(item, ("edge", number % 2), ("cloud", 1.0), usd=None)
    path = tmp_path / f"outcomes.{ending}"
    write_table(path, wide_table(made).columns)
    data = load_dataset(path)
    assert list(data.edge) == [0.0, 1.0, 0.0, 1.0]
    assert data.groups == ("g0", "g1", "g0", "g1")
    assert data.tags == ("t",) * 4
    assert data.answer_chars is not None
    assert data.no_answer is not None
    assert "edge_usd" not in data.costs
    assert list(data.structure[:, 5]) == [1.0] * 4


DOCUMENTED = Path(__file__).parents[3] / "docs" / "profile.md"


def test_every_column_is_documented() -> None:
    text = DOCUMENTED.read_text(encoding="utf-8")
    wide, long = text.split("## Wide form")[1].split("## Long form")
    item = asked(context="c", group="g", tag="t", reference="r", plan=dict.fromkeys(PLAN_COLUMNS))
    made = outcomes(item, ("edge", 1.0), ("cloud", 1.0), seconds=1.0)
    for name in (*wide_table(made, references={"1": "r"}).columns, *PLAN_COLUMNS):
        assert f"`{name}`" in wide
    for name in set(LONG_COLUMNS) - set(PLAN_COLUMNS):
        assert f"`{name}`" in long


def test_long_table_has_the_documented_columns(tmp_path: Path) -> None:
    made = outcomes(asked(extra={"a": 1}), ("edge", 1.0), usd=Decimal("0.5"), answer="x")
    path = tmp_path / "answers.parquet"
    write_table(path, long_table(made.values()))
    columns = read_table(path)
    assert tuple(columns) == LONG_COLUMNS
    assert columns["usd"] == [0.5]
    assert columns["extra"] == ['{"a": 1}']


@given(values=st.lists(st.none() | st.booleans() | st.integers() | st.floats() | st.text()))
def test_column_of_any_kind_is_written(
    values: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("table")
    for ending in ("parquet", "jsonl"):
        write_table(place / f"t.{ending}", {"x": values})
        assert len(read_table(place / f"t.{ending}").get("x", [])) == len(values)


def test_table_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_table(tmp_path / "nowhere" / "t.jsonl", {"x": [1]})


def test_plan_columns_are_those_that_training_knows() -> None:
    from langchain_hybridflow.learning.features import STRUCTURE_COLUMNS

    assert PLAN_COLUMNS == STRUCTURE_COLUMNS


def summary_of(made: dict[Key, Outcome], **facts: Any) -> Any:
    wide = wide_table(made)
    return summarise(
        made,
        wide.columns,
        left_out=wide.left_out,
        **{
            "questions": 2,
            "samples": 1,
            "models": {"edge": "e", "cloud": "c"},
            "spent": {"edge": Decimal(0), "cloud": None},
            "spent_usd": Decimal(1),
        }
        | facts,
    )


def test_summary_says_who_is_right_where() -> None:
    made = outcomes(asked("1"), ("edge", 0.0), ("cloud", 1.0))
    made |= outcomes(asked("2"), ("edge", 1.0), ("cloud", 1.0))
    made |= outcomes(asked("3"), ("edge", 1.0), ("cloud", 0.0))
    made |= outcomes(asked("4"), ("edge", 0.0), ("cloud", None))
    found = summary_of(made, questions=5)
    assert found.tiers["edge"].accuracy == 0.5
    assert (found.gap.questions, found.gap.mean) == (3, 0.0)
    third = pytest.approx(1 / 3)
    assert (found.gap.only_cloud, found.gap.only_edge, found.gap.both) == (third, third, third)
    assert (found.missing, found.is_complete) == (2, False)
    assert found.tiers["cloud"].unscored == 1
    assert found.to_json()["tiers"]["cloud"]["usd"] is None


def test_summary_of_nothing_has_no_gap() -> None:
    found = summary_of({})
    assert (found.gap, found.tiers["edge"].accuracy, found.missing) == (None, None, 4)


@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.floats(0, n), st.just(n))))
def test_interval_holds_the_share(case: tuple[float, int]) -> None:
    successes, tries = case
    low, high = share_interval(successes, tries)
    assert 0 <= low <= successes / tries <= high <= 1


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50))
def test_paired_interval_is_never_a_point_nor_beyond_what_can_be(differences: list[float]) -> None:
    low, high = paired_interval(differences)
    assert -1 <= low < high <= 1


def test_paired_interval_narrows_with_more_pairs() -> None:
    few, many = ([0.0, 1.0] * count for count in (5, 500))
    width = [high - low for low, high in (paired_interval(few), paired_interval(many))]
    assert width[1] < width[0] / 5

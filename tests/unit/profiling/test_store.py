"""The log: nothing that was answered is lost, whenever the process dies."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.profiling import Item, Outcome, ProfileStore
from langchain_hybridflow.profiling.records import LONG_COLUMNS, PLAN_COLUMNS
from langchain_hybridflow.profiling.store import AppendLog

SETTINGS = {"edge": "small", "scorer": "exact"}


def outcome(item_id: str = "1", **facts: Any) -> Outcome:
    facts = {"tier": "edge", "model": "small", "status": "scored", "score": 1.0} | facts
    return Outcome.about(Item(id=item_id, question=f"Question {item_id}?"), **facts)


def store(place: Path, **options: Any) -> ProfileStore:
    return ProfileStore(place, **{"settings": SETTINGS, **options})


rows = st.lists(
    st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.none(), max_size=3),
    min_size=1,
    max_size=5,
)


@given(rows=rows, cut=st.integers(min_value=0, max_value=400))
def test_log_loses_only_the_torn_line_wherever_it_is_cut(
    rows: list[dict[str, Any]], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    with AppendLog(path) as log:
        for row in rows:
            log.append(row)
    whole = path.read_bytes()
    kept = whole[: min(cut, len(whole))]
    path.write_bytes(kept)
    with AppendLog(path) as log:
        assert log.rows == rows[: kept.count(b"\n")]
        log.append({"after": 1})
    with AppendLog(path) as log:
        assert log.rows[-1] == {"after": 1}
        assert log.repaired_bytes == 0


def test_log_refuses_damage_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\nnonsense\n{"b": 2}\n')
    with pytest.raises(ConfigurationError, match="Line 2"):
        AppendLog(path)
    assert path.read_bytes().endswith(b'{"b": 2}\n')


@given(
    answer=st.text(st.characters(codec=None, categories=None)),
    usd=st.none() | st.decimals(min_value=0, max_value=9, places=9),
    plan=st.dictionaries(st.sampled_from(PLAN_COLUMNS), st.integers(0, 9) | st.text(max_size=3)),
)
def test_outcome_comes_back_as_it_was_written(
    answer: str, usd: Decimal | None, plan: dict[str, Any]
) -> None:
    item = Item(id="7", question="6 * 7?", plan=plan, extra={"year": 2020, "of": ["a"]})
    facts: dict[str, Any] = {"answer": answer, "usd": usd, "answer_chars": len(answer)}
    one = Outcome.about(item, tier="cloud", model="m", status="pending", **facts)
    row = json.loads(json.dumps(one.to_json()))
    assert Outcome.from_json(row) == one
    assert tuple(row) == LONG_COLUMNS


@pytest.mark.parametrize(
    "facts",
    [
        {"score": None},
        {"score": 1.5},
        {"score": float("nan")},
        {"status": "failed", "score": None},
        {"status": "pending", "score": 0.5},
        {"status": "unscored", "score": None, "error": "no"},
        {"tier": "fog"},
    ],
)
def test_outcome_that_contradicts_itself_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        outcome(**facts)


def test_store_counts_the_last_outcome_of_an_answer(tmp_path: Path) -> None:
    failed = outcome(status="failed", score=None, error="down", usd=Decimal("0.01"))
    good = outcome(attempt=2, usd=Decimal("0.02"))
    with store(tmp_path) as one:
        one.append(failed)
        one.append(good)
    with store(tmp_path) as again:
        assert list(again) == [failed, good]
        assert again.outcomes == {good.key: good}
        assert again.attempts(good.key) == 2
        assert again.spent_usd == Decimal("0.03")


def test_store_counts_a_call_once_when_its_answer_is_scored_later(tmp_path: Path) -> None:
    with store(tmp_path) as one:
        one.append(outcome(status="pending", score=None, usd=Decimal("0.02")))
        one.append(outcome(usd=Decimal("0.02"), judge_usd=Decimal("0.001")))
        assert one.spent_usd == Decimal("0.021")
        assert one.tier_usd("edge") == Decimal("0.02")


def test_tier_cost_is_unknown_when_one_call_is(tmp_path: Path) -> None:
    with store(tmp_path) as one:
        one.append(outcome("1", usd=Decimal("0.02")))
        one.append(outcome("2", usd=None))
        assert one.tier_usd("edge") is None
        assert one.tier_usd("cloud") == 0
        assert one.spent_usd == Decimal("0.02")


def test_store_refuses_other_settings_and_says_which(tmp_path: Path) -> None:
    store(tmp_path).close()
    with pytest.raises(ConfigurationError, match=r'edge was "small" and is "big".*--restart'):
        store(tmp_path, settings=SETTINGS | {"edge": "big"})


def test_store_takes_another_scorer_only_when_told(tmp_path: Path) -> None:
    store(tmp_path).close()
    other = SETTINGS | {"scorer": "numeric"}
    with pytest.raises(ConfigurationError, match="--rescore"):
        store(tmp_path, settings=other)
    store(tmp_path, settings=other, rescore=True).close()
    store(tmp_path, settings=other).close()
    with pytest.raises(ConfigurationError, match="edge was"):
        store(tmp_path, settings=other | {"edge": "big"}, rescore=True)


def test_restart_keeps_the_old_profile(tmp_path: Path) -> None:
    for number in (1, 2):
        with store(tmp_path, settings={"edge": str(number)}, restart=True) as one:
            assert not one.outcomes
            one.append(outcome(str(number)))
    assert "Question 1?" in (tmp_path / "before-1" / "log.jsonl").read_text()
    with store(tmp_path, settings={"edge": "2"}) as now:
        assert [one.item_id for one in now] == ["2"]


def test_store_lets_only_one_process_at_it(tmp_path: Path) -> None:
    with store(tmp_path):
        with pytest.raises(ConfigurationError, match="Another process"):
            store(tmp_path)
        with pytest.raises(ConfigurationError, match="Another process"):
            store(tmp_path, restart=True)
    store(tmp_path).close()


def test_store_says_so_when_its_settings_are_lost(tmp_path: Path) -> None:
    with store(tmp_path) as one:
        one.append(outcome())
    (tmp_path / "settings.json").unlink()
    with pytest.raises(ConfigurationError, match=r"settings\.json cannot be read"):
        store(tmp_path)


def test_store_names_the_line_of_another_schema(tmp_path: Path) -> None:
    with store(tmp_path) as one:
        one.append(outcome())
    path = tmp_path / "log.jsonl"
    path.write_text(path.read_text().replace('"schema":1', '"schema":9'))
    with pytest.raises(ConfigurationError, match=r"Line 1 .* schema 9"):
        store(tmp_path)


def test_store_says_what_to_do_when_the_place_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="Choose another --out"):
        store(tmp_path / "file" / "profile")

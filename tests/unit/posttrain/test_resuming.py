"""Which checkpoint a training goes on from, and that it goes on as itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.posttrain import PosttrainSettings
from langchain_hybridflow.posttrain.resuming import checkpoint_of, last_checkpoint, remember
from langchain_hybridflow.posttrain.settings import STATE_FILE


@pytest.fixture
def settings(tmp_path: Path) -> PosttrainSettings:
    return PosttrainSettings(model="m", data="d.jsonl", out=str(tmp_path), lora={"r": 4})


def checkpoint(out: Path, step: int, *, whole: bool = True) -> Path:
    place = out / f"checkpoint-{step}"
    place.mkdir()
    if whole:
        (place / STATE_FILE).write_text("{}", encoding="utf-8")
    return place


def test_last_checkpoint_is_the_one_with_the_most_steps(tmp_path: Path) -> None:
    checkpoint(tmp_path, 9)
    last = checkpoint(tmp_path, 10)
    (tmp_path / "checkpoint-best").mkdir()
    assert last_checkpoint(tmp_path) == last


def test_last_checkpoint_is_none_when_nothing_was_begun(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "nowhere") is None


def test_checkpoint_that_is_not_whole_is_passed_over(
    tmp_path: Path, settings: PosttrainSettings
) -> None:
    whole = checkpoint(tmp_path, 2)
    checkpoint(tmp_path, 4, whole=False)
    assert checkpoint_of(settings, resume=True) == str(whole)


def test_training_begins_when_there_is_no_whole_checkpoint(
    tmp_path: Path, settings: PosttrainSettings
) -> None:
    checkpoint(tmp_path, 4, whole=False)
    assert checkpoint_of(settings, resume=False) is None
    assert checkpoint_of(settings, resume=True) is None


def test_training_is_not_begun_over_another_one(
    tmp_path: Path, settings: PosttrainSettings
) -> None:
    checkpoint(tmp_path, 50)
    with pytest.raises(ConfigurationError, match=r"as far as checkpoint-50\b.*--resume"):
        checkpoint_of(settings, resume=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "da_grpo"}, "method was 'gapg' and is 'da_grpo'"),
        ({"rho": 0.5}, "rho was 0.42.* and is 0.5"),
        ({"lora": None}, "lora was {'r': 4} and is None"),
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"learning_rate": 0.1}, "learning_rate was 1e-06 and is 0.1"),
    ],
)
def test_training_is_not_resumed_as_another_one(
    tmp_path: Path, settings: PosttrainSettings, change: dict[str, Any], message: str
) -> None:
    checkpoint(tmp_path, 2)
    remember(settings)
    with pytest.raises(ConfigurationError, match=message):
        checkpoint_of(replace(settings, **change), resume=True)


@pytest.mark.parametrize(
    "change",
    [{"steps": 900}, {"limit_usd": "9"}, {"share": 0.3}, {"cloud_parallel": 2}, {"save_every": 7}],
)
def test_training_is_resumed_with_other_limits_and_times(
    tmp_path: Path, settings: PosttrainSettings, change: dict[str, Any]
) -> None:
    last = checkpoint(tmp_path, 2)
    remember(settings)
    assert checkpoint_of(replace(settings, **change), resume=True) == str(last)


def test_checkpoint_that_is_named_is_the_one(tmp_path: Path, settings: PosttrainSettings) -> None:
    older = checkpoint(tmp_path, 2)
    checkpoint(tmp_path, 4)
    assert checkpoint_of(settings, resume=older) == str(older)

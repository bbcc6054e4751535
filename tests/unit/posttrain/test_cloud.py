"""The cloud while a policy is trained: bought once, held against the budget, missing when it is."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from threading import Thread

import pytest
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from langchain_hybridflow.budget import Budget, Price
from langchain_hybridflow.errors import ConfigurationError, ModelCallError, UnknownPriceError
from langchain_hybridflow.posttrain.answers import AnswerCache, answer_key
from langchain_hybridflow.posttrain.cloud import CloudAnswers, CloudCounts
from langchain_hybridflow.testing import ScriptedChatModel


def ask(*texts: str) -> list[list[BaseMessage]]:
    return [[HumanMessage(text)] for text in texts]


def cloud_of(place: Path, *responses: object, **options: object) -> CloudAnswers:
    model = ScriptedChatModel(responses=list(responses), model_name="cloud-1")
    return CloudAnswers(model=model, cache=place / "answers.sqlite", **options)  # type: ignore[arg-type]


def test_same_prompt_in_a_batch_is_bought_once(tmp_path: Path) -> None:
    with cloud_of(tmp_path, "42") as cloud:
        assert cloud.answers(ask("6 * 7?") * 3) == ["42"] * 3
    assert (cloud.counts.asked, cloud.counts.bought) == (3, 1)


def test_answer_is_kept_for_the_next_batch_and_the_next_process(tmp_path: Path) -> None:
    with cloud_of(tmp_path, "42") as cloud:
        cloud.answers(ask("6 * 7?"))
        assert cloud.answers(ask("6 * 7?")) == ["42"]
    with cloud_of(tmp_path) as later:
        assert later.answers(ask("6 * 7?")) == ["42"]
    assert (later.counts.cached, later.counts.bought) == (1, 0)


def test_answers_come_in_the_order_of_the_prompts_when_several_are_asked_at_once(
    tmp_path: Path,
) -> None:
    def echo(messages: list[BaseMessage]) -> str:
        return messages[-1].text.upper()

    with cloud_of(tmp_path, *[echo] * 20, parallel=5) as cloud:
        found = cloud.answers(ask(*(f"q{i}" for i in range(20))))
    assert found == [f"Q{i}" for i in range(20)]


def test_no_more_calls_are_under_way_at_once_than_wanted(tmp_path: Path) -> None:
    model = ScriptedChatModel(responses=["x"] * 12)
    with CloudAnswers(model=model, cache=tmp_path / "a.sqlite", parallel=3) as cloud:
        cloud.answers(ask(*map(str, range(12))))
    assert 1 < model.max_concurrency_seen <= 3


def test_budget_is_never_passed_and_the_rest_is_missing(tmp_path: Path) -> None:
    budget = Budget(max_cloud_calls=2)
    with cloud_of(tmp_path, "1", "2", "3", budget=budget, parallel=1) as cloud:
        found = cloud.answers(ask("a", "b", "c", "d"))
    assert found == ["1", "2", None, None]
    assert (cloud.counts.bought, cloud.counts.refused) == (2, 1)
    assert budget.snapshot()["cloud_calls"]["spent"] == 2


def test_money_that_calls_under_way_only_hold_is_waited_for(tmp_path: Path) -> None:
    """Two fit in at their worst, and all eight at what they cost."""
    budget = Budget(limit_usd="0.02", prices={"cloud-1": Price(1, 8)})
    options = {"max_tokens": 1000}
    with cloud_of(tmp_path, *["x"] * 8, budget=budget, options=options, parallel=8) as cloud:
        found = cloud.answers(ask(*map(str, range(8))))
    assert found == ["x"] * 8
    assert (cloud.counts.bought, cloud.counts.refused, cloud.exhausted) == (8, 0, None)


def test_calls_at_once_end_when_the_budget_has_nothing_left(tmp_path: Path) -> None:
    budget = Budget(max_cloud_calls=3)
    with cloud_of(tmp_path, *["x"] * 8, budget=budget, parallel=8) as cloud:
        found = cloud.answers(ask(*map(str, range(8))))
    assert sorted(map(str, found)) == ["None"] * 5 + ["x"] * 3
    assert (cloud.counts.bought, cloud.counts.refused) == (3, 1)


def test_kept_answers_are_used_when_the_budget_is_spent(tmp_path: Path) -> None:
    with cloud_of(tmp_path, "1", "2", budget=Budget(max_cloud_calls=1), parallel=1) as cloud:
        cloud.answers(ask("a", "b"))
        assert cloud.answers(ask("a", "b", "c")) == ["1", None, None]
    assert cloud.exhausted is not None
    assert cloud.counts.refused == 1  # it is not asked again and again


def test_cost_is_added_up(tmp_path: Path) -> None:
    budget = Budget(
        limit_usd=100, prices={"cloud-1": Price(input_usd_per_mtok=1000, output_usd_per_mtok=2000)}
    )
    with cloud_of(tmp_path, "two words", budget=budget) as cloud:
        cloud.answers(ask("one"))
    assert cloud.counts.usd == Decimal("0.005")


def test_cost_is_unknown_when_nobody_knows_the_price(tmp_path: Path) -> None:
    with cloud_of(tmp_path, "x") as cloud:
        cloud.answers(ask("one"))
    assert cloud.counts.usd is None


def test_unknown_price_is_refused_at_once_when_usd_are_limited(tmp_path: Path) -> None:
    with pytest.raises(UnknownPriceError):
        cloud_of(tmp_path, "x", budget=Budget(limit_usd=1))


def test_failed_call_leaves_the_answer_missing_and_is_tried_again_later(tmp_path: Path) -> None:
    with cloud_of(tmp_path, RuntimeError("down"), "42") as cloud:
        assert cloud.answers(ask("6 * 7?")) == [None]
        assert cloud.answers(ask("6 * 7?")) == ["42"]
    assert (cloud.counts.failed, cloud.counts.bought) == (1, 1)


def test_training_is_ended_when_calls_keep_failing(tmp_path: Path) -> None:
    errors = [RuntimeError("no key")] * 9
    with (
        cloud_of(tmp_path, *errors, max_failures=3, parallel=1) as cloud,
        pytest.raises(ModelCallError, match=r"3 cloud calls in a row failed.*no key"),
    ):
        cloud.answers(ask(*map(str, range(9))))


def test_answers_are_had_within_a_running_event_loop(tmp_path: Path) -> None:
    async def in_a_notebook() -> list[str | None]:
        with cloud_of(tmp_path, "42") as cloud:
            return cloud.answers(ask("6 * 7?"))

    assert asyncio.run(in_a_notebook()) == ["42"]


def test_cloud_that_was_closed_is_opened_again_when_it_is_needed(tmp_path: Path) -> None:
    cloud = cloud_of(tmp_path, "1", "2")
    cloud.answers(ask("a"))
    cloud.close()
    assert cloud.answers(ask("b")) == ["2"]
    cloud.close()
    cloud.close()


def test_cloud_that_is_forgotten_leaves_nothing_open(tmp_path: Path) -> None:
    cloud = cloud_of(tmp_path, "1")
    cloud.answers(ask("a"))
    del cloud
    gc.collect()  # what it left open would be a warning, and warnings are errors


@pytest.mark.parametrize(
    "options", [{"on_exhausted": "edge"}, {"parallel": 0}, {"max_failures": True}]
)
def test_cloud_refuses_what_cannot_be(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        cloud_of(tmp_path, **options)


@pytest.mark.parametrize("usd", [Decimal("0.005"), None])
def test_counts_survive_a_checkpoint(usd: Decimal | None) -> None:
    counts = CloudCounts(asked=5, cached=2, bought=2, failed=1, refused=3, usd=usd)
    later = CloudCounts()
    later.restore(counts.to_json())
    assert later == counts


# The file


def test_key_tells_models_messages_and_options_apart() -> None:
    one = [HumanMessage("6 * 7?")]
    told = [SystemMessage("6 * 7?")]
    keys = {
        answer_key("m", one),
        answer_key("n", one),
        answer_key("m", told),
        answer_key("m", one, {"max_tokens": 5}),
        answer_key("m", [*one, *one]),
    }
    assert len(keys) == 5


def test_key_is_the_same_for_messages_with_other_ids() -> None:
    first, second = HumanMessage("x", id="1"), HumanMessage("x", id="2")
    assert answer_key("m", [first]) == answer_key("m", [second])


def test_first_answer_of_a_key_stays(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "a.sqlite")
    cache.put("k", "first", model="m")
    cache.put("k", "second", model="m")
    assert cache.get(["k"]) == {"k": "first"}
    assert len(cache) == 1


def test_half_a_character_does_not_break_the_file(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "a.sqlite")
    cache.put("k", "a\ud800b", model="m")
    assert cache.get(["k"]) == {"k": "a?b"}


def test_threads_write_to_one_file(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "a.sqlite")

    def write(number: int) -> None:
        for i in range(10):
            cache.put(f"{number}/{i}", "x", model="m")

    threads = [Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) == 60


def test_answers_survive_a_process_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    code = (
        "import os, signal, sys\n"
        "from langchain_hybridflow.posttrain.answers import AnswerCache\n"
        "cache = AnswerCache(sys.argv[1])\n"
        "for i in range(20): cache.put(str(i), 'x', model='m')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
    assert len(AnswerCache(path)) == 20


def test_file_that_is_no_cache_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    path.write_text("not a database" * 100)
    with pytest.raises(ConfigurationError, match="cannot be used for the cloud's answers"):
        AnswerCache(path)
    assert path.read_text() == "not a database" * 100


def test_cache_holds_no_prompt(tmp_path: Path) -> None:
    with cloud_of(tmp_path, "an answer") as cloud:
        cloud.answers(ask("a secret question"))
    with sqlite3.connect(tmp_path / "answers.sqlite") as db:
        dump = "".join(db.iterdump())
    db.close()
    assert "an answer" in dump
    assert "secret" not in dump

from __future__ import annotations

import pickle

import pytest
from pydantic import ValidationError

from langchain_hybridflow.errors import PlanError
from langchain_hybridflow.plan import Plan, Role, Subtask


@pytest.fixture
def diamond() -> Plan:
    return Plan(
        subtasks=[
            {"id": 1, "task": "What is asked?", "role": "explain"},
            {"id": "4", "task": "Who pays more?", "role": "generate", "depends_on": ["2", 3]},
            {"id": "3", "task": "Bob?", "depends_on": ["1"]},
            {"id": "2", "task": "Ann?", "depends_on": ["1"]},
        ]
    )


def test_subtask_takes_plain_values_when_they_fit() -> None:
    subtask = Subtask(id=7, task="  Why? ", role="generate", depends_on=[1, "1", "b"])
    assert subtask.id == "7"
    assert subtask.task == "Why?"
    assert subtask.role is Role.GENERATE
    assert subtask.depends_on == ("1", "b")


def test_subtask_is_a_middling_analyze_when_nothing_is_said() -> None:
    subtask = Subtask(id="1", task="Why?")
    assert (subtask.role, subtask.depends_on) == (Role.ANALYZE, ())
    assert (subtask.difficulty, subtask.expected_output_tokens) == (5, 128)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": "-1"},
        {"id": "a b"},
        {"id": "a\n"},
        {"id": "x" * 33},
        {"id": True},
        {"id": "é"},
        {"task": ""},
        {"task": " \n"},
        {"task": "\ud800"},
        {"role": "think"},
        {"depends_on": ["a b"]},
        {"difficulty": 0},
        {"difficulty": 10},
        {"expected_output_tokens": 0},
        {"expected_output_tokens": 1_000_001},
        {"dependson": ["1"]},
    ],
)
def test_subtask_refuses_when_a_value_does_not_fit(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Subtask.model_validate({"id": "1", "task": "Why?"} | wrong)


def test_subtask_cannot_be_changed_when_made() -> None:
    with pytest.raises(ValidationError):
        Subtask(id="1", task="Why?").task = "How?"


def test_plan_raises_plan_error_with_all_issues_when_invalid() -> None:
    with pytest.raises(PlanError) as caught:
        Plan(
            subtasks=[
                {"id": "1", "task": "a", "role": "explain"},
                {"id": "1", "task": "b", "depends_on": ["9"]},
                {"id": "3", "task": "c", "role": "generate", "depends_on": ["3"]},
            ]
        )
    codes = [issue.code for issue in caught.value.issues]
    assert codes == ["duplicate_id", "unknown_dependency", "self_dependency", "orphan", "orphan"]
    assert "'9', which does not exist" in str(caught.value)


def test_plan_raises_validation_error_when_a_subtask_is_malformed() -> None:
    with pytest.raises(ValidationError):
        Plan(subtasks=[{"id": "1", "task": "", "role": "generate"}])


def test_order_follows_the_listing_when_dependencies_allow(diamond: Plan) -> None:
    assert diamond.order == ("1", "3", "2", "4")


def test_sink_is_the_generate_when_listed_anywhere(diamond: Plan) -> None:
    assert diamond.sink is diamond.subtasks[1]


def test_dependents_are_direct_and_in_listing_order_when_several(diamond: Plan) -> None:
    assert diamond.dependents("1") == ("3", "2")
    assert diamond.dependents("4") == ()


def test_ancestors_are_transitive_when_there_is_a_chain(diamond: Plan) -> None:
    assert diamond.ancestors("4") == {"1", "2", "3"}
    assert diamond.ancestors("1") == frozenset()


def test_plan_is_a_container_of_ids_when_asked(diamond: Plan) -> None:
    assert "2" in diamond
    assert "9" not in diamond
    assert len(diamond) == 4
    assert diamond["2"].task == "Ann?"


@pytest.mark.parametrize("method", ["__getitem__", "dependents", "ancestors"])
def test_plan_raises_key_error_when_id_is_unknown(diamond: Plan, method: str) -> None:
    with pytest.raises(KeyError, match="9"):
        getattr(diamond, method)("9")


def test_plans_are_equal_when_only_one_has_been_used(diamond: Plan) -> None:
    fresh = Plan.model_validate(diamond.model_dump(mode="json"))
    _ = diamond.order, diamond["1"], diamond.dependents("1")
    assert fresh == diamond
    assert hash(fresh) == hash(diamond)
    assert pickle.loads(pickle.dumps(diamond)) == fresh


def test_dump_holds_only_json_types_and_no_caches_when_plan_was_used(diamond: Plan) -> None:
    _ = diamond.order
    dumped = diamond.model_dump(mode="json")
    assert list(dumped) == ["subtasks"]
    assert dumped["subtasks"][1]["depends_on"] == ["2", "3"]
    assert type(dumped["subtasks"][0]["role"]) is str


def test_model_copy_checks_the_plan_when_it_is_changed(diamond: Plan) -> None:
    _ = diamond.order
    with pytest.raises(PlanError):
        diamond.model_copy(update={"subtasks": diamond.subtasks[:2]})
    smaller = diamond.model_copy(update={"subtasks": [Subtask(id="1", task="a", role="generate")]})
    assert smaller.order == ("1",)
    assert diamond.model_copy() == diamond

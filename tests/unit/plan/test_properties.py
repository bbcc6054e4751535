"""What holds for every plan and every text, not just for the examples somebody thought of."""

from __future__ import annotations

import itertools
import json
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.plan import (
    Plan,
    PlanBuilder,
    PlanParser,
    Role,
    Subtask,
    SubtaskDraft,
    parse_plan,
    plan_to_xml,
    validate_subtasks,
)

NO_DEPENDENCY_WORDS = {"none", "null", "nil", "n/a", "na"}
XML_CHARS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")

tasks = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1).filter(
    lambda text: text.strip()
)
ids = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,4}\Z").filter(
    lambda text: text.lower() not in NO_DEPENDENCY_WORDS
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any valid plan, in any listing order that the rules allow."""
    names = draw(st.lists(ids, min_size=1, max_size=8, unique=True))
    *others, sink = names
    deps: dict[str, list[str]] = {}
    for position, name in enumerate(others):
        earlier = st.sampled_from(others[:position]) if position else st.nothing()
        deps[name] = draw(st.lists(earlier, unique=True, max_size=3)) if position else []
    used = {dep for parents in deps.values() for dep in parents}
    extra = draw(st.lists(st.sampled_from(others), unique=True)) if others else []
    deps[sink] = list(dict.fromkeys([name for name in others if name not in used] + extra))
    listing = [*others[:1], *draw(st.permutations([*others[1:], sink]))]
    roles = dict.fromkeys(names, Role.ANALYZE) | {listing[0]: Role.EXPLAIN} | {sink: Role.GENERATE}
    return Plan(
        subtasks=tuple(
            Subtask(
                id=name,
                task=draw(tasks),
                role=roles[name],
                depends_on=tuple(deps[name]),
                difficulty=draw(st.integers(1, 9)),
                expected_output_tokens=draw(st.integers(1, 4_000)),
            )
            for name in listing
        )
    )


few_ids = st.sampled_from(["1", "2", "3", "4", "5", "1-2", "answer", "", "a b", "x" * 40])
drafts = st.builds(
    SubtaskDraft,
    id=few_ids,
    task=st.sampled_from(["What?", "Analyze: why?", " ", "\x00", "\ud800 [1]"]),
    role=st.sampled_from([None, *Role]),
    depends_on=st.lists(few_ids, max_size=3).map(tuple),
    difficulty=st.none() | st.integers(-3, 12),
    expected_output_tokens=st.none() | st.integers(-1, 10**10),
)

pieces = st.sampled_from(
    [
        *("<Plan>", "</Plan>", "<Step ", "<step\n", "</Step>", "/>", ">", "<", '"', "'", "=", "\\"),
        *('ID="1"', "ID='2'", "ID=3", 'Task="Why?"', 'Task="', 'Rely=""', 'Rely="1,2"', 'Rely="'),
        *('Role="explain"', 'Role="generate"', 'Note="x"', "<Task>", "</Task>", "<!--", "-->"),
        *('<Step ID="1" Task="a" Rely=""/>', '<Step ID="2" Task="b" Rely="1"/>', "Explain: "),
        *("<think>", "</think>", "```xml\n", "```", "&amp;", "&#65;", "&lol;", "&", "<!DOCTYPE x>"),
        *("{", "}", "[", "]", ",", ":", '{"subtasks": [', '{"id": 1, "task": "t"}', '"task"', "1"),
        *('"depends_on": ["1"]', "\n", " ", "\t", "words ", "<![CDATA[", "]]>", "\x00", "\ud800"),
    ]
)
messy_texts = st.lists(pieces | st.text(max_size=5), max_size=40).map("".join)


def cut(text: str, cuts: list[int]) -> list[str]:
    """Cut a text at some places."""
    bounds = [0, *sorted(min(place, len(text)) for place in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(bounds)]


@given(messy_texts, st.integers(1, 7))
def test_parse_plan_gives_a_valid_plan_or_none_when_text_is_anything(text: str, cap: int) -> None:
    repaired = parse_plan(text, max_subtasks=cap)
    if repaired.plan is None:
        assert "empty" in [issue.code for issue in repaired.issues]
    else:
        assert validate_subtasks(repaired.plan.subtasks, max_subtasks=cap) == ()


@given(messy_texts, st.lists(st.integers(0, 400), max_size=30))
def test_parser_reads_the_same_when_text_is_cut_into_chunks(text: str, cuts: list[int]) -> None:
    whole, chunked = PlanParser(), PlanParser()
    expected = whole.feed(text) + whole.close()
    found = [draft for chunk in cut(text, cuts) for draft in chunked.feed(chunk)]
    assert found + chunked.close() == expected
    assert chunked.issues == whole.issues


@given(messy_texts)
def test_parser_takes_nothing_back_when_fed_by_character(text: str) -> None:
    whole, by_char = PlanParser(), PlanParser()
    expected = whole.feed(text)
    seen: list[SubtaskDraft] = []
    for char in text:
        seen += by_char.feed(char)
        assert seen == expected[: len(seen)]
    assert seen == expected


@given(plans())
def test_repair_changes_nothing_when_plan_is_valid(plan: Plan) -> None:
    repaired = parse_plan(plan_to_xml(plan), max_subtasks=len(plan))
    assert repaired.plan == plan
    assert repaired.repairs == ()
    assert repaired.issues == ()


@given(plans())
def test_repair_changes_nothing_when_plan_is_valid_json(plan: Plan) -> None:
    repaired = parse_plan(json.dumps(plan.model_dump(mode="json")), max_subtasks=len(plan))
    assert repaired.plan == plan
    assert repaired.repairs == ()
    assert repaired.issues == ()


@given(plans())
def test_plan_comes_back_equal_when_sent_through_json(plan: Plan) -> None:
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


@given(plans(), st.integers(1, 4))
def test_settled_subtasks_stand_when_a_valid_plan_is_merged(plan: Plan, cap: int) -> None:
    check_settled_subtasks_stand(drafts_of(plan), cap)


@given(st.lists(drafts, max_size=10), st.integers(1, 7))
def test_settled_subtasks_stand_when_the_stream_ends_anywhere(
    written: list[SubtaskDraft], cap: int
) -> None:
    check_settled_subtasks_stand(written, cap)


def check_settled_subtasks_stand(written: list[SubtaskDraft], cap: int) -> None:
    """After each draft, the plan of what has come holds all that was ever settled, unchanged."""
    builder = PlanBuilder(cap, question="Why?")
    settled: dict[str, Subtask] = {}
    for draft in written:
        for subtask in builder.add(draft):
            assert subtask.id not in settled
            assert set(subtask.depends_on) <= set(settled)
            settled[subtask.id] = subtask
        plan = builder.finish().plan
        assert plan is not None or not settled
        for subtask in settled.values():
            assert plan is not None
            assert plan[subtask.id] == subtask
            assert subtask.role is not Role.GENERATE


def drafts_of(plan: Plan) -> list[SubtaskDraft]:
    """The drafts that a plan is read from."""
    parser = PlanParser()
    return parser.feed(plan_to_xml(plan)) + parser.close()


@given(plans())
def test_everything_but_the_generate_settles_when_plan_is_valid(plan: Plan) -> None:
    builder = PlanBuilder(len(plan))
    settled = {subtask.id for draft in drafts_of(plan) for subtask in builder.add(draft)}
    assert settled == {subtask.id for subtask in plan.subtasks} - {plan.sink.id}


@given(st.lists(drafts, max_size=8), st.integers(1, 5))
def test_merging_loses_no_task_text_when_plan_is_too_long(
    written: list[SubtaskDraft], cap: int
) -> None:
    marked = [
        SubtaskDraft(draft.id, f"task-{position}!", draft.role, draft.depends_on)
        for position, draft in enumerate(written)
    ]
    builder = PlanBuilder(cap)
    for draft in marked:
        builder.add(draft)
    plan = builder.finish().plan
    text = "\n".join(subtask.task for subtask in plan.subtasks) if plan else ""
    assert all(draft.task in text for draft in marked)


xml_names = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_.-]{0,8}\Z")
xml_elements = st.dictionaries(xml_names, st.text(XML_CHARS | st.sampled_from("\"'<>&/=\n\t ")))


@given(xml_elements, st.sampled_from(["", " ", "\n  "]))
def test_parser_agrees_with_an_xml_parser_when_element_is_well_formed(
    attributes: dict[str, str], blank: str
) -> None:
    attributes = {name: value for name, value in attributes.items() if name.lower() != "task"}
    attributes["Task"] = attributes.pop("x", "Why?") or "Why?"
    written = " ".join(f"{name}{blank}={quoteattr(value)}" for name, value in attributes.items())
    element = f"<Step {written}{blank}/>"
    expected = SubtaskDraft.from_fields(ElementTree.fromstring(element).attrib)
    assert PlanParser().feed(f"<Plan>{element}") == ([expected] if expected else [])


words = st.from_regex(r"\A[a-z]{1,6}\Z")
phrases = st.lists(words | words.map('"{}"'.format) | st.sampled_from(["<", "&", "/>", "<br/>"]))


@given(phrases, st.booleans())
def test_parser_reads_the_task_when_quotes_are_not_escaped(phrase: list[str], last: bool) -> None:
    task = " ".join(["What about", *phrase]) + "?"
    fields = [f'Task="{task}"', 'Difficulty="4"', 'Rely=""']
    element = f'<Step ID="1" {" ".join(reversed(fields) if last else fields)}/>'
    assert [draft.task for draft in PlanParser().feed(f"<Plan>{element}")] == [task]

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from types import FrameType

import pytest

from langchain_hybridflow.errors import ConfigurationError
from langchain_hybridflow.plan import PlanParser, Role, SubtaskDraft

FIRST = '<Step ID="1" Role="explain" Task="What is asked?" Difficulty="2" Token="40" Rely=""/>'
SECOND = '<Step ID="2" Role="generate" Task="Who pays?" Difficulty="7" Token="90" Rely="1"/>'
DRAFTS = [
    SubtaskDraft("1", "What is asked?", Role.EXPLAIN, (), 2, 40),
    SubtaskDraft("2", "Who pays?", Role.GENERATE, ("1",), 7, 90),
]
PLAN = f"<Plan>\n{FIRST}\n{SECOND}\n</Plan>"


def read(text: str) -> list[SubtaskDraft]:
    parser = PlanParser()
    return parser.feed(text) + parser.close()


def codes(text: str) -> list[str]:
    parser = PlanParser()
    parser.feed(text)
    parser.close()
    return [issue.code for issue in parser.issues]


def task_in(attribute: str) -> str:
    """Read the task of a step from its attribute as written; another step follows."""
    step = f'<Step ID="1" Task={attribute} Difficulty="4" Rely=""/>'
    first, second = read(f"<Plan>{step}\n{SECOND}</Plan>")
    assert (first.id, first.difficulty, first.depends_on) == ("1", 4, ())
    assert second == DRAFTS[1]
    return first.task


def test_parser_reads_all_fields_when_xml_is_well_formed() -> None:
    assert read(PLAN) == DRAFTS


def test_draft_is_yielded_with_the_last_character_when_its_element_ends() -> None:
    parser = PlanParser()
    assert parser.feed("<Plan>" + FIRST[:-1]) == []
    assert parser.feed(FIRST[-1]) == DRAFTS[:1]


@pytest.mark.parametrize(
    "text",
    [
        f"Sure, here it is:\n{PLAN}\nGood luck <3",
        f"```xml\n{PLAN}\n```",
        f"<think>{PLAN.replace('Who', 'Foo')} hmm <</think>{PLAN}",
        f"<THINK>\n<Plan>{FIRST}</think>{PLAN}",
        f"<Plan><think>short</think>{FIRST}{SECOND}",
        f"<!-- {PLAN.replace('Who', 'Foo')} --->{PLAN}",
        f"I will write a <Plan> now. <Plan></Plan>{PLAN}",
        f"{PLAN}{PLAN.replace('Who', 'Foo')}",
        f"{FIRST.replace('What', 'Loose')}{PLAN}",
        f'Each <Step ID=... Task="..."> matters.\n{PLAN}',
        f'See [1] and {{x}} and {{"a": [{{"b": 1}}]}}.\n{PLAN}',
        f'{{"question": "Why?", "task": "Plan."}}\n{PLAN}',
        f'{{"broken": "json\n{PLAN}',
        PLAN.lower().replace("what", "What").replace("who", "Who"),
        PLAN.replace("</Plan>", ""),
        PLAN.replace("/>", ">"),
        PLAN.replace("/>", "></Step>"),
        PLAN.replace("/>", ""),
        PLAN.replace("=", " = ").replace('" ', '"\n'),
        PLAN.replace('" ', '"'),
        PLAN.replace('"', "'"),
        PLAN.replace('"2"', "2").replace('"1"', "1").replace("2/>", "2 />"),
        PLAN.replace(" Difficulty", ' Note="a > b" Difficulty'),
        f"{FIRST}{SECOND}",
    ],
)
def test_parser_finds_the_plan_when_text_around_or_form_is_sloppy(text: str) -> None:
    assert read(text) == DRAFTS


@pytest.mark.parametrize(
    ("attribute", "task"),
    [
        ('"He said "no" twice?"', 'He said "no" twice?'),
        ('""Yes" or "no"?"', '"Yes" or "no"?'),
        ('"Is it "yes""', 'Is it "yes"'),
        ('"A 5" pipe?"', 'A 5" pipe?'),
        ('"Say \\"hi\\"?"', 'Say "hi"?'),
        ("'What's it?'", "What's it?"),
        ("'A \"pair\"?'", 'A "pair"?'),
        ('"Is a < b > c?"', "Is a < b > c?"),
        ('"AT&T & R&D; why?"', "AT&T & R&D; why?"),
        ('"What does <br/> do?"', "What does <br/> do?"),
        ('"What does <a href="x"/> do?"', 'What does <a href="x"/> do?'),
        ('"Is "a">"b" so?"', 'Is "a">"b" so?'),
        ('"Is alt="" href="y" fine?"', 'Is alt="" href="y" fine?'),
        ('"Go <step by step>?"', "Go <step by step>?"),
        ('"&lt;&gt;&amp;&quot;&apos;&#65;&#x42;"', "<>&\"'AB"),
        ('"&amp;lt;"', "&lt;"),
        ('"&lol; &nbsp; &#0; &#xD800; &#-1; &;"', "&lol; &nbsp; &#0; &#xD800; &#-1; &;"),
        ('"&#x110000; &#99999999999; &#1_0;"', "&#x110000; &#99999999999; &#1_0;"),
        ('"two\r\nlines\tand&#10;three"', "two lines and\nthree"),
        ('"C:\\"', "C:\\"),
        ('"{"a": [{"task": "t"}]}"', '{"a": [{"task": "t"}]}'),
        ('"a\x00b\ud800"', "a\ufffdb\ufffd"),
        ('"数え方😀"', "数え方😀"),
    ],
)
def test_parser_reads_the_task_when_it_holds(attribute: str, task: str) -> None:
    assert task_in(attribute) == task


def test_step_ends_at_the_next_one_when_an_inch_mark_hid_its_end() -> None:
    inches = '<Step ID="1" Rely="" Task="A 5" pipe?"/>'
    assert [draft.task for draft in read(f"<Plan>{inches}\n{SECOND}")] == [
        'A 5" pipe?',
        "Who pays?",
    ]


def test_step_is_left_out_when_its_quote_is_never_closed() -> None:
    text = f'<Plan><Step ID="1" Rely="" Task="What?/>\n{SECOND}</Plan>'
    assert read(text) == DRAFTS[1:]
    assert codes(text) == ["bad_step"]


@pytest.mark.parametrize(
    "step",
    [
        "<Step ID='1'><Task>Is a &lt; b?</Task><Difficulty>3</Difficulty><Rely>2, 4</Rely></Step>",
        "<Step ID='1' Difficulty='3' Rely='2 4'>\n  Is a &lt; b?\n</Step>",
        "<step difficulty=3><id>1</id><task><![CDATA[Is a < b?]]></task><rely>2;4</rely></step>",
        "<Subtask id=1 dependsOn='Step 2 and Step 4' difficulty=3 Task='Is a &lt; b?'></Subtask>",
    ],
)
def test_parser_reads_the_step_when_it_has_child_elements_or_text(step: str) -> None:
    draft = SubtaskDraft("1", "Is a < b?", None, ("2", "4"), 3)
    assert read(f"<Plan>{step}{SECOND}</Plan>") == [draft, DRAFTS[1]]


@pytest.mark.parametrize(
    ("written", "ids"),
    [
        ("", ()),
        ("None", ()),
        ("1,2", ("1", "2")),
        (" 1 ; 2,2 ", ("1", "2")),
        ("[1] [2]", ("1", "2")),
        ("#1, 'b'", ("1", "b")),
        ("step-1, and", ("step-1", "and")),
        ("-", ()),
    ],
)
def test_dependencies_are_read_when_separated_by(written: str, ids: tuple[str, ...]) -> None:
    (draft,) = read(f'<Plan><Step ID="9" Task="?" Rely="{written}"/>')
    assert draft.depends_on == ids


@pytest.mark.parametrize("word", ["explain", "Analyze", "GENERATE"])
def test_role_is_told_by_the_task_when_it_starts_with_one(word: str) -> None:
    (draft,) = read(f'<Plan><Step ID="1" Task="{word}: why?" Rely=""/>')
    assert draft.role == Role(word.lower())
    assert draft.task == f"{word}: why?"


def test_role_attribute_counts_when_the_task_says_another() -> None:
    (draft,) = read('<Plan><Step ID="1" Role="Analyze" Task="Explain: why?" Rely=""/>')
    assert draft.role is Role.ANALYZE


JSON_STEPS = [
    {"id": 1, "task": "What is asked?", "role": "explain", "depends_on": [], "difficulty": 2}
    | {"expected_output_tokens": 40},
    {
        "ID": "2",
        "Task": "Who pays?",
        "Role": "Generate",
        "Rely": "1",
        "Difficulty": 7.0,
        "Token": "90",
    },
]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"subtasks": JSON_STEPS}),
        json.dumps({"plan": {"why": "x [1]", "tags": ["a"], "Steps": JSON_STEPS}}, indent=2),
        json.dumps(JSON_STEPS),
        f"Steps [2]:\n```json\n{json.dumps(JSON_STEPS)}\n```\nDone {{",
        f"<think>{json.dumps([{'task': 'Foo'}])}</think>{json.dumps(JSON_STEPS)}",
        json.dumps(JSON_STEPS).replace("}", ",}").replace("}]", "},\n]"),
        json.dumps(JSON_STEPS)[:-1],
        f"<Plan>{json.dumps(JSON_STEPS)}</Plan>",
        json.dumps({"tiers": [{"name": "edge"}], "subtasks": JSON_STEPS}),
        json.dumps({"subtasks": JSON_STEPS}) + json.dumps([{"task": "Foo"}]),
        "\n".join(json.dumps(step) for step in JSON_STEPS),
        json.dumps({"subtasks": JSON_STEPS}) + PLAN.replace("Who", "Foo"),
    ],
)
def test_parser_reads_all_fields_when_plan_is_json(text: str) -> None:
    assert read(text) == DRAFTS


def test_draft_is_yielded_at_once_when_its_json_object_ends() -> None:
    parser = PlanParser()
    text = json.dumps({"subtasks": JSON_STEPS})
    end = text.index("}") + 1
    assert parser.feed(text[: end - 1]) == []
    assert parser.feed(text[end - 1 : end]) == DRAFTS[:1]


def test_quotes_and_brackets_are_kept_when_escaped_in_json() -> None:
    (draft,) = read(json.dumps([{"id": 1, "task": 'Is "}]" \\ a \u0000 bracket?'}]))
    assert draft.task == 'Is "}]" \\ a \ufffd bracket?'


def test_json_step_is_read_when_it_holds_empty_containers() -> None:
    (draft,) = read('[{"id": 1, "task": "t", "meta": {}, "tags": [], "depends_on": ["2",],}]')
    assert draft == SubtaskDraft("1", "t", None, ("2",))


@pytest.mark.parametrize(
    "text",
    [
        '[{"task": "a \\x b"}]',
        '[{"task": "a", "difficulty": ' + "9" * 5_000 + "}]",
        '[{"task": "cut',
        f"<Plan>{FIRST[:-20]}",
        '<Plan><Step ID="1"/></Plan>',
        '<Plan><Step ID="1" Rely="">Only half a',
    ],
)
def test_bad_step_is_reported_when_a_step_cannot_be_read(text: str) -> None:
    assert read(text) == []
    assert codes(text) == ["bad_step"]


@pytest.mark.parametrize("cut", [len('Rely=""/>'), len('=""/>'), len('"/>')])
def test_cut_step_is_left_out_when_its_dependencies_are_not_complete(cut: int) -> None:
    assert read(f"<Plan>{FIRST[:-cut]}") == []


@pytest.mark.parametrize("cut", [len("/>"), len(">")])
def test_cut_step_counts_when_only_its_end_is_missing(cut: int) -> None:
    assert read(f"<Plan>{FIRST[:-cut]}") == DRAFTS[:1]


def test_what_is_inside_an_open_think_is_not_the_plan_when_text_ends() -> None:
    assert read(f"<think>{PLAN}") == []


BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
"""


@pytest.mark.parametrize(
    "declaration",
    [BOMB, '<!DOCTYPE p SYSTEM "file:///etc/passwd">', '<!entity x "y">', "<!DOCTYPE>"],
)
def test_nothing_is_read_when_a_dtd_or_entity_is_declared(declaration: str) -> None:
    assert read(declaration + PLAN) == []
    assert codes(declaration + PLAN) == ["forbidden_markup"]


def test_what_came_before_stands_when_an_entity_is_declared_inside_the_plan() -> None:
    assert read(f'<Plan>{FIRST}<!ENTITY x "y">{SECOND}</Plan>') == DRAFTS[:1]


def test_markup_is_text_when_it_is_inside_the_task_element() -> None:
    step = "<Step><ID>1</ID><Task>What is <type> or <id>5</id>?</Task><Rely></Rely></Step>"
    (draft,) = read(f"<Plan>{step}</Plan>")
    assert (draft.id, draft.task, draft.role) == ("1", "What is <type> or <id>5</id>?", None)


def test_dependencies_are_capped_when_there_are_very_many() -> None:
    (draft,) = read(f'<Plan><Step ID="x" Task="?" Rely="{",".join(map(str, range(5_000)))}"/>')
    assert draft.depends_on == tuple(map(str, range(1_000)))


def test_entity_is_never_expanded_when_it_is_used() -> None:
    (draft,) = read('<Plan><Step ID="1" Task="&b;" Rely=""/></Plan>')
    assert draft.task == "&b;"


def test_rest_is_ignored_when_text_is_too_long() -> None:
    parser = PlanParser(max_chars=len("<Plan>" + FIRST) + 5)
    drafts = [draft for char in PLAN.replace("\n", "") for draft in parser.feed(char)]
    assert drafts + parser.close() == DRAFTS[:1]
    assert [issue.code for issue in parser.issues] == ["too_large"]


def test_rest_is_ignored_when_there_are_too_many_steps() -> None:
    parser = PlanParser(max_steps=2)
    assert parser.feed(f"<Plan>{FIRST * 5}") == DRAFTS[:1] * 2
    assert [issue.code for issue in parser.issues] == ["too_large"]


@pytest.mark.parametrize("limits", [{"max_chars": 0}, {"max_steps": 0}])
def test_parser_refuses_when_a_limit_is_below_one(limits: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        PlanParser(**limits)


def test_task_of_a_megabyte_is_read_when_it_is_one_step() -> None:
    task = "word " * 200_000
    (draft,) = read(f'<Plan><Step ID="1" Task="{task}" Rely=""/></Plan>')
    assert draft.task == task.strip()


@pytest.mark.parametrize(
    "bracket", ["[", '{"a":', '[{"a":', "<Plan>", "<Step>", "<think>", "<Task>"]
)
def test_parser_reads_on_when_nesting_is_deep(bracket: str) -> None:
    assert read(bracket * 50_000) == []


@pytest.fixture
def counted_calls() -> Iterator[list[int]]:
    """Count calls of Python functions: unlike the clock, they are the same on any machine."""
    calls = [0]

    def count(_frame: FrameType, event: str, _arg: object) -> None:
        if event == "call":
            calls[0] += 1

    sys.setprofile(count)
    yield calls
    sys.setprofile(None)


@pytest.mark.parametrize(
    "garbage",
    [
        "<",
        "<Plan",
        "<Step ",
        '<Plan><Step Task="',
        '" ',
        '"/>',
        '<Step a="',
        "<Task>",
        "[",
        "[{",
        '[{"task":',
        '{"a":[',
        "<!--",
        "</think",
        "&#",
    ],
)
@pytest.mark.parametrize(
    "start", ["", '<Plan><Step ID="1" Task="x"y', "<Plan><Step>", '[{"task":"']
)
@pytest.mark.parametrize("chunk_chars", [1, 4_096])
def test_work_grows_with_the_length_only_when_text_is_garbage(
    counted_calls: list[int], start: str, garbage: str, chunk_chars: int
) -> None:
    text = start + garbage * (8_000 // len(garbage))
    parser = PlanParser()
    for place in range(0, len(text), chunk_chars):
        parser.feed(text[place : place + chunk_chars])
    parser.close()
    assert counted_calls[0] < 20 * len(text) + 1_000

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.plan import Subtask
from langchain_hybridflow.sandbox.operations import Unsolvable
from langchain_hybridflow.sandbox.program import evaluate
from langchain_hybridflow.sandbox.solver import mentions, read_assignment, read_program

QUESTION = (
    "A full box of pens has 6 rows with 4 in each row. The shop at Hilltop had 50 pens, received "
    "2 boxes more and sold 30. Harbour had 52 pens, received 2 boxes and then sold 25 percent of "
    "what it had. How many pens are left in all the shops together?"
)
BOX = "the number of pens in one full box"
HILLTOP = "the number of pens left at Hilltop"
HARBOUR = "the number of pens left at Harbour"
TOTAL = "the total of all the pens left"

Prompt = Callable[..., str]


def analyze(task: str) -> Subtask:
    return Subtask(id="4", task=task)


def generate(task: str) -> Subtask:
    return Subtask(id="9", task=task, role="generate")


def solve(prompt: str) -> object:
    assignment = read_assignment(prompt)
    workings = evaluate(assignment.program, assignment.target, given=assignment.given)
    return workings[-1].value if workings else assignment.given[assignment.target]


def test_question_alone_is_solved_as_a_whole() -> None:
    assert solve(QUESTION) == 143


def test_question_is_solved_when_there_is_other_text_around_it() -> None:
    assert solve(f"Please help me with this.\n\n{QUESTION}\nThank you.") == 143


def test_question_is_solved_when_its_lines_are_wrapped() -> None:
    assert solve(QUESTION.replace(" received", "\n  received")) == 143


def test_question_in_tags_is_a_direct_question_when_there_is_no_subtask() -> None:
    assert not read_assignment(f"<question>\n{QUESTION}\n</question>").is_subtask


def test_subtask_asks_for_the_step_that_its_task_names(subtask_prompt: Prompt) -> None:
    assert solve(subtask_prompt(QUESTION, analyze(f"What is {HILLTOP}?"))) == 68


def test_subtask_takes_a_result_from_where_the_task_says(subtask_prompt: Prompt) -> None:
    task = f"Work out {HILLTOP}. Take {BOX} from [1]."
    prompt = subtask_prompt(QUESTION, analyze(task), {"1": "It is so.\nAnswer: 24"})
    assert solve(prompt) == 68
    assert len(_steps(prompt)) == 2


@pytest.mark.parametrize(
    "reference",
    [
        "Use {} from [1].",
        "Use {} ([1]).",
        "{} is the result of subtask 1.",
        "Use {}, as in subtask 1.",
    ],
)
def test_subtask_understands_ways_of_referring_to_a_result(
    subtask_prompt: Prompt, reference: str
) -> None:
    task = f"Work out {HILLTOP}. {reference.format(BOX)}"
    assert solve(subtask_prompt(QUESTION, analyze(task), {"1": "Answer: 100"})) == 220


def test_subtask_gives_a_wrong_result_when_its_input_is_wrong(subtask_prompt: Prompt) -> None:
    task = f"Work out {HILLTOP}. Take {BOX} from [1]."
    assert solve(subtask_prompt(QUESTION, analyze(task), {"1": "Answer: 25"})) == 70


def test_subtask_takes_a_result_that_says_itself_what_it_is(subtask_prompt: Prompt) -> None:
    results = {"7": f"6 * 4 = 25, so {BOX} is 25.\nAnswer: 25"}
    assert solve(subtask_prompt(QUESTION, analyze(f"What is {HILLTOP}?"), results)) == 70


def test_subtask_works_a_result_out_itself_when_it_cannot_be_read(subtask_prompt: Prompt) -> None:
    task = f"Work out {HILLTOP}. Take {BOX} from [1]."
    prompt = subtask_prompt(QUESTION, analyze(task), {"1": "Sorry, I cannot say."})
    assert solve(prompt) == 68
    assert len(_steps(prompt)) == 3


def test_subtask_asks_for_the_last_step_when_tasks_were_merged(subtask_prompt: Prompt) -> None:
    task = (
        f"First: what is {HARBOUR}? Take {BOX} from [1].\nThen: what is {TOTAL}? Take {HILLTOP} "
        f"from [2] and {HARBOUR} from [3]."
    )
    prompt = subtask_prompt(QUESTION, generate(task), {"1": "Answer: 24", "2": "Answer: 70"})
    assert solve(prompt) == 70 + 75


def test_sink_answers_the_question_when_its_task_is_the_question(subtask_prompt: Prompt) -> None:
    results = {"2": f"So {HILLTOP} is 100.\nAnswer: 100"}
    assert solve(subtask_prompt(QUESTION, generate(QUESTION), results)) == 175


def test_sink_answers_the_question_when_its_task_says_nothing(subtask_prompt: Prompt) -> None:
    assert solve(subtask_prompt(QUESTION, generate("Give the final answer."))) == 143


def test_analyze_cannot_be_read_when_it_asks_for_nothing_known(subtask_prompt: Prompt) -> None:
    with pytest.raises(Unsolvable):
        read_assignment(subtask_prompt(QUESTION, analyze("Think about pens.")))


def test_subtask_reckons_with_results_when_its_task_is_a_sum(subtask_prompt: Prompt) -> None:
    results = {"1": "Answer: 12", "2": "Answer: 30"}
    prompt = subtask_prompt("Some question?", analyze("What is [1] + [2]?"), results)
    assert solve(prompt) == Decimal(42)


def test_mentions_prefers_the_longer_name_when_one_is_part_of_another() -> None:
    program = read_program(QUESTION)
    assert program is not None
    text = f"{HILLTOP} from [2], then {TOTAL.upper()}"
    assert [(m.node.label, m.subtask_id) for m in mentions(text, program)] == [
        (HILLTOP, "2"),
        (TOTAL, None),
    ]


def test_mentions_is_not_fooled_by_a_name_that_goes_on() -> None:
    program = read_program(QUESTION)
    assert program is not None
    assert mentions(f"{HILLTOP}ville", program) == []


def test_date_that_does_not_exist_makes_a_question_unreadable() -> None:
    question = (
        "The contract for the school is signed on 30 February 2024, and work starts 10 days "
        "later. The Roof team is done 3 days after the start. The Floor team is done 4 days after "
        "the start. On which date is everything done?"
    )
    assert read_program(question) is None


@given(st.text(max_size=400))
def test_read_assignment_never_raises_anything_but_unsolvable(text: str) -> None:
    for prompt in (text, f'<subtask id="1" role="generate">\n{text}', f"<question>{text}"):
        try:
            read_assignment(prompt)
        except Unsolvable:
            continue


@pytest.mark.parametrize(
    "text",
    [
        '<result subtask="1">' * 50_000 + '<subtask id="1" role="analyze">',
        '<subtask id="1" role="analyze">' * 30_000,
        "<question>" * 100_000,
        "Ada, " * 200_000,
        "(" * 1_000_000,
        QUESTION * 3_000,
    ],
    ids=["results", "subtasks", "questions", "names", "brackets", "stories"],
)
def test_read_assignment_stays_quick_when_the_prompt_is_huge(text: str) -> None:
    started = time.perf_counter()
    with pytest.raises(Unsolvable):
        read_assignment(text)
    assert time.perf_counter() - started < 5


def _steps(prompt: str) -> list[str]:
    assignment = read_assignment(prompt)
    needed = assignment.program.needed(assignment.target, given=assignment.given)
    return [node.name for node in needed]

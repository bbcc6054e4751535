"""Each family: what it writes it can read, in every wording; its solutions against ours."""

from __future__ import annotations

import random
import re
from datetime import date, timedelta
from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_hybridflow.sandbox.kinds import FAMILIES, Family
from langchain_hybridflow.sandbox.language import PhraseBook, parse_date, unlisted
from langchain_hybridflow.sandbox.problems import KINDS
from langchain_hybridflow.sandbox.program import Ref, evaluate

families = pytest.mark.parametrize(
    "family", FAMILIES, ids=lambda family: f"{family.kind}-{FAMILIES.index(family)}"
)


def books(family: Family) -> list[PhraseBook]:
    return [family.setting, *family.branches.values(), *family.asks.values()]


@families
@given(seed=st.integers(0, 2**32))
def test_family_reads_back_the_story_that_it_wrote(family: Family, seed: int) -> None:
    rng = random.Random(seed)
    story = family.draw(rng)
    assert family.read(family.write(story, rng)) == story


@families
@given(seed=st.integers(0, 2**32))
def test_family_leaves_the_questions_of_the_others_alone(family: Family, seed: int) -> None:
    rng = random.Random(seed)
    question = family.write(family.draw(rng), rng)
    assert [other for other in FAMILIES if other.read(question) is not None] == [family]


@families
@given(seed=st.integers(0, 2**32))
def test_family_makes_programs_with_steps_in_order_and_unique_labels(
    family: Family, seed: int
) -> None:
    program = family.program(family.draw(random.Random(seed)))
    labels = [node.label for node in program.nodes]
    assert len(set(labels)) == len(labels)
    seen = set[str]()
    for node in program.nodes:
        assert set(node.depends_on) <= seen
        seen.add(node.name)
    assert program.needed(program.sink.name, given={}) == program.nodes


@families
def test_family_says_the_same_in_every_wording_of_a_sentence(family: Family) -> None:
    for book in books(family):
        slots = [set(re.findall(r"\{(\w+):", phrase.template)) for phrase in book.phrases]
        assert all(names == slots[0] for names in slots)


def test_families_have_many_wordings_for_every_kind() -> None:
    for kind in KINDS:
        wordings = sum(
            len(book.phrases)
            for family in FAMILIES
            if family.kind == kind
            for book in books(family)
        )
        assert wordings >= 14


def value_of(question: str) -> object:
    (program,) = [f.program(story) for f in FAMILIES if (story := f.read(question)) is not None]
    return evaluate(program, program.sink.name)[-1].value


def test_stock_is_solved_as_by_hand() -> None:
    question = (
        "A full box of pens has 6 rows with 4 in each row. The shop at Hilltop had 50 pens, "
        "received 2 boxes more and sold 30. Harbour had 52 pens, received 2 boxes and then sold "
        "25 percent of what it had. How many pens are left in all the shops together?"
    )
    assert value_of(question) == (50 + 2 * 24 - 30) + (52 + 2 * 24) * 75 // 100


def test_money_is_solved_as_by_hand() -> None:
    question = (
        "A ticket for the zoo costs 10 euros, and groups get 20 percent off. The group of Ada has "
        "5 people and adds a lunch at 2.50 euros a head. Ben buys tickets for 10 people, hires a "
        "bus for 20 euros, and an agency adds 10 percent to the whole bill. How many euros lie "
        "between the most and the least expensive group?"
    )
    assert value_of(question) == (20 + 10 * 8) * Decimal("1.1") - 5 * Decimal("10.5")


def test_distance_is_solved_as_by_hand() -> None:
    question = (
        "One lap leads once around the park, a rectangle of 100 by 400 metres. Ada runs 3 laps and "
        "then 2 km home. Ben cycles for 2 h 15 min at 20 km/h. Who covers the longest distance?"
    )
    assert value_of(question) == ("Ada" if 3 * 1000 + 2000 > 45_000 else "Ben")


def test_volume_is_solved_as_by_hand() -> None:
    question = (
        "A bucket holds 2 l and 500 ml. Ada fills the bucket 4 times and spills 100 ml on the way. "
        "Ben lets a hose run for 1 h 40 min at 50 ml a minute, but 10 percent of it leaks away. "
        "How many millilitres of water are in the pool?"
    )
    assert value_of(question) == 4 * 2500 - 100 + 4500


def test_dates_are_solved_as_by_the_calendar() -> None:
    question = (
        "The contract for the school is signed on 26 February 2024, and work starts 10 days later. "
        "The Roof team needs 3 weeks and 2 days from the start. The Floor team needs 6 working "
        "days after the start, Monday to Friday. How many days pass between the first team being "
        "done and the last?"
    )
    start = date(2024, 3, 7)
    assert value_of(question) == (start + timedelta(days=23) - date(2024, 3, 15)).days


@given(seed=st.integers(0, 2**32))
def test_logic_has_exactly_one_solution(seed: int) -> None:
    family = FAMILIES[-1]
    story = family.draw(random.Random(seed))
    people = unlisted(story.setting["people"])
    pets = re.findall(r"for the (\w+)", story.setting["prices"])
    excluded = {b.who: unlisted(b.slots.get("others", "")) for b in story.branches}
    ways = [
        order
        for order in permutations(pets)
        if all(pet not in excluded[who] for who, pet in zip(people, order, strict=True))
    ]
    assert len(ways) == 1


def test_family_reads_nothing_when_two_branches_are_about_the_same_person() -> None:
    question = (
        "A bucket holds 2 l and 500 ml. Ada empties 4 bottles of 500 ml each. Ada empties 5 "
        "bottles of 500 ml each. Who brings the most water?"
    )
    assert all(family.read(question) is None for family in FAMILIES)


def test_dates_read_the_first_fact_as_a_date() -> None:
    rng = random.Random(1)
    family = next(family for family in FAMILIES if family.kind == "dates")
    story = family.draw(rng)
    assert family.program(story).nodes[0].args[0] == parse_date(story.setting["signed"])
    assert not any(isinstance(arg, Ref) for arg in family.program(story).nodes[0].args)

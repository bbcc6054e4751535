"""Dates: when several teams finish their part of a project."""

from __future__ import annotations

import random
from datetime import date, timedelta
from decimal import Decimal
from typing import Final

from langchain_hybridflow.sandbox.kinds.base import Branch, Family, Story
from langchain_hybridflow.sandbox.language import PhraseBook, parse_date, slots_of, spelt_date
from langchain_hybridflow.sandbox.operations import Unsolvable
from langchain_hybridflow.sandbox.program import Node, Program, Ref

__all__ = ["DATES"]

_PROJECTS: Final = ("bridge", "library", "school", "tunnel", "harbour", "bakery")
_TEAMS: Final = ("Roof", "Garden", "Window", "Paint", "Floor", "Wiring", "Kitchen", "Plumbing")
_SEVEN: Final = Decimal(7)
# Up to here a date can be counted on a calendar page; beyond, months must be carried.
_EASY_DAYS: Final = 12


def _write_day(rng: random.Random, day: date) -> str:
    return day.isoformat() if rng.random() < 0.5 else spelt_date(day)


def _draw(rng: random.Random) -> Story:
    signed = date(rng.randint(2021, 2027), 1, 1) + timedelta(days=rng.randrange(365))
    count = rng.choice((2, 2, 3, 3, 4))
    forms = ["weeks"] + [
        rng.choices(("weeks", "days", "working", "own"), (2, 2, 2, 2))[0] for _ in range(count - 1)
    ]
    rng.shuffle(forms)
    branches = []
    for form, who in zip(forms, rng.sample(_TEAMS, count), strict=True):
        slots = {"who": who, "days": str(rng.randint(3, 12))}
        if form == "weeks":
            slots |= {"weeks": str(rng.randint(2, 9)), "days": str(rng.randint(1, 6))}
        elif form == "working":
            slots |= {"days": str(rng.randint(6, 18))}
        elif form == "own":
            begun = signed + timedelta(days=rng.randint(2, 20))
            slots |= {"begun": _write_day(rng, begun), "days": str(rng.randint(5, 70))}
        branches.append(Branch(form, slots))
    setting = {
        "project": rng.choice(_PROJECTS),
        "signed": _write_day(rng, signed),
        "lead": str(rng.randint(3, 25)),
    }
    ask = rng.choices(("latest", "weekday", "between", "leading"), (4, 2, 3, 2))[0]
    return Story(setting, tuple(branches), ask, {})


def _day(text: str) -> date:
    day = parse_date(text)
    if day is None:
        raise Unsolvable(f"there is no such day as {text}")
    return day


def _difficulty(days: Decimal) -> int:
    return 4 if days <= _EASY_DAYS else 6


def _program(story: Story) -> Program:
    (lead,) = slots_of(story.setting, "lead")
    nodes = [
        Node(
            "start",
            f"the date on which work on the {story.setting['project']} starts",
            "days_after",
            (_day(story.setting["signed"]), lead),
            _difficulty(lead) - 1,
        )
    ]
    for branch in story.branches:
        nodes += _branch_nodes(branch)
    nodes.append(_answer(story))
    return Program("dates", tuple(nodes))


def _branch_nodes(branch: Branch) -> tuple[Node, ...]:
    who, slots = branch.who, branch.slots
    name, label = f"end-{who}", f"the date on which the {who} team is done"
    (days,) = slots_of(slots, "days")
    if branch.form == "own":
        return (Node(name, label, "days_after", (_day(slots["begun"]), days), _difficulty(days)),)
    if branch.form == "days":
        return (Node(name, label, "days_after", (Ref("start"), days), _difficulty(days)),)
    if branch.form == "working":
        return (Node(name, label, "working_days_after", (Ref("start"), days), 7),)
    (weeks,) = slots_of(slots, "weeks")
    time = Node(
        f"time-{who}",
        f"the number of days that the {who} team needs",
        "add_product",
        (days, weeks, _SEVEN),
        2,
    )
    return time, Node(name, label, "days_after", (Ref("start"), Ref(time.name)), 6)


def _answer(story: Story) -> Node:
    ends = tuple(Ref(f"end-{branch.who}") for branch in story.branches)
    if story.ask == "latest":
        return Node("answer", "the date on which all the teams are done", "latest", ends, 2)
    if story.ask == "weekday":
        return Node("answer", "the weekday on which the last team is done", "weekday", ends, 6)
    if story.ask == "between":
        label = "the number of days between the first and the last team to be done"
        return Node("answer", label, "days_between", ends, 5)
    named = tuple(
        arg for branch in story.branches for arg in (branch.who, Ref(f"end-{branch.who}"))
    )
    return Node("answer", "the name of the team that is done last", "leading", named, 2)


DATES: Final = Family(
    kind="dates",
    setting=PhraseBook(
        "The contract for the {project:word} is signed on {signed:date}, and work starts "
        "{lead:int} days later.",
        "Work on the {project:word} begins {lead:int} days after the signing on {signed:date}.",
        "On {signed:date} the plans for the {project:word} are approved; {lead:int} days after "
        "that the work starts.",
    ),
    branches={
        "weeks": PhraseBook(
            "The {who:name} team needs {weeks:int} weeks and {days:int} days from the start.",
            "From the start of work the {who:name} team takes {weeks:int} weeks plus {days:int} "
            "days.",
            "It takes the {who:name} team {weeks:int} weeks and another {days:int} days, counted "
            "from the start of work.",
        ),
        "days": PhraseBook(
            "The {who:name} team is done {days:int} days after the start.",
            "Only {days:int} days after the start of work the {who:name} team is done.",
        ),
        "working": PhraseBook(
            "The {who:name} team needs {days:int} working days after the start, Monday to Friday.",
            "Counting only Monday to Friday, the {who:name} team is done {days:int} working days "
            "after the start.",
        ),
        "own": PhraseBook(
            "The {who:name} team did not wait: it began on {begun:date} and needs {days:int} days.",
            "Independent of the others, the {who:name} team begins on {begun:date} and is done "
            "{days:int} days later.",
        ),
    },
    asks={
        "latest": PhraseBook(
            "On which date is everything done?", "What is the date when the last team is done?"
        ),
        "weekday": PhraseBook(
            "On which day of the week is the last team done?",
            "Which weekday is it when everything is done?",
        ),
        "between": PhraseBook(
            "How many days pass between the first team being done and the last?",
            "How many days after the first team is the last one done?",
        ),
        "leading": PhraseBook(
            "Which team is the last to be done?", "Which team do the others wait for?"
        ),
    },
    asides=(
        "There are no public holidays in that time.",
        "The weather is not a problem this year.",
        "All teams have worked together before.",
    ),
    draw=_draw,
    program=_program,
)

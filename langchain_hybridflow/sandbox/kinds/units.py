"""Units: distances and volumes given in mixed units."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Final

from langchain_hybridflow.sandbox.kinds.base import NAMES, Branch, Family, Story, ask_amounts
from langchain_hybridflow.sandbox.language import PhraseBook, slots_of
from langchain_hybridflow.sandbox.program import Node, Program, Ref

__all__ = ["DISTANCE", "VOLUME"]

_THOUSAND: Final = Decimal(1000)
_SIXTY: Final = Decimal(60)
_FIELDS: Final = ("park", "meadow", "garden", "stadium", "market", "island")
_VESSELS: Final = ("bucket", "jar", "barrel", "can", "jug")


def _draw_forms(rng: random.Random, forms: tuple[str, str, str]) -> list[str]:
    """Draw the forms of two to four branches; the first of `forms` is always among them."""
    count = rng.choice((2, 2, 3, 3, 4))
    drawn = [forms[0]] + [rng.choices(forms, (2, 5, 2))[0] for _ in range(count - 1)]
    rng.shuffle(drawn)
    return drawn


def _draw_distance(rng: random.Random) -> Story:
    forms = _draw_forms(rng, ("laps", "speed", "pace"))
    branches = []
    for form, who in zip(forms, rng.sample(NAMES, len(forms)), strict=True):
        slots = {"who": who}
        if form == "laps":
            slots |= {"laps": str(rng.randint(3, 14)), "km": str(rng.randint(1, 6))}
        elif form == "speed":
            minutes = str(rng.choice((6, 12, 15, 18, 24, 36, 42, 45, 48)))
            slots |= {"hours": str(rng.randint(2, 3)), "minutes": minutes}
            slots |= {"speed": str(rng.randint(8, 32))}
        else:
            slots |= {"metres": str(rng.randint(40, 95)), "minutes": str(rng.randint(21, 80))}
        branches.append(Branch(form, slots))
    setting = {
        "field": rng.choice(_FIELDS),
        "width": str(rng.randint(8, 30) * 10),
        "length": str(rng.randint(31, 60) * 10),
    }
    ask = rng.choices(("total", "spread", "leading"), (4, 3, 1))[0]
    return Story(setting, tuple(branches), ask, {})


def _distance_program(story: Story) -> Program:
    label = f"the length of one lap around the {story.setting['field']} in metres"
    nodes = [Node("lap", label, "around", slots_of(story.setting, "width", "length"), 3)]
    for branch in story.branches:
        nodes += _distance_nodes(branch)
    nodes.append(ask_amounts(story.ask, story.branches, what="metres covered"))
    return Program("units", tuple(nodes))


def _distance_nodes(branch: Branch) -> tuple[Node, ...]:
    who, slots = branch.who, branch.slots
    name, label = f"end-{who}", f"the number of metres that {who} covers"
    if branch.form == "pace":
        return (Node(name, label, "multiply", slots_of(slots, "metres", "minutes"), 4),)
    if branch.form == "laps":
        laps, km = slots_of(slots, "laps", "km")
        around = Node(
            f"laps-{who}", f"the metres of all the laps of {who}", "multiply", (laps, Ref("lap")), 3
        )
        return around, Node(name, label, "add_product", (Ref(around.name), km, _THOUSAND), 3)
    hours, minutes, speed = slots_of(slots, "hours", "minutes", "speed")
    time = Node(
        f"time-{who}",
        f"the number of minutes that {who} is on the way",
        "add_product",
        (minutes, hours, _SIXTY),
        2,
    )
    return time, Node(name, label, "metres_at_speed", (speed, Ref(time.name)), 7)


DISTANCE: Final = Family(
    kind="units",
    setting=PhraseBook(
        "One lap leads once around the {field:word}, a rectangle of {width:int} by {length:int} "
        "metres.",
        "The {field:word} is a rectangle, {width:int} metres wide and {length:int} metres long, "
        "and a lap follows its edge.",
        "A lap of the rectangular {field:word} goes along all four sides, two of {width:int} and "
        "two of {length:int} metres.",
    ),
    branches={
        "laps": PhraseBook(
            "{who:name} runs {laps:int} laps and then {km:int} km home.",
            "First {km:int} km to the start and then {laps:int} laps: that is the training of "
            "{who:name}.",
            "{who:name} does {laps:int} laps, followed by a walk of {km:int} km.",
        ),
        "speed": PhraseBook(
            "{who:name} cycles for {hours:int} h {minutes:int} min at {speed:int} km/h.",
            "At a constant {speed:int} km/h {who:name} is on the road for {hours:int} hours and "
            "{minutes:int} minutes.",
            "{who:name} skates {hours:int} hours {minutes:int} minutes long, covering {speed:int} "
            "kilometres in each hour.",
        ),
        "pace": PhraseBook(
            "{who:name} walks {metres:int} metres a minute for {minutes:int} minutes.",
            "For {minutes:int} minutes {who:name} strolls on a straight path, {metres:int} metres "
            "every minute.",
        ),
    },
    asks={
        "total": PhraseBook(
            "How many metres do they cover together?",
            "What is the sum of all these distances in metres?",
        ),
        "spread": PhraseBook(
            "How many metres lie between the longest and the shortest distance?",
            "By how many metres does the longest way exceed the shortest?",
        ),
        "leading": PhraseBook("Who covers the longest distance?", "Who gets the farthest?"),
    },
    asides=(
        "It is a cool and dry morning.",
        "Everybody wears new shoes.",
        "There is tea for all of them afterwards.",
    ),
    draw=_draw_distance,
    program=_distance_program,
)


def _draw_volume(rng: random.Random) -> Story:
    vessel = rng.choice(_VESSELS)
    forms = _draw_forms(rng, ("carries", "tap", "bottles"))
    branches = []
    for form, who in zip(forms, rng.sample(NAMES, len(forms)), strict=True):
        slots = {"who": who}
        if form == "carries":
            slots |= {
                "count": str(rng.randint(3, 15)),
                "vessel": vessel,
                "spilt": str(rng.randint(3, 40) * 50),
            }
        elif form == "tap":
            slots |= {"rate": str(rng.randint(9, 45) * 10), "hours": str(rng.randint(2, 4))}
            slots |= {"minutes": str(rng.randint(3, 57)), "percent": str(rng.choice((10, 20, 30)))}
        else:
            slots |= {"count": str(rng.randint(6, 40)), "ml": str(rng.choice((330, 500, 700, 750)))}
        branches.append(Branch(form, slots))
    setting = {
        "vessel": vessel,
        "litres": str(rng.randint(2, 9)),
        "ml": str(rng.randint(1, 19) * 50),
    }
    ask = rng.choices(("total", "spread", "leading"), (4, 3, 1))[0]
    return Story(setting, tuple(branches), ask, {})


def _volume_program(story: Story) -> Program:
    litres, ml = slots_of(story.setting, "litres", "ml")
    label = f"the content of one {story.setting['vessel']} in millilitres"
    nodes = [Node("vessel", label, "add_product", (ml, litres, _THOUSAND), 2)]
    for branch in story.branches:
        nodes += _volume_nodes(branch)
    nodes.append(ask_amounts(story.ask, story.branches, what="millilitres brought"))
    return Program("units", tuple(nodes))


def _volume_nodes(branch: Branch) -> tuple[Node, ...]:
    who, slots = branch.who, branch.slots
    name, label = f"end-{who}", f"the number of millilitres that {who} brings"
    if branch.form == "bottles":
        return (Node(name, label, "multiply", slots_of(slots, "count", "ml"), 4),)
    if branch.form == "carries":
        count, spilt = slots_of(slots, "count", "spilt")
        full = Node(
            f"full-{who}",
            f"the millilitres that {who} fills in",
            "multiply",
            (count, Ref("vessel")),
            4,
        )
        return full, Node(name, label, "subtract", (Ref(full.name), spilt), 2)
    rate, hours, minutes, percent = slots_of(slots, "rate", "hours", "minutes", "percent")
    time = Node(
        f"time-{who}",
        f"the number of minutes for which {who} lets the hose run",
        "add_product",
        (minutes, hours, _SIXTY),
        2,
    )
    flow = Node(
        f"flow-{who}",
        f"the millilitres from the hose of {who}",
        "multiply",
        (rate, Ref(time.name)),
        4,
    )
    return time, flow, Node(name, label, "percent_off", (Ref(flow.name), percent), 6)


VOLUME: Final = Family(
    kind="units",
    setting=PhraseBook(
        "A {vessel:word} holds {litres:int} l and {ml:int} ml.",
        "The {vessel:word} they use takes {litres:int} litres and {ml:int} millilitres when full.",
        "When it is full there are {litres:int} litres plus {ml:int} ml in the {vessel:word}.",
    ),
    branches={
        "carries": PhraseBook(
            "{who:name} fills the {vessel:word} {count:int} times and spills {spilt:int} ml on "
            "the way.",
            "Of {count:int} loads with the {vessel:word}, {who:name} loses {spilt:int} ml and "
            "pours out the rest.",
        ),
        "tap": PhraseBook(
            "{who:name} lets a hose run for {hours:int} h {minutes:int} min at {rate:int} ml a "
            "minute, but {percent:int} percent of it leaks away.",
            "A hose gives {who:name} {rate:int} ml every minute for {hours:int} hours and "
            "{minutes:int} minutes, less {percent:int} percent through a leak.",
        ),
        "bottles": PhraseBook(
            "{who:name} empties {count:int} bottles of {ml:int} ml each.",
            "Another {count:int} bottles with {ml:int} ml apiece come from {who:name}.",
        ),
    },
    asks={
        "total": PhraseBook(
            "How many millilitres of water are in the pool?",
            "How much water do they bring together, in ml?",
        ),
        "spread": PhraseBook(
            "How many millilitres more does the one with the most water bring than the one with "
            "the least?",
            "What is the difference in ml between the largest and the smallest contribution?",
        ),
        "leading": PhraseBook("Who brings the most water?", "Whose share of the water is largest?"),
    },
    asides=(
        "The pool was empty at first.",
        "It did not rain that day.",
        "The garden belongs to a neighbour.",
    ),
    draw=_draw_volume,
    program=_volume_program,
)

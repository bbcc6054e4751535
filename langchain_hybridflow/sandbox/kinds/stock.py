"""Stock: how much is left in several shops after deliveries and sales."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Final

from langchain_hybridflow.sandbox.kinds.base import PLACES, Branch, Family, Story, ask_amounts
from langchain_hybridflow.sandbox.language import PhraseBook, slots_of
from langchain_hybridflow.sandbox.program import Node, Program, Ref

__all__ = ["STOCK"]

_ITEMS: Final = (
    "pens",
    "mugs",
    "lamps",
    "candles",
    "notebooks",
    "batteries",
    "umbrellas",
    "teapots",
    "kites",
    "lanterns",
)


def _draw(rng: random.Random) -> Story:
    item = rng.choice(_ITEMS)
    count = rng.choice((2, 2, 3, 3, 4))
    forms = ["delivered"] + [
        rng.choices(("delivered", "share", "steady"), (2, 6, 2))[0] for _ in range(count - 1)
    ]
    rng.shuffle(forms)
    branches = [
        _draw_branch(rng, form, item, who)
        for form, who in zip(forms, rng.sample(PLACES, count), strict=True)
    ]
    setting = {"item": item, "rows": str(rng.randint(3, 9)), "each": str(rng.randint(4, 12))}
    ask = rng.choices(("total", "spread", "leading"), (4, 3, 1))[0]
    return Story(setting, tuple(branches), ask, {"item": item})


def _draw_branch(rng: random.Random, form: str, item: str, who: str) -> Branch:
    slots = {"who": who, "item": item, "opening": str(rng.randint(40, 300))}
    if form == "steady":
        slots |= {"daily": str(rng.randint(6, 25)), "days": str(rng.randint(3, 9))}
    else:
        slots |= {"boxes": str(rng.randint(2, 9))}
        if form == "delivered":
            slots |= {"sold": str(rng.randint(20, 120))}
        else:
            slots |= {"percent": str(rng.choice((15, 20, 25, 30, 35, 40, 45, 60)))}
    return Branch(form, slots)


def _program(story: Story) -> Program:
    item = story.setting["item"]
    rows, each = slots_of(story.setting, "rows", "each")
    label = f"the number of {item} in one full box"
    nodes = [Node("box", label, "multiply", (rows, each), 2)]
    for branch in story.branches:
        nodes += _branch_nodes(branch, item)
    nodes.append(ask_amounts(story.ask, story.branches, what=f"{item} left"))
    return Program("stock", tuple(nodes))


def _branch_nodes(branch: Branch, item: str) -> tuple[Node, ...]:
    name, label = f"end-{branch.who}", f"the number of {item} left at {branch.who}"
    opening = Decimal(branch.slots["opening"])
    if branch.form == "steady":
        return (
            Node(
                name,
                label,
                "subtract_product",
                (opening, *slots_of(branch.slots, "daily", "days")),
                3,
            ),
        )
    (boxes,) = slots_of(branch.slots, "boxes")
    before = Node(
        f"full-{branch.who}",
        f"the number of {item} that {branch.who} had after the delivery",
        "add_product",
        (opening, boxes, Ref("box")),
        3,
    )
    full = Ref(before.name)
    if branch.form == "delivered":
        return before, Node(name, label, "subtract", (full, *slots_of(branch.slots, "sold")), 2)
    return before, Node(name, label, "percent_off", (full, *slots_of(branch.slots, "percent")), 6)


STOCK: Final = Family(
    kind="stock",
    setting=PhraseBook(
        "A full box of {item:word} has {rows:int} rows with {each:int} in each row.",
        "The supplier packs {item:word} in boxes of {rows:int} layers, {each:int} to a layer.",
        "Every box of {item:word} holds {rows:int} trays, and there are {each:int} on each tray.",
        "The {item:word} come by the box; one box is {rows:int} bags of {each:int}.",
    ),
    branches={
        "delivered": PhraseBook(
            "The shop at {who:name} had {opening:int} {item:word}, received {boxes:int} boxes more "
            "and sold {sold:int}.",
            "{who:name} opened the week with {opening:int} {item:word}, took in {boxes:int} boxes "
            "and had sold {sold:int} by Friday.",
            "After {boxes:int} boxes had been added to the {opening:int} {item:word} at "
            "{who:name}, customers bought {sold:int}.",
        ),
        "share": PhraseBook(
            "{who:name} had {opening:int} {item:word}, received {boxes:int} boxes and then sold "
            "{percent:int} percent of what it had.",
            "At {who:name} {boxes:int} boxes joined the {opening:int} {item:word} on the shelf, "
            "and {percent:int} percent of everything was sold.",
            "The {who:name} branch counted {opening:int} {item:word}, got a delivery of "
            "{boxes:int} boxes and lost {percent:int} percent of the new total in a flood.",
        ),
        "steady": PhraseBook(
            "{who:name} got no delivery: it had {opening:int} {item:word} and sold {daily:int} a "
            "day for {days:int} days.",
            "With {opening:int} {item:word} and no delivery, {who:name} sold {daily:int} on each "
            "of {days:int} days.",
        ),
    },
    asks={
        "total": PhraseBook(
            "How many {item:word} are left in all the shops together?",
            "What is the number of {item:word} that remain over all shops?",
        ),
        "spread": PhraseBook(
            "How many more {item:word} does the fullest shop have left than the emptiest?",
            "By how many {item:word} do the best and the worst stocked shop differ in the end?",
        ),
        "leading": PhraseBook(
            "Which shop has the most {item:word} left?",
            "Where are the most {item:word} left in the end?",
        ),
    },
    asides=(
        "The shops are closed on Sundays.",
        "All shops belong to the same owner.",
        "Prices have not changed since last year.",
    ),
    draw=_draw,
    program=_program,
)

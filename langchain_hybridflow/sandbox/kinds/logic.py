"""Logic: find out who has what by ruling out, then reckon with it."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Final

from langchain_hybridflow.sandbox.kinds.base import NAMES, Branch, Family, Story, ask_amounts
from langchain_hybridflow.sandbox.language import PhraseBook, listing, slots_of, unlisted
from langchain_hybridflow.sandbox.operations import write_table
from langchain_hybridflow.sandbox.program import Node, Program, Ref

__all__ = ["LOGIC"]

_PETS: Final = ("cat", "dog", "parrot", "rabbit", "hamster", "tortoise", "goat", "pony")


def _draw(rng: random.Random) -> Story:
    count = rng.choice((2, 3, 3, 3, 4))
    people = rng.sample(NAMES, count)
    pets = rng.sample(_PETS, count)
    told_pets = rng.sample(pets, count)
    branches = []
    for number, (who, pet) in enumerate(zip(people, pets, strict=True)):
        # The first has none of the later ones' pets, the second none of the still later ones':
        # together that leaves one solution.
        others = [other for other in told_pets if other in pets[number + 1 :]]
        form = rng.choice(("days", "saver"))
        slots = {"who": who, "others": listing(others, last="or") if others else pet}
        slots["days"] = str(rng.randint(6, 40))
        if form == "saver":
            slots["percent"] = str(rng.choice((10, 20, 30, 40)))
        if not others:
            form, slots = f"last_{form}", {k: v for k, v in slots.items() if k != "others"}
        branches.append(Branch(form, slots))
    rng.shuffle(branches)
    prices = rng.sample(range(3, 30), count)
    setting = {
        "people": listing([branch.who for branch in branches]),
        "prices": listing(
            [f"{price} for the {pet}" for pet, price in zip(told_pets, prices, strict=True)]
        ),
    }
    ask = rng.choices(("total", "spread", "leading"), (3, 3, 2))[0]
    return Story(setting, tuple(branches), ask, {})


def _prices(text: str) -> dict[str, Decimal]:
    parts = (part.split(" for the ") for part in unlisted(text))
    return {pet: Decimal(price) for price, pet in parts}


def _program(story: Story) -> Program:
    people, prices = unlisted(story.setting["people"]), _prices(story.setting["prices"])
    excluded = {
        branch.who: ", ".join(unlisted(branch.slots["others"]))
        for branch in story.branches
        if "others" in branch.slots
    }
    clues = (", ".join(people), ", ".join(prices), write_table(excluded))
    nodes = [Node("pets", "the table of who keeps which pet", "eliminate", clues, 3 + len(people))]
    table = tuple(arg for pet, price in prices.items() for arg in (pet, price))
    for branch in story.branches:
        nodes += _branch_nodes(branch, table)
    nodes.append(ask_amounts(story.ask, story.branches, what="euros spent"))
    return Program("logic", tuple(nodes))


def _branch_nodes(branch: Branch, table: tuple[str | Decimal, ...]) -> tuple[Node, ...]:
    who = branch.who
    (days,) = slots_of(branch.slots, "days")
    rate = Node(
        f"rate-{who}",
        f"the daily price of the pet of {who} in euros",
        "look_up",
        (Ref("pets"), who, *table),
        2,
    )
    label = f"the number of euros that {who} spends"
    if "percent" not in branch.slots:
        return rate, Node(f"end-{who}", label, "multiply", (days, Ref(rate.name)), 3)
    full = Node(
        f"full-{who}",
        f"the number of euros for {who} before the discount",
        "multiply",
        (days, Ref(rate.name)),
        3,
    )
    percent = slots_of(branch.slots, "percent")
    return rate, full, Node(f"end-{who}", label, "percent_off", (Ref(full.name), *percent), 5)


LOGIC: Final = Family(
    kind="logic",
    setting=PhraseBook(
        "{people:names} each keep a different pet, and a day of food costs, in euros, "
        "{prices:prices}.",
        "Each of {people:names} has one pet, all different; a day of feeding, in euros, is "
        "{prices:prices}.",
        "No two of {people:names} have the same pet, and their food is, in euros a day, "
        "{prices:prices}.",
    ),
    branches={
        "days": PhraseBook(
            "{who:name} does not have the {others:pets} and buys food for {days:int} days.",
            "The {others:pets} is not the pet of {who:name}, who feeds it for {days:int} days.",
        ),
        "saver": PhraseBook(
            "{who:name} does not have the {others:pets} and buys food for {days:int} days with "
            "{percent:int} percent off.",
            "The {others:pets} is not the pet of {who:name}, who feeds it for {days:int} days at "
            "a discount of {percent:int} percent.",
        ),
        "last_days": PhraseBook(
            "{who:name} buys food for {days:int} days.",
            "Food for {days:int} days goes to {who:name}.",
        ),
        "last_saver": PhraseBook(
            "{who:name} buys food for {days:int} days with {percent:int} percent off.",
            "Food for {days:int} days goes to {who:name}, at a discount of {percent:int} percent.",
        ),
    },
    asks={
        "total": PhraseBook(
            "How many euros do they spend on food in all?",
            "What is the sum of all their bills in euros?",
        ),
        "spread": PhraseBook(
            "How many euros lie between the highest and the lowest bill?",
            "By how many euros does the highest bill exceed the lowest?",
        ),
        "leading": PhraseBook("Who spends the most on food?", "Whose bill is the highest?"),
    },
    asides=(
        "All the pets are healthy.",
        "They live in the same street.",
        "The food shop closes at six.",
    ),
    draw=_draw,
    program=_program,
    whole=False,
)

"""Money: what several groups pay for an outing, exact to the cent."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Final

from langchain_hybridflow.sandbox.kinds.base import NAMES, Branch, Family, Story, ask_amounts
from langchain_hybridflow.sandbox.language import PhraseBook, slots_of
from langchain_hybridflow.sandbox.program import Node, Program, Ref

__all__ = ["MONEY"]

_PLACES: Final = ("museum", "zoo", "theatre", "aquarium", "planetarium", "castle")


def _draw(rng: random.Random) -> Story:
    count = rng.choice((2, 2, 3, 3, 4))
    forms = ["lunch"] + [
        rng.choices(("lunch", "tip", "voucher"), (2, 5, 2))[0] for _ in range(count - 1)
    ]
    rng.shuffle(forms)
    branches = [
        _draw_branch(rng, form, who)
        for form, who in zip(forms, rng.sample(NAMES, count), strict=True)
    ]
    setting = {
        "place": rng.choice(_PLACES),
        "price": str(rng.randint(8, 24)),
        "percent": str(rng.choice((10, 15, 20, 25, 30, 40))),
    }
    ask = rng.choices(("total", "spread", "leading"), (4, 3, 1))[0]
    return Story(setting, tuple(branches), ask, {})


def _draw_branch(rng: random.Random, form: str, who: str) -> Branch:
    slots = {"who": who, "people": str(rng.randint(4, 29))}
    extra = f"{rng.randint(4, 24) * Decimal('0.50'):.2f}"
    if form == "lunch":
        slots["lunch"] = extra
    elif form == "tip":
        slots |= {
            "bus": str(rng.randint(4, 30) * 10),
            "percent": str(rng.choice((5, 8, 10, 12, 15))),
        }
    else:
        slots["voucher"] = extra
    return Branch(form, slots)


def _program(story: Story) -> Program:
    ticket = Node(
        "ticket",
        "the reduced price of one ticket in euros",
        "percent_off",
        slots_of(story.setting, "price", "percent"),
        4,
    )
    nodes = [ticket]
    for branch in story.branches:
        nodes += _branch_nodes(branch)
    nodes.append(ask_amounts(story.ask, story.branches, what="euros paid"))
    return Program("money", tuple(nodes))


def _branch_nodes(branch: Branch) -> tuple[Node, Node]:
    who, ticket = branch.who, Ref("ticket")
    name, label = f"end-{who}", f"the number of euros that the group of {who} pays"
    (people,) = slots_of(branch.slots, "people")
    if branch.form == "lunch":
        each = Node(
            f"each-{who}",
            f"the number of euros for each person in the group of {who}",
            "add",
            (ticket, *slots_of(branch.slots, "lunch")),
            2,
        )
        return each, Node(name, label, "multiply", (people, Ref(each.name)), 3)
    tickets = Node(
        f"tickets-{who}",
        f"the number of euros for all the tickets of the group of {who}",
        "multiply",
        (people, ticket),
        3,
    )
    all_tickets = Ref(tickets.name)
    if branch.form == "voucher":
        return tickets, Node(
            name, label, "subtract", (all_tickets, *slots_of(branch.slots, "voucher")), 2
        )
    tickets = Node(
        tickets.name,
        f"the number of euros for tickets and bus of the group of {who}",
        "add_product",
        (*slots_of(branch.slots, "bus"), people, ticket),
        4,
    )
    return tickets, Node(
        name, label, "percent_on", (all_tickets, *slots_of(branch.slots, "percent")), 6
    )


MONEY: Final = Family(
    kind="money",
    setting=PhraseBook(
        "A ticket for the {place:word} costs {price:int} euros, and groups get {percent:int} "
        "percent off.",
        "The {place:word} takes {price:int} euros a person but gives groups a discount of "
        "{percent:int} percent.",
        "Groups pay {percent:int} percent less than the normal {price:int} euros for each ticket "
        "to the {place:word}.",
    ),
    branches={
        "lunch": PhraseBook(
            "{who:name} comes with a group of {people:int}, and every one of them also has lunch "
            "for {lunch:number} euros.",
            "The group of {who:name} has {people:int} people and adds a lunch at {lunch:number} "
            "euros a head.",
            "All {people:int} people in the party of {who:name} take the ticket with a meal that "
            "costs {lunch:number} euros extra.",
        ),
        "tip": PhraseBook(
            "{who:name} buys tickets for {people:int} people, hires a bus for {bus:int} euros, and "
            "an agency adds {percent:int} percent to the whole bill.",
            "For {people:int} people {who:name} books tickets and a bus at {bus:int} euros, all "
            "of it through an office that charges {percent:int} percent on top.",
        ),
        "voucher": PhraseBook(
            "{who:name} pays for {people:int} people and uses one voucher worth {voucher:number} "
            "euros.",
            "With one voucher of {voucher:number} euros {who:name} pays the tickets of "
            "{people:int} people.",
        ),
    },
    asks={
        "total": PhraseBook(
            "How many euros do all the groups pay together?",
            "What do the groups spend in total, in euros?",
        ),
        "spread": PhraseBook(
            "How many euros lie between the most and the least expensive group?",
            "By how many euros does the dearest outing exceed the cheapest?",
        ),
        "leading": PhraseBook(
            "Whose group pays the most?",
            "Who has the most expensive group?",
        ),
    },
    asides=(
        "Children under four get in free and are not counted.",
        "The doors open at nine in the morning.",
        "Everybody pays by card.",
    ),
    draw=_draw,
    program=_program,
    whole=False,
)

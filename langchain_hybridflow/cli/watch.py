"""`hybridflow router drift | gate`: is a router still fit for service, and may a new one enter?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_hybridflow.cli.display import FAILED, one_line, print_json, reports_errors, screen
from langchain_hybridflow.cli.figures import PLAIN
from langchain_hybridflow.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_hybridflow.learning import LoggedDecision

__all__ = ["drift", "gate"]

_OR_BEFORE = ", or give an older log with --before"

AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@reports_errors
def drift(
    log: Annotated[
        Path, typer.Argument(metavar="LOG", help="Decisions of an online router, with rewards.")
    ],
    *,
    before: Annotated[
        Path | None,
        typer.Option(
            metavar="LOG",
            help="A log of when all was well; without it the first half of LOG stands for it.",
        ),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Probability of any false alarm.")] = 0.01,
    as_json: AsJson = False,
) -> None:
    """Warn if the questions or the models are no longer what they were.

    It ends with exit code 1 if there is an alarm. Looked at are the questions (their features
    against those of before), and each tier (its rewards against what was foreseen, and against
    those of earlier in the log).
    """
    from dataclasses import asdict

    from langchain_hybridflow.learning import Reference, check_drift
    from langchain_hybridflow.learning.drift import FEWEST_CONTEXTS
    from langchain_hybridflow.learning.online import CONTEXT

    decisions = _decisions(log)
    earlier = _decisions(before) if before is not None else decisions[: len(decisions) // 2]
    later = decisions if before is not None else decisions[len(decisions) // 2 :]
    if len(earlier) < FEWEST_CONTEXTS:
        where = f"{before} has" if before is not None else f"the first half of {log} has"
        raise ConfigurationError(
            f"There is too little to compare with: {where} {len(earlier)} decisions, and at least "
            f"{FEWEST_CONTEXTS} are needed. Come back with more{_OR_BEFORE * (before is None)}."
        )
    reference = Reference.of(CONTEXT, [one.context for one in earlier])
    asked = check_drift(reference, later, alpha=alpha / 2)
    answered = check_drift(None, decisions, alpha=alpha / 2)
    about_questions = [one for one in asked.findings if one.kind == "context"]
    findings = (*about_questions, *answered.findings)
    alarms = sum(one.alarm for one in findings)
    if as_json:
        about = {"decisions": answered.decisions, "rewarded": answered.rewarded, "alarms": alarms}
        print_json(about | {"findings": [asdict(one) for one in findings]})
    else:
        _show(((not one.alarm, one.kind, one.message) for one in findings), bad="alarm")
        screen().print(
            f"\n{answered.decisions:,} decisions, {answered.rewarded:,} of them with a reward: "
            f"{alarms or 'no'} alarm{'s' * (alarms != 1)}.",
            style="bold",
        )
    if alarms:
        raise typer.Exit(FAILED)


@reports_errors
def gate(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The router that is to go into service.")
    ],
    *,
    frozen: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Outcomes beyond doubt, which no user can write to; no training."
        ),
    ],
    against: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The router that is in service.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Probability of refusing by chance.")] = 0.01,
    as_json: AsJson = False,
) -> None:
    """Test a router on a frozen set before it goes into service; exit code 1 refuses it.

    Poisoned labels make a router foresee what does not come true: a tier, or a kind of question,
    that is better or worse than it really is, or an order no better than chance.
    """
    import numpy as np

    from langchain_hybridflow.learning import Gate, check_gate, load_dataset, load_router
    from langchain_hybridflow.learning.gate import FEWEST_ROWS

    saved, every = load_router(directory), load_dataset(frozen)
    old = None if against is None else load_router(against)
    unseen = saved.unseen(every)
    if old is not None:
        unseen &= old.unseen(every)
    seen = int((~unseen).sum())
    if seen and len(every) - seen < FEWEST_ROWS:
        raise ConfigurationError(
            f"Of the {len(every):,} questions of {frozen} the router was trained on {seen:,}: they "
            f"prove nothing. Give at least {FEWEST_ROWS} others."
        )
    report = check_gate(
        saved.predictor,
        every.take(np.flatnonzero(unseen)),
        incumbent=None if old is None else old.predictor,
        gate=Gate(alpha=alpha),
    )
    if as_json:
        print_json(report.as_dict() | {"seen_in_training": seen})
    else:
        _show(((test.passed, test.name, test.message) for test in report.tests), bad="REFUSED")
        screen().print(
            f"\n{directory} {'passes' if report.passed else 'does not pass'} on {report.rows:,} "
            f"questions; {seen:,} more were in training data.",
            style="bold",
            soft_wrap=True,
        )
    if not report.passed:
        raise typer.Exit(FAILED)


def _decisions(path: Path) -> list[LoggedDecision]:
    from langchain_hybridflow.learning import read_log

    try:
        return read_log(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}.") from error


def _show(rows: Iterable[tuple[bool, str, str]], *, bad: str) -> None:
    from rich.table import Table

    table = Table(show_header=False, **PLAIN)
    table.add_column("")
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")
    for passed, name, message in rows:
        verdict = "ok" if passed else bad
        table.add_row(verdict, one_line(name), one_line(message), style="" if passed else "red")
    screen().print(table)

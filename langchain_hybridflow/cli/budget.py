"""`hybridflow budget show | watch | reset | reconcile`: the accounts of a store."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

import typer

from langchain_hybridflow.cli.display import (
    FAILED,
    is_interactive,
    print_json,
    reports_errors,
    say_error,
    screen,
)
from langchain_hybridflow.errors import ConfigurationError, LedgerUnavailable

if TYPE_CHECKING:
    from langchain_hybridflow.budget.admin import AdminLedger, Reset
    from langchain_hybridflow.budget.inventory import AccountRow

__all__ = ["budget"]

budget = typer.Typer(
    help="What budgets have spent and what is left, in the store that they share.",
    epilog="Exit codes: 0 all is well; 1 the store does not answer, leases are open (reset), or "
    "counters and journal differ (reconcile); 2 the command cannot work as it was given.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Store = Annotated[
    str,
    typer.Option(
        metavar="URL",
        envvar="HYBRIDFLOW_STORE",
        help="sqlite:///PATH, redis://..., postgresql://..., or env:NAME for the URL in that "
        "environment variable.",
    ),
]
Namespace = Annotated[str, typer.Option(help="Of the ledger in the store.")]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="Only the budget of this name.")]
Most = Annotated[int, typer.Option("--limit", min=1, help="Show at most so many accounts.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]

_NOBODY = "No budget has used this store under this namespace."


@contextmanager
def _opened(store: str, namespace: str) -> Iterator[AdminLedger]:
    """Open a ledger that is there; looking at one makes none."""
    from langchain_hybridflow.budget.admin import admin_of
    from langchain_hybridflow.budget.opened import store_url
    from langchain_hybridflow.budget.stores.opening import open_ledger

    url = store_url(store)
    scheme, _, rest = url.partition("://")
    if scheme == "memory":
        raise ConfigurationError("A ledger in memory is seen by nobody but its own process.")
    path = Path(unquote(rest.removeprefix("/")))
    if scheme == "sqlite" and not path.is_file():
        raise ConfigurationError(f"There is no file {str(path)!r}.")
    ledger = admin_of(open_ledger(url, namespace=namespace))
    if ledger is None:
        raise ConfigurationError("This kind of ledger cannot be looked at from outside.")
    try:
        yield ledger
    finally:
        ledger.close()


def _rows(ledger: AdminLedger, name: str | None, *, past: bool = False) -> list[AccountRow]:
    from langchain_hybridflow.budget.inventory import inventory, sorted_rows

    return sorted_rows(inventory(ledger, budget=name, past=past))


@budget.command()
@reports_errors
def show(
    store: Store,
    name: Name = None,
    past: Annotated[bool, typer.Option("--past", help="Also windows that are over.")] = False,
    limit: Most = 50,
    namespace: Namespace = "hybridflow",
    as_json: AsJson = False,
) -> None:
    """Show all accounts: what is used, held, allowed and left.

    Limits are those that the budgets themselves have described in the store; of an account that no
    budget describes they are not known. The account of a window is the current one.
    """
    with _opened(store, namespace) as ledger:
        rows = _rows(ledger, name, past=past)
    if as_json:
        print_json({"accounts": [row.to_json() for row in rows]})
        return
    if not rows:
        say_error(_NOBODY)
        return
    from langchain_hybridflow.cli.accounts import accounts_table

    console = screen()
    console.print(accounts_table(rows[:limit]))
    _say_rest(len(rows) - limit)


def _say_rest(rest: int) -> None:
    if rest > 0:
        say_error(f"{rest:,} more accounts are not shown; --limit shows more of them.")


@budget.command()
@reports_errors
def watch(
    store: Store,
    name: Name = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    for_s: Annotated[
        float | None, typer.Option("--for", min=0, help="Stop after so many seconds.")
    ] = None,
    limit: Most = 15,
    namespace: Namespace = "hybridflow",
    as_json: AsJson = False,
) -> None:
    """Watch the limits burn down, until Ctrl-C.

    Where no terminal is, a line is written for each number that has changed; with --json, an
    object on a line of its own for each look. Ctrl-C is the way to end it, and no failure.
    """
    with _opened(store, namespace) as ledger:
        _rows(ledger, name)  # what cannot work fails here, not on the live screen
        looks = _looks(ledger, name, every=every, for_s=for_s)
        try:
            if as_json:
                _watch_json(looks)
            elif is_interactive(screen()):
                _watch_live(looks, limit)
            else:
                _watch_lines(looks, limit)
        except KeyboardInterrupt:
            return


def _looks(
    ledger: AdminLedger, name: str | None, *, every: float, for_s: float | None
) -> Iterator[list[AccountRow] | LedgerUnavailable]:
    """The accounts, again and again; a store that does not answer is asked again."""
    end = None if for_s is None else time.monotonic() + for_s
    while True:
        try:
            yield _rows(ledger, name)
        except LedgerUnavailable as error:
            yield error
        left = every if end is None else min(every, end - time.monotonic())
        if left <= 0:
            return
        time.sleep(left)


def _watch_live(looks: Iterator[list[AccountRow] | LedgerUnavailable], limit: int) -> None:
    from rich.live import Live

    from langchain_hybridflow.cli.accounts import BurnDown, clock_text

    burn_down = BurnDown()
    table = burn_down.table([])
    with Live(table, console=screen(), auto_refresh=False, transient=False) as live:
        for look in looks:
            if isinstance(look, LedgerUnavailable):
                table.caption, table.caption_justify = str(look), "left"
            else:
                table = burn_down.table(look[:limit])
                at = clock_text(look[0].state.at) if look else "nothing yet"
                rest = f", {len(look) - limit} more" if len(look) > limit else ""
                table.caption, table.caption_justify = f"{at}{rest}; Ctrl-C ends it", "left"
            live.update(table, refresh=True)


def _watch_lines(looks: Iterator[list[AccountRow] | LedgerUnavailable], limit: int) -> None:
    from langchain_hybridflow.cli.accounts import plain_lines

    said: set[str] = set()
    for look in looks:
        if isinstance(look, LedgerUnavailable):
            say_error(str(look))
            continue
        lines = list(plain_lines(look[:limit]))
        now = {line.partition(" ")[2] for line in lines}  # all but the time
        for line in lines:
            if line.partition(" ")[2] not in said:
                typer.echo(line)
        said = now
        sys.stdout.flush()


def _watch_json(looks: Iterator[list[AccountRow] | LedgerUnavailable]) -> None:
    import json

    for look in looks:
        if isinstance(look, LedgerUnavailable):
            typer.echo(json.dumps({"error": str(look)}, ensure_ascii=False))
        else:
            plain = {"accounts": [row.to_json() for row in look]}
            typer.echo(json.dumps(plain, ensure_ascii=False))
        sys.stdout.flush()


@budget.command()
@reports_errors
def reset(
    store: Store,
    name: Annotated[str, typer.Option(metavar="NAME", help="The budget.")],
    scope: Annotated[
        str | None, typer.Option(help="Only accounts of this scope, such as budget or user.")
    ] = None,
    value: Annotated[str | None, typer.Option(help="Only this user, tenant, ...")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also if leases are open.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    namespace: Namespace = "hybridflow",
    as_json: AsJson = False,
) -> None:
    """Let accounts begin anew: nothing is used in their current window.

    Nothing is lost by it: what was used moves to an account of its own, reset/..., which adds it
    up. While calls are under way (leases are open) it is refused; with --force they go on, and what
    they cost is booked in the new count.
    """
    from langchain_hybridflow.budget.inventory import reset_row

    with _opened(store, namespace) as ledger:
        rows = [
            row
            for row in _rows(ledger, name)
            if (scope is None or row.scope == scope) and (value is None or row.value == value)
        ]
        if not rows:
            raise ConfigurationError("No account is so called, so nothing was reset.")
        _refuse_if_open(ledger, rows, force=force)
        if not yes:
            _confirm(rows)
        resets = [one for row in rows for one in reset_row(ledger, row, force=force)]
    if as_json:
        print_json({"reset": [_plain(one) for one in resets]})
        return
    for one in resets:
        still = f" (leases still open: {one.open_leases})" if one.open_leases else ""
        typer.echo(f"{one.key}: {_amounts(one)} moved to {one.moved_to}{still}")


def _refuse_if_open(ledger: AdminLedger, rows: Sequence[AccountRow], *, force: bool) -> None:
    """Say so before anything is reset; each account is looked at again when it is."""
    if force:
        return
    keys = {key for row in rows for key in row.state.account.keys}
    held = [lease for lease in ledger.open_leases() if keys & {one.key for one in lease.accounts}]
    if held:
        last_s = max(lease.expires_at for lease in held) - ledger.now()
        are = "1 lease is" if len(held) == 1 else f"{len(held)} leases are"
        say_error(
            f"{are} open, so nothing was reset: what they cost would be booked in "
            f"the new count. The last one expires in {max(last_s, 0):.0f} s at the latest. Wait "
            f"for them, or add --force."
        )
        raise typer.Exit(FAILED)


def _confirm(rows: Sequence[AccountRow]) -> None:
    from langchain_hybridflow.cli.accounts import accounts_table

    if not sys.stdin.isatty():
        raise ConfigurationError("Nobody can be asked here. Add --yes if it is to be done.")
    screen().print(accounts_table(rows))
    if not typer.confirm(f"Reset these {len(rows)} accounts?"):
        typer.echo("Nothing was reset.")
        raise typer.Exit


def _plain(one: Reset) -> dict[str, Any]:
    from langchain_hybridflow.budget.allowance import plain_amounts

    plain = asdict(one)
    return plain | {name: plain_amounts(getattr(one, name)) for name in ("used", "overdraft")}


def _amounts(one: Reset) -> str:
    used = one.used
    return f"${used.usd:f}, {used.cloud_tokens:,} tokens and {used.cloud_calls:,} calls"


@budget.command()
@reports_errors
def reconcile(
    store: Store,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set the counters to what the journal says.")
    ] = False,
    namespace: Namespace = "hybridflow",
    as_json: AsJson = False,
) -> None:
    """Compare all counters with the journal of what was booked.

    They differ if somebody has written to the store by hand, or if there is a fault in it. Without
    --repair nothing is changed, and differences make exit code 1.
    """
    with _opened(store, namespace) as ledger:
        if not ledger.list_keys():
            say_error(_NOBODY)
            return
        found = ledger.reconcile(repair=repair)
    if as_json:
        print_json(asdict(found))
    else:
        _show_differences(found)
    if found.differences and not found.repaired:
        raise typer.Exit(FAILED)


def _show_differences(found: Any) -> None:
    from langchain_hybridflow.cli.accounts import differences_table

    if found.differences:
        screen().print(differences_table(found.differences))
    what = (
        "1 difference" if len(found.differences) == 1 else f"{len(found.differences)} differences"
    )
    outcome = ", repaired" if found.repaired else ""
    typer.echo(f"{found.accounts_checked:,} accounts checked: {what}{outcome}")

"""Pace a budget: one shadow price for all processes, kept in the ledger beside the counters."""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from math import isfinite
from typing import Any, Final, Literal
from urllib.parse import quote

from langchain_hybridflow.budget.accounts import BookEntry
from langchain_hybridflow.budget.demand import HOURS, MEMORIES, Demand, Level
from langchain_hybridflow.budget.dual import Plan, PriceState, Reading, advance
from langchain_hybridflow.budget.twins import Ask, Script
from langchain_hybridflow.budget.types import Account, AccountState, Note
from langchain_hybridflow.budget.windows import Window
from langchain_hybridflow.errors import ConfigurationError, LedgerUnavailable

__all__ = ["NoteUpdate", "Paced", "Pacer", "Pacing", "price_from_note", "price_to_note"]

logger = logging.getLogger(__name__)

_FORMAT: Final = 1
_REMEMBERED: Final = 10_000  # accounts whose price a process keeps at hand
_KEEP_WINDOWS: Final = 8
_SLOWEST: Final = 256  # updates in a window, at least, while calls are routed


@dataclass(frozen=True, slots=True)
class Pacing:
    """How a budget is spread over its window, so that its last call is as welcome as its first.

    The ledger keeps a shadow price: how much quality a call must add for its cost. It rises while
    more is spent than the rest of the window can bear, and falls while less is; it is learnt
    across windows and shared by all processes. Routers read it as `budget.shadow_price` of their
    request, in quality per USD, and send a call to the cloud iff

        expected gain in quality / expected cost in USD > shadow price.

    Quality is in 0..1: the probability of a right answer. Nothing depends on the size of the
    budget or on currency.

    Args:
        demand: How calls spread over the 24 hours of a day in UTC: `"learnt"` from the traffic, or
            24 weights. Learning takes one day; until then hours that were not seen yet are taken
            to be like those that were.
        expected_calls: How many calls will be routed in a window: a first guess, which the
            traffic corrects. For a budget without a window: how many will be routed
            altogether. If neither is known the price rises with the share that is spent.

    Raises:
        ConfigurationError: There are not 24 weights, one is negative or not finite, all are 0, or
            `expected_calls` is not a positive integer.

    Example:
        >>> Pacing(demand=[0] * 8 + [1] * 10 + [0] * 6).weights[8]
        1.0
    """

    demand: Literal["learnt"] | Sequence[float] = "learnt"
    expected_calls: int | None = None

    def __post_init__(self) -> None:
        if self.demand != "learnt":
            object.__setattr__(self, "demand", _checked_weights(self.demand))
        calls = self.expected_calls
        if calls is not None and (type(calls) is not int or calls < 1):
            raise ConfigurationError(f"expected_calls must be an integer >= 1, not {calls!r}.")

    @property
    def weights(self) -> tuple[float, ...] | None:
        """The given demand of each hour, or `None` if it is learnt."""
        return None if self.demand == "learnt" else tuple(map(float, self.demand))


def _checked_weights(demand: object) -> tuple[float, ...]:
    if isinstance(demand, str) or not isinstance(demand, Sequence) or len(demand) != HOURS:
        raise ConfigurationError(
            f"demand must be 'learnt' or {HOURS} weights, one for each hour of the day in UTC, "
            f"not {demand!r}."
        )
    for weight in demand:
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise ConfigurationError(f"A weight of demand must be a number, not {weight!r}.")
        if not isfinite(weight) or weight < 0:
            raise ConfigurationError(
                f"A weight of demand must be finite and not negative, not {weight!r}."
            )
    if not any(demand):
        raise ConfigurationError("All weights of demand are 0: no call is ever expected.")
    return tuple(map(float, demand))


@dataclass(frozen=True, slots=True)
class Paced:
    """An account with limits and the window that they are for; its price is kept under `note_key`.

    Args:
        account: The account at this instant.
        window: Its window; `None` for ever.
        note_key: Key without a window in it, so that a new window begins with the last price.
    """

    account: Account
    window: Window | None
    note_key: str

    @classmethod
    def of(cls, entry: BookEntry, account: Account) -> Paced:
        """Make it from an account and the entry that it was made from."""
        span = "" if entry.window is None else f"/{quote(str(entry.window), safe='@')}"
        return cls(account, entry.window, f"pace/{entry.stem}{span}")

    @property
    def reads(self) -> tuple[Account, ...]:
        """The accounts to take a snapshot of: itself, its note, its current bucket if it rolls."""
        note = Account(self.note_key, "pace")
        if not self.account.earlier:
            return (self.account, note)
        return (self.account, note, Account(self.account.key, self.account.scope))


@dataclass(frozen=True, slots=True)
class NoteUpdate:
    """What to write with `Ledger.swap_note`, and how many calls it accounts for."""

    key: str
    expected_version: int
    text: str
    keep_s: float | None
    routed: int

    @property
    def ask(self) -> Ask:
        """The call of `Ledger.swap_note`."""
        options = {
            "expected_version": self.expected_version,
            "text": self.text,
            "keep_s": self.keep_s,
        }
        return Ask("swap_note", (self.key,), options)


@dataclass(slots=True)
class _Seen:
    """What a process knows of an account's price."""

    routed: int = 0
    version: int = -1
    state: PriceState | None = None


class Pacer:
    """One process's share in the prices of a budget's accounts; safe to share by threads.

    It does no IO of its own. `reading` is the whole of it, as a script over a ledger: take one
    snapshot of `Paced.reads`, show it to `see`, and write the update if there is one. That is by
    compare-and-set, so that of several processes one wins and the others go by its price,
    without a lock. An update is due when enough calls were routed, so most calls cost no round trip
    besides the snapshot.

    Args:
        pacing: How the budget is paced.

    Example:
        >>> from langchain_hybridflow.budget import Amounts, Limits, MemoryLedger
        >>> ledger, pacer = MemoryLedger(), Pacer(Pacing(expected_calls=100))
        >>> paced = Paced(Account("team", "team", Limits(usd=1)), None, "pace/team")
        >>> for n in range(20):  # every call is bought, at twice what the budget can bear
        ...     update = pacer.see(paced, ledger.snapshot(paced.reads))
        ...     if update is not None:
        ...         ask = update.ask
        ...         pacer.wrote(update, ledger.swap_note(*ask.args, **ask.kwargs))
        ...     spend = Amounts(usd_micros=20_000, cloud_calls=1)
        ...     lease = ledger.reserve(str(n), spend, accounts=[paced.account], ttl_s=60)
        ...     booked = ledger.commit(lease.id, spend)
        >>> pacer.state(paced).price > 0.05
        True
    """

    def __init__(self, pacing: Pacing) -> None:
        self._pacing = pacing
        # Two processes may find the same price: the name tells whose note it was that won.
        self._name = uuid.uuid4().hex[:8]
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def reading(
        self,
        entries: Sequence[BookEntry],
        accounts: tuple[Account, ...],
        shown: tuple[Account, ...],
    ) -> Script[tuple[tuple[AccountState, ...], float]]:
        """Take the snapshot for one routed call, and keep the prices up to date by the way.

        Paced are the budget's own account, the first one, and the scopes that have a window. A run
        is too short to be paced.

        Args:
            entries: What the accounts were made from.
            accounts: The accounts with their true limits, in the same order.
            shown: The same accounts with the limits that hold for this run, and maybe more.

        Returns:
            The states of the accounts shown, and the highest price, in quality per USD.
        """
        paced = [
            (place, Paced.of(entry, account))
            for place, (entry, account) in enumerate(zip(entries, accounts, strict=True))
            if entry.limits and (place == 0 or entry.window is not None) and entry.scope != "run"
        ]
        extra = tuple(account for _, one in paced for account in one.reads[1:])
        states: tuple[AccountState, ...] = yield Ask("snapshot", ((*shown, *extra),))
        rest = iter(states[len(shown) :])
        prices = [0.0]
        for place, one in paced:
            mine = replace(states[place], account=one.account)
            update = self.see(one, (mine, *islice(rest, len(one.reads) - 1)))
            if update is not None:
                # A price is no limit: that it cannot be written now must not fail the call.
                with suppress(LedgerUnavailable):
                    note: Note = yield update.ask
                    self.wrote(update, note)
            prices.append(self.state(one).per_usd)
        return states[: len(shown)], max(prices)

    def see(self, paced: Paced, states: Sequence[AccountState]) -> NoteUpdate | None:
        """Count a routed call, take over the price that stands, and say if a new one is due.

        Args:
            paced: Whose price it is.
            states: Snapshot of `paced.reads`, in that order.
        """
        account, noted, *bucket = states
        counter = bucket[0] if bucket else account
        note = noted.note or Note()
        with self._lock:
            seen = self._of(paced.note_key)
            seen.routed += 1
            if note.version != seen.version:
                seen.version, seen.state = note.version, price_from_note(note.text)
            if not _due(seen, counter, paced.window):
                return None
            reading = Reading(account, counter, seen.routed)
            before = seen.state
        plan = Plan(paced.window, self._pacing.weights, self._pacing.expected_calls)
        text = price_to_note(advance(before, reading, plan), by=self._name)
        keep_s = None if paced.window is None else _KEEP_WINDOWS * paced.window.keep_s
        return NoteUpdate(paced.note_key, note.version, text, keep_s, reading.routed)

    def wrote(self, update: NoteUpdate, note: Note) -> None:
        """Take over the note that stands after `update` was tried.

        A process whose update lost keeps its calls for the next one.
        """
        with self._lock:
            seen = self._of(update.key)
            won = note.version == update.expected_version + 1 and note.text == update.text
            if won:
                seen.routed = max(0, seen.routed - update.routed)
            if note.version != seen.version:
                seen.version, seen.state = note.version, price_from_note(note.text)

    def state(self, paced: Paced) -> PriceState:
        """The price as this process last saw it; of an account never seen, a price of 0."""
        with self._lock:
            return self._of(paced.note_key).state or PriceState()

    def _of(self, key: str) -> _Seen:
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _Seen()
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
        else:
            self._seen.move_to_end(key)
        return seen


def _due(seen: _Seen, counter: AccountState, window: Window | None) -> bool:
    state = seen.state
    if state is None or seen.routed >= state.stride or state.key != counter.account.key:
        return True
    return window is not None and counter.at - state.at > window.seconds / _SLOWEST


def price_to_note(state: PriceState, *, by: str = "") -> str:
    """Write a price as compact JSON, below 2 kB, with the name of the writer.

    Example:
        >>> price_from_note(price_to_note(PriceState(price=0.2))).price
        0.2
    """
    plain: dict[str, Any] = {"format": _FORMAT, "by": by, **asdict(state)}
    exact = {name: plain.pop(name) for name in ("at", "taken", "key")}
    short = _short(plain)
    short["demand"]["since_s"] = state.demand.since_s
    return json.dumps(short | exact, separators=(",", ":"))


def price_from_note(text: str) -> PriceState | None:
    """Read what `price_to_note` wrote; `None`, with a warning in the log, if it is not that.

    A price is no limit: it is better learnt anew than that calls fail because of it.
    """
    if not text:
        return None
    try:
        plain = json.loads(text)
        _check_numbers(plain)
        if plain.pop("format") != _FORMAT:
            raise ValueError("another format")
        plain.pop("by")
        demand = plain.pop("demand")
        levels = tuple(Level(**level) for level in demand.pop("levels"))
        if len(levels) != len(MEMORIES):
            raise ValueError("another number of levels")
        state = PriceState(
            demand=Demand(levels, **{name: _tuples(value) for name, value in demand.items()}),
            **{name: _tuples(value) for name, value in plain.items()},
        )
        if min(state.price, state.call_micros, state.call_tokens, state.at, state.stride) < 0:
            raise ValueError("a number is negative")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        logger.warning("A shadow price cannot be read (%s) and is learnt anew.", error)
        return None
    return state


def _short(value: Any) -> Any:
    """Numbers to six digits: the rest is noise, and a note has little room."""
    if isinstance(value, dict):
        return {name: _short(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_short(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check_numbers(value: Any) -> None:
    """All leaves but the key must be finite numbers: one NaN would stay in the price for ever."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_numbers(inner)
    elif value is not None and not isinstance(value, str) and not isfinite(value):
        raise ValueError(f"{value} is no price")

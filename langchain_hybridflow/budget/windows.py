"""Windows of time that limits are for: this hour, today, this month, the last 24 hours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from math import floor
from typing import Final
from zoneinfo import ZoneInfo

from langchain_hybridflow.errors import ConfigurationError

__all__ = ["BUCKETS", "Window"]

BUCKETS: Final = 12
"""Into how many buckets a rolling window is cut."""

_HOUR_S: Final = 3_600
_DAY_S: Final = 86_400
_MONTH_S: Final = 31 * _DAY_S
_CALENDAR_S: Final = {"hour": _HOUR_S, "day": _DAY_S, "month": _MONTH_S}
_UNITS_S: Final = {"m": 60, "h": _HOUR_S, "d": _DAY_S}
_LONGEST_S: Final = 3_653 * _DAY_S
_DURATION: Final = re.compile(r"([1-9][0-9]{0,6})([mhd])")
_MONDAY_S: Final = 4 * _DAY_S
"""The first Monday of Unix time: windows of 7 days begin on Mondays."""

_FORMS: Final = "'hour', 'day', 'month', or a number of minutes, hours or days such as '30m', '7d'"


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time that a limit is for; when the next one begins, nothing is spent in it.

    Four kinds:

    - `Window("day")`, `Window("hour")`, `Window("month")`: of the calendar. A day and a month
      begin at midnight in `tz`. A day of the calendar can have 23 or 25 hours; an hour of a clock
      that is put back over midnight belongs to the day that had begun already.
    - `Window("30m")`, `Window("7d")`: one after the other, all of one length, counted from a
      Monday, 00:00 UTC. So windows of "1h" and "1d" are the hours and days of UTC.
    - `Window("1h", rolling=True)`: the last hour, at any time. It is cut into `BUCKETS` = 12
      buckets, here of 5 minutes. A spend is counted for at least the length of the window, and
      until its bucket lies outside as a whole, so for at most one bucket longer: the limit
      holds in *every* stretch of that length, and what was spent comes back up to a twelfth of
      the length later than it could. A caller who is late at the border of two buckets holds
      in the one that has just ended, so the next bucket is counted, too.

    What a call costs is counted in the window in which it was reserved.

    Args:
        length: "hour", "day" or "month", or a number of minutes ("30m"), hours ("1h") or days
            ("7d"), at most ten years.
        rolling: Whether it is the last such stretch, up to now, instead of one that begins anew.
        tz: IANA name of the time zone in which days and months begin.

    Raises:
        ConfigurationError: The length or the time zone is none, a month rolls (say "30d"), or a
            time zone is given to a window whose begin does not depend on one.

    Example:
        >>> window = Window("day", tz="Europe/Berlin")
        >>> window.keys(1_763_679_600.0)
        ('day=2025-11-21@Europe/Berlin', ())
        >>> window.span(1_763_679_600.0)
        (1763679600.0, 1763766000.0)
    """

    length: str
    rolling: bool = False
    tz: str = "UTC"

    def __post_init__(self) -> None:
        _seconds_of(self.length)
        if not isinstance(self.rolling, bool):
            raise ConfigurationError(f"rolling is True or False, not {self.rolling!r}.")
        if self.rolling and self.length == "month":
            raise ConfigurationError(
                "A month has no fixed length, so it cannot roll. Take Window('30d', rolling=True)."
            )
        _zone(self.tz)
        if self.tz != "UTC" and (self.rolling or self.length not in ("day", "month")):
            raise ConfigurationError(
                f"tz={self.tz!r} says when a day or a month begins; {self} begins without it."
            )

    @classmethod
    def parse(cls, value: str | Window) -> Window:
        """Return the window that a text stands for; a window is returned as it is.

        Raises:
            ConfigurationError: It is neither.

        Example:
            >>> Window.parse("1h")
            Window(length='1h', rolling=False, tz='UTC')
            >>> Window.parse("last 7d")
            Window(length='7d', rolling=True, tz='UTC')
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ConfigurationError(f"A window is {_FORMS}, or a Window; not {value!r}.")
        text = value.strip()
        if text.startswith("last "):
            return cls(text[5:].strip(), rolling=True)
        length, at, zone = text.partition("@")
        return cls(length, tz=zone) if at else cls(text)

    def __str__(self) -> str:
        """Write the window so that `Window.parse` reads it."""
        if self.rolling:
            return f"last {self.length}"
        return self.length if self.tz == "UTC" else f"{self.length}@{self.tz}"

    @property
    def seconds(self) -> int:
        """Its length in seconds; of a calendar window, the usual or the longest one."""
        return _seconds_of(self.length)

    @property
    def keep_s(self) -> float:
        """Seconds after which nobody asks any more for what was counted in it."""
        return 2.0 * self.seconds

    def keys(self, now: float) -> tuple[str, tuple[str, ...]]:
        """Return the id of the window at a time, and those of the other buckets that count.

        Args:
            now: Epoch seconds, by the clock of the ledger.

        Returns:
            The id under which is counted from now on, and, for a rolling window, the ids of the
            next bucket, for those who come in late, and of the earlier ones of which a part lies
            in it; else none. Two windows of any kinds have the same id only if they are the same
            stretch of the same kind of window.
        """
        if self.rolling:
            size = self.seconds // BUCKETS
            bucket = int(now // size)
            name = f"last-{self.length}"
            # By the time that this is asked of the store, others may count in the next bucket.
            others = (bucket + 1, *range(bucket - 1, bucket - BUCKETS - 1, -1))
            return f"{name}={bucket}", tuple(f"{name}={one}" for one in others)
        if self.length in ("day", "month"):
            day = _day_of(now, _zone(self.tz))
            label = day.isoformat() if self.length == "day" else f"{day:%Y-%m}"
            zone = "" if self.tz == "UTC" else f"@{self.tz}"
            return f"{self.length}={label}{zone}", ()
        starts_at = datetime.fromtimestamp(self.span(now)[0], UTC)
        return f"{self.length}={starts_at:%Y-%m-%dT%H:%M}", ()

    def span(self, now: float) -> tuple[float, float]:
        """Return when the window at a time has begun, and when it ends, in epoch seconds.

        Of a rolling window it is the stretch that is counted at that time: from the begin of
        its oldest bucket to the end of the current one.
        """
        if self.rolling:
            size = self.seconds // BUCKETS
            bucket = int(now // size)
            return float((bucket - BUCKETS) * size), float((bucket + 1) * size)
        if self.length in ("day", "month"):
            zone = _zone(self.tz)
            first = _day_of(now, zone)
            if self.length == "day":
                return _begin_of(first, zone), _begin_of(first + timedelta(days=1), zone)
            first = first.replace(day=1)
            return _begin_of(first, zone), _begin_of(_next_month(first), zone)
        size = self.seconds
        starts_at = (now - _MONDAY_S) // size * size + _MONDAY_S
        return float(starts_at), float(starts_at + size)


def _seconds_of(length: object) -> int:
    if isinstance(length, str):
        if length in _CALENDAR_S:
            return _CALENDAR_S[length]
        found = _DURATION.fullmatch(length)
        seconds = int(found[1]) * _UNITS_S[found[2]] if found else 0
        if 0 < seconds <= _LONGEST_S:
            return seconds
    raise ConfigurationError(f"A window is {_FORMS}, at most ten years; not {length!r}.")


@lru_cache(maxsize=64)
def _zone(name: object) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        if not isinstance(name, str):
            raise TypeError("not a text")
        return ZoneInfo(name)
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"tz must be the IANA name of a time zone, such as 'Europe/Berlin', not {name!r}. If "
            f"the name is right, this machine has no time zones: pip install tzdata."
        ) from error


def _day_of(now: float, zone: tzinfo) -> date:
    """Return the day that an instant belongs to; a clock put back does not bring a day back."""
    # Whole seconds: it would round the last fraction of a microsecond up to the next day.
    day = datetime.fromtimestamp(floor(now), zone).date()
    following = day + timedelta(days=1)
    return following if _begin_of(following, zone) <= now else day


def _next_month(first: date) -> date:
    return (first + timedelta(days=31)).replace(day=1)


@lru_cache(maxsize=256)
def _begin_of(day: date, zone: tzinfo) -> float:
    """Return the first instant of a day, which is not midnight where the clock skips it."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    starts_at = midnight.timestamp()  # of two midnights the first
    if datetime.fromtimestamp(starts_at, zone).replace(tzinfo=None) == midnight.replace(
        tzinfo=None
    ):
        return starts_at
    # In a gap, the two folds read it by the offsets before and after: the gap is between them.
    low, high = int(midnight.replace(fold=1).timestamp()), int(starts_at)
    before = datetime.fromtimestamp(low, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return float(high)

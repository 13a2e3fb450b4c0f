"""Moments as people type them: `2026-03-01T09:15:00Z`, `09:15`, `1h30m` ago.

Everything that `esctl` and the nodes print is in UTC, so what is typed without an offset is UTC too. Never
reads a clock: the caller says what the time is. Called by `esctl logs`, `timeline` and `audit`.
"""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from esctl.errors import InvalidTime
from esctl.ui.duration import with_units

_CLOCK: Final = re.compile(r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?")


def moment(text: str, now: datetime) -> datetime:
    """The moment in UTC. A time of day is the last one that has been; raises `InvalidTime`."""
    words = text.strip()
    ago_ms = with_units(words.removesuffix(" ago"))
    try:
        if ago_ms is not None:
            return now - timedelta(milliseconds=ago_ms)
        if _CLOCK.fullmatch(words):
            return _last(time.fromisoformat(words.zfill(len(words) + (words[1] == ":"))), now)
        given = datetime.fromisoformat(words)
        return (given if given.tzinfo is not None else given.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidTime(f"{text!r} is no time: {error}") from None


def written(at: datetime | float) -> str:
    """As the nodes write it: RFC 3339 in UTC, with microseconds; a number is seconds since 1970."""
    moment = datetime.fromtimestamp(at, UTC) if isinstance(at, int | float) else at.astimezone(UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds(text: str) -> float | None:
    """Seconds since 1970 of a time as nodes write it; None when it is none."""
    try:
        given = datetime.fromisoformat(text)
        return (given if given.tzinfo is not None else given.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _last(clock: time, now: datetime) -> datetime:
    today: date = now.astimezone(UTC).date()
    then = datetime.combine(today, clock, UTC)
    return then if then <= now else then - timedelta(days=1)

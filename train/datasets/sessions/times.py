"""Times in the names of recordings, and the natural order of names without any."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone

_DATE = r"(?P<year>(?:19|20)[0-9]{2})(?P<between>[-_.]?)(?P<month>0[1-9]|1[0-2])(?P=between)(?P<day>0[1-9]|[12][0-9]|3[01])"
_HOUR = r"(?P<hour>[01][0-9]|2[0-3])"
_MINUTE, _SECOND = r"(?P<minute>[0-5][0-9])", r"(?P<second>[0-5][0-9])(?:[.,](?P<fraction>[0-9]{1,6}))?"
_NO_DIGIT = r"(?<![0-9])", r"(?![0-9])"


def _form(*parts: str) -> re.Pattern[str]:
    return re.compile("".join(parts).join(_NO_DIGIT))


_WHOLE = (  # searched in folders, too: 2026-11-21/10-00-00
    _form(_DATE, r"[T_ /.-]?", _HOUR, r"(?P<colon>[-_.:h]?)", _MINUTE, r"(?:(?P=colon)|m)", _SECOND),
    _form(_DATE, r"[T_ /.-]", _HOUR, r"[-_.:h]?", _MINUTE),
)
_OF_FILE = (  # searched in the file's own name alone: a folder of a day is a session
    _form(_DATE),
    _form(r"(?P<unix>[12][0-9]{9})(?:[.,]?(?P<fraction>[0-9]{3,6}))?"),
)


def times_in_names(names: Sequence[str]) -> list[datetime] | None:
    """The time of each recording, in the clock of its name, marked as UTC.

    None unless all names contain a time in the same form, and the times differ. Of several times in a name the last counts.
    """
    last = [name.rpartition("/")[2] for name in names]
    for forms, texts in ((_WHOLE, names), (_OF_FILE, last)):
        for form in forms:
            times = [_last_time(form, text) for text in texts]
            found = [time for time in times if time is not None]
            if len(found) == len(names) and (len(names) == 1 or len(set(found)) > 1):
                return found
    return None


def _last_time(form: re.Pattern[str], text: str) -> datetime | None:
    times = list(_times(form, text))
    return times[-1] if times else None


def _times(form: re.Pattern[str], text: str) -> Iterator[datetime]:
    for match in form.finditer(text):
        groups = match.groupdict()
        microsecond = int((groups.get("fraction") or "0").ljust(6, "0"))
        if (unix := groups.get("unix")) is not None:
            yield datetime.fromtimestamp(int(unix), timezone.utc).replace(microsecond=microsecond)
            continue
        names = ("year", "month", "day", "hour", "minute", "second")
        year, month, day, hour, minute, second = (int(groups.get(name) or 0) for name in names)
        try:
            yield datetime(year, month, day, hour, minute, second, microsecond, timezone.utc)
        except ValueError:  # the 31st of February
            continue


def natural(name: str) -> tuple[tuple[str | int, ...], str]:
    """A key that sorts numbers by their value: `fan-2` before `fan-10`."""
    parts = re.split(r"([0-9]+)", name)
    return tuple(int(part) if at % 2 else part.casefold() for at, part in enumerate(parts)), name


def numbered(names: Sequence[str]) -> bool:
    """Whether the names differ only in their numbers."""
    return len({re.sub(r"[0-9]+", "0", name) for name in names}) == 1 and len(set(names)) > 1

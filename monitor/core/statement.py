"""What a calibration may be trusted with, in one to three plain sentences."""

from collections.abc import Sequence

from monitor.core.evidence import WEEK_HOURS, poisson_bound


def statement(
    *, promised: float | None, events: int, bound: float | None, hours: float, n_blocks: int, notes: Sequence[str]
) -> str:
    """Evidence, aim and what was amiss; rates are false events a week, `hours` is how much sound there was."""
    sound = f"{duration(hours)} of normal sound ({count(n_blocks, 'independent block')})"
    if bound is None:
        said = [f"{sound} in recordings too short for the rule to be replayed shows no rate of false events"]
    else:
        said = [
            f"Replaying {sound} gave {count(events, 'false event')}, which shows no more than that there are fewer than "
            f"{per_week(bound)} (95 % sure)"
        ]
    if promised is not None:
        said[0] += _aim(promised, bound)
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in (*said, *notes))


def _aim(promised: float, bound: float | None) -> str:
    if bound is not None and bound <= promised:
        return f"; the aim of at most {per_week(promised)} is supported"
    needed = poisson_bound(0) * WEEK_HOURS / promised
    return (
        f"; the aim of at most {per_week(promised)} is extrapolated: "
        f"to support it takes {duration(needed)} of normal sound without a false event"
    )


def per_week(rate: float) -> str:
    """A rate of events, in the unit that people can picture."""
    return f"{significant(rate / 7)} a day" if rate > 20 else f"{significant(rate)} a week"


def duration(hours: float) -> str:
    """A length of time."""
    if hours < 1 / 60:
        return f"{significant(hours * 3600)} s"
    return f"{significant(hours * 60)} min" if hours < 1 else f"{significant(hours)} h"


def significant(number: float, digits: int = 3) -> str:
    """So many significant digits, however large without an exponent: `0.12`, `71.9`, `2,340`."""
    rounded = float(f"{number:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10.0**digits else f"{rounded:.{digits}g}"


def count(number: int, what: str) -> str:
    """`no events`, `1 event`, `2 events`."""
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"

"""The calibration report: its data, the expected false alarms, and the result of a replay, in plain sentences."""

from collections.abc import Sequence


def report_text(
    *,
    promised: float | None,
    promised_alarms: float | None,
    file_chance: float | None,
    events: int,
    bound: float | None,
    hours: float,
    n_recordings: int,
    n_units: int,
    notes: Sequence[str],
) -> str:
    """The data behind the thresholds, the expected false alarms, the result of a replay, and notes. Rates are events per week."""
    sound = f"{count(n_recordings, 'recording')}, {duration(hours)} of normal sound ({count(n_units, 'separate segment')})"
    sentences = [f"the thresholds are based on {sound}"]
    if promised_alarms is not None:
        sentences.append(
            f"expect a false warning about once a day at most, a false alarm about once a month at most, and a false verdict "
            f"on {significant(100 * (file_chance or 0.0))} % of normal recordings"
        )
    elif promised is not None:
        sentences.append(f"the method aims at a rate of false events of at most {per_week(promised)}")
    if bound is None:
        sentences.append("the recordings are too short to count false events in a replay, so their rate could not be verified")
    else:
        sentences.append(
            f"a replay raised {count(events, 'false event')}, so the rate is below {per_week(bound)} (95 % confidence)"
        )
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in (*sentences, *notes))


def per_week(rate: float) -> str:
    """A rate of events as text, per day or per week, whichever is easier to read."""
    return f"{significant(rate / 7)} a day" if rate > 20 else f"{significant(rate)} a week"


def duration(hours: float, digits: int = 3) -> str:
    """A duration as text: `48 s`, `14 min`, `1.3 h`."""
    if hours < 1 / 60:
        return f"{significant(hours * 3600, digits)} s"
    return f"{significant(hours * 60, digits)} min" if hours < 1 else f"{significant(hours, digits)} h"


def significant(number: float, digits: int = 3) -> str:
    """A number with this many significant digits, never with an exponent: `0.12`, `71.9`, `2,340`."""
    rounded = float(f"{number:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10.0**digits else f"{rounded:.{digits}g}"


def count(number: int, what: str) -> str:
    """`no events`, `1 event`, `2 events`."""
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"

"""What the commands say about a bundle and about sound, for people: rounded, and without statistics."""

import re
import sys
from pathlib import Path

from monitor.bundle.manifest import CalibrationPart
from monitor.errors import printable
from monitor.learning.report_text import count, duration, per_week, significant
from monitor.learning.thresholds import ENOUGH_RECORDINGS, Calibration

ENOUGH = f"at least {ENOUGH_RECORDINGS} recordings, or two minutes in one file"


def amount(n_recordings: int, hours: float) -> str:
    """`28 recordings, 14 min`."""
    return f"{count(n_recordings, 'recording')}, {duration(hours, 2)}"


def bundle_for(folder: Path) -> str:
    """A bundle's name after a folder of recordings."""
    return re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()).strip("-_") or "NAME"


def promise(calibration: CalibrationPart | Calibration) -> str:
    """The rate of false alarms that the thresholds aim at, in one line, and whether a replay has verified it."""
    aim, method = calibration.promised_per_week, calibration.method
    if calibration.promised_alarms_per_week is not None:
        rates = "about one false warning a day and one false alarm a month at most"
        return f"aims at {rates}, as long as the machine sounds as it was recorded ({_verified(calibration)})"
    if aim is not None:
        return f"aims at no more than {per_week(aim)} false alarms, the target of the method {method} ({_verified(calibration)})"
    return f"aims at no rate of false alarms, because the method {method} does not predict it"


def _verified(calibration: CalibrationPart | Calibration) -> str:
    """What the replay of the sound shows about the rate that was aimed at."""
    bound = calibration.bound_95_per_week
    if bound is not None and bound <= (calibration.promised_per_week or 0.0):
        return f"verified in a replay: fewer than {per_week(bound)}"
    if calibration.events:
        return f"not verified: {count(calibration.events, 'false alarm')} in a replay"
    return "not verified: too little sound"


def levels(calibration: CalibrationPart | Calibration) -> str:
    """The scores from which a segment and a whole recording are reported."""
    warning, alarm = calibration.threshold, calibration.alarm_threshold
    of_segments = f"{significant(warning)}" + ("" if alarm is None else f" (alarm from {significant(alarm)})")
    return f"threshold {of_segments}, for whole recordings {significant(calibration.file_threshold)}"


def warn(text: str) -> None:
    """One line on stderr."""
    print(f"train: warning: {printable(text)}", file=sys.stderr)

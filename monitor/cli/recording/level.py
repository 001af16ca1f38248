"""The level of each channel of a microphone, for setup."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from monitor.arrays import F32
from monitor.scoring.quality import Quality, measure_quality

QUIET_DBFS = -70.0  # below this, the microphone's own noise dominates
_ANY_RATE_HZ = 48_000  # only affects gaps, which are not reported here
FLOOR_DBFS = -120.0


@dataclass(frozen=True)
class Level:
    """The level of one channel over a short time."""

    channel: int  # counted from 1
    rms_dbfs: float
    peak_dbfs: float
    clipped_fraction: float
    problem: str | None  # human-readable

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "channel": self.channel,
            "rms_dbfs": round(self.rms_dbfs, 1),
            "peak_dbfs": round(self.peak_dbfs, 1),
            "clipped_fraction": round(self.clipped_fraction, 5),
            "problem": self.problem,
        }


def levels(frames: F32) -> list[Level]:
    """The level of each channel of frames (n, n_channels), float32, full scale [-1, 1]."""
    measured = [measure_quality(np.ascontiguousarray(samples), sample_rate_hz=_ANY_RATE_HZ) for samples in frames.T]
    return [_level(number, quality) for number, quality in enumerate(measured, start=1)]


def _level(channel: int, quality: Quality) -> Level:
    return Level(
        channel=channel,
        rms_dbfs=max(FLOOR_DBFS, quality.rms_dbfs),
        peak_dbfs=20.0 * float(np.log10(max(quality.peak, 10 ** (FLOOR_DBFS / 20)))),
        clipped_fraction=quality.clipped_fraction,
        problem=_problem(quality),
    )


def _problem(quality: Quality) -> str | None:
    if quality.reason in ("silent", "flat_line"):
        return "silent (muted, or the wrong channel?)"
    if quality.clipped_fraction > 0.0:
        return "clipped (lower its gain)"
    if quality.rms_dbfs < QUIET_DBFS:
        return f"below {QUIET_DBFS:.0f} dBFS (raise its gain, or move it closer)"
    return None

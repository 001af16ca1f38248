"""Describe abnormal sound: the frequency bands that differ, impulses, and a summary sentence."""

from collections.abc import Sequence
from dataclasses import dataclass

from monitor.arrays import F64
from monitor.explain.bands import Band, differing_bands, summarise
from monitor.explain.envelope import pooled_rates_hz
from monitor.explain.impulses import impulse_rate_hz
from monitor.explain.profile import envelope, level
from monitor.explain.reference import Reference
from monitor.scoring.front_end import FrontEndSpec
from monitor.scoring.tick_sound import TickSound, mean_frame


@dataclass(frozen=True)
class Description:
    """The bands that differ from normal sound, the rate of unusual impulses, and a sentence about both."""

    bands: tuple[Band, ...] = ()
    impulses_hz: float | None = None
    summary: str = summarise(())


def describe(sounds: Sequence[TickSound], expected: Reference, front_end: FrontEndSpec) -> Description:
    """Compare one or more ticks, in chronological order, with normal sound. Takes tens of milliseconds."""
    bands = differing_bands(comparable_level(sounds, expected, front_end), expected, front_end.band_limits_hz())
    impulses_hz = None
    if expected.envelope is not None:
        rate_hz = front_end.sample_rate_hz
        impulses_hz = impulse_rate_hz(envelope(sounds, sample_rate_hz=rate_hz), expected.envelope, pooled_rates_hz(rate_hz))
    return Description(bands, impulses_hz, summarise(bands, impulses_hz))


def comparable_level(sounds: Sequence[TickSound], expected: Reference, front_end: FrontEndSpec) -> F64:
    """The level (n_bands,), dB, measured in the same way as that of the reference."""
    return mean_frame(sounds) if expected.levels is None else level(sounds, front_end)

"""The profile of a segment: the properties of its sound that are compared with the reference."""

from collections.abc import Sequence
from dataclasses import dataclass

from monitor.arrays import F32, F64
from monitor.explain.band_power import band_power_db
from monitor.explain.envelope import Envelope, Run, envelope_spectrum, pooled_rates_hz
from monitor.scoring.features import TickFrames
from monitor.scoring.front_end import FrontEndSpec
from monitor.scoring.tick_sound import TickSound, mean_frame, tick_sound


@dataclass(frozen=True)
class SegmentProfile:
    """A segment: its mean frame and its level in sharp bands, both (n_bands,), dB, and its pooled envelope spectrum.

    The envelope spectrum is (n_carriers, n_rates), dB (`monitor.explain.envelope`). `start` is the index of the segment's
    first sample.
    """

    mean_db: F64
    level_db: F64
    envelope_db: F32
    start: int = 0


def level(sounds: Sequence[TickSound], front_end: FrontEndSpec) -> F64:
    """The level (n_bands,), dB, of one or more ticks in chronological order, in sharp bands."""
    runs = [Run(one.start, one.samples) for one in sounds]
    return band_power_db(runs, front_end.band_limits_hz(), sample_rate_hz=front_end.sample_rate_hz)


def envelope(sounds: Sequence[TickSound], *, sample_rate_hz: int) -> Envelope:
    """The envelope spectrum of ticks in chronological order."""
    return envelope_spectrum([Run(one.start, one.samples) for one in sounds], sample_rate_hz=sample_rate_hz)


def segment_profile(sounds: Sequence[TickSound], front_end: FrontEndSpec) -> SegmentProfile:
    """The profile of a segment. Takes tens of milliseconds."""
    rate_hz = front_end.sample_rate_hz
    pooled = envelope(sounds, sample_rate_hz=rate_hz).pooled_db(pooled_rates_hz(rate_hz))
    return SegmentProfile(mean_frame(sounds), level(sounds, front_end), pooled, sounds[0].start)


class Profiler:
    """Compute the profiles of a stream of ticks, one per segment length, for `fit_reference`."""

    def __init__(self, front_end: FrontEndSpec, *, segment_ticks: int) -> None:
        self._front_end = front_end
        self._segment_ticks = segment_ticks
        self._sounds: list[TickSound] = []
        self._has_profile = False

    def push(self, tick: TickFrames) -> list[SegmentProfile]:
        """Process the next tick; return the profile of the segment that it completes, if it does."""
        if tick.frames is None:
            return []
        oldest = tick.start - 2 * self._segment_ticks * len(tick.frames) * self._front_end.hop_length
        self._sounds = [one for one in self._sounds if one.start >= oldest]
        self._sounds.append(tick_sound(tick, self._front_end))
        if len(self._sounds) == self._segment_ticks:
            return [self._complete()]
        return []

    def end(self) -> list[SegmentProfile]:
        """End the stream. Return its profile if it was shorter than a segment."""
        profiles = [self._complete()] if self._sounds and not self._has_profile else []
        self._sounds, self._has_profile = [], False
        return profiles

    def _complete(self) -> SegmentProfile:
        profile = segment_profile(self._sounds, self._front_end)
        self._sounds, self._has_profile = [], True
        return profile

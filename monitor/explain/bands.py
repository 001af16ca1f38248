"""The frequency bands in which a segment differs from normal sound, and a summary sentence."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from monitor.arrays import F32, F64, Bool
from monitor.explain.band_power import FLOOR_DB
from monitor.explain.reference import Levels, Reference, contrast, surroundings

MIN_EXCESS_DB = 2.0
MIN_SPREADS = 4.0
ENOUGH = 0.6  # minimum clarity, as a fraction of the larger of these limits
MAX_BANDS = 5
_SMALLEST_DB = 1.0  # in which the total of several bands must differ
# Fraction of the strongest band's added power. Bands with less are skirts of the difference.
_SIX_DB = 0.25
_RISE = 2.0  # factor over the lowest power so far that may occur by chance
_LOG_NORMAL_DB = 6.0  # upper limit, because the log-normal formula overestimates intermittent sound
_SIMILAR_DB = 2.0  # bands around a clear one whose excess is this close to its own are merged with it


@dataclass(frozen=True)
class Band:
    """A run of neighbouring bands above (or below) the reference, with the excess of its total power."""

    low_hz: float
    high_hz: float
    excess_db: float


def differing_bands(level_db: F64, expected: Reference, limits_hz: F64) -> tuple[Band, ...]:
    """The bands of a segment's level (n_bands,), dB, that differ clearly, at most five.

    A band differs clearly if its level does, or its contrast to its surroundings, which depends little on the loudness of a
    recording. Sorted by clarity, then by size of the difference. `level_db` is measured in the same way as `expected`: in
    sharp bands, or as the mean frame. `limits_hz` (n_bands + 1,) are the band limits of the front end.
    """
    levels = expected.best_levels
    level_db, normal_db = (np.maximum(values, FLOOR_DB, dtype=np.float64) for values in (level_db, levels.mean_db))
    excess, carries = level_db - normal_db, np.maximum(level_db, normal_db) > FLOOR_DB
    power, normal = (10.0 ** (values / 10.0) * np.diff(limits_hz) for values in (level_db, normal_db))
    found: list[tuple[float, Band]] = []
    named, skirts = np.zeros((2, len(excess)), bool)
    for peak, clarity, ground in _clear(excess, levels):
        if named[peak] or skirts[peak]:
            continue
        sign = np.sign(excess[peak])
        added = sign * (power - normal * 10.0 ** (ground / 10.0))
        part = _added(peak, added, np.where(carries, sign * (excess - ground), -np.inf))
        skirts[_skirts(part, added)] = True
        if not ground.any():
            part = max(part, _louder(peak, np.where(carries, excess, np.inf)), key=lambda run: run.stop - run.start)
        if named[part].any():  # already part of a clearer band
            continue
        usual = _usual(normal[part], levels.contrast_spread_db[part])
        excess_db = 10.0 * float(np.log10(power[part].sum() / usual))
        if sign * excess_db < _SMALLEST_DB:  # louder bands outweigh the others, or the reverse
            part, excess_db = slice(peak, peak + 1), float(excess[peak])
        named[part] = True
        band = Band(*(round(float(value), 1) for value in (limits_hz[part.start], limits_hz[part.stop], excess_db)))
        found.append((clarity**2 * abs(excess_db), band))
    return tuple(band for _, band in sorted(found, key=lambda one: -one[0])[:MAX_BANDS])


def _clear(excess: F64, levels: Levels) -> Iterator[tuple[int, float, F64]]:
    """The bands that differ clearly, clearest first: index, clarity, and the baseline (n_bands,), dB, of the comparison."""
    grounds = np.array([np.zeros_like(excess), surroundings(excess)])
    against = np.array([excess, contrast(excess)])
    spreads = np.array([levels.spread_db, levels.contrast_spread_db])
    clarity = np.abs(against) / np.maximum(MIN_EXCESS_DB, MIN_SPREADS * spreads)
    clarity[np.sign(against) * excess < MIN_EXCESS_DB] = 0.0
    best = clarity.max(axis=0)
    for band in sorted(np.flatnonzero(best >= ENOUGH), key=lambda i: -best[i]):
        yield int(band), float(best[band]), grounds[int(np.argmax(clarity[:, band]))]


def _added(peak: int, added: F64, beyond: F64) -> slice:
    """The bands around a clear one whose added (or missing) power is within 6 dB of the strongest.

    A loud band that is only slightly louder than usual is excluded, however large the added power.
    """
    within = beyond >= min(MIN_EXCESS_DB, beyond[peak])
    while True:
        run = _run(peak, within & (added >= _SIX_DB * added[peak]))
        strongest = run.start + int(np.argmax(added[run]))
        if strongest == peak:
            return run
        peak = strongest


def _skirts(part: slice, added: F64) -> slice:
    """Extend a run of bands by its neighbours while the added power falls. Where it rises again, another run begins."""

    def last(at: int, step: int) -> int:
        lowest = added[at]
        while 0 <= at + step < len(added) and 0.0 < added[at + step] < _RISE * lowest:
            at += step
            lowest = min(lowest, added[at])
        return at

    return slice(last(part.start, -1), last(part.stop - 1, 1) + 1)


def _usual(normal: F64, spread_db: F32) -> float:
    """The usual total power of several bands, given the usual level of each (n,), a mean of dB, and its spread (n,), dB.

    The mean of the sum in dB is above the sum of the means, because one band swells while another fades. Source: L. F.
    Fenton, The sum of log-normal probability distributions in scatter transmission systems, IRE Trans. CS-8 (1960).
    """
    spread = np.where(np.isfinite(spread_db), np.minimum(spread_db, _LOG_NORMAL_DB), 0.0) * np.log(10.0) / 10.0
    means = normal * np.exp(spread**2 / 2.0)
    variance = float(np.sum(means**2 * np.expm1(spread**2)))
    return float(means.sum() / np.sqrt(1.0 + variance / means.sum() ** 2))


def _louder(peak: int, excess: F64) -> slice:
    """The bands around a clear one with a similar excess."""
    return _run(peak, np.abs(excess - excess[peak]) <= _SIMILAR_DB)


def _run(at: int, holds: Bool) -> slice:
    """The run of neighbours around `at` for which `holds` is true."""
    low = high = at
    while low > 0 and holds[low - 1]:
        low -= 1
    while high + 1 < len(holds) and holds[high + 1]:
        high += 1
    return slice(low, high + 1)


def summarise(bands: tuple[Band, ...], impulses_hz: float | None = None) -> str:
    """A summary sentence: the first two bands and the impulses."""
    phrases = [_phrase(band) for band in bands[:2]]
    if impulses_hz is not None:
        phrases.append(f"impulses about {impulses_hz:.{0 if impulses_hz >= 9.95 else 1}f} times a second")
    return "; ".join(phrases) or "sounds different, with no single band standing out"


def _phrase(band: Band) -> str:
    more = "more" if band.excess_db > 0 else "less"
    return f"{abs(band.excess_db):.0f} dB {more} than usual at {_range(band.low_hz, band.high_hz)}"


def _range(low_hz: float, high_hz: float) -> str:
    """Such as `100-200 Hz` or `1.0-1.5 kHz`, with as many decimals as it takes to tell the limits apart."""
    scale, unit, decimals = (1.0, "Hz", range(2)) if high_hz < 1000.0 else (1000.0, "kHz", range(1, 5))
    for n in decimals:
        low, high = (f"{hz / scale:.{n}f}" for hz in (low_hz, high_hz))
        if low != high:
            return f"{low if low_hz else 0}-{high} {unit}"
    return f"{high} {unit}"  # narrower than the 0.1 Hz to which limits are rounded

"""Where in frequency a segment differs from what was expected, as a few bands and one sentence."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from monitor.core.arrays import F64, Bool
from monitor.core.expected import Expected, Levels, contrast, surroundings

MIN_EXCESS_DB = 2.0
MIN_SPREADS = 4.0
ENOUGH = 0.6  # of that is enough to be named after clearer ones: something is different, after all
MAX_BANDS = 5
_EDGE = 0.5  # of its inner neighbour's added power: a band with less is the flank of the difference, not part of it
_SIX_DB = 0.25  # of its strongest band's added power: a band with less is on the skirts of the difference
_FLANK = 0.5  # of the power in a flank leaked there; the rest may be its own


@dataclass(frozen=True)
class Band:
    """A run of neighbouring bands that exceed (or miss) what was expected, and by how much the power in all of it does."""

    low_hz: float
    high_hz: float
    excess_db: float


def differing_bands(level_db: F64, expected: Expected, limits_hz: F64) -> tuple[Band, ...]:
    """The bands of a segment's level (n_bands,), dB, that differ clearly, clearest first, at most five.

    A band differs clearly if its level does, or its contrast to its surroundings: these hardly care how loud a recording
    is. Where the bundle knows no levels, `level_db` is the mean frame. `limits_hz` (n_bands + 1,) are the front end's.
    """
    levels = expected.levels or Levels(expected.mean_db, expected.spread_db, np.full_like(expected.spread_db, np.inf))
    excess = np.asarray(level_db - levels.mean_db, np.float64)
    power, normal = (10.0 ** (values / 10.0) * np.diff(limits_hz) for values in (level_db, level_db - excess))
    found: list[Band] = []
    named, found_in = np.zeros((2, len(excess)), bool)
    for peak, ground in _clear(excess, levels):
        if named[peak]:
            continue
        sign = np.sign(excess[peak])
        moved = sign * (power - normal * 10.0 ** (ground / 10.0))
        is_local = bool(ground.any())
        beyond = sign * (excess - ground)
        part, flanks = _reach(peak, moved if is_local else 10.0 ** (beyond / 10.0) - 1.0, beyond > 0.5 * beyond[peak])
        named[flanks] = True
        if found_in[part].any():  # the outskirts of one that is clearer
            continue
        found_in[part] = True
        leaks = _leaks(part, moved)
        heard, usual = power[part].sum() + max(0.0, sign * leaks), normal[part].sum() + max(0.0, -sign * leaks)
        found.append(_band(limits_hz[part.start], limits_hz[part.stop], 10.0 * np.log10(heard / usual)))
    return tuple(found[:MAX_BANDS])


def _band(low_hz: float, high_hz: float, excess_db: float) -> Band:
    return Band(round(float(low_hz), 1), round(float(high_hz), 1), round(float(excess_db), 1))


def _clear(excess: F64, levels: Levels) -> Iterator[tuple[int, F64]]:
    """The bands that clearly differ, clearest first, each with what (n_bands,), dB, it differs from."""
    grounds = np.array([np.zeros_like(excess), surroundings(excess)])
    against = np.array([excess, contrast(excess)])
    spreads = np.array([levels.spread_db, levels.contrast_spread_db])
    clarity = np.abs(against) / np.maximum(MIN_EXCESS_DB, MIN_SPREADS * spreads)
    clarity[np.sign(against) * excess < MIN_EXCESS_DB] = 0.0
    best = clarity.max(axis=0)
    for band in sorted(np.flatnonzero(best >= ENOUGH), key=lambda i: -best[i]):
        yield int(band), grounds[int(np.argmax(clarity[:, band]))]


def _reach(peak: int, added: F64, within: Bool) -> tuple[slice, slice]:
    """The run of bands around a clear one that the difference reaches, and the same with the flanks that it leaks into."""
    while True:  # up to the strongest
        near = [i for i in (peak, peak - 1, peak + 1) if 0 <= i < len(added) and within[i]]
        best = max(near, key=lambda i: float(added[i]))
        if best == peak:
            break
        peak = best
    (low, lowest), (high, highest) = (_end(peak, step, added, within) for step in (-1, 1))
    return slice(low, high + 1), slice(lowest, highest + 1)


def _end(peak: int, step: int, added: F64, within: Bool) -> tuple[int, int]:
    """The last band on one side that belongs to a peak, and the last of its flank."""
    last = peak
    least = _SIX_DB * added[peak]
    while 0 <= last + step < len(added) and within[last + step] and added[last + step] >= max(least, _EDGE * added[last]):
        last += step
    flank = last
    while 0 <= flank + step < len(added) and 0.0 < added[flank + step] < added[flank]:
        flank += step
    return last, flank


def _leaks(part: slice, moved: F64) -> float:
    """How much of a run's power (n_bands,) lies in the bands beside it."""
    beside = ((part.start - 1, part.start), (part.stop, part.stop - 1))
    return _FLANK * sum(max(0.0, float(min(moved[i], _EDGE * moved[own]))) for i, own in beside if 0 <= i < len(moved))


def summarise(bands: tuple[Band, ...], impulses_hz: float | None = None) -> str:
    """One sentence for a person: the first two bands, and the impulses."""
    phrases = [_phrase(band) for band in bands[:2]]
    if impulses_hz is not None:
        phrases.append(f"impulses about {impulses_hz:.{0 if impulses_hz >= 9.95 else 1}f} times a second")
    return "; ".join(phrases) or "sounds different, with no single band standing out"


def _phrase(band: Band) -> str:
    more = "more" if band.excess_db > 0 else "less"
    if band.high_hz < 1000.0:
        where = f"{band.low_hz:.0f}-{band.high_hz:.0f} Hz"
    else:
        where = f"{band.low_hz / 1000:.1f}-{band.high_hz / 1000:.1f} kHz"
    return f"{abs(band.excess_db):.0f} dB {more} than usual at {where}"

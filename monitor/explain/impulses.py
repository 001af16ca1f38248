"""The rate of impulses that are not part of normal sound, from a comb in the envelope spectrum."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from monitor.arrays import F64
from monitor.explain.envelope import MIN_RATE_HZ, Envelope
from monitor.explain.reference import EnvelopeSpectra

MIN_SPREADS = 2.5  # minimum excess of a clear line over normal sound, in spreads
MIN_CLEAR_DB = 2.0  # minimum excess of a clear line over normal sound
LOCAL_DB = 8.0  # minimum excess over the median of the surroundings, which excludes stronger noise
MIN_SCORE_DB = 16.0  # of all lines of a comb together
# Limit per line, so that a single one, as from two beating tones, does not suffice.
MAX_LINE_DB = 14.0
MISSED_DB = 4.0  # penalty for a missing line
MIN_LINES = 2
_CANDIDATES = 8  # strongest lines of a carrier, each tried as the first, second and third line of a comb
_NEAR = 2  # cells searched to either side of a line's expected position
_SURROUNDINGS = 40  # cells


@dataclass(frozen=True)
class Comb:
    """A rate, the total clarity of its lines, and the number of clear lines."""

    rate_hz: float
    score_db: float
    n_lines: int


@dataclass(frozen=True)
class _Lines:
    """The strongest line near each cell (n,): its position in cells, and its clarity, dB. A line is clear above 0."""

    cells: F64
    clear_db: F64


def impulse_rate_hz(envelope: Envelope, expected: EnvelopeSpectra, rates_hz: F64) -> float | None:
    """The rate of unusual impulses, or None. `rates_hz` are the limits between which `expected` was pooled."""
    comb = best_comb(envelope, expected, rates_hz)
    is_clear = comb is not None and comb.score_db >= MIN_SCORE_DB and comb.n_lines >= MIN_LINES
    return comb.rate_hz if comb is not None and is_clear else None


def best_comb(envelope: Envelope, expected: EnvelopeSpectra, rates_hz: F64) -> Comb | None:
    """The clearest comb of all carriers; None if no comb has two clear lines."""
    combs = []
    for carrier in _clear_db(envelope, expected, rates_hz):
        lines = _lines(carrier)
        strongest = sorted(np.unique(lines.cells[lines.clear_db > 0]), key=lambda at: -carrier[round(at)])[:_CANDIDATES]
        combs += [_comb(lines, at / part, envelope.step_hz) for at in strongest for part in (1, 2, 3)]
    return max((comb for comb in combs if comb is not None), key=lambda comb: comb.score_db, default=None)


def _clear_db(envelope: Envelope, expected: EnvelopeSpectra, rates_hz: F64) -> Iterator[F64]:
    """The clarity (n,), dB, of each carrier's cells: the excess over normal sound and over the surroundings."""
    cells = np.arange(envelope.power.shape[1]) * envelope.step_hz
    limit = expected.mean_db + np.maximum(MIN_CLEAR_DB, MIN_SPREADS * expected.spread_db)
    beside = np.pad(limit, ((0, 0), (1, 1)), mode="edge")  # the machine's speed varies
    limit = np.maximum(limit, np.maximum(beside[:, :-2], beside[:, 2:]))
    pooled = np.clip(np.searchsorted(rates_hz, cells, side="right") - 1, 0, limit.shape[1] - 1)
    outside = (cells < rates_hz[0]) | (cells > rates_hz[-1])
    for power, limits in zip(envelope.power, limit, strict=True):  # row by row, to save memory
        level = 10.0 * np.log10(np.maximum(power, 1e-12))
        clear = level - np.maximum(limits[pooled], _floor(level) + LOCAL_DB)
        clear[outside] = -np.inf
        yield clear


def _floor(level: F64) -> F64:
    """The median (n,), dB, of the surroundings, in blocks. Lines close to it are noise."""
    n = len(level)
    blocks = np.pad(level, (0, -n % _SURROUNDINGS), mode="reflect").reshape(-1, _SURROUNDINGS)
    middles = (np.arange(len(blocks)) + 0.5) * _SURROUNDINGS
    return np.interp(np.arange(n), middles, np.median(blocks, axis=1))


def _lines(carrier: F64) -> _Lines:
    """The lines of one carrier's clarity (n,), dB, each at the top of a parabola through its peak."""
    near = np.lib.stride_tricks.sliding_window_view(np.pad(carrier, _NEAR, constant_values=-np.inf), 2 * _NEAR + 1)
    peak = np.argmax(near, axis=1) + np.arange(len(carrier)) - _NEAR
    inner = np.clip(peak, 1, len(carrier) - 2)
    left, top, right = (np.maximum(carrier[inner + i], -30.0) for i in (-1, 0, 1))
    bend = left - 2.0 * top + right
    shift = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, 1.0), 0.0)
    return _Lines(inner + np.clip(shift, -0.5, 0.5), np.clip(carrier[peak], -MISSED_DB, MAX_LINE_DB))


def _comb(lines: _Lines, step: float, step_hz: float) -> Comb | None:
    """The lines at multiples of `step` cells, up to the number with the greatest total clarity; None if there are not two.

    Each clear line makes the step more precise, so the first few are fitted first. Half the rate would fit every line, too,
    but every second line would be missing. Twice the rate would have no missing line, but only half as many lines.
    """
    if not step * step_hz >= MIN_RATE_HZ:
        return None
    for max_lines in (3, 10, 30, 1000):
        n = min(max_lines, int((len(lines.cells) - 1) / step))
        if n < 2:
            return None
        k = np.arange(1, n + 1)
        at = np.rint(k * step).astype(int)
        clear = lines.clear_db[at]
        weight = k * np.maximum(clear, 0.0)
        if weight.any():
            step = float(weight @ lines.cells[at] / (weight @ k))
    score = np.cumsum(clear)
    best = int(np.argmax(score[1:])) + 1
    return Comb(step * step_hz, float(score[best]), int(np.count_nonzero(clear[: best + 1] > 0)))

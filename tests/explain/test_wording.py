"""Whatever the sound, its explanation makes sense."""

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.arrays import F64
from monitor.explain.band_power import FLOOR_DB
from monitor.explain.bands import Band, differing_bands, summarise
from monitor.explain.reference import Levels, Reference
from monitor.scoring.front_end import FrontEndSpec, LogMelSpec, LogSpectrumSpec

FRONT_ENDS: list[FrontEndSpec] = [
    LogMelSpec(sample_rate_hz=16000, n_fft=1024, hop_length=512, n_mels=64, fmax_hz=8000.0),
    LogMelSpec(sample_rate_hz=16000, n_fft=2048, hop_length=512, n_mels=256, fmin_hz=900.0, fmax_hz=1200.0),
    LogSpectrumSpec(sample_rate_hz=48000, n_fft=1024, hop_length=512, n_bins=512),
    LogSpectrumSpec(sample_rate_hz=1000, n_fft=16384, hop_length=512, n_bins=8192),  # bands of 0.06 Hz
]
PHRASE = re.compile(r"[1-9]\d* dB (?:more|less) than usual at ([\d.]+)(?:-([\d.]+))? k?Hz")


def regions(rng: np.random.Generator, n: int) -> F64:
    """Offsets (n,), dB: up to four regions of bands that are louder or softer."""
    offset = np.zeros(n)
    for _ in range(rng.integers(5)):
        first = rng.integers(n)
        offset[first : first + rng.integers(1, n)] += rng.uniform(-40.0, 40.0)
    return offset


def sound(rng: np.random.Generator, n: int) -> tuple[F64, Reference]:
    """A level (n,), dB, and a reference. Regions at the top of either may carry nothing."""
    usual = np.interp(np.arange(n), [0, n // 2, n], rng.uniform(-120.0, -20.0, 3))
    usual += rng.uniform(0.0, 15.0) * rng.standard_normal(n)
    heard = usual + rng.uniform(-20.0, 20.0) + rng.uniform(0.0, 3.0) * rng.standard_normal(n) + regions(rng, n)
    for level in (usual, heard):
        level[rng.integers(n // 4, n + 1) :] = rng.uniform(-300.0, FLOOR_DB)
    spread, contrast_spread = rng.uniform(0.5, 6.0, (2, n)).astype(np.float32)
    if rng.random() < 0.3:
        contrast_spread[:] = np.inf
    levels = Levels(usual.astype(np.float32), spread, contrast_spread)
    return heard, Reference(levels.mean_db, spread, levels)


@given(seed=st.integers(0, 1 << 32), front_end=st.sampled_from(FRONT_ENDS))
def test_named_bands_carry_sound_and_differ_from_normal(seed: int, front_end: FrontEndSpec) -> None:
    heard, expected = sound(np.random.default_rng(seed), front_end.n_bands)
    limits_hz = front_end.band_limits_hz().round(1)
    bands = differing_bands(heard, expected, front_end.band_limits_hz())
    now, usual = (np.maximum(level, FLOOR_DB) for level in (heard, expected.best_levels.mean_db))
    for band in bands:
        named = (limits_hz[:-1] > band.low_hz) & (limits_hz[1:] < band.high_hz)  # without ends, which are rounded
        assert (np.maximum(now, usual)[named] > FLOOR_DB).all(), band
        assert not named.any() or (np.sign(band.excess_db) * (now - usual)[named] > 0.0).any(), band
    check_summary(bands)


@given(
    st.lists(st.tuples(st.floats(0.0, 2e5), st.floats(0.1, 2e5), st.floats(1.0, 300.0)), min_size=1, max_size=5), st.booleans()
)
def test_the_limits_of_a_band_are_told_apart(bands: list[tuple[float, float, float]], more: bool) -> None:
    check_summary(
        tuple(Band(round(low, 1), round(round(low, 1) + width, 1), size if more else -size) for low, width, size in bands)
    )


def check_summary(bands: tuple[Band, ...]) -> None:
    text = summarise(bands)
    for band, phrase in zip(bands, text.split("; "), strict=False):
        found = PHRASE.fullmatch(phrase)
        assert found is not None, text
        assert (found[2] is None) == (band.low_hz == band.high_hz), text
        assert found[2] is None or float(found[1]) < float(found[2]), text

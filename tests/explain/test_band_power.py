import numpy as np
import pytest

from monitor.arrays import F32
from monitor.explain.band_power import band_power_db, n_window
from monitor.explain.envelope import Run
from monitor.scoring.front_end import LogMelSpec

RATE_HZ = 16000
LIMITS = LogMelSpec(sample_rate_hz=RATE_HZ, n_fft=1024, hop_length=512, n_mels=128, fmax_hz=8000.0).band_limits_hz()
N = 10 * RATE_HZ


def tone(hz: float, amplitude: float) -> F32:
    return (amplitude * np.sin(2.0 * np.pi * hz * np.arange(N) / RATE_HZ)).astype(np.float32)


def power_db(sound: F32) -> np.typing.NDArray[np.float64]:
    """In each band, against a full scale of 1."""
    return band_power_db([Run(0, sound)], LIMITS, sample_rate_hz=RATE_HZ) + 10.0 * np.log10(np.diff(LIMITS))


def test_noise_has_the_density_that_it_has() -> None:
    noise = np.random.default_rng(1).standard_normal(N).astype(np.float32)
    density = band_power_db([Run(0, noise)], LIMITS, sample_rate_hz=RATE_HZ)
    assert np.mean(10.0 ** (density / 10.0)) == pytest.approx(2.0 / RATE_HZ, rel=0.01)
    assert abs(density - 10.0 * np.log10(2.0 / RATE_HZ)).max() < 1.5


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("band", [8, 30, 70])
def test_a_tone_is_in_its_band_and_in_no_other(band: int, share: float) -> None:
    heard = power_db(tone(LIMITS[band] + share * (LIMITS[band + 1] - LIMITS[band]), 0.5))
    assert heard[band] == pytest.approx(10.0 * np.log10(0.125), abs=0.05)
    assert np.delete(heard, band).max() < heard[band] - 40.0


def test_a_loud_line_does_not_hide_how_quiet_the_next_band_is() -> None:
    noise = 1e-2 * np.random.default_rng(2).standard_normal(N).astype(np.float32)
    line = tone((LIMITS[10] + LIMITS[11]) / 2.0, 0.5)
    assert abs(power_db(noise + line)[[9, 11]] - power_db(noise)[[9, 11]]).max() < 0.5


def test_runs_that_adjoin_are_one() -> None:
    noise = np.random.default_rng(3).standard_normal(N).astype(np.float32)
    ticks = [Run(start, noise[start : start + 16384]) for start in range(0, N, 16384)]
    whole = band_power_db([Run(0, noise)], LIMITS, sample_rate_hz=RATE_HZ)
    assert np.array_equal(band_power_db(ticks, LIMITS, sample_rate_hz=RATE_HZ), whole)


def test_no_window_spans_a_gap() -> None:
    """Two halves of a tone that do not fit are a click where they are joined."""
    first, then = tone(1000.0, 0.5)[: N // 2], tone(1003.7, 0.5)[: N // 2]
    apart = [Run(0, first), Run(N, then)]
    joined = [Run(0, first), Run(N // 2, then[::-1].copy())]
    beside = int(np.searchsorted(LIMITS, 3000.0))
    heard = [band_power_db(runs, LIMITS, sample_rate_hz=RATE_HZ)[beside] for runs in (apart, joined)]
    assert heard[0] < heard[1] - 6.0


def test_less_than_a_window_is_heard_too() -> None:
    n = n_window(LIMITS, RATE_HZ)
    noise = np.random.default_rng(4).standard_normal(n).astype(np.float32)
    gappy = [Run(0, noise[: n // 2]), Run(2 * n, noise[n // 2 : n - 100]), Run(4 * n, noise[-1:])]
    for runs in ([Run(0, noise[: n // 3])], gappy):
        density = band_power_db(runs, LIMITS, sample_rate_hz=RATE_HZ)
        assert np.median(density) == pytest.approx(10.0 * np.log10(2.0 / RATE_HZ), abs=1.0)


@pytest.mark.parametrize(("width_hz", "n"), [(0.1, 32768), (8.0, 32768), (15.7, 16384), (250.0, 1024), (2000.0, 256)])
def test_a_window_has_sixteen_bins_in_the_narrowest_band(width_hz: float, n: int) -> None:
    assert n_window(np.array([0.0, 4000.0, 4000.0 + width_hz]), 16000) == n

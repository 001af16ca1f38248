"""Sound described from ticks: bands, impulses and words."""

import numpy as np
import pytest

from monitor.block import Block
from monitor.explain.bands import Band, differing_bands, summarise
from monitor.explain.describe import describe
from monitor.explain.profile import segment_profile
from monitor.explain.reference import Levels, Reference, fit_reference
from monitor.scoring.features import FeatureExtractor
from monitor.scoring.tick_sound import TickSound, tick_sound
from tests.scoring.linear import FRONT_END
from tests.signals import noise

N = 5 * 16000
T = np.arange(N) / 16000
LIMITS_HZ = FRONT_END.band_limits_hz()


def sounds(samples: np.typing.NDArray[np.floating]) -> list[TickSound]:
    ticks = FeatureExtractor(FRONT_END, tick_frames=32).push(Block(0, np.asarray(samples, np.float32)))
    return [tick_sound(tick, FRONT_END) for tick in ticks]


REFERENCE = fit_reference([segment_profile(sounds(noise(seed, N, level=0.02)), FRONT_END) for seed in range(4)])


def test_a_tone_and_impulses_are_both_described() -> None:
    struck = 0.5 * np.exp(-(T * 40.0 % 1.0) / 40.0 / 0.002) * np.sin(2 * np.pi * 3100.0 * T)
    found = describe(sounds(noise(9, N, level=0.02) + struck), REFERENCE, FRONT_END)
    assert found.impulses_hz == pytest.approx(40.0, rel=0.01)
    assert found.bands[0].low_hz < 3100.0 < found.bands[0].high_hz
    assert found.summary == summarise(found.bands, found.impulses_hz)
    plain = Reference(REFERENCE.mean_db, REFERENCE.spread_db, REFERENCE.levels)
    assert describe(sounds(noise(9, N, level=0.02) + struck), plain, FRONT_END).impulses_hz is None


def levels(spread_db: float, contrast_db: float) -> Reference:
    flat = np.full(64, -60.0, np.float32)
    spread, contrast = (np.full(64, value, np.float32) for value in (spread_db, contrast_db))
    return Reference(flat, spread, Levels(flat, spread, contrast))


def heard(changes: dict[int, float], ground_db: float = 0.0) -> np.typing.NDArray[np.float64]:
    level = np.full(64, -60.0 + ground_db)
    for band, excess_db in changes.items():
        level[band] += excess_db
    return level


def bands(changes: dict[int, float], expected: Reference, ground_db: float = 0.0) -> list[tuple[int, int, float]]:
    """First band, one past the last, and excess."""
    edges = [round(float(limit), 1) for limit in LIMITS_HZ]
    found = differing_bands(heard(changes, ground_db), expected, LIMITS_HZ)
    return [(edges.index(band.low_hz), edges.index(band.high_hz), band.excess_db) for band in found]


@pytest.mark.parametrize(
    ("changes", "spread_db", "found"),
    [
        ({20: 2.0}, 0.1, [(20, 21, 2.0)]),
        ({20: 1.9}, 0.1, []),
        ({20: 7.3}, 3.0, [(20, 21, 7.3)]),  # 0.6 of four spreads
        ({20: 7.1}, 3.0, []),
        ({20: 20.0, 21: 14.1}, 0.1, [(20, 22, 17.9)]),
        ({20: 20.0, 21: 13.0}, 0.1, [(20, 21, 20.0)]),  # a skirt
        ({20: 20.0, 21: 3.0, 22: 14.0}, 0.1, [(20, 21, 20.0), (22, 23, 14.0)]),
        ({20: -20.0, 21: -18.5}, 0.1, [(20, 22, -19.2)]),
        ({20: 3.0, 21: 4.9, 22: 6.8}, 0.1, [(21, 23, 5.9)]),
    ],
)
def test_bands_next_to_a_clear_one_are_merged_by_their_power(
    changes: dict[int, float], spread_db: float, found: list[tuple[int, int, float]]
) -> None:
    got = bands(changes, levels(spread_db, np.inf))
    assert [(low, high) for low, high, _ in got] == [(low, high) for low, high, _ in found]
    assert [excess for *_, excess in got] == pytest.approx([excess for *_, excess in found], abs=0.1)


def test_a_contrast_is_measured_against_the_surroundings() -> None:
    loud = levels(10.0, 0.5)  # as a whole, the level varies much
    assert bands({30: 5.0}, loud, ground_db=6.0) == [(30, 31, 11.0)]
    assert bands({30: 5.0, 31: 4.0}, loud, ground_db=6.0)[0] == pytest.approx((30, 32, 10.5), abs=0.15)
    assert bands({30: 5.0}, loud, ground_db=-6.0) == []  # hardly louder than usual
    assert bands({30: 9.0}, loud, ground_db=-6.0) == [(30, 31, 3.0)]
    assert bands({30: -9.0}, loud, ground_db=6.0) == [(30, 31, -3.0)]


@pytest.mark.parametrize(
    ("band", "words"),
    [
        (Band(100.0, 200.0, 6.4), "6 dB more than usual at 100-200 Hz"),
        (Band(0.0, 50.0, -6.6), "7 dB less than usual at 0-50 Hz"),
        (Band(100.1, 100.4, 6.0), "6 dB more than usual at 100.1-100.4 Hz"),
        (Band(100.1, 100.1, 6.0), "6 dB more than usual at 100.1 Hz"),
        (Band(900.0, 999.9, 6.0), "6 dB more than usual at 900-1000 Hz"),
        (Band(950.0, 1000.0, 6.0), "6 dB more than usual at 0.9-1.0 kHz"),
        (Band(1010.0, 1040.0, 6.0), "6 dB more than usual at 1.01-1.04 kHz"),
        (Band(1010.1, 1010.2, 6.0), "6 dB more than usual at 1.0101-1.0102 kHz"),
    ],
)
def test_limits_have_as_many_decimals_as_needed(band: Band, words: str) -> None:
    assert summarise((band,)) == words


@pytest.mark.parametrize(("rate_hz", "words"), [(9.94, "9.9"), (9.96, "10"), (12.4, "12"), (2.0, "2.0")])
def test_a_slow_rate_has_a_decimal(rate_hz: float, words: str) -> None:
    assert summarise((), rate_hz) == f"impulses about {words} times a second"


def test_two_bands_are_named() -> None:
    many = tuple(Band(100.0 * n, 100.0 * n + 50.0, 5.0) for n in range(1, 5))
    assert summarise(many).count(";") == 1

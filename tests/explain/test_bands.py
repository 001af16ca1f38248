from dataclasses import replace

import numpy as np
import pytest

from monitor.explain.bands import differing_bands, summarise
from monitor.explain.reference import Levels, Reference
from tests.scoring.linear import FRONT_END

LIMITS = FRONT_END.band_limits_hz()
EXPECTED = Reference(np.full(64, -60.0, np.float32), np.full(64, 0.5, np.float32))


def sharp(usual_db: np.typing.NDArray[np.floating], spread_db: float = 0.5) -> Reference:
    """What is expected where bands do not hear their neighbours."""
    spread = np.full(64, spread_db, np.float32)
    return replace(EXPECTED, levels=Levels(usual_db.astype(np.float32), spread, spread))


def frame(changes: dict[int, float]) -> np.typing.NDArray[np.float64]:
    mean = np.full(64, -60.0)
    for band, excess_db in changes.items():
        mean[band] += excess_db
    return mean


def test_neighbouring_bands_merge_and_the_clearest_comes_first() -> None:
    bands = differing_bands(frame({10: 7.0, 11: 8.0, 12: 7.0, 40: -12.0}), EXPECTED, LIMITS)
    assert [band.excess_db for band in bands] == [-12.0, 7.4]
    assert (bands[1].low_hz, bands[1].high_hz) == (round(LIMITS[10], 1), round(LIMITS[13], 1))


def test_noise_ends_where_it_ends_however_loud_its_bands_are_by_themselves() -> None:
    usual = -60.0 + 12.0 * np.sin(np.arange(64))
    heard = 10.0 ** (usual / 10.0) + np.where((np.arange(64) >= 20) & (np.arange(64) < 30), 10.0**-3.8, 0.0)
    (band,) = differing_bands(10.0 * np.log10(heard), sharp(usual), LIMITS)
    assert (band.low_hz, band.high_hz) == (round(LIMITS[20], 1), round(LIMITS[30], 1))


def test_a_line_beside_it_that_is_hardly_louder_is_no_part_of_a_tone() -> None:
    """However much power half a decibel of a loud line is."""
    usual = EXPECTED.mean_db.copy()
    usual[12] = -20.0
    changes = dict.fromkeys(range(64), 0.0) | {11: 15.0, 12: 0.5}
    (band,) = differing_bands(usual + np.array(list(changes.values())), sharp(usual), LIMITS)
    assert (band.low_hz, band.high_hz, band.excess_db) == (round(LIMITS[11], 1), round(LIMITS[12], 1), 15.0)


def test_a_machine_that_is_louder_as_a_whole_is_one_band() -> None:
    """Although nearly all of the power that is more is where it always was."""
    usual = np.linspace(-30.0, -80.0, 64)
    (band,) = differing_bands(usual + 6.0, sharp(usual), LIMITS)
    assert (band.low_hz, band.high_hz, band.excess_db) == (round(LIMITS[0], 1), round(LIMITS[64], 1), 6.0)


def test_what_is_usual_of_several_bands_is_the_mean_of_their_sum() -> None:
    rng = np.random.default_rng(3)
    clips = -60.0 + rng.normal(0.0, 4.0, (2000, 64))
    known = sharp(EXPECTED.mean_db, 4.0)
    part, more = slice(20, 30), 10.0**-3.0
    heard = EXPECTED.mean_db.astype(np.float64)
    heard[part] = 10.0 * np.log10(10.0 ** (heard[part] / 10.0) + more)
    width = np.diff(LIMITS)[part]
    usual_db = np.mean(10.0 * np.log10((10.0 ** (clips[:, part] / 10.0)) @ width))
    (band,) = differing_bands(heard, known, LIMITS)
    assert (band.low_hz, band.high_hz) == (round(LIMITS[20], 1), round(LIMITS[30], 1))
    assert band.excess_db == pytest.approx(10.0 * np.log10(10.0 ** (heard[part] / 10.0) @ width) - usual_db, abs=0.2)


def test_of_equally_clear_differences_the_larger_comes_first() -> None:
    spread = np.full(64, 0.5, np.float32)
    spread[40] = 3.0
    bands = differing_bands(frame({10: 4.0, 40: 24.0}), Reference(EXPECTED.mean_db, spread), LIMITS)
    assert [band.excess_db for band in bands] == [24.0, 4.0]


def test_a_whole_region_that_is_louder_is_one_band() -> None:
    (band,) = differing_bands(frame(dict.fromkeys(range(20, 64), 10.0)), EXPECTED, LIMITS)
    assert (band.low_hz, band.high_hz) == (round(LIMITS[20], 1), 8000.0 if LIMITS[64] > 8000 else round(LIMITS[64], 1))
    assert band.excess_db == pytest.approx(10.0, abs=0.1)


def test_a_tone_stands_out_of_recordings_that_are_louder_and_softer() -> None:
    """The level of normal recordings varies by 5 dB, but everywhere alike."""
    moody = replace(EXPECTED, levels=Levels(EXPECTED.mean_db, np.full(64, 5.0, np.float32), EXPECTED.spread_db))
    changes = dict.fromkeys(range(64), -3.0)
    assert differing_bands(frame(changes), moody, LIMITS) == ()
    (band,) = differing_bands(frame(changes | {30: 9.0}), moody, LIMITS)
    assert (band.low_hz, band.excess_db) == (round(LIMITS[30], 1), 9.0)


def test_where_nothing_is_clear_what_nearly_is_is_named() -> None:
    wide = Reference(EXPECTED.mean_db, np.full(64, 3.0, np.float32))
    bands = differing_bands(frame({10: 8.0, 20: 9.0, 30: 7.0}), wide, LIMITS)
    assert [band.low_hz for band in bands] == [round(LIMITS[20], 1), round(LIMITS[10], 1)]


def test_what_is_nearly_clear_follows_what_is() -> None:
    wide = Reference(EXPECTED.mean_db, np.full(64, 3.0, np.float32))
    bands = differing_bands(frame({10: 8.0, 20: 13.0, 40: 6.0}), wide, LIMITS)
    assert [band.low_hz for band in bands] == [round(LIMITS[20], 1), round(LIMITS[10], 1)]


def test_a_band_ends_6_db_below_its_strongest() -> None:
    (band,) = differing_bands(frame({30: 20.0, 31: 17.5, 32: 15.0, 33: 12.5}), EXPECTED, LIMITS)
    assert (band.low_hz, band.high_hz) == (round(LIMITS[30], 1), round(LIMITS[33], 1))


def test_the_skirts_of_a_resonance_are_not_named_beside_it() -> None:
    spread = np.full(64, 0.5, np.float32)
    levels = Levels(EXPECTED.mean_db, 3.0 * spread, spread)
    skirts = 10.0**2.4 / (1.0 + ((np.arange(64) - 30.0) / 3.0) ** 2)
    (band,) = differing_bands(-60.0 + 10.0 * np.log10(1.0 + skirts), replace(EXPECTED, levels=levels), LIMITS)
    assert (band.low_hz, band.high_hz) == (round(LIMITS[27], 1), round(LIMITS[35], 1))


@pytest.mark.parametrize(("centre", "first", "last"), [(2, 0, 7), (61, 57, 63)])
def test_skirts_end_with_the_bands(centre: int, first: int, last: int) -> None:
    spread = np.full(64, 0.5, np.float32)
    levels = Levels(EXPECTED.mean_db, 3.0 * spread, spread)
    skirts = 10.0**2.4 / (1.0 + ((np.arange(64) - centre) / 3.0) ** 2)
    (band,) = differing_bands(-60.0 + 10.0 * np.log10(1.0 + skirts), replace(EXPECTED, levels=levels), LIMITS)
    assert (band.low_hz, band.high_hz) == (round(LIMITS[first], 1), round(LIMITS[last + 1], 1))


def test_more_and_less_do_not_merge() -> None:
    assert [band.excess_db for band in differing_bands(frame({10: 5.0, 11: -6.0}), EXPECTED, LIMITS)] == [-6.0, 5.0]


def test_what_normal_sound_does_by_itself_is_not_named() -> None:
    wide = Reference(EXPECTED.mean_db, np.full(64, 3.0, np.float32))
    assert differing_bands(frame({10: 5.0}), wide, LIMITS) == ()
    assert differing_bands(frame({10: 1.9}), EXPECTED, LIMITS) == ()


def test_at_most_five_bands() -> None:
    assert len(differing_bands(frame(dict.fromkeys(range(0, 64, 4), 10.0)), EXPECTED, LIMITS)) == 5


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({60: 9.0}, "9 dB more than usual at 6.5-6.8 kHz"),
        ({2: -4.0}, "4 dB less than usual at 116-162 Hz"),
        ({}, "sounds different, with no single band"),
    ],
)
def test_the_summary_is_one_sentence(changes: dict[int, float], start: str) -> None:
    assert summarise(differing_bands(frame(changes), EXPECTED, LIMITS)).startswith(start)


def test_the_summary_names_two_bands_and_the_impulses() -> None:
    bands = differing_bands(frame({10: 20.0, 30: 15.0, 50: 10.0}), EXPECTED, LIMITS)
    assert summarise(bands, 87.3).split("; ")[2:] == ["impulses about 87 times a second"]
    assert summarise((), 2.43) == "impulses about 2.4 times a second"

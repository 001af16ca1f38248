import numpy as np
import pytest

from monitor.core.bands import Expected, differing_bands, summarise
from tests.core.linear import FRONT_END

LIMITS = FRONT_END.band_limits_hz()
EXPECTED = Expected(np.full(64, -60.0, np.float32), np.full(64, 0.5, np.float32))


def frame(changes: dict[int, float]) -> np.typing.NDArray[np.float64]:
    mean = np.full(64, -60.0)
    for band, excess_db in changes.items():
        mean[band] += excess_db
    return mean


def test_neighbouring_bands_merge_and_the_largest_comes_first() -> None:
    bands = differing_bands(frame({10: 5.0, 11: 8.0, 12: 4.0, 40: -12.0}), EXPECTED, LIMITS)
    assert [band.excess_db for band in bands] == [-12.0, 8.0]
    assert (bands[1].low_hz, bands[1].high_hz) == (round(LIMITS[10], 1), round(LIMITS[13], 1))


def test_more_and_less_do_not_merge() -> None:
    assert [band.excess_db for band in differing_bands(frame({10: 5.0, 11: -6.0}), EXPECTED, LIMITS)] == [-6.0, 5.0]


def test_what_normal_sound_does_by_itself_is_not_named() -> None:
    wide = Expected(EXPECTED.mean_db, np.full(64, 3.0, np.float32))
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

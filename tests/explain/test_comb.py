"""Combs of lines in an envelope spectrum that was written down: rate, total clarity and number of lines."""

import numpy as np
import pytest

from monitor.arrays import F64
from monitor.explain.envelope import Envelope, Run, n_carriers, pooled_rates_hz, stretches
from monitor.explain.impulses import Comb, best_comb, impulse_rate_hz
from monitor.explain.reference import EnvelopeSpectra

STEP_HZ = 0.25
N = 2400  # cells, up to 600 Hz
RATES_HZ = np.array([2.0, 100.0, 200.0, 400.0, 580.0])
CARRIERS = 2


def expected(mean_db: float = -20.0, spread_db: float = 1.0) -> EnvelopeSpectra:
    shape = (CARRIERS, len(RATES_HZ) - 1)
    return EnvelopeSpectra(np.full(shape, mean_db, np.float32), np.full(shape, spread_db, np.float32))


def lines(levels_db: dict[int, float], *, carrier: int = 0) -> Envelope:
    """Lines of these levels at these cells over 0 dB everywhere."""
    level = np.zeros((CARRIERS, N))
    for cell, level_db in levels_db.items():
        level[carrier, cell] = level_db
    return Envelope(np.asarray(10.0 ** (level / 10.0)), STEP_HZ)


def comb(levels_db: dict[int, float], usual: EnvelopeSpectra | None = None, *, carrier: int = 0) -> Comb:
    found = best_comb(lines(levels_db, carrier=carrier), usual or expected(), RATES_HZ)
    assert found is not None
    return Comb(round(found.rate_hz, 6), round(found.score_db, 6), found.n_lines)


def test_a_line_is_clear_by_its_excess_over_8_db_above_the_surroundings_and_at_most_by_14_db() -> None:
    assert comb({40: 20.0, 80: 18.0, 120: 16.0}) == Comb(10.0, 12.0 + 10.0 + 8.0, 3)
    assert comb({40: 40.0, 80: 22.1, 120: 21.9}) == Comb(10.0, 14.0 + 14.0 + 13.9, 3)
    assert comb({40: 20.0, 80: 18.0, 120: 8.0}) == Comb(10.0, 22.0, 2)


def test_a_missing_line_costs_4_db() -> None:
    assert comb({40: 20.0, 80: 20.0, 160: 20.0}) == Comb(10.0, 12.0 + 12.0 - 4.0 + 12.0, 3)
    assert comb({40: 20.0, 80: 5.0, 120: 20.0}) == Comb(10.0, 12.0 - 3.0 + 12.0, 2)


def test_the_rate_may_have_no_line_of_its_own_among_the_first_three() -> None:
    assert comb({80: 20.0, 120: 20.0, 160: 20.0}) == Comb(10.0, 3 * 12.0 - 4.0, 3)
    assert comb({120: 20.0, 160: 20.0, 200: 20.0}) == Comb(10.0, 3 * 12.0 - 8.0, 3)


@pytest.mark.parametrize(
    ("mean_db", "spread_db", "limit_db"), [(10.0, 4.0, 20.0), (10.0, 0.1, 12.0), (10.0, 0.8, 12.0), (10.0, 1.0, 12.5)]
)
def test_a_line_exceeds_normal_sound_by_2_db_or_two_and_a_half_spreads(mean_db: float, spread_db: float, limit_db: float) -> None:
    assert comb({40: 25.0, 80: 25.0}, expected(mean_db, spread_db)).score_db == pytest.approx(2 * min(14.0, 25.0 - limit_db))


@pytest.mark.parametrize(("range_", "n_lines"), [(0, 0), (1, 0), (2, 2), (3, 3)])
def test_normal_lines_count_in_neighbouring_ranges_too_because_the_speed_varies(range_: int, n_lines: int) -> None:
    usual = expected()
    usual.mean_db[0, range_] = 30.0
    found = best_comb(lines({80: 25.0, 160: 25.0, 240: 25.0}), usual, RATES_HZ)  # 20, 40 and 60 Hz
    assert (found is None) == (n_lines == 0)


def test_lines_outside_the_pooled_rates_do_not_count() -> None:
    found = best_comb(lines({2330: 30.0}), expected(), RATES_HZ)
    assert found is None
    assert comb({1158: 20.0, 2316: 20.0}) == Comb(289.5, 24.0, 2)
    assert best_comb(lines({4: 30.0, 7: 30.0}), expected(), RATES_HZ) is None


def test_the_clearest_carrier_and_comb_win() -> None:
    levels = np.zeros((CARRIERS, N))
    levels[0, [40, 80]] = 18.0
    levels[1, [100, 200, 300]] = 18.0
    found = best_comb(Envelope(np.asarray(10.0 ** (levels / 10.0)), STEP_HZ), expected(), RATES_HZ)
    assert found is not None
    assert found.rate_hz == pytest.approx(25.0)
    assert found.n_lines == 3
    assert found.score_db == pytest.approx(30.0)


@pytest.mark.parametrize(
    ("levels_db", "rate_hz"),
    [
        ({40: 16.0, 80: 16.0}, 10.0),
        ({40: 15.9, 80: 15.9}, None),  # 15.8 dB in all
        ({40: 40.0}, None),
        ({40: 40.0, 80: 10.1}, 10.0),
        ({40: 40.0, 80: 9.9}, None),
        ({9: 20.0, 18: 20.0}, 2.25),
        ({}, None),
    ],
)
def test_impulses_are_reported_from_two_lines_of_16_db_in_all(levels_db: dict[int, float], rate_hz: float | None) -> None:
    found = impulse_rate_hz(lines(levels_db), expected(), RATES_HZ)
    assert found == (None if rate_hz is None else pytest.approx(rate_hz))


def test_the_top_of_a_line_is_that_of_a_parabola_through_three_cells() -> None:
    """Clarity 12 and 6 dB, and -8 dB on the other side: 0.5 * (-8 - 6) / (-8 - 24 + 6) cells up."""
    shift = 7.0 / 26.0
    first, second = 40 + shift, 80 + shift
    found = best_comb(lines({40: 20.0, 41: 14.0, 80: 20.0, 81: 14.0}), expected(), RATES_HZ)
    assert found is not None
    assert found.rate_hz == pytest.approx(STEP_HZ * (first + 2.0 * second) / 5.0)


def test_a_line_may_be_two_cells_off_and_later_lines_make_the_rate_more_precise() -> None:
    """The weight of a line is its number times its clarity."""
    found = comb({40: 20.0, 82: 16.0})
    assert found == Comb(round(STEP_HZ * (12.0 * 40 + 2 * 8.0 * 82) / (12.0 + 4 * 8.0), 6), 20.0, 2)


def test_twenty_lines_are_followed_where_the_first_guess_is_rough() -> None:
    """10.05 Hz is 40.2 cells; the lines are at the nearest cells."""
    found = comb({round(40.2 * k): 20.0 for k in range(1, 31)})
    assert found.rate_hz == pytest.approx(10.05, abs=0.003)
    assert (found.n_lines, found.score_db) == (30, 360.0)


@pytest.mark.parametrize(
    ("sample_rate_hz", "n", "first_hz", "last_hz"),
    [
        (1000, 1, 2.0, 302.45),
        (8000, 4, 2.0, 618.94),
        (16000, 8, 2.0, 618.94),
        (48000, 24, 2.0, 618.94),
        (192000, 24, 2.0, 2467.08),
    ],
)
def test_carriers_and_pooled_rates(sample_rate_hz: int, n: int, first_hz: float, last_hz: float) -> None:
    rates = pooled_rates_hz(sample_rate_hz)
    assert n_carriers(sample_rate_hz) == n
    assert (rates[0], rates[1], rates[36], rates[37]) == (first_hz, 2.5, 20.0, 20.5)
    assert rates[38] == pytest.approx(20.5 * 1.025)
    assert rates[-1] == pytest.approx(last_hz, abs=0.006)


def test_pooling_takes_the_strongest_line_of_each_range() -> None:
    power: F64 = np.ones((1, 12))
    power[0, [3, 5, 11]] = 100.0, 10.0, 1000.0
    power[0, 8] = 0.0
    found = Envelope(power, 0.5).pooled_db(np.array([1.0, 2.0, 4.0, 4.1, 5.5]))
    assert found.tolist() == [[20.0, 10.0, pytest.approx(-120.0), 0.0]]
    assert found.dtype == np.float32


def test_adjacent_runs_are_one_stretch() -> None:
    runs = [Run(start, np.zeros(n, np.float32)) for start, n in ((5, 10), (15, 5), (30, 2), (32, 1), (40, 4))]
    assert list(stretches(runs)) == [(5, 20), (30, 33), (40, 44)]

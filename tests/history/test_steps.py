"""Steps as bytes and back, and as the points of a chart."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.history.points import MAX_POINTS, points, width
from monitor.history.recorder import ScoreRecorder
from monitor.history.steps import DTYPE, LEVELS, RATIOS, STEP_S, DamagedSteps, decode, encode
from tests.history.hours import BEGINNING, filled, hour


def test_an_hour_survives_within_the_rounding() -> None:
    steps = hour(BEGINNING, np.random.default_rng(1)).steps
    steps["n"][5], steps["ratio_mean"][5], steps["states"][7] = 0, np.nan, (0.25, 0, 0.25, 0, 0, 0, 0.5)
    data = encode(steps)
    found = decode(data)
    assert len(data) < 1_600
    assert (found["t"] == steps["t"]).all()
    assert (found["n"] == steps["n"]).all()
    assert np.allclose(found["states"], steps["states"])
    for name in RATIOS:
        np.testing.assert_allclose(found[name], steps[name], rtol=0.0102)
    for name in LEVELS:
        np.testing.assert_allclose(found[name], steps[name], atol=0.101)
    assert np.isnan(found["ratio_mean"][5])


@given(
    st.lists(
        st.tuples(st.integers(0, 300_000), st.floats(0, 1e6), st.floats(-200, 10), st.integers(0, 6)), min_size=1, max_size=50
    )
)
def test_any_steps_survive(rows: list[tuple[int, float, float, int]]) -> None:
    steps = np.zeros(len(rows), DTYPE)
    t = BEGINNING
    for row, (gap, ratio, level, state) in zip(steps, rows, strict=True):
        t += STEP_S * (1 + gap % 100)
        row["t"], row["n"], row["states"][state] = t, 10, 1.0
        for name in RATIOS:
            row[name] = ratio
        for name in LEVELS:
            row[name] = level
    found = decode(encode(steps))
    assert (found["t"] == steps["t"]).all()
    np.testing.assert_allclose(found["ratio_max"], np.maximum(steps["ratio_max"], 1e-6), rtol=0.0102)
    np.testing.assert_allclose(found["rms_min"], steps["rms_min"], atol=0.101)
    assert (found["states"] == steps["states"]).all()


def test_damaged_bytes_are_refused() -> None:
    data, chance = encode(hour(BEGINNING, np.random.default_rng(2)).steps), random.Random(3)
    for _ in range(500):
        damaged = bytearray(data)
        for _ in range(chance.randrange(1, 5)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        cut = bytes(damaged[: chance.choice((len(data), chance.randrange(len(data))))])
        try:
            decode(cut)
        except DamagedSteps as error:
            assert "\n" not in str(error)
    for nothing in (b"", b"\x01" * 9, b"\x02" + data[1:], data[:-1]):
        with pytest.raises(DamagedSteps):
            decode(nothing)


def test_ticks_become_steps_and_points() -> None:
    recorder = ScoreRecorder()
    at = filled(recorder, BEGINNING, 60.0)
    at = filled(recorder, at, 30.0, ratio=3.0, state="anomaly")
    recorder.push("fan", at + 1.0, ratio=None, rms_dbfs=None, state="unknown")
    (block,) = recorder.snapshot("fan")
    assert recorder.snapshot("pump") == []
    found = points([block.steps], BEGINNING, BEGINNING + 120, 10)
    assert len(found) == 12
    assert found[0]["t"] == "2026-11-21T10:00:00.000Z"
    assert found[0]["ratio"] == {"min": 0.5, "mean": 0.5, "max": 0.5, "p50": 0.5, "p95": 0.5}
    assert found[0]["rms_dbfs"] == {"min": -35.0, "mean": -35.0, "max": -35.0}
    assert found[0]["states"] == {"normal": 1.0}
    assert found[7]["states"] == {"anomaly": 1.0}
    assert found[10] == {
        "t": "2026-11-21T10:01:40.000Z",
        "n": 0,
        "ratio": dict.fromkeys(("min", "mean", "max", "p50", "p95")),
        "rms_dbfs": dict.fromkeys(("min", "mean", "max")),
        "states": {},
    }
    (point,) = points([block.steps], BEGINNING, BEGINNING + 120, 600)
    assert point["ratio"]["min"] == 0.5
    assert point["ratio"]["max"] == 3.0
    assert point["ratio"]["p50"] == 0.5
    assert point["ratio"]["p95"] == 3.0
    assert point["ratio"]["mean"] == pytest.approx((58 * 0.5 + 29 * 3.0) / 87, abs=0.01)
    assert point["states"]["normal"] == pytest.approx(0.65, abs=0.06)
    assert sum(point["states"].values()) == pytest.approx(1.0, abs=1e-3)
    assert block.total["n"] == 87
    assert recorder.take()[0].total["ratio_p50"] == 0.5
    assert recorder.snapshot() == []


def test_the_number_of_points_is_bounded_by_widening_them() -> None:
    assert width(0, 3_600, 10) == 10
    assert width(0, 24 * 3_600, 10) == 60
    assert width(0, 3_600, 45) == 60
    for days in (0.01, 1, 30, 400, 4_000, 400_000):
        end = BEGINNING + int(days * 86_400)
        width_s = width(BEGINNING, end, 10)
        assert len(points([], BEGINNING, end, width_s)) <= MAX_POINTS


def test_memory_is_bounded_whatever_the_clock_does() -> None:
    recorder, chance = ScoreRecorder(), random.Random(1)
    for _ in range(5_000):
        recorder.push("fan", chance.uniform(0, 4e9), ratio=1.0, rms_dbfs=-30.0, state="normal")
    blocks = [block.steps for block in recorder.take()]
    assert sum(map(len, blocks)) <= 1_001
    for steps in blocks:
        assert decode(encode(steps))["t"].tolist() == steps["t"].tolist()
    points(blocks, 0, 4_000_000_000, width(0, 4_000_000_000, 10))


@pytest.mark.parametrize("step_s", [-7_200, -600, -30, 600, 40 * 86_400])
def test_a_clock_that_is_set_puts_no_score_where_there_was_none(step_s: int) -> None:
    recorder = ScoreRecorder()
    for second in (*range(120), *range(120 + step_s, 240 + step_s)):
        recorder.push("fan", BEGINNING + second, ratio=1.0, rms_dbfs=-30.0, state="normal")
    stored = np.concatenate([decode(encode(block.steps)) for block in recorder.take()])
    expected = {BEGINNING + at for first in (0, 120 + step_s) for at in range(first, first + 120, 10)}
    assert set(stored["t"].tolist()) == expected
    assert stored["n"].sum() == 240


@pytest.mark.parametrize("offset_s", [-86_400, 86_400, 30 * 86_400])
def test_scores_that_have_the_right_time_already_are_not_shifted(offset_s: int) -> None:
    recorder, now = ScoreRecorder(), BEGINNING + 121
    for second in range(120):
        at = BEGINNING + second - (offset_s if second < 119 else 0)
        recorder.push("fan", at, ratio=1.0, rms_dbfs=-30.0, state="normal")
    recorder.shift(offset_s, now=now)
    (block,) = recorder.take()
    assert set(block.steps["t"].tolist()) == set(range(BEGINNING, BEGINNING + 120, 10))

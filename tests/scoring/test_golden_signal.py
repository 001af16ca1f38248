import numpy as np

from monitor.scoring.golden import golden_score, golden_signal
from monitor.scoring.quality import measure_quality
from tests.scoring.linear import linear_scorer


def test_the_signal_is_the_formula_in_the_documentation() -> None:
    def noise(i: int) -> float:
        x = i
        x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
        x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
        return (x ^ (x >> 16)) / 2.0**31 - 1.0

    def sample(i: int) -> float:
        total = 0.0005 * noise(i)
        for k in range(16):
            swell = 0.5 + 0.5 * np.cos(2 * np.pi * ((k + 1) * i % 20_000) / 20_000)
            total += 0.03 * (i / 2**18) * swell * np.sin(2 * np.pi * ((0.004 * 1.375**k * i) % 1.0))
        return float(total)

    signal = golden_signal(0, 70_000)
    for i in (0, 1, 2, 1_000, 65_536, 69_999):
        assert signal[i] == np.float32(sample(i))
    assert np.array_equal(golden_signal(60_000, 70_000), signal[60_000:])


def test_it_may_be_scored_and_scores_the_same_again() -> None:
    assert measure_quality(golden_signal(40_000, 56_000), sample_rate_hz=16_000).reason is None
    scorer = linear_scorer()
    assert golden_score(scorer) == golden_score(scorer)

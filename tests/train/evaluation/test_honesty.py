"""The benchmark that sets promises beside what was heard counts as the device does, and says what a promise is worth."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.honesty import clustered_interval, listen, poisson_interval, verdict
from train.evaluation.metrics import Interval, rate_interval

ROOT = Path(__file__).parents[3]


def test_segments_and_events_are_those_of_a_replay(demo_bundle: Path, tmp_path: Path) -> None:
    heard = listen(demo_bundle, [ROOT / "demo/fan-bearing.flac"])
    assert (heard.events, heard.weekly_promise, heard.segment_promise) == (1, None, None)
    assert heard.hours == pytest.approx(140 / 3600, rel=0.01)
    n_over, n = heard.over
    assert n == 140 // 1.024 + 1 - 9
    assert 40 < n_over < n
    separate = heard.evidence.scores[::10]
    (n_separate_over,), (n_separate,) = heard.separate_over
    assert (n_separate_over, n_separate) == (np.count_nonzero(separate >= 1.0), 13)
    assert 4 <= n_separate_over <= 9


def test_the_default_promises_by_its_warning_level_and_another_method_nothing(demo_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_bundle, tmp_path / "fan")
    manifest = json.loads((tmp_path / "fan/manifest.json").read_text())
    for method, promise in (("default", 0.005), ("percentile", None)):
        manifest["calibration"] |= {"method": method, "promised_per_week": 7.0}
        (tmp_path / "fan/manifest.json").write_text(json.dumps(manifest))
        heard = listen(tmp_path / "fan", [ROOT / "demo/fan-normal.flac"])
        assert (heard.segment_promise, heard.weekly_promise, heard.over) == (promise, 7.0, (0, 11))


def test_a_rates_interval_is_exact() -> None:
    found = poisson_interval(4, 2.0)
    assert stats.poisson(2.0 * found.low).sf(3) == pytest.approx(0.025)
    assert stats.poisson(2.0 * found.high).cdf(4) == pytest.approx(0.025)
    assert poisson_interval(0, 1.0).low == 0.0


def test_the_interval_of_alike_segments_is_wider() -> None:
    sizes = np.full(15, 11)
    spread = clustered_interval(np.array([1, 1, 1, 1] + 11 * [0]), sizes)
    exact = rate_interval(4, 165)
    assert exact is not None
    assert 0.7 * exact.low < spread.low < exact.low  # fewer degrees of freedom
    assert exact.high < spread.high < 1.2 * exact.high
    alike = clustered_interval(np.array([4] + 14 * [0]), sizes)  # all in one recording
    assert alike.low < 0.5 * spread.low
    assert alike.high > 1.5 * spread.high
    assert clustered_interval(np.zeros(15, int), sizes).low == 0.0
    assert clustered_interval(np.array([4]), np.array([165])) == Interval(0.0, 1.0)


def test_the_intervals_contain_the_rate_as_often_as_they_say() -> None:
    chance, n, sizes = np.random.default_rng(0), 400, np.full(20, 11)
    rates = chance.beta(0.2, 5.0, (n, 20))  # recordings differ: 3.8 % on average
    found = [clustered_interval(chance.binomial(sizes, of), sizes) for of in rates]
    covered = np.mean([one.low <= 0.2 / 5.2 <= one.high for one in found])
    assert 0.9 <= covered <= 1.0


def test_a_promise_is_kept_or_broken_only_where_the_whole_interval_says_so() -> None:
    assert [verdict(0.1, Interval(*limits)) for limits in ((0.0, 0.09), (0.05, 0.2), (0.11, 0.2))] == ["kept", "open", "worse"]

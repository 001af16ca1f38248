import numpy as np
import pytest

from monitor.core.calibration import mean_sigma_threshold
from monitor.core.errors import ConfigError


def test_mean_plus_k_sigma() -> None:
    scores = np.array([1.0, 2.0, 3.0, 4.0])
    assert mean_sigma_threshold(scores, k=2) == pytest.approx(2.5 + 2 * np.sqrt(5 / 3))


def test_one_score_is_not_enough() -> None:
    with pytest.raises(ConfigError, match=r"mean \+ 4 sigma needs at least 2 scores, got 1"):
        mean_sigma_threshold(np.array([1.0]), k=4)

"""Recordings that are unlike all others, such as those of a fault or of another machine. They widen every level."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monitor.learning.predictive import Prior, fit_score_model
from monitor.learning.report_text import significant
from monitor.learning.thresholds import ALARM_CHANCE
from train.calibration.cross_fitted import Stretch

MIN_RECORDINGS = 8
MAX_SHARE = 0.25  # if more differ, they are a state of the machine
MIN_RATIO = 3.0
N_NAMED = 5


def outlying_recordings(stretches: Sequence[Stretch], prior: Prior) -> dict[str, float]:
    """Recordings above the alarm level of those that score lower, with their scores relative to the median, the highest first.

    From the lowest of the last quarter upwards, so that two of them do not hide each other.
    """
    scores: dict[str, float] = {}
    for one in stretches:
        if one.score is not None and one.score > 0.0:
            scores[one.name] = max(one.score, scores.get(one.name, 0.0))
    names = sorted(scores, key=scores.__getitem__)
    values = np.array([scores[name] for name in names])
    n = len(names)
    if n < MIN_RECORDINGS:
        return {}
    median = float(np.median(values))
    for at in range(n - int(MAX_SHARE * n), n):
        level = fit_score_model(values[:at], n_learned=at, prior=prior).threshold(ALARM_CHANCE)
        if values[at] > max(level, MIN_RATIO * median):
            return {name: scores[name] / median for name in reversed(names[at:])}
    return {}


def outlying_notes(found: dict[str, float], root: Path) -> list[str]:
    """One line for each of the first recordings, whose names are paths of files below a folder."""
    lines = [
        f"{Path(name).relative_to(root).as_posix()} scores {significant(ratio, 2)} times as high as the others: "
        "leave it out if it is not normal, because it widens all levels"
        for name, ratio in list(found.items())[:N_NAMED]
    ]
    more = len(found) - N_NAMED
    return lines + ([f"{more} more {'recording is' if more == 1 else 'recordings are'} unlike the others"] if more > 0 else [])

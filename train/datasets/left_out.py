"""Leave out recordings that cannot be used, as long as they are few."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from monitor.errors import SourceError, printable
from train.datasets.clip import Dataset
from train.datasets.pieces import Piece, pieces
from train.datasets.survey import Surveyed, survey

MAX_LEFT_OUT = 0.1  # of the recordings, and of their seconds
_NAMED = 10


def without_problems(surveyed: Sequence[Surveyed], problem_of: Callable[[Surveyed], str | None]) -> list[Surveyed]:
    """The recordings without a problem; the others are named on stderr.

    SourceError where they are more than a tenth of the recordings or of the sound. One of unknown length counts as a mean one.
    """
    problems = [(one, problem) for one in surveyed if (problem := problem_of(one)) is not None]
    if not problems:
        return list(surveyed)
    lengths = [one.duration_s for one in surveyed if one.duration_s]
    mean_s = sum(lengths) / len(lengths) if lengths else 1.0
    lost_s, all_s = (sum(one.duration_s or mean_s for one in some) for some in ([one for one, _ in problems], surveyed))
    n, first = len(problems), problems[0][1]
    if n > MAX_LEFT_OUT * len(surveyed) or lost_s > MAX_LEFT_OUT * all_s:
        many = f"{n} of {len(surveyed)} recordings cannot be used (more than a tenth): " if len(surveyed) > 1 else ""
        raise SourceError(f"{many}{first}{f' (and {n - 1} more; see train inspect)' if n > 1 else ''}")
    for _, problem in problems[:_NAMED]:
        print(f"train: warning: left out: {printable(problem)}", file=sys.stderr)
    if n > _NAMED:
        print(f"train: warning: left out {n - _NAMED} more recordings; see train inspect", file=sys.stderr)
    bad = {one.clip.path for one, _ in problems}
    return [one for one in surveyed if one.clip.path not in bad]


def normal_pieces(data: Dataset, *, sample_rate_hz: int, channel: int | None = None) -> list[Piece]:
    """All usable normal clips of a data set to calibrate on; SourceError where it has none."""
    normal = data.labelled("normal")
    if not normal:
        raise SourceError(f"{data.root}: must hold normal sound to calibrate on, got none (layout {data.layout})")
    usable: set[Path] = {one.clip.path for one in without_problems(survey(normal, channel=channel), lambda one: one.problem)}
    return pieces([clip for clip in normal if clip.path in usable], sample_rate_hz=sample_rate_hz, channel=channel)

"""Modification times of files, where recording them has set those and not copying."""

from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import pairwise
from statistics import median

from train.datasets.clip import Clip

LEAST_SPACING_S = 1.0  # from a recording to the next, as a rule: copies are nearer to each other
MOST_BYTES_PER_S = 500_000  # a stereo recording of 24 bits at 48 kHz grows by 288,000; a disk or network copies faster


def file_times(clips: Sequence[Clip]) -> dict[str, datetime] | None:
    """When each recording was last written, of its files the first, by `Clip.recording`; None where that says nothing.

    A data set that was copied without its times has all of them within the copy, in the copy's order.
    """
    times: dict[str, float] = {}
    n_bytes = 0
    for clip in clips:
        status = clip.path.stat()
        times[clip.recording] = min(status.st_mtime, times.get(clip.recording, status.st_mtime))
        n_bytes += status.st_size
    ordered = sorted(times.values())
    if len(ordered) < 2 or median(after - before for before, after in pairwise(ordered)) < LEAST_SPACING_S:
        return None
    if n_bytes > MOST_BYTES_PER_S * (ordered[-1] - ordered[0]):
        return None
    return {name: datetime.fromtimestamp(time, timezone.utc) for name, time in times.items()}

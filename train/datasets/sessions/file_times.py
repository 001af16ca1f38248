"""Modification times of files, unless they were set by copying."""

from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import pairwise
from statistics import median

from train.datasets.clip import Clip

MIN_SPACING_S = 1.0  # median time between recordings; copies are closer together
MAX_BYTES_PER_S = 500_000  # a stereo recording of 24 bits at 48 kHz grows by 288,000; a disk or network copies faster


def file_times(clips: Sequence[Clip]) -> dict[str, datetime] | None:
    """The time each recording was last written, by `Clip.recording`; None where the times are those of a copy.

    Of several files of a recording, the earliest counts.
    """
    times: dict[str, float] = {}
    n_bytes = 0
    for clip in clips:
        status = clip.path.stat()
        times[clip.recording] = min(status.st_mtime, times.get(clip.recording, status.st_mtime))
        n_bytes += status.st_size
    ordered = sorted(times.values())
    if len(ordered) < 2 or median(after - before for before, after in pairwise(ordered)) < MIN_SPACING_S:
        return None
    if n_bytes > MAX_BYTES_PER_S * (ordered[-1] - ordered[0]):
        return None
    return {name: datetime.fromtimestamp(time, timezone.utc) for name, time in times.items()}

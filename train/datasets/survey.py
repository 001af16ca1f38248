"""Survey a data set: read every file once and measure length, level, quality and spectrum."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from monitor.arrays import F64
from monitor.errors import SourceError
from monitor.explain.envelope import Run
from monitor.scoring.quality import measure_quality
from train.datasets.clip import Clip
from train.datasets.parallel import in_parallel, n_cores
from train.datasets.pieces import of_channel, open_clip
from train.datasets.sessions.session_distances import band_levels_db

_BLOCK_S = 1.0  # checked at a time, about a tick
_SAMPLED_S = 0.25  # of each block: enough for band levels, which are averaged, and four times as fast
_FEW_BYTES = 50_000_000  # read faster by one process than others start
_CHUNK = 8  # files a process takes at a time


@dataclass(frozen=True, kw_only=True)
class Surveyed:
    """One file as training reads it: mixed to mono or one channel, at its own rate."""

    clip: Clip
    error: str | None = None  # why it cannot be used; the other fields are then empty
    rate_hz: int = 0
    n_channels: int = 0
    duration_s: float = 0.0
    rms_dbfs: float = -math.inf
    refused_s: Mapping[str, float] = field(default_factory=dict)  # approximate seconds that the device would not score, by reason
    refused_spans_s: tuple[tuple[float, float], ...] = ()  # the same by time: from, to
    sha256: str = ""  # of rate and samples
    levels_db: tuple[
        float, ...
    ] = ()  # in third-octave bands (`train.datasets.sessions.session_distances`), mean over the scorable blocks

    def usable_s(self, start_s: float, stop_s: float) -> float:
        """Approximate seconds that the device would score between two times."""

        def within(begin_s: float, end_s: float) -> float:
            return max(0.0, min(end_s, stop_s) - max(begin_s, start_s))

        return within(0.0, self.duration_s) - sum(within(*span) for span in self.refused_spans_s)

    @property
    def silent(self) -> bool:
        """Whether the whole file is silent."""
        return self.error is None and self.refused_s.get("silent", 0.0) + self.refused_s.get("flat_line", 0.0) >= self.duration_s


def survey(clips: Iterable[Clip], *, channel: int | None = None, workers: int | None = None) -> list[Surveyed]:
    """Survey all clips, or those of one channel, with a progress bar. Unreadable files have an `error`."""
    jobs = [(clip, channel) for clip in of_channel(clips, channel)]
    if workers is None:
        workers = 1 if sum(clip.path.stat().st_size for clip, _ in jobs) < _FEW_BYTES else n_cores()
    return list(in_parallel(_survey, jobs, workers=workers, bar="inspect", chunk=_CHUNK))


def _survey(job: tuple[Clip, int | None]) -> Surveyed:
    clip, channel = job
    digest = hashlib.sha256()
    n_samples, energy = 0, 0.0
    refused: Counter[str] = Counter()
    spans_s: list[tuple[float, float]] = []
    levels_db: list[F64] = []
    try:
        rate_hz = open_clip(clip, sample_rate_hz=1, channel=channel).rate_hz
        recording = open_clip(clip, sample_rate_hz=rate_hz, channel=channel)
        digest.update(f"{rate_hz} ".encode())
        for block in recording.blocks(block_s=_BLOCK_S):
            quality = measure_quality(block.samples, sample_rate_hz=rate_hz)
            n = len(block.samples)
            n_samples += n
            if quality.reason is not None:
                refused[quality.reason] += n
                spans_s.append(((n_samples - n) / rate_hz, n_samples / rate_hz))
            elif n >= (n_sampled := round(_SAMPLED_S * rate_hz)):
                levels_db.append(band_levels_db(Run(0, block.samples[:n_sampled]), sample_rate_hz=rate_hz))
            energy += n * 10.0 ** (quality.rms_dbfs / 10.0)
            digest.update(np.ascontiguousarray(block.samples, "<f4").data)
    except SourceError as error:
        return Surveyed(clip=clip, error=str(error))
    return Surveyed(
        clip=clip,
        rate_hz=rate_hz,
        n_channels=recording.n_channels,
        duration_s=n_samples / rate_hz,
        rms_dbfs=10.0 * math.log10(energy / n_samples),
        refused_s={reason: n / rate_hz for reason, n in refused.items()},
        refused_spans_s=tuple(spans_s),
        sha256=digest.hexdigest(),
        levels_db=tuple(np.mean(levels_db, axis=0).tolist()) if levels_db else (),
    )

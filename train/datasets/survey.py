"""Survey a data set: read every file once and measure length, level, quality and spectrum."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import soundfile

from monitor.arrays import F64
from monitor.audio.recording import Recording
from monitor.errors import SourceError
from monitor.explain.envelope import Run
from monitor.scoring.bandwidth import edge_hz
from monitor.scoring.quality import measure_quality
from train.datasets.clip import Clip
from train.datasets.parallel import in_parallel
from train.datasets.pieces import of_channel, open_clip, workers_to_read
from train.datasets.sessions.session_distances import band_levels_db

_BLOCK_S = 1.0  # checked at a time, about a tick
_SAMPLED_S = 0.25  # of each block: enough for band levels, which are averaged, and four times as fast
_N_EDGES = 10  # blocks in which an edge of the spectrum is searched
_CHANNELS_S = 10.0  # compared between channels
_OPPOSITE = -0.9  # correlation of two channels of which one is inverted
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
    peak: float = 0.0  # relative to full scale 1.0
    edge_hz: float | None = None  # above which there is nothing, although the rate is higher (`monitor.scoring.bandwidth`)
    dead_channels: tuple[int, ...] = ()  # from 1; silent where others are not
    opposite_channels: tuple[int, int] | None = None  # cancel each other in the mean
    refused_s: Mapping[str, float] = field(default_factory=dict)  # approximate seconds that the device would not score, by reason
    refused_spans_s: tuple[tuple[float, float], ...] = ()  # the same by time: from, to
    sha256: str = ""  # of rate and samples
    levels_db: tuple[float, ...] = ()  # in third-octave bands (`session_distances`), mean over the scorable blocks

    def usable_s(self, start_s: float, stop_s: float) -> float:
        """Approximate seconds that the device would score between two times."""

        def within(begin_s: float, end_s: float) -> float:
            return max(0.0, min(end_s, stop_s) - max(begin_s, start_s))

        return within(0.0, self.duration_s) - sum(within(*span) for span in self.refused_spans_s)

    @property
    def silent(self) -> bool:
        """Whether the whole file is silent."""
        return self.error is None and self.refused_s.get("silent", 0.0) + self.refused_s.get("flat_line", 0.0) >= self.duration_s

    @property
    def problem(self) -> str | None:
        """Why there is no sound to use, or None."""
        if not self.silent:
            return self.error
        if self.opposite_channels is None:
            return f"{self.clip.path}: is silent, so it cannot be trained on"
        one, other = self.opposite_channels
        return f"{self.clip.path}: is silent, because channels {one} and {other} cancel each other: choose one with --channel"


def survey(clips: Iterable[Clip], *, channel: int | None = None, workers: int | None = None) -> list[Surveyed]:
    """Survey all clips, or those of one channel, with a progress bar. Unreadable files have an `error`."""
    jobs = [(clip, channel) for clip in of_channel(clips, channel)]
    workers = workers_to_read(clip for clip, _ in jobs) if workers is None else workers
    return list(in_parallel(_survey, jobs, workers=workers, bar="inspect", chunk=_CHUNK))


def _survey(job: tuple[Clip, int | None]) -> Surveyed:
    clip, channel = job
    digest = hashlib.sha256()
    n_samples, energy, peak = 0, 0.0, 0.0
    refused: Counter[str] = Counter()
    spans_s: list[tuple[float, float]] = []
    levels_db: list[F64] = []
    edges_hz: list[float] = []
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
                if len(levels_db) <= _N_EDGES and (edge := edge_hz(block.samples, sample_rate_hz=rate_hz)) is not None:
                    edges_hz.append(edge)
            energy += n * 10.0 ** (quality.rms_dbfs / 10.0)
            peak = max(peak, quality.peak)
            digest.update(np.ascontiguousarray(block.samples, "<f4").data)
        if not n_samples:
            raise SourceError(f"{clip.path}: holds no samples")
        dead, opposite = _compare_channels(recording) if channel is None and recording.n_channels > 1 else ((), None)
    except SourceError as error:
        return Surveyed(clip=clip, error=str(error))
    except (OSError, soundfile.LibsndfileError) as error:
        return Surveyed(clip=clip, error=f"{clip.path}: changed while it was read: {error}")
    return Surveyed(
        clip=clip,
        rate_hz=rate_hz,
        n_channels=recording.n_channels,
        duration_s=n_samples / rate_hz,
        rms_dbfs=10.0 * math.log10(energy / n_samples),
        peak=peak,
        edge_hz=max(edges_hz) if 2 * len(edges_hz) > min(len(levels_db), _N_EDGES) else None,
        dead_channels=dead,
        opposite_channels=opposite,
        refused_s={reason: n / rate_hz for reason, n in refused.items()},
        refused_spans_s=tuple(spans_s),
        sha256=digest.hexdigest(),
        levels_db=tuple(np.mean(levels_db, axis=0).tolist()) if levels_db else (),
    )


def _compare_channels(recording: Recording) -> tuple[tuple[int, ...], tuple[int, int] | None]:
    """The dead channels of a recording, and two that cancel each other, from 1."""
    rate_hz = recording.rate_hz
    channels = range(1, recording.n_channels + 1)
    opened = [Recording(recording.path, sample_rate_hz=rate_hz, channel=channel) for channel in channels]
    blocks = [next(one.blocks(block_s=_CHANNELS_S, stop_s=_CHANNELS_S)) for one in opened]
    start = max(block.start for block in blocks)
    sound = {channel: block.samples[start - block.start :] for channel, block in zip(channels, blocks, strict=True)}
    dead = [n for n, one in sound.items() if measure_quality(one, sample_rate_hz=rate_hz).reason in ("silent", "flat_line")]
    live = [channel for channel in channels if channel not in dead]
    pairs = (pair for pair in combinations(live, 2) if np.corrcoef(sound[pair[0]], sound[pair[1]])[0, 1] < _OPPOSITE)
    return tuple(dead) if live else (), next(pairs, None)

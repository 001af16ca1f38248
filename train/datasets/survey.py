"""Survey a data set: hear every file of it once, and say what each is like."""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from monitor.core.errors import SourceError
from monitor.core.quality import measure_quality
from train.datasets.clip import Clip
from train.datasets.parallel import in_parallel, n_cores
from train.datasets.pieces import of_channel, open_clip

_BLOCK_S = 1.0  # judged at a time, about a tick
_FEW_BYTES = 50_000_000  # are read before other processes have even started
_CHUNK = 8  # files a process takes at a time


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One file as training would hear it: mixed to mono, or one channel of it, at its own rate."""

    clip: Clip
    error: str | None = None  # why it cannot be used; then the rest says nothing
    rate_hz: int = 0
    n_channels: int = 0
    duration_s: float = 0.0
    rms_dbfs: float = -math.inf
    clipped_s: float = 0.0
    silent: bool = False  # all of it
    sha256: str = ""  # of rate and samples


def survey(clips: Iterable[Clip], *, channel: int | None = None, workers: int | None = None) -> list[Heard]:
    """Hear all clips, or those of one channel, with a progress bar; what cannot be read carries its error."""
    jobs = [(clip, channel) for clip in of_channel(clips, channel)]
    if workers is None:
        workers = 1 if sum(clip.path.stat().st_size for clip, _ in jobs) < _FEW_BYTES else n_cores()
    return list(in_parallel(_hear, jobs, workers=workers, bar="inspect", chunk=_CHUNK))


def _hear(job: tuple[Clip, int | None]) -> Heard:
    clip, channel = job
    digest = hashlib.sha256()
    n_samples, n_clipped, energy, silent = 0, 0, 0.0, True
    try:
        rate_hz = open_clip(clip, sample_rate_hz=1, channel=channel).rate_hz
        recording = open_clip(clip, sample_rate_hz=rate_hz, channel=channel)
        digest.update(f"{rate_hz} ".encode())
        for block in recording.blocks(block_s=_BLOCK_S):
            quality = measure_quality(block.samples)
            n = len(block.samples)
            n_samples += n
            n_clipped += n if quality.reason == "clipped" else 0
            energy += n * 10.0 ** (quality.rms_dbfs / 10.0)
            silent = silent and quality.reason in ("silent", "flat_line")
            digest.update(np.ascontiguousarray(block.samples, "<f4").data)
    except SourceError as error:
        return Heard(clip=clip, error=str(error))
    return Heard(
        clip=clip,
        rate_hz=rate_hz,
        n_channels=recording.n_channels,
        duration_s=n_samples / rate_hz,
        rms_dbfs=10.0 * math.log10(energy / n_samples),
        clipped_s=n_clipped / rate_hz,
        silent=silent,
        sha256=digest.hexdigest(),
    )

"""Builds the parts around a monitor from its bundle and settings, in the same way for a microphone and for a recording."""

from monitor.bundle import Bundle
from monitor.clips.recorder import ClipRecorder
from monitor.clips.service import ClipService
from monitor.clips.spectrogram import PictureReference
from monitor.config import ClipsConfig
from monitor.events.drift import Drift
from monitor.events.slow_path import SlowPath, SlowState


def make_slow_path(bundle: Bundle, state: SlowState | None) -> SlowPath:
    """The slow path, resumed from the state of an earlier run with the same bundle. Recordings have none; it takes days."""
    manifest = bundle.manifest
    limits_hz = manifest.front_end.band_limits_hz()
    if state is not None and not len(state.level_sum) == len(state.shape_squares) == len(limits_hz) - 1:
        state = None
    return SlowPath(
        tick_s=bundle.manifest.scorer_spec.tick_s,
        segment_ticks=manifest.segment_ticks,
        typical=manifest.calibration.score_mean,
        limits_hz=limits_hz,
        state=state,
    )


def make_drift(bundle: Bundle) -> Drift | None:
    """The drift of normal sound; None if the bundle has no mean to compare with."""
    calibration = bundle.manifest.calibration
    if calibration.score_mean is None or calibration.score_std is None:
        return None
    return Drift(score_mean=calibration.score_mean, score_std=calibration.score_std, tick_s=bundle.manifest.scorer_spec.tick_s)


def make_clip_recorder(bundle: Bundle, service: ClipService, clips: ClipsConfig) -> ClipRecorder:
    """The recorder of a machine's clips."""
    manifest = bundle.manifest
    reference = PictureReference(
        front_end=manifest.front_end,
        tick_frames=manifest.tick_frames,
        segment_ticks=manifest.segment_ticks,
        expected=bundle.expected,
    )
    return ClipRecorder(service, reference, clips)

"""What a configured machine is listened to with: the same for a microphone and for a recording."""

from monitor.bundle import Bundle
from monitor.clips.recorder import ClipRecorder
from monitor.clips.service import ClipService
from monitor.clips.spectrogram import PictureReference
from monitor.config import ClipsConfig, IdleConfig
from monitor.events.drift import Drift
from monitor.events.event import EventClock, Identity
from monitor.events.pipeline import Pipeline
from monitor.events.slow_path import SlowPath, SlowState
from monitor.scoring.scorer import Scorer


def machine_scorer(bundle: Bundle, idle: IdleConfig) -> Scorer:
    """The bundle's scorer, told below which level the machine is off, and how high its sound reaches."""
    scorer = bundle.scorer(idle_below_dbfs=None if idle.means == "score" else idle_level_dbfs(bundle, idle))
    scorer.expected_db = None if bundle.expected is None else bundle.expected.mean_db
    return scorer


def idle_level_dbfs(bundle: Bundle, idle: IdleConfig) -> float | None:
    """Below which level the machine is off: the one set, or the one that its bundle has learned, if any."""
    return bundle.manifest.calibration.idle_below_dbfs if idle.below_dbfs == "learned" else idle.below_dbfs


def too_low(scorer: Scorer) -> str | None:
    """Why nothing of a source is scored, for people: its rate cannot carry the bundle's bands. None where it can."""
    rate_hz, n_empty = scorer.source_rate_hz, scorer.empty_bands
    if rate_hz is None or not n_empty:
        return None
    n_bands = scorer.spec.front_end.n_bands
    return f"{rate_hz} Hz carry nothing above {rate_hz / 2000:g} kHz, where {n_empty} of the bundle's {n_bands} bands lie"


def make_pipeline(
    bundle: Bundle,
    scorer: Scorer,
    idle: IdleConfig,
    *,
    identity: Identity,
    timeline: EventClock,
    slow_path: SlowPath | None = None,
) -> Pipeline:
    """The pipeline around that scorer. Only a machine that is listened to for days has a slow path, a recording has none."""
    return Pipeline(
        scorer,
        threshold=bundle.manifest.calibration.threshold,
        alarm_threshold=bundle.manifest.calibration.alarm_threshold,
        tick_threshold=bundle.manifest.calibration.tick_threshold,
        fast_threshold=bundle.manifest.calibration.fast_threshold,
        rule=bundle.manifest.rule,
        expected=bundle.expected,
        identity=identity,
        anchor=timeline,
        idle_is_anomaly=idle.means == "anomaly",
        slow_path=slow_path,
    )


def make_slow_path(bundle: Bundle, scorer: Scorer, state: SlowState | None) -> SlowPath:
    """The slow path, from where an earlier run with the same bundle ended."""
    limits_hz = scorer.spec.front_end.band_limits_hz()
    if state is not None and not len(state.level_sum) == len(state.shape_squares) == len(limits_hz) - 1:
        state = None
    return SlowPath(
        tick_s=scorer.tick_s,
        segment_ticks=scorer.spec.segment_ticks,
        typical=bundle.manifest.calibration.score_mean,
        limits_hz=limits_hz,
        state=state,
    )


def make_drift(bundle: Bundle, scorer: Scorer) -> Drift | None:
    """What follows how normal sound moves away, where the bundle knows what it moves away from."""
    known = bundle.manifest.calibration
    if known.score_mean is None or known.score_std is None:
        return None
    return Drift(score_mean=known.score_mean, score_std=known.score_std, tick_s=scorer.tick_s)


def make_clip_recorder(bundle: Bundle, archive: ClipService, clips: ClipsConfig) -> ClipRecorder:
    """What hears beside that pipeline, for people to listen to and to look at."""
    manifest = bundle.manifest
    reference = PictureReference(
        front_end=manifest.front_end,
        tick_frames=manifest.tick_frames,
        segment_ticks=manifest.segment_ticks,
        expected=bundle.expected,
    )
    return ClipRecorder(archive, reference, clips)

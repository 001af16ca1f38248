"""What a configured machine is listened to with: the same for a microphone and for a recording."""

from monitor.bundle import Bundle
from monitor.config import IdleConfig
from monitor.core.event import Identity, Timeline
from monitor.core.pipeline import Pipeline
from monitor.core.scorer import Scorer


def make_scorer(bundle: Bundle, idle: IdleConfig) -> Scorer:
    """The bundle's scorer, told below which level the machine is off."""
    learned = bundle.manifest.calibration.idle_below_dbfs
    below_dbfs = learned if idle.below_dbfs == "learned" else idle.below_dbfs
    return bundle.scorer(idle_below_dbfs=None if idle.means == "score" else below_dbfs)


def make_pipeline(bundle: Bundle, scorer: Scorer, idle: IdleConfig, *, identity: Identity, timeline: Timeline) -> Pipeline:
    """The pipeline around that scorer."""
    return Pipeline(
        scorer,
        threshold=bundle.manifest.calibration.threshold,
        tick_threshold=bundle.manifest.calibration.tick_threshold,
        rule=bundle.manifest.rule,
        expected=bundle.expected,
        identity=identity,
        anchor=timeline,
        idle_is_anomaly=idle.means == "anomaly",
    )

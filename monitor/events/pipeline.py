"""The pipeline: one result per tick, with the machine's state and, if something has changed, an event."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from monitor.arrays import F64
from monitor.block import Block
from monitor.errors import ConfigError, ScoreError
from monitor.events.decision import Rule, RuleState, decide, decide_at_once
from monitor.events.event import EndReason, Event, EventClock, EventType, Identity, RaisedBy, Severity, State
from monitor.events.onset import Anomaly, OnsetTracker, ScoredTick
from monitor.events.slow_path import SlowPath
from monitor.explain.bands import summarise
from monitor.explain.describe import Description, describe
from monitor.explain.profile import level
from monitor.explain.reference import Reference
from monitor.scoring.fast_path import N_TICKS
from monitor.scoring.features import TickFrames
from monitor.scoring.scorer import Scorer, TickScore

UPDATE_EVERY_S = 60.0  # during an anomaly
LOST_AFTER_S = 60.0  # an open anomaly ends after this long without a score
QUIETEST_RATIO = 1000.0  # upper limit of the ratio of a machine that is off, where that is the anomaly


@dataclass(frozen=True)
class Result:
    """The outcome of one tick."""

    tick: TickScore
    ratio: float | None  # score / threshold
    state: State
    reason: str | None  # of the state `unknown`
    since: int  # sample index at which the state began
    event: Event | None
    severity: Severity | None = None  # of the anomaly, if the state is `anomaly`
    error: str | None = None  # if scoring the tick failed


@dataclass(frozen=True)
class _Decided:
    """The values behind the last decision: of a segment, of silence, of the fast path or of the slow path."""

    tick: TickScore
    score: float | None
    threshold: float
    ratio: float
    by: RaisedBy = "segments"


class Pipeline:
    """Score one machine, decide, and describe its anomalies. Live sound and recordings take the same path.

    `threshold` raises a warning and `alarm_threshold` an alarm. Without the latter, every anomaly is an alarm. Single ticks
    scatter more than segments, so the onset of an anomaly has a separate `tick_threshold`. Above `fast_threshold`, dB over
    the scorer's ceiling, the fast path raises an alarm at once. `slow_path` raises a warning. It is paused during an anomaly
    that another path raised.

    With `idle_is_anomaly`, a machine that is off is an alarm instead of `idle`. The ratio of such a tick is the expected
    amplitude divided by the measured one.

    `clip_name` returns the file name of an event's clip, given the machine and the event's id.
    """

    def __init__(
        self,
        scorer: Scorer,
        *,
        threshold: float,
        alarm_threshold: float | None = None,
        tick_threshold: float | None = None,
        fast_threshold: float | None = None,
        rule: Rule,
        expected: Reference | None,
        identity: Identity,
        anchor: EventClock,
        idle_is_anomaly: bool = False,
        slow_path: SlowPath | None = None,
        clip_name: Callable[[str, str], str | None] | None = None,
    ) -> None:
        self._scorer = scorer
        if alarm_threshold is not None and alarm_threshold < threshold:
            raise ConfigError(f"alarm_threshold must be at least threshold ({threshold:g}), got {alarm_threshold:g}")
        self._threshold = threshold
        self._alarm_ratio = 1.0 if alarm_threshold is None else alarm_threshold / threshold
        self._tick_threshold = tick_threshold or threshold
        self._fast_threshold = fast_threshold
        self._rule = rule
        self._expected = expected
        self._identity = identity
        self._anchor = anchor
        self._idle_is_anomaly = idle_is_anomaly
        self._slow_path = slow_path
        self._clip_name = clip_name
        self._onsets = OnsetTracker(raise_n=rule.raise_n, segment_ticks=scorer.spec.segment_ticks)
        self._counts = RuleState()
        self._anomaly: Anomaly | None = None
        self._latest: _Decided | None = None
        self._state: State = "starting"
        self._reason: str | None = None
        self._since = 0
        self._unscored: list[str] = []  # reasons of the last consecutive ticks that could not be scored
        self._without_input = False
        self._scored_until = 0
        scorer.reset()

    def push(self, block: Block) -> list[Result]:
        """Append a block and return a result for each tick that it completes."""
        return [self.step(tick) for tick in self._scorer.extract(block)]

    def flush(self) -> list[Result]:
        """Score the partial tick at the end of a recording."""
        return [self.step(tick) for tick in self._scorer.extract_last()]

    def step(self, tick: TickFrames) -> Result:
        """Score the next tick and decide. If scoring fails, the result has an `error` and the state `unknown`."""
        try:
            return self._decide(self._scorer.score_tick(tick))
        except ScoreError as error:
            return replace(self.no_input(tick.stop, "score_error"), error=str(error))

    def no_input(self, stop: int, reason: str) -> Result:
        """Advance to sample `stop` without sound, for the given reason."""
        tick = TickScore(stop, stop, None, reason, None, 0)
        event = self._end_if_lost(tick)
        self._enter("unknown", reason, stop)
        self._without_input = True
        return Result(tick, None, self._state, self._reason, self._since, event)

    def close(self, reason: EndReason) -> Event | None:
        """End an open anomaly because the stream ends."""
        if self._anomaly is None:
            return None
        return self._end(self._scored_until, reason)

    def _decide(self, tick: TickScore) -> Result:
        if self._without_input:
            self._without_input, self._reason = False, "gap"
        ratio = self._ratio(tick)
        event = self._end_if_lost(tick)
        event = self._update(tick, ratio) or event
        self._enter(*self._next_state(tick, ratio), tick.stop)
        severity = self._severity if self._state == "anomaly" else None
        return Result(tick, ratio, self._state, self._reason, self._since, event, severity)

    def _ratio(self, tick: TickScore) -> float | None:
        """The ratio that the decision uses: that of the segment that ends with this tick, or that of silence."""
        if self._idle_is_anomaly and tick.reason == "idle":
            return self._quietness(tick)
        return None if tick.score is None else tick.score / self._threshold

    def _quietness(self, tick: TickScore) -> float:
        """The expected amplitude divided by the measured one."""
        assert tick.quality is not None and self._scorer.idle_below_dbfs is not None
        missing_db = self._scorer.idle_below_dbfs - tick.quality.rms_dbfs
        return min(QUIETEST_RATIO, float(10.0 ** (missing_db / 20.0)))

    def _enter(self, state: State, reason: str | None, stop: int) -> None:
        if state != self._state:
            self._since = stop
        self._state, self._reason = state, reason

    def _next_state(self, tick: TickScore, ratio: float | None) -> tuple[State, str | None]:
        """The state after this tick. A few ticks that may not be scored do not change it."""
        if ratio is not None:
            if self._severity is not None:
                return "anomaly", None
            undecided = self._state in ("starting", "unknown", "idle") and ratio >= 1.0
            return ("starting" if self._state == "starting" else "unknown", "over_threshold") if undecided else ("normal", None)
        # The fast path can decide before a segment is long enough to be scored.
        if self._severity is not None and tick.excess_db is not None:
            return "anomaly", None
        segment_ticks = self._scorer.spec.segment_ticks
        if 2 * len(self._unscored) >= segment_ticks:  # report the most frequent reason
            return unscored_state(max(self._unscored, key=self._unscored.count))
        if self._state not in ("starting", "idle") and 2 * tick.n_ticks < segment_ticks:
            return unscored_state(tick.reason or self._reason or "gap")
        return self._state, self._reason

    def _end_if_lost(self, tick: TickScore) -> Event | None:
        """End an open anomaly when nothing could be scored for too long."""
        unscored_s = (tick.stop - self._scored_until) / self._anchor.sample_rate_hz
        if self._anomaly is None or unscored_s < LOST_AFTER_S:
            return None
        self._enter("unknown", tick.reason or "gap", tick.stop)
        return self._end(tick.stop, "lost")

    def _update(self, tick: TickScore, ratio: float | None) -> Event | None:
        """Process a tick and return the resulting event, if any."""
        if ratio is None and tick.tick_score is None:
            self._unscored = [*self._unscored, tick.reason or "gap"][-self._scorer.spec.segment_ticks :]
            return None
        self._unscored, self._scored_until = [], tick.stop
        fast_ratio = self._fast_ratio(tick)
        scored = ScoredTick(tick.start, tick.stop, partial(self._own_ratio, tick, ratio), ratio, fast_ratio)
        self._onsets.push(scored)
        if self._anomaly is not None:
            self._anomaly.update(scored)
        decided = None
        if ratio is not None:
            decided = _Decided(tick, tick.score, self._threshold, ratio)
            alarm_ratio = 1.0 if tick.reason == "idle" else self._alarm_ratio
            self._counts = decide(self._rule, self._counts, ratio, alarm_ratio=alarm_ratio)
        if fast_ratio >= 1.0:
            if not self._is_alarm:
                assert self._fast_threshold is not None
                decided = _Decided(tick, tick.excess_db, self._fast_threshold, fast_ratio, "fast")
            self._counts = decide_at_once(self._counts)
        decided = self._update_slow_path(tick, ratio) or decided
        if decided is None:
            return None
        self._latest = decided
        return self._event_due(decided.by, tick.stop)

    def _own_ratio(self, tick: TickScore, ratio: float | None) -> float:
        """The ratio of a tick alone, or that of its segment if the tick has no score."""
        own = ratio if tick.tick_score is None else tick.tick_score / self._tick_threshold
        assert own is not None
        return own

    @property
    def _severity(self) -> Severity | None:
        """The severity of the anomaly that is open or about to open. It never falls."""
        slow: Severity | None = "warning" if self._slow_path is not None and self._slow_path.raised else None
        severity = self._counts.severity or slow
        return "alarm" if severity and self._anomaly is not None and self._anomaly.severity == "alarm" else severity

    def _update_slow_path(self, tick: TickScore, ratio: float | None) -> _Decided | None:
        """Pass the segment's score to the slow path. Return its decision unless another path keeps the anomaly open."""
        slow = self._slow_path
        if slow is None or tick.score is None or ratio is None or (self._counts.raised and not slow.raised):
            return None
        was_raised = slow.raised
        slow.push(tick.score, start=tick.start, is_normal=ratio < 1.0, level_db=self._level_db)
        if self._counts.raised or not (was_raised or slow.raised):
            return None
        assert slow.normal_level is not None and slow.median is not None
        slow_ratio = slow.median / slow.normal_level.limit
        if self._anomaly is not None and slow.raised:
            self._anomaly.last_stop = tick.stop
            if self._anomaly.raised_by == "slow":
                self._anomaly.peak_ratio = max(self._anomaly.peak_ratio, slow_ratio)
        return _Decided(tick, slow.median, slow.normal_level.limit, slow_ratio, "slow")

    def _level_db(self) -> F64:
        return level(self._scorer.sounds(), self._scorer.spec.front_end)

    @property
    def _is_alarm(self) -> bool:
        """Whether the anomaly is already an alarm, so that the fast path cannot escalate it."""
        return self._counts.severity == "alarm" or (self._anomaly is not None and self._anomaly.severity == "alarm")

    def _fast_ratio(self, tick: TickScore) -> float:
        """The ratio on the fast path, or 0 where it does not apply."""
        if self._fast_threshold is None or tick.excess_db is None:
            return 0.0
        return max(0.0, tick.excess_db / self._fast_threshold)

    def _event_due(self, by: RaisedBy, stop: int) -> Event | None:
        """The event that follows from the last decision, if any."""
        severity, anomaly = self._severity, self._anomaly
        if severity is None:
            return None if anomaly is None else self._end(stop, "cleared")
        if anomaly is None:
            self._anomaly = self._open(severity, by)
            return self._event(self._anomaly, "start", stop)
        is_due = stop - anomaly.sent_at >= UPDATE_EVERY_S * self._anchor.sample_rate_hz
        if not is_due and severity == anomaly.severity:
            return None
        anomaly.severity = severity
        return self._event(anomaly, "update", stop)

    def _open(self, severity: Severity, by: RaisedBy) -> Anomaly:
        if by == "fast":
            return self._onsets.gross(N_TICKS)
        if by == "segments":
            return self._onsets.anomaly(severity)
        assert self._slow_path is not None and self._latest is not None
        stop, ratio = self._latest.tick.stop, self._latest.ratio
        return Anomaly(self._slow_path.onset, last_stop=stop, peak_ratio=ratio, severity=severity, raised_by="slow")

    def _end(self, stop: int, reason: EndReason) -> Event:
        assert self._anomaly is not None
        event = self._event(self._anomaly, "end", stop, reason)
        self._anomaly = None
        self._counts = RuleState()
        self._onsets.clear()
        if self._slow_path is not None:
            self._slow_path.release(stop)
        return event

    def _event(self, anomaly: Anomaly, kind: EventType, stop: int, reason: EndReason | None = None) -> Event:
        assert self._latest is not None
        decided, tick = self._latest, self._latest.tick
        assert tick.quality is not None
        if kind != "end" and decided.ratio >= 1.0:
            anomaly.description = self._describe(decided)
        described = anomaly.description
        ts, onset_ts = anomaly.set_times(stop, self._anchor)
        event_id = self._identity.event_id(anomaly.start)
        event = Event(
            event_type=kind,
            id=event_id,
            seq=anomaly.seq,
            ts=ts,
            onset_ts=onset_ts,
            clock_synced=self._anchor.synced,
            node=self._identity.node,
            machine=self._identity.machine,
            severity=anomaly.severity,
            score=None if decided.score is None else round(decided.score, 6),
            ratio=round(decided.ratio, 4),
            threshold=round(decided.threshold, 6),
            peak_ratio=round(anomaly.peak_ratio, 4),
            duration_s=round((anomaly.last_stop - anomaly.start) / self._anchor.sample_rate_hz, 3),
            rms_dbfs=round(tick.quality.rms_dbfs, 1),
            bands=described.bands,
            summary=described.summary,
            bundle=self._identity.bundle,
            clip=None if self._clip_name is None else self._clip_name(self._identity.machine, event_id),
            impulses_hz=None if described.impulses_hz is None else round(described.impulses_hz, 2),
            end_reason=reason,
            raised_by=anomaly.raised_by,
            decided_by=decided.by,
        )
        anomaly.seq += 1
        return event

    def _describe(self, decided: _Decided) -> Description:
        """Describe how the current sound differs from normal."""
        if decided.tick.reason == "idle":
            level_dbfs, min_dbfs = decided.tick.rms_dbfs, self._scorer.idle_below_dbfs
            return Description(summary=f"the machine is not heard: {level_dbfs:.0f} dBFS, expected at least {min_dbfs:.0f}")
        if decided.by == "slow":
            bands = () if self._slow_path is None else self._slow_path.bands
            return Description(bands=bands, summary=summarise(bands))
        if self._expected is None:
            return Description()
        last = N_TICKS if decided.by == "fast" else None  # a whole segment would include more of the sound before the fault
        return describe(self._scorer.sounds(last=last), self._expected, self._scorer.spec.front_end)


def unscored_state(reason: str) -> tuple[State, str | None]:
    """State and reason of a machine whose ticks cannot be scored for this reason."""
    return ("idle", None) if reason == "idle" else ("unknown", reason)

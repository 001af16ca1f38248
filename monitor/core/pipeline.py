"""The pipeline: blocks in; one step per tick out, with the machine's state and, when something changes, an event."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from monitor.core.anomaly import Anomaly, Heard, Memory
from monitor.core.bands import Expected, differing_bands, summarise
from monitor.core.block import Block
from monitor.core.decision import Counts, Rule, decide
from monitor.core.event import Anchor, EndReason, Event, EventType, Identity
from monitor.core.scorer import Scorer, TickScore

State = Literal["starting", "normal", "anomaly", "idle", "unknown", "disabled"]
UPDATE_EVERY_S = 60.0  # while an anomaly lasts
LOST_AFTER_S = 60.0  # an open anomaly ends when nothing could be heard for this long


@dataclass(frozen=True)
class Step:
    """What one tick led to."""

    tick: TickScore
    ratio: float | None  # score / threshold
    state: State
    reason: str | None  # of an unknown state
    since: int  # sample index at which the state began
    event: Event | None


class Pipeline:
    """Listen to one machine: score, decide, tell. One path for live sound and recordings."""

    def __init__(
        self,
        scorer: Scorer,
        *,
        threshold: float,
        rule: Rule,
        expected: Expected | None,
        identity: Identity,
        anchor: Anchor,
    ) -> None:
        self._scorer = scorer
        self._threshold = threshold
        self._rule = rule
        self._expected = expected
        self._limits_hz = scorer.spec.front_end.band_limits_hz()
        self._identity = identity
        self._anchor = anchor
        self._memory = Memory(raise_n=rule.raise_n, segment_ticks=scorer.spec.segment_ticks)
        self._counts = Counts()
        self._anomaly: Anomaly | None = None
        self._latest: tuple[TickScore, float] | None = None  # the last scored segment and its ratio
        self._state: State = "starting"
        self._reason: str | None = None
        self._since = 0
        self._deaf_ticks = 0  # in a row
        self._heard_until = 0
        scorer.reset()

    def push(self, block: Block) -> Iterator[Step]:
        """Append a block; yield a step for each tick that it completes."""
        for tick in self._scorer.push(block):
            yield self._step(tick)

    def flush(self) -> Iterator[Step]:
        """Score the partial tick at the end of a recording."""
        for tick in self._scorer.flush():
            yield self._step(tick)

    def close(self, reason: EndReason) -> Event | None:
        """End an open anomaly, because nothing more will be heard of it."""
        if self._anomaly is None:
            return None
        return self._end(self._heard_until, reason)

    def _step(self, tick: TickScore) -> Step:
        ratio = None if tick.score is None else tick.score / self._threshold
        event = self._hear(tick, ratio)
        state, self._reason = self._judge(tick, ratio)
        if state != self._state:
            self._state, self._since = state, tick.stop
        return Step(tick, ratio, state, self._reason, self._since, event)

    def _judge(self, tick: TickScore, ratio: float | None) -> tuple[State, str | None]:
        """The state after this tick; a few ticks that may not be scored do not change it."""
        if ratio is not None:
            if self._counts.raised:
                return "anomaly", None
            undecided = self._state in ("starting", "unknown") and ratio >= 1.0
            return (self._state, "over_threshold") if undecided else ("normal", None)
        segment_ticks = self._scorer.spec.segment_ticks
        if self._state != "starting" and 2 * tick.n_ticks < segment_ticks:
            return "unknown", tick.reason or self._reason or "gap"
        if 2 * self._deaf_ticks >= segment_ticks:
            return "unknown", tick.reason
        return self._state, self._reason

    def _hear(self, tick: TickScore, ratio: float | None) -> Event | None:
        silence_s = (tick.stop - self._heard_until) / self._anchor.sample_rate_hz
        lost = self._anomaly is not None and silence_s >= LOST_AFTER_S
        event = self._end(tick.stop, "lost") if lost else None
        if lost:
            self._state, self._reason, self._since = "unknown", tick.reason or "gap", tick.stop
        if tick.tick_score is None:
            self._deaf_ticks += 1
            return event
        self._deaf_ticks, self._heard_until = 0, tick.stop
        heard = Heard(tick.start, tick.stop, tick.tick_score / self._threshold, ratio)
        self._memory.push(heard)
        if self._anomaly is not None:
            self._anomaly.hear(heard)
        if ratio is None:
            return event
        self._latest = (tick, ratio)
        self._counts = decide(self._rule, self._counts, ratio)
        return event or self._tell(tick.stop)

    def _tell(self, stop: int) -> Event | None:
        """The event that the decision just taken calls for."""
        if self._anomaly is None:
            if not self._counts.raised:
                return None
            self._anomaly = self._memory.anomaly()
            return self._event(self._anomaly, "start", stop)
        if not self._counts.raised:
            return self._end(stop, "cleared")
        if stop - self._anomaly.said_at >= UPDATE_EVERY_S * self._anchor.sample_rate_hz:
            return self._event(self._anomaly, "update", stop)
        return None

    def _end(self, stop: int, reason: EndReason) -> Event:
        assert self._anomaly is not None
        event = self._event(self._anomaly, "end", stop, reason)
        self._anomaly = None
        self._counts = Counts()
        self._memory.clear()
        return event

    def _event(self, anomaly: Anomaly, kind: EventType, stop: int, reason: EndReason | None = None) -> Event:
        assert self._latest is not None
        tick, ratio = self._latest
        assert tick.score is not None
        if kind != "end" and ratio >= 1.0 and self._expected is not None:
            anomaly.bands = differing_bands(self._scorer.mean_frame(), self._expected, self._limits_hz)
        event = Event(
            event_type=kind,
            id=self._identity.event_id(anomaly.start),
            seq=anomaly.seq,
            ts=self._anchor.at(stop),
            onset_ts=self._anchor.at(anomaly.start),
            clock_synced=self._anchor.synced,
            node=self._identity.node,
            machine=self._identity.machine,
            score=round(tick.score, 6),
            ratio=round(ratio, 4),
            threshold=round(self._threshold, 6),
            peak_ratio=round(anomaly.peak_ratio, 4),
            duration_s=round((anomaly.last_stop - anomaly.start) / self._anchor.sample_rate_hz, 3),
            rms_dbfs=round(tick.rms_dbfs, 1),
            bands=anomaly.bands,
            summary=summarise(anomaly.bands),
            bundle=self._identity.bundle,
            end_reason=reason,
        )
        anomaly.seq += 1
        anomaly.said_at = stop
        return event

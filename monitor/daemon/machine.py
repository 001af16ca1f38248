"""One machine that is listened to: from its microphone to what is said of it."""

import logging
import secrets
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from monitor.audio.microphone import Microphone
from monitor.block import Block
from monitor.bundle import Bundle
from monitor.clips.clip import EventClip
from monitor.clips.recorder import ClipRecorder
from monitor.config import MachineConfig
from monitor.daemon.alarm import Alarm
from monitor.daemon.assembly import make_drift, make_pipeline, make_slow_path, too_low
from monitor.daemon.state_publisher import Outlet, StatePublisher
from monitor.errors import ScoreError
from monitor.events.event import EndReason, Event, Identity, Severity
from monitor.events.headline import headline
from monitor.events.pipeline import Step
from monitor.events.slow_path import SlowState
from monitor.scoring.scorer import Scorer

log = logging.getLogger(__name__)
DEAF_EVERY_S = 1.0  # how often a machine without a microphone is told that time passes
STALLED_AFTER_S = 15.0  # without a tick, although samples should arrive


@dataclass(frozen=True)
class MachineSpec:
    """What a machine is made of; equal where a reload changes nothing for it."""

    settings: MachineConfig  # without what people call it
    bundle_id: str
    rate_hz: int  # that its microphone is asked for

    @classmethod
    def of(cls, settings: MachineConfig, bundle: Bundle, *, rate_hz: int) -> "MachineSpec":
        """What counts of a machine's settings."""
        return cls(settings.model_copy(update={"name": None}), bundle.id, rate_hz)


class Machine:
    """A machine and its microphone, pipeline and messages. Called by one thread, which it never holds up."""

    def __init__(
        self,
        name: str,
        made_of: MachineSpec,
        bundle: Bundle,
        scorer: Scorer,
        microphone: Microphone,
        outlet: Outlet,
        *,
        node: str,
        alarm: Alarm,
        evidence: ClipRecorder,
        slow_state: SlowState | None = None,
    ) -> None:
        settings = made_of.settings
        self.name = name
        self.bundle = bundle
        self.made_of = made_of
        self.microphone = microphone
        self._outlet = outlet
        self._evidence = evidence
        self._scorer = scorer
        self._tap = microphone.tap(channel=settings.channel, sample_rate_hz=bundle.manifest.front_end.sample_rate_hz)
        identity = Identity(node=node, machine=name, bundle=bundle.id, session=secrets.token_hex(16))
        self.slow_path = make_slow_path(bundle, scorer, slow_state)
        self._slow_status = self.slow_path.status
        self._log_slow_path()
        self._pipeline = make_pipeline(
            bundle, scorer, settings.idle, identity=identity, timeline=self._tap.timeline, slow_path=self.slow_path
        )
        threshold, drift = bundle.manifest.calibration.threshold, make_drift(bundle, scorer)
        self._feed = StatePublisher(outlet, machine=name, threshold=threshold, alarm=alarm, drift=drift, slow_path=self.slow_path)
        self._feed.silent("starting", None, datetime.now(timezone.utc))  # in place of what an earlier run has left retained
        self._feed.available(False)
        self._deaf_at = self._progress_at = self._heard_at = time.monotonic()
        self._patience_s = max(STALLED_AFTER_S, 3 * scorer.tick_s)
        self._hears = self._is_deaf = False
        self._score_error: str | None = None
        self.last: Step | None = None
        self._severity: Severity | None = None  # of the last event
        self.gap_s = 0.0
        self._heard_until = 0

    def listen(self) -> None:
        """Take what has arrived; where nothing can arrive, let time pass."""
        self._notice_rate()
        for block in self._tap.blocks():
            self._count_gap(block)
            self._evidence.push(block)
            try:
                for step in self._pipeline.push(block):
                    self._progress_at = time.monotonic()
                    self._score_error = None
                    self._take(step)
            except ScoreError as error:
                self._fail(error)
        reason = self._deaf_because()
        if reason is None:
            if self._hears:
                self._feed.available(True)
            return
        now = time.monotonic()
        self._progress_at = now  # a published wait for the device
        if now - self._deaf_at >= DEAF_EVERY_S or not self._is_deaf:
            self._hears, self._is_deaf, self._deaf_at = False, True, now
            self._take(self._pipeline.deaf(self._tap.now, reason))
        self._feed.available(False)

    def _notice_rate(self) -> None:
        """Tell the scorer what the device gives: what it cannot carry is not scored."""
        ring = self.microphone.ring
        if ring is None or ring.format.rate_hz == self._scorer.source_rate_hz:
            return
        self._scorer.source_rate_hz = ring.format.rate_hz
        if (why := too_low(self._scorer)) is not None:
            log.warning("%s: microphone %s: %s", self.name, self.made_of.settings.microphone, why)

    def stalled_s(self) -> float:
        """How long it has made no progress that it should have made; 0 while it does."""
        waited = time.monotonic() - self._progress_at
        return waited if waited > self._patience_s else 0.0

    def stop(self, reason: EndReason) -> None:
        """End an open event and say that nobody listens any more."""
        event = self._evidence.close(self._pipeline.close(reason))
        if event is not None:
            self._say(event)
            self._outlet.publish(event)
        self._feed.silent("unknown", reason, datetime.now(timezone.utc))
        self._feed.available(False)
        self._tap.close()

    def so_far(self, event_id: str) -> EventClip | None:
        """What there is of an event that goes on."""
        return self._evidence.so_far(event_id)

    @property
    def is_started(self) -> bool:
        """Whether it hears, or has said why not."""
        return self._hears or self._is_deaf

    @property
    def age_s(self) -> float:
        """How long ago the last sound was heard."""
        return time.monotonic() - self._heard_at

    def in_words(self) -> str:
        """Its state for a person."""
        if self.last is None:
            return f"{self.name} starting"
        more = self.last.severity or self.last.reason
        return f"{self.name} {self.last.state}" + (f" ({more})" if more else "")

    def status(self) -> dict[str, Any]:
        """How it is, for people and tools."""
        step, trouble = self.last, self.microphone.trouble
        detail = self._tap.trouble if trouble is None else trouble.detail
        return {
            "state": "starting" if step is None else step.state,
            "reason": None if step is None else step.reason,
            "severity": None if step is None else step.severity,
            "ratio": None if step is None or step.ratio is None else round(step.ratio, 4),
            "rms_dbfs": None if step is None or step.tick.rms_dbfs is None else round(step.tick.rms_dbfs, 1),
            "bundle": self.bundle.id,
            "microphone": self.made_of.settings.microphone,
            "trouble": detail,
            "gap_s": round(self.gap_s, 3),
            "slow_path": self.slow_path.status,
            "slow_path_missing_h": round(self.slow_path.missing_h, 2),
        }

    def _deaf_because(self) -> str | None:
        """The reason for which nothing can arrive; None while it can."""
        trouble = self.microphone.trouble
        if trouble is not None:
            return f"microphone_{trouble.reason}"
        return "microphone_channel" if self._tap.trouble else None

    def _take(self, step: Step) -> None:
        step = self._evidence.attach_clip(step)
        if self.last is None or (step.state, step.reason) != (self.last.state, self.last.reason):
            why = step.reason or ("no score yet" if step.ratio is None else f"{step.ratio:.2f} x the threshold")
            log.info("%s: %s (%s)", self.name, step.state, why)
        if step.event is not None:
            self._say(step.event)
        if self.slow_path.status != self._slow_status:
            self._slow_status = self.slow_path.status
            self._log_slow_path()
        self._feed.step(step, self._tap.timeline)
        self.last = step

    def _say(self, event: Event) -> None:
        what, self._severity = headline(event, before=self._severity), event.severity
        log.warning("%s: %s: %.2f x the threshold; %s (event %s)", self.name, what, event.ratio, event.summary, event.id)

    def _log_slow_path(self) -> None:
        """Log what has become of the slow path."""
        slow = self.slow_path
        if slow.reference is None:
            log.info("%s: slow path: learning the normal level for %.1f h", self.name, slow.missing_h)
        elif slow.status == "ready":
            normal, limit = slow.reference.normal, slow.reference.limit
            log.info("%s: slow path: ready, normal score %.3g, warning from a 15-minute median of %.3g", self.name, normal, limit)
        else:
            log.warning(
                "%s: slow path: off, the normal score here is %.3g, over twice the %.3g of training; run monitor learn",
                self.name,
                slow.reference.normal,
                self.bundle.manifest.calibration.score_mean,
            )

    def _count_gap(self, block: Block) -> None:
        self.gap_s += (block.start - self._heard_until) / self._tap.timeline.sample_rate_hz
        self._heard_until = block.start + len(block.samples)
        self._hears, self._is_deaf = True, False
        self._heard_at = time.monotonic()

    def _fail(self, error: ScoreError) -> None:
        """A score that is no number says nothing of the machine."""
        if self._score_error != str(error):
            self._score_error = str(error)
            log.error("%s: %s", self.name, error)
        self._progress_at = time.monotonic()  # it is said, and no restart would mend it
        self._take(self._pipeline.deaf(self._tap.now, "score_error"))

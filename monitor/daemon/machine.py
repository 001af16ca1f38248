"""A running machine: its microphone, its monitor and its log messages."""

import logging
import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from monitor.audio.microphone import Microphone
from monitor.block import Block
from monitor.bundle import Bundle
from monitor.clips.clip import EventClip
from monitor.clips.recorder import ClipRecorder
from monitor.clock import SteadyClock
from monitor.config import MachineConfig
from monitor.daemon.alarm import Alarm
from monitor.daemon.assembly import make_drift, make_slow_path
from monitor.daemon.observer import Observe
from monitor.daemon.state_publisher import Outlet, StatePublisher
from monitor.events.event import EndReason, Event, Identity, Severity
from monitor.events.headline import excess_text, headline
from monitor.events.pipeline import Result
from monitor.events.slow_path import SlowState
from monitor.monitor import Monitor, Sink

log = logging.getLogger(__name__)
NO_INPUT_EVERY_S = 1.0  # how often time is advanced without a microphone
NO_TICK_TICKS, RECENT_TICKS = 5, 2  # without a tick, but with a recent gap: the sound comes in parts too short for one
TO_LEARN = "nothing is judged until it has learned its normal sound here; run monitor learn"
STALLED_AFTER_S = 15.0  # without a tick, although samples should arrive


@dataclass(frozen=True)
class MachineSpec:
    """The specification of a machine. It compares equal if a reload changes nothing for the machine."""

    settings: MachineConfig  # without the display name
    bundle_id: str
    rate_hz: int  # requested from its microphone

    @classmethod
    def of(cls, settings: MachineConfig, bundle: Bundle, *, rate_hz: int) -> "MachineSpec":
        """Build the specification from the relevant settings."""
        return cls(settings.model_copy(update={"name": None}), bundle.id, rate_hz)


class Machine:
    """A monitored machine. All calls must come from one thread; none blocks."""

    def __init__(
        self,
        name: str,
        spec: MachineSpec,
        bundle: Bundle,
        microphone: Microphone,
        outlet: Outlet,
        *,
        node: str,
        alarm: Alarm,
        clock: SteadyClock,
        recorder: ClipRecorder,
        slow_state: SlowState | None = None,
        sinks: Sequence[Sink] = (),
        observe: Observe | None = None,
    ) -> None:
        """`sinks` receive each result after the state publisher."""
        settings = spec.settings
        self.name = name
        self.bundle = bundle
        self.spec = spec
        self.microphone = microphone
        self.slow_path = make_slow_path(bundle, slow_state)
        self._recorder = recorder
        self._reader = microphone.add_reader(channel=settings.channel, sample_rate_hz=bundle.manifest.front_end.sample_rate_hz)
        try:
            observer = None if observe is None else observe(name, bundle, self._reader.timeline)
            self._publisher = StatePublisher(
                outlet,
                machine=name,
                threshold=None if bundle.is_base else bundle.manifest.calibration.threshold,
                timeline=self._reader.timeline,
                alarm=alarm,
                drift=make_drift(bundle),
                slow_path=None if bundle.is_base else self.slow_path,
                clock=clock,
                watch=None if observer is None else observer.state,
            )
            self._monitor = Monitor(
                bundle,
                idle=settings.idle,
                identity=Identity(node=node, machine=name, bundle=bundle.id, session=secrets.token_hex(16)),
                timeline=self._reader.timeline,
                slow_path=self.slow_path,
                recorder=recorder,
                sinks=[self._publisher, *sinks],
                tap=None if observer is None else observer.push,
            )
            self._slow_status = self.slow_path.status
            self._log_slow_path()
            self._publisher.publish_state("starting", None, datetime.now(timezone.utc))  # replaces the state of an earlier run
            self._publisher.publish_available(False)
            self._no_input_at = self._progress_at = self._tick_at = self._block_at = time.monotonic()
            self._gap_at = -math.inf
            self.tick_due_s = 0.0  # monotonic, when the sound of the next tick should have arrived
            self._tick_s = bundle.manifest.scorer_spec.tick_s
            self._patience_s = max(STALLED_AFTER_S, 3 * self._tick_s)
            self._has_input = self._has_no_input = False  # both false at the start
            self._score_error: str | None = None
            self._rate_problem: str | None = None
            self.last: Result | None = None
            self._severity: Severity | None = None  # of the last event
            self.gap_s = 0.0
            self._next_sample = 0
        except BaseException:
            self._reader.close()  # the microphone drops it
            raise

    def poll(self) -> None:
        """Process the sound that has arrived; if none can arrive, advance the time."""
        self._update_rate()
        for block in self._reader.blocks():
            self._count_gap(block)
            for result in self._monitor.push(block):
                self._progress_at = self._tick_at = time.monotonic()
                self._log(result)
        reason, now = self._no_input_reason(), time.monotonic()
        self.tick_due_s = math.inf if reason is not None else self._reader.arrives_s(self._monitor.n_missing)
        if reason is None:
            if self._has_input:
                self._publisher.publish_available(self._rate_problem is None)
            if self._has_only_gaps(now):
                self._progress_at = self._no_input_at = now  # a restart would change nothing
                self._log(self._monitor.no_input(self._next_sample, "gap"))
            return
        self._progress_at = self._tick_at = now  # waiting for the device is not a stall
        if now - self._no_input_at >= NO_INPUT_EVERY_S or not self._has_no_input:
            self._has_input, self._has_no_input, self._no_input_at = False, True, now
            self._log(self._monitor.no_input(self._reader.now, reason))
        self._publisher.publish_available(False)

    def stalled_s(self) -> float:
        """Seconds since the last progress if progress is overdue, else 0."""
        waited = time.monotonic() - self._progress_at
        return waited if waited > self._patience_s else 0.0

    def stop(self, reason: EndReason, *, state_reason: str | None = None) -> None:
        """End an open event, publish state `unknown`, and release the microphone."""
        try:
            event = self._monitor.close(reason)
            if event is not None:
                self._log_event(event)
        finally:
            self._publisher.publish_state("unknown", state_reason or reason, datetime.now(timezone.utc))
            self._publisher.publish_available(False)
            self._reader.close()

    def clip_snapshot(self, event_id: str) -> EventClip | None:
        """The clip of an open event, as recorded so far."""
        return self._recorder.snapshot(event_id)

    @property
    def is_started(self) -> bool:
        """Whether there is either sound or a reason for its absence."""
        return self.microphone.has_sound or self._has_no_input

    @property
    def scored_s(self) -> float:
        """Seconds of sound scored since its start. A base bundle scores nothing."""
        return 0.0 if self.bundle.is_base else self._monitor.scored_s()

    @property
    def age_s(self) -> float:
        """Seconds since the last block arrived."""
        return time.monotonic() - self._block_at

    def in_words(self) -> str:
        """Its state as text."""
        if self.last is None:
            return f"{self.name} starting"
        more = self.last.severity or self.last.reason
        return f"{self.name} {self.last.state}" + (f" ({more})" if more else "")

    def status(self) -> dict[str, Any]:
        """Its state, for users and tools."""
        result, trouble = self.last, self.microphone.trouble
        detail = trouble.detail if trouble is not None else self._reader.trouble or self._rate_problem
        return {
            "state": "starting" if result is None else result.state,
            "reason": None if result is None else result.reason,
            "severity": None if result is None else result.severity,
            "ratio": None if result is None or result.ratio is None else round(result.ratio, 4),
            "rms_dbfs": None if result is None or result.tick.rms_dbfs is None else round(result.tick.rms_dbfs, 1),
            "bundle": self.bundle.id,
            "adapted": None if self.bundle.manifest.provenance.adapted is None else self.bundle.manifest.provenance.adapted.by,
            "microphone": self.spec.settings.microphone,
            "trouble": detail,
            "gap_s": round(self.gap_s, 3),
            "slow_path": None if self.bundle.is_base else self.slow_path.status,
            "slow_path_missing_h": None if self.bundle.is_base else round(self.slow_path.missing_h, 2),
        }

    def _update_rate(self) -> None:
        """Pass the device's rate to the monitor, which does not score sound with too low a rate."""
        ring = self.microphone.ring
        if ring is None or ring.format.rate_hz == self._monitor.source_rate_hz:
            return
        self._monitor.source_rate_hz = ring.format.rate_hz
        self._rate_problem = self._monitor.rate_problem
        if self._rate_problem is not None:
            log.warning("%s: microphone %s: %s", self.name, self.spec.settings.microphone, self._rate_problem)

    def _no_input_reason(self) -> str | None:
        """Why no sound can arrive; None if it can."""
        trouble = self.microphone.trouble
        if trouble is not None:
            return f"microphone_{trouble.reason}"
        return "microphone_channel" if self._reader.trouble else None

    def _has_only_gaps(self, now: float) -> bool:
        """Whether gaps keep every tick from being completed and it is time to report that."""
        no_tick_s, no_gap_s = now - self._tick_at, now - self._gap_at
        due = now - self._no_input_at >= NO_INPUT_EVERY_S
        return due and no_tick_s > NO_TICK_TICKS * self._tick_s and no_gap_s < RECENT_TICKS * self._tick_s

    def _count_gap(self, block: Block) -> None:
        if 0 < self._next_sample < block.start:  # nothing is missing before the first block
            self._gap_at = time.monotonic()
        self.gap_s += (block.start - self._next_sample) / self._reader.timeline.sample_rate_hz
        self._next_sample = block.start + len(block.samples)
        self._has_input, self._has_no_input = True, False
        self._block_at = time.monotonic()

    def _log(self, result: Result) -> None:
        """Log the changes since the previous result."""
        if result.error is not None and result.error != self._score_error:
            log.error("%s: %s", self.name, result.error)
        self._score_error = result.error
        if self.last is None or (result.state, result.reason) != (self.last.state, self.last.reason):
            why = result.reason or ("no score yet" if result.ratio is None else f"{result.ratio:.2f} x the threshold")
            log.info("%s: %s (%s)", self.name, result.state, TO_LEARN if result.state == "learning" else why)
        if result.event is not None:
            self._log_event(result.event)
        if self.slow_path.status != self._slow_status:
            self._slow_status = self.slow_path.status
            self._log_slow_path()
        self.last = result

    def _log_event(self, event: Event) -> None:
        title, self._severity = headline(event, before=self._severity), event.severity
        log.warning("%s: %s: %s; %s (event %s)", self.name, title, excess_text(event), event.summary, event.id)

    def _log_slow_path(self) -> None:
        slow = self.slow_path
        if self.bundle.is_base:
            return
        if slow.normal_level is None:
            log.info("%s: slow path: learning the normal level for %.1f h", self.name, slow.missing_h)
        elif slow.status == "ready":
            normal, limit = slow.normal_level.normal, slow.normal_level.limit
            log.info("%s: slow path: ready, normal score %.3g, warning from a 15-minute median of %.3g", self.name, normal, limit)
        else:
            log.warning(
                "%s: slow path: off, the normal score here is %.3g, more than twice that of training (%.3g); run monitor learn",
                self.name,
                slow.normal_level.normal,
                self.bundle.manifest.calibration.score_mean,
            )

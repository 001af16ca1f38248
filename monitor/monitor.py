"""The monitor of one machine: blocks of samples in, one result per tick out, for live sound and recordings."""

import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from typing import Protocol

from monitor.block import Block
from monitor.bundle import Bundle
from monitor.config import IdleConfig
from monitor.events.event import Anchor, EndReason, Event, EventClock, Identity
from monitor.events.pipeline import Pipeline, Result
from monitor.events.slow_path import SlowPath
from monitor.events.unlearned import Unlearned
from monitor.explain.describe import Description, describe
from monitor.explain.excerpt import Excerpt
from monitor.scoring.bandwidth import empty_bands
from monitor.scoring.features import TickFrames

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # the default start of a recording


class Source(Protocol):
    """A source of sound: a recording, or one channel of a microphone."""

    def blocks(self) -> Iterable[Block]:
        """Samples at the bundle's rate; a jump in `Block.start` is a gap."""
        ...


class Sink(Protocol):
    """A subscriber to results."""

    def push(self, result: Result) -> None:
        """Receive the result of the next tick."""
        ...

    def close(self, event: Event | None) -> None:
        """Handle the end of the stream. `event` is the last message of an anomaly that was still open."""
        ...


class Recorder(Sink, Protocol):
    """A sink that also receives the sound and names the clips of events."""

    def push_block(self, block: Block) -> None:
        """Receive a block before it is scored."""
        ...

    def clip_name(self, machine: str, event_id: str) -> str | None:
        """The file name of an event's clip; None if no clip is written."""
        ...


class Monitor:
    """Score the sound of one machine and decide. Every result is also passed to `sinks` and `recorder`, tick by tick.

    With a base bundle nothing is judged: the state is `learning`, without scores and events.

    `identity` and `timeline` determine the origin and the times of events. By default, a monitor is a separate session on node
    `local`, and its sample 0 was at 1970-01-01T00:00:00Z. `excerpt` collects the data for `describe_file`. `tap` receives each
    result with the frames of its tick, before the sinks; without sound there is no tick. It must not fail.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        idle: IdleConfig | None = None,
        identity: Identity | None = None,
        timeline: EventClock | None = None,
        slow_path: SlowPath | None = None,
        recorder: Recorder | None = None,
        sinks: Sequence[Sink] = (),
        excerpt: Excerpt | None = None,
        tap: Callable[[TickFrames | None, Result], None] | None = None,
    ) -> None:
        idle = idle or IdleConfig()
        manifest = bundle.manifest
        self.bundle = bundle
        self._excerpt = excerpt
        self._tap = tap
        self._recorder = recorder
        self._sinks = sinks if recorder is None else (*sinks, recorder)  # an event matters more than its clip
        self._scorer = bundle.scorer(idle_below_dbfs=None if idle.means == "score" else idle_level_dbfs(bundle, idle))
        self._scorer.expected_db = None if bundle.expected is None else bundle.expected.mean_db
        self._pipeline: Pipeline | Unlearned
        if bundle.is_base:
            self._pipeline = Unlearned(self._scorer)
            return
        self._pipeline = Pipeline(
            self._scorer,
            threshold=manifest.calibration.threshold,
            alarm_threshold=manifest.calibration.alarm_threshold,
            tick_threshold=manifest.calibration.tick_threshold,
            fast_threshold=manifest.calibration.fast_threshold,
            rule=manifest.rule,
            expected=bundle.expected,
            identity=identity or Identity(node="local", machine=manifest.name, bundle=bundle.id, session=secrets.token_hex(16)),
            anchor=timeline or Anchor(utc=EPOCH, sample_rate_hz=self.sample_rate_hz, synced=False),
            idle_is_anomaly=idle.means == "anomaly",
            slow_path=slow_path,
            clip_name=None if recorder is None else recorder.clip_name,
        )

    @property
    def sample_rate_hz(self) -> int:
        """The sample rate of the blocks."""
        return self.bundle.manifest.front_end.sample_rate_hz

    @property
    def source_rate_hz(self) -> int | None:
        """The sample rate before resampling, if known. Sound with too low a rate is not scored."""
        return self._scorer.source_rate_hz

    @source_rate_hz.setter
    def source_rate_hz(self, rate_hz: int) -> None:
        self._scorer.source_rate_hz = rate_hz

    @property
    def rate_problem(self) -> str | None:
        """Why sound at the source's rate is not scored; None if it is scored."""
        return None if self.source_rate_hz is None else rate_problem(self.bundle, self.source_rate_hz)

    @property
    def n_missing(self) -> int:
        """The number of samples until the next tick is full."""
        return self._scorer.n_missing

    def push(self, block: Block) -> list[Result]:
        """Append a block; return a result for each tick that it completes."""
        if self._recorder is not None:
            self._recorder.push_block(block)
        return [self._step(tick) for tick in self._scorer.extract(block)]

    def flush(self) -> list[Result]:
        """Score the partial tick at the end of a recording."""
        return [self._step(tick) for tick in self._scorer.extract_last()]

    def no_input(self, stop: int, reason: str) -> Result:
        """Advance to sample `stop` without sound; `reason` is why there is none."""
        return self._publish(None, self._pipeline.no_input(stop, reason))

    def close(self, reason: EndReason = "shutdown") -> Event | None:
        """End the stream; return the end event of the open anomaly, if there was one."""
        event = self._pipeline.close(reason)
        self._call_sinks(lambda sink: sink.close(event))
        return event

    def file_score(self) -> float | None:
        """The score of all sound so far, treated as one file."""
        return self._scorer.file_score()

    def scored_s(self) -> float:
        """Seconds of sound scored so far."""
        return self._scorer.scored_frames * self.bundle.manifest.front_end.hop_length / self.sample_rate_hz

    def describe_file(self) -> Description:
        """Describe how the most abnormal segment so far differs from normal sound."""
        if self._excerpt is None or self.bundle.expected is None:
            return Description()
        return describe(self._excerpt.sounds, self.bundle.expected, self.bundle.manifest.front_end)

    def _step(self, tick: TickFrames) -> Result:
        result = self._pipeline.step(tick)
        if self._excerpt is not None:
            self._excerpt.push(result.tick, self._scorer.sounds())
        return self._publish(tick, result)

    def _publish(self, tick: TickFrames | None, result: Result) -> Result:
        if self._tap is not None:
            self._tap(tick, result)
        self._call_sinks(lambda sink: sink.push(result))
        return result

    def _call_sinks(self, call: Callable[[Sink], None]) -> None:
        """Call every sink, even after one that fails. Its error is raised in the end."""
        with ExitStack() as stack:
            for sink in reversed(self._sinks):
                stack.callback(call, sink)


def rate_problem(bundle: Bundle, rate_hz: int) -> str | None:
    """Why sound recorded at this rate cannot be scored with a bundle; None if it can."""
    front_end = bundle.manifest.front_end
    n_empty = empty_bands(rate_hz, front_end, None if bundle.expected is None else bundle.expected.mean_db)
    if not n_empty:
        return None
    return (
        f"recorded at {rate_hz} Hz, but {bundle.id} needs {front_end.sample_rate_hz} Hz: without sound above "
        f"{rate_hz / 2000:g} kHz, {n_empty} of its {front_end.n_bands} bands would be empty"
    )


def idle_level_dbfs(bundle: Bundle, idle: IdleConfig) -> float | None:
    """The level below which the machine counts as off: the configured level, or the one learned in its bundle, if any."""
    if idle.below_dbfs != "learned":
        return idle.below_dbfs
    return None if bundle.is_base else bundle.manifest.calibration.idle_below_dbfs

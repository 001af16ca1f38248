"""Replay: run recordings through the same monitor as live sound."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from monitor.audio.recording import Recording
from monitor.block import Block
from monitor.bundle import Bundle
from monitor.config import IdleConfig
from monitor.errors import ScoreError, SourceError
from monitor.events.event import Anchor, Event, EventClock, Identity, Severity
from monitor.events.headline import excess_text, headline, ratio_text
from monitor.events.pipeline import Result
from monitor.explain.excerpt import Excerpt
from monitor.json_lines import JsonLines
from monitor.monitor import Monitor, Recorder, Sink

if TYPE_CHECKING:
    from monitor.daemon.state_publisher import StatePublisher

log = logging.getLogger(__name__)
WHY_NO_SCORE = {
    "short": "too short",
    "silent": "silent",
    "flat_line": "a constant value",
    "gap": "samples are missing",
    "clipped": "clipped",
    "repeating": "the sound repeats itself exactly, so its source is stuck",
    "idle": "the machine is off",
}


@dataclass(frozen=True, kw_only=True)
class Replay:
    """The settings of a replay."""

    bundle: Bundle
    node: str
    machine: str
    started_at: datetime
    clock_synced: bool
    channel: int | None
    real_time: bool
    show_scores: bool
    shows_progress: bool = True  # if stderr is a terminal
    lines: JsonLines
    idle: IdleConfig
    make_recorder: Callable[[], Recorder] | None  # for clips
    make_publisher: "Callable[[EventClock], StatePublisher] | None"  # for messages


@dataclass(frozen=True)
class Outcome:
    """Counts over files."""

    n_failed: int = 0
    n_anomalous: int = 0

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(self.n_failed + other.n_failed, self.n_anomalous + other.n_anomalous)


def replay(files: Iterable[Path], job: Replay) -> Outcome:
    """Replay each file as a separate stream. A file that cannot be read is reported and does not stop the others."""
    return sum((replay_file(path, job) for path in files), Outcome())


def replay_file(path: Path, job: Replay) -> Outcome:
    """Replay a file and write its lines."""
    file = _File(path, job)
    error = file.run()
    summary = file.summary(error)
    job.lines.write(summary)
    return Outcome(n_failed=error is not None, n_anomalous=bool(summary["verdict"] == "anomaly" or file.n_events))


class _Lines:
    """A sink that writes events, and with `show_scores` every result, as JSON lines. A scoring error stops the file."""

    def __init__(self, path: Path, job: Replay) -> None:
        self._path = path
        self._job = job
        self._state = "starting"
        self._severity: Severity | None = None  # of the last event
        self.reasons: Counter[str] = Counter()  # of the ticks that were not scored
        self.peak = 0.0  # of all samples; full scale is 1
        self.n_events = 0

    def push(self, result: Result) -> None:
        """Write the lines for a tick, and log a change of state."""
        if result.error is not None:
            raise ScoreError(result.error)
        rate_hz = self._job.bundle.manifest.front_end.sample_rate_hz
        if result.state != self._state and result.event is None:
            why = f"{result.ratio:.2f} x the threshold" if result.ratio is not None else result.reason
            log.info("%s  %s  %s: %s", _clock(result.tick.stop / rate_hz), self._job.machine, result.state, why)
        self.reasons.update([] if result.tick.reason is None else [result.tick.reason])
        self.peak = max(self.peak, 0.0 if result.tick.quality is None else result.tick.quality.peak)
        self._state = result.state
        if result.event is not None:
            self._write_event(result.event)
        if self._job.show_scores:
            self._job.lines.write(_segment_line(result, self._path, rate_hz))

    def close(self, event: Event | None) -> None:
        """Write the last event."""
        if event is not None:
            self._write_event(event)

    def _write_event(self, event: Event) -> None:
        self.n_events += event.event_type == "start"
        self._job.lines.write(event.to_dict())
        log.info("%s", in_words(event, before=self._severity, started_at=self._job.started_at))
        self._severity = event.severity


class _File:
    """The replay of one file."""

    def __init__(self, path: Path, job: Replay) -> None:
        self._path = path
        self._job = job
        self._rate_hz = job.bundle.manifest.front_end.sample_rate_hz
        self._anchor = Anchor(utc=job.started_at, sample_rate_hz=self._rate_hz, synced=job.clock_synced)
        self._lines = _Lines(path, job)
        self._publisher = None if job.make_publisher is None else job.make_publisher(self._anchor)
        self._recording: Recording | None = None
        self._monitor: Monitor | None = None
        self._stop = 0  # one past the last sample pushed

    @property
    def n_events(self) -> int:
        """Events so far."""
        return self._lines.n_events

    def run(self) -> str | None:
        """Replay the file; return the error if it fails."""
        try:
            self._replay()
            problem = None if self._monitor is None else self._monitor.rate_problem
            error = None if problem is None else f"{self._path}: {problem}"
        except (SourceError, ScoreError) as failed:
            error = str(failed) if isinstance(failed, SourceError) else f"{self._path}: {failed}"
        finally:
            self._close()
        if error is not None:
            log.error("monitor: error: %s", error)
        return error

    def summary(self, error: str | None) -> dict[str, Any]:
        """The summary of the file as a JSON object. It is also logged as text, unless there was an error."""
        calibration = self._job.bundle.manifest.calibration
        score = None if self._monitor is None else self._monitor.file_score()
        ratio = None if score is None else score / calibration.file_threshold
        severity = None if score is None or error else calibration.file_severity(score)
        verdict = "unknown" if score is None or error else "normal" if severity is None else "anomaly"
        found = None if severity is None or self._monitor is None else self._monitor.describe_file()
        reason = None
        if score is None:
            reason = next((name for name, _ in self._lines.reasons.most_common(1)), None if error else "short")
        message = {
            "type": "file",
            "file": str(self._path),
            "duration_s": round(self._stop / self._rate_hz, 3),
            "scored_s": 0.0 if self._monitor is None else round(self._monitor.scored_s(), 3),
            "score": None if score is None else round(score, 6),
            "ratio": None if ratio is None else round(ratio, 4),
            "threshold": round(calibration.file_threshold, 6),
            "verdict": verdict,
            "severity": severity,
            "bands": [] if found is None else [asdict(band) for band in found.bands],
            "summary": None if found is None else found.summary,
            "reason": reason,
            "n_events": self.n_events,
            "error": error,
        }
        if error is None:
            shown = f"no score: {self._in_words(reason)}" if ratio is None else f"{ratio:.2f} x the file threshold"
            events = "1 event" if self.n_events == 1 else f"{self.n_events} events"
            what = verdict if severity is None else severity.upper()
            why = "" if found is None else f"; {found.summary}"
            log.info("%s: %s (%s, %s)%s", self._path, what, shown, events, why)
            if self._recording is not None and self._recording.channel_problem is not None:
                log.warning("%s: %s", self._path, self._recording.channel_problem)
        return message

    def _in_words(self, reason: str | None) -> str:
        if reason == "clipped" and self._lines.peak > 1.0:
            return f"over full scale, the peak is {self._lines.peak:.3g} times full scale"
        return WHY_NO_SCORE.get(reason or "", str(reason))

    def _replay(self) -> None:
        job = self._job
        recording, session = _open(self._path, sample_rate_hz=self._rate_hz, channel=job.channel)
        self._recording = recording
        sinks: Sequence[Sink] = [self._lines] if self._publisher is None else [self._publisher, self._lines]
        self._monitor = Monitor(
            job.bundle,
            idle=job.idle,
            identity=Identity(node=job.node, machine=job.machine, bundle=job.bundle.id, session=session),
            timeline=self._anchor,
            recorder=None if job.make_recorder is None else job.make_recorder(),
            sinks=sinks,
            excerpt=Excerpt(),
        )
        self._monitor.source_rate_hz = recording.rate_hz
        blocks = _blocks(recording, block_s=0.1 if job.real_time else 2.0)
        total = None if recording.duration_s is None else round(recording.duration_s)
        with tqdm(total=total, desc=self._path.name, unit="s", disable=None if job.shows_progress else True, leave=False) as bar:
            for block in _paced(blocks, self._rate_hz) if job.real_time else blocks:
                self._monitor.push(block)
                self._stop = block.start + len(block.samples)
                bar.update(round(self._stop / self._rate_hz) - bar.n)
        self._monitor.flush()

    def _close(self) -> None:
        """End an event that is still open, and publish the end of the replay, even if stdout is closed."""
        try:
            if self._monitor is not None:
                self._monitor.close("shutdown")
        finally:
            if self._publisher is not None:
                self._publisher.publish_state("unknown", "replay_ended", self._anchor.at(self._stop))


def _open(path: Path, *, sample_rate_hz: int, channel: int | None) -> tuple[Recording, str]:
    """Open the recording. Its session is derived from the content, so that the same sound gives the same event ids."""
    recording = Recording(path, sample_rate_hz=sample_rate_hz, channel=channel)
    try:
        return recording, recording.sha256() + ("" if channel is None else f"#{channel}")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error


def _blocks(recording: Recording, *, block_s: float) -> Iterator[Block]:
    try:
        yield from recording.blocks(block_s=block_s)
    except OSError as error:
        raise SourceError(f"{recording.path}: cannot be read: {error.strerror}") from error


def in_words(event: Event, *, before: Severity | None, started_at: datetime) -> str:
    """Describe an event in one line of text, with times relative to the start of the recording.

    `before` is the severity of the previous event, if there was one.
    """
    at, onset = (_clock((moment - started_at).total_seconds()) for moment in (event.ts, event.onset_ts))
    what = f"{at}  {event.machine}  {headline(event, before=before)}"
    if event.event_type == "end":
        return f"{what}: lasted {event.duration_s:.0f} s, at most {ratio_text(event.peak_ratio, event.raised_by)}"
    if event.event_type == "update" and event.ratio < 1.0:
        return f"{what}: {excess_text(event)} now; was {event.summary}"
    return f"{what}: {excess_text(event)}, since {onset}; {event.summary}"


def _segment_line(result: Result, path: Path, rate_hz: int) -> dict[str, Any]:
    tick = result.tick
    return {
        "type": "segment",
        "file": str(path),
        "start_s": round(tick.start / rate_hz, 3),
        "end_s": round(tick.stop / rate_hz, 3),
        "score": tick.score,
        "ratio": result.ratio,
        "tick_score": tick.tick_score,
        "excess_db": None if tick.excess_db is None else round(tick.excess_db, 2),
        "n_ticks": tick.n_ticks,
        "state": result.state,
        "reason": result.reason,
        "rms_dbfs": None if tick.rms_dbfs is None else round(tick.rms_dbfs, 2),
    }


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 3600:02d}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"


def _paced(blocks: Iterator[Block], rate_hz: int) -> Iterator[Block]:
    """Yield each block when its last sample is due."""
    start_s = time.monotonic()
    for block in blocks:
        due_s = start_s + (block.start + len(block.samples)) / rate_hz
        time.sleep(max(0.0, due_s - time.monotonic()))
        yield block

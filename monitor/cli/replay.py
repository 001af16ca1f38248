"""Replay: run recordings through the very pipeline that listens to a microphone."""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tqdm import tqdm

from monitor.audio.recording import Recording
from monitor.block import Block
from monitor.bundle import Bundle
from monitor.clips.recorder import ClipRecorder
from monitor.clips.service import ClipService
from monitor.config import ClipsConfig, IdleConfig
from monitor.daemon.alarm import Alarm
from monitor.daemon.assembly import machine_scorer, make_clip_recorder, make_drift, make_pipeline, too_low
from monitor.daemon.state_publisher import Outlet, StatePublisher
from monitor.errors import ScoreError, SourceError
from monitor.events.event import Anchor, Event, Identity, Severity
from monitor.events.headline import headline
from monitor.events.pipeline import Pipeline, Step
from monitor.explain.describe import Description, describe
from monitor.explain.excerpt import Excerpt
from monitor.json_lines import JsonLines
from monitor.scoring.scorer import Scorer

log = logging.getLogger(__name__)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # when a recording began that does not say when


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What to replay recordings with, and what to say of them."""

    bundle: Bundle
    node: str
    machine: str
    started_at: datetime
    clock_synced: bool
    channel: int | None
    real_time: bool
    show_scores: bool
    lines: JsonLines
    outlet: Outlet | None
    idle: IdleConfig
    alarm_from: Severity
    archive: ClipService | None
    clips: ClipsConfig


@dataclass
class Outcome:
    """What came of all the files."""

    n_failed: int = 0
    n_anomalous: int = 0


def replay(files: Iterable[Path], job: Replay) -> Outcome:
    """Replay each file as a stream of its own; one that cannot be read is named and the others go on."""
    outcome = Outcome()
    scorer = machine_scorer(job.bundle, job.idle)
    for path in files:
        listener = _Listener(path, job, scorer)
        try:
            listener.run()
            error = None
        except (SourceError, ScoreError) as problem:
            error = str(problem) if isinstance(problem, SourceError) else f"{path}: {problem}"
            outcome.n_failed += 1
            log.error("monitor: error: %s", error)
        finally:
            listener.close()
        summary = listener.summary(error)
        job.lines.write(summary)
        outcome.n_anomalous += bool(summary["verdict"] == "anomaly" or listener.n_events)
    return outcome


class _Listener:
    """One file on its way through the pipeline."""

    def __init__(self, path: Path, job: Replay, scorer: Scorer) -> None:
        self._path = path
        self._job = job
        self._scorer = scorer
        self._rate_hz = scorer.spec.front_end.sample_rate_hz
        self._pipeline: Pipeline | None = None
        self._anchor = Anchor(utc=job.started_at, sample_rate_hz=self._rate_hz, synced=job.clock_synced)
        self._evidence: ClipRecorder | None = None
        if job.archive is not None:
            self._evidence = make_clip_recorder(job.bundle, job.archive, job.clips)
        self._feed: StatePublisher | None = None
        if job.outlet is not None:
            threshold, drift = job.bundle.manifest.calibration.threshold, make_drift(job.bundle, scorer)
            alarm = Alarm(from_severity=job.alarm_from)
            self._feed = StatePublisher(job.outlet, machine=job.machine, threshold=threshold, alarm=alarm, drift=drift)
        self._heard = 0
        self._reasons: Counter[str] = Counter()  # for which ticks were not scored
        self._state = "starting"
        self._severity: Severity | None = None  # of the last event
        self._excerpt = Excerpt()
        self.n_events = 0

    def run(self) -> None:
        """Listen to the whole file."""
        recording = Recording(self._path, sample_rate_hz=self._rate_hz, channel=self._job.channel)
        identity = Identity(
            node=self._job.node, machine=self._job.machine, bundle=self._job.bundle.id, session=self._session(recording)
        )
        self._pipeline = make_pipeline(self._job.bundle, self._scorer, self._job.idle, identity=identity, timeline=self._anchor)
        self._scorer.source_rate_hz = recording.rate_hz
        if (why := too_low(self._scorer)) is not None:
            log.warning("%s: %s", self._path, why)
        blocks = recording.blocks(block_s=0.1 if self._job.real_time else 2.0)
        with tqdm(total=recording.duration_s, desc=self._path.name, unit="s", disable=None, leave=False) as bar:
            for block in _paced(blocks, self._rate_hz) if self._job.real_time else blocks:
                if self._evidence is not None:
                    self._evidence.push(block)
                for step in self._pipeline.push(block):
                    self._take(step)
                self._heard = block.start + len(block.samples)
                bar.update(len(block.samples) / self._rate_hz)
        for step in self._pipeline.flush():
            self._take(step)

    def close(self) -> None:
        """End an event that is still open."""
        event = self._pipeline.close("shutdown") if self._pipeline is not None else None
        if self._evidence is not None:
            event = self._evidence.close(event)
        if self._feed is not None:  # before stdout, which may be gone
            if event is not None and self._job.outlet is not None:
                self._job.outlet.publish(event)
            self._feed.silent("unknown", "replay_ended", self._anchor.at(self._heard))
        if event is not None:
            self._tell(event)

    def summary(self, error: str | None) -> dict[str, Any]:
        """The file's own line."""
        calibration = self._job.bundle.manifest.calibration
        score = self._scorer.file_score() if self._pipeline is not None else None
        ratio = None if score is None else score / calibration.file_threshold
        severity = None if score is None or error else calibration.file_severity(score)
        verdict = "unknown" if score is None or error else "normal" if severity is None else "anomaly"
        found = None if severity is None else self._describe()
        reason = self._reasons.most_common(1)[0][0] if self._reasons and score is None and error is None else None
        hop_s = self._scorer.spec.front_end.hop_length / self._rate_hz
        scored_s = self._scorer.scored_frames * hop_s if self._pipeline is not None else 0.0
        message = {
            "type": "file",
            "file": str(self._path),
            "duration_s": round(self._heard / self._rate_hz, 3),
            "scored_s": round(scored_s, 3),
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
            shown = f"no score: {reason or 'too short'}" if ratio is None else f"{ratio:.2f} x the file threshold"
            events = "1 event" if self.n_events == 1 else f"{self.n_events} events"
            what = verdict if severity is None else severity.upper()
            why = "" if found is None else f"; {found.summary}"
            log.info("%s: %s (%s, %s)%s", self._path, what, shown, events, why)
        return message

    def _describe(self) -> Description:
        """What is different in the file."""
        expected = self._job.bundle.expected
        if expected is None:
            return Description()
        return describe(self._excerpt.sounds, expected, self._scorer.spec.front_end)

    def _session(self, recording: Recording) -> str:
        """The file's content, and the channel where one was picked: the same sound has the same event ids."""
        channel = "" if self._job.channel is None else f"#{self._job.channel}"
        return recording.sha256() + channel

    def _take(self, step: Step) -> None:
        """Take a step before the pipeline goes on to the next one: the scorer still holds its segment."""
        self._excerpt.push(step.tick, self._scorer.sounds())
        if self._evidence is not None:
            step = self._evidence.attach_clip(step)
        if self._feed is not None:
            self._feed.step(step, self._anchor)
        if step.state != self._state and step.event is None:
            what = f"{step.ratio:.2f} x the threshold" if step.ratio is not None else step.reason
            log.info("%s  %s  %s: %s", _clock(step.tick.stop / self._rate_hz), self._job.machine, step.state, what)
        self._reasons.update([] if step.tick.reason is None else [step.tick.reason])
        self._state = step.state
        if step.event is not None:
            self._tell(step.event)
        if self._job.show_scores:
            self._job.lines.write(_segment_line(step, self._path, self._rate_hz))

    def _tell(self, event: Event) -> None:
        self.n_events += event.event_type == "start"
        self._job.lines.write(event.to_dict())
        log.info("%s", in_words(event, before=self._severity, started_at=self._job.started_at))
        self._severity = event.severity


def in_words(event: Event, *, before: Severity | None, started_at: datetime) -> str:
    """An event in one line for a person, its times counted from the start of the recording.

    `before` is the severity of the event before, if there was one.
    """
    at, onset = (_clock((moment - started_at).total_seconds()) for moment in (event.ts, event.onset_ts))
    what = f"{at}  {event.machine}  {headline(event, before=before)}"
    if event.event_type == "end":
        return f"{what}: lasted {event.duration_s:.0f} s, at most {event.peak_ratio:.2f} x the threshold"
    if event.event_type == "update" and event.ratio < 1.0:
        return f"{what}: {event.ratio:.2f} x the threshold now; was {event.summary}"
    return f"{what}: {event.ratio:.2f} x the threshold, since {onset}; {event.summary}"


def _segment_line(step: Step, path: Path, rate_hz: int) -> dict[str, Any]:
    tick = step.tick
    return {
        "type": "segment",
        "file": str(path),
        "start_s": round(tick.start / rate_hz, 3),
        "end_s": round(tick.stop / rate_hz, 3),
        "score": tick.score,
        "ratio": step.ratio,
        "tick_score": tick.tick_score,
        "excess_db": None if tick.excess_db is None else round(tick.excess_db, 2),
        "n_ticks": tick.n_ticks,
        "state": step.state,
        "reason": step.reason,
        "rms_dbfs": None if tick.rms_dbfs is None else round(tick.rms_dbfs, 2),
    }


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 3600:02d}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"


def _paced(blocks: Iterator[Block], rate_hz: int) -> Iterator[Block]:
    """Hand each block out when its last sample would have been heard."""
    began = time.monotonic()
    for block in blocks:
        due = began + (block.start + len(block.samples)) / rate_hz
        time.sleep(max(0.0, due - time.monotonic()))
        yield block

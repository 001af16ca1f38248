"""The old and the new bundle on the same sound: the old one decides whether an alarm of the new one is false."""

import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from monitor.audio.channel_reader import ChannelReader
from monitor.audio.gaps import UnbrokenSound
from monitor.audio.recording import Recording
from monitor.audio.ring import SoundFormat
from monitor.bundle import Bundle
from monitor.config import MachineConfig
from monitor.daemon.control.shared_microphone import find_shared, open_shared, shared_microphones
from monitor.errors import SourceError, StethosError
from monitor.events.pipeline import Result
from monitor.monitor import Monitor

POLL_S = 0.1
PAST_S = 10.0  # at least as much as the service has buffered
SILENT_S = 10.0  # without samples, the comparison ends
MIN_SCORED = 0.5  # share of the sound that the new bundle must score, where the old one scores it


@dataclass
class Score:
    """The outcome of one bundle."""

    bundle: str
    judges: bool  # a base bundle does not
    heard_s: float = 0.0
    scored_s: float = 0.0
    events: int = 0
    peak: float = 0.0  # the highest ratio of a segment to the threshold
    error: str | None = None

    @property
    def is_abnormal(self) -> bool:
        """Whether some of the sound exceeds a threshold."""
        return self.events > 0 or self.peak >= 1.0

    def add(self, results: list[Result]) -> None:
        """Count the results of some ticks."""
        for result in results:
            self.error = self.error or result.error
            self.events += result.event is not None and result.event.event_type == "start"
            self.peak = max(self.peak, result.ratio or 0.0)


@dataclass(frozen=True)
class Comparison:
    """Both outcomes on the same sound."""

    old: Score
    new: Score

    @property
    def problem(self) -> str | None:
        """Why the new bundle is worse; None if it is not."""
        old, new = self.old, self.new
        if new.error is not None:
            return f"{new.bundle} fails: {new.error}"
        if new.scored_s < MIN_SCORED * old.scored_s:
            return f"{new.bundle} scored {new.scored_s:.0f} s of {new.heard_s:.0f} s, {old.bundle} {old.scored_s:.0f} s"
        if new.events and not old.events:
            quiet = f"where {old.bundle} was quiet (at most {old.peak:.2f})" if old.judges else "at once"
            return f"{new.bundle} raised an anomaly ({new.peak:.2f} x its threshold) {quiet}"
        return None

    @property
    def in_words(self) -> str:
        """The outcome in one line."""
        old, new = self.old, self.new
        return f"{new.heard_s:.0f} s compared: {old.bundle} at most {old.peak:.2f}, {new.bundle} {new.peak:.2f} x the threshold"


class _Listener:
    """A bundle that scores the sound of a microphone."""

    def __init__(self, bundle: Bundle, settings: MachineConfig) -> None:
        self._monitor = Monitor(bundle, idle=settings.idle)
        self._reader = ChannelReader(channel=settings.channel, sample_rate_hz=self._monitor.sample_rate_hz, past_s=PAST_S)
        self.score = Score(bundle.id, judges=not bundle.is_base)

    def open(self, form: SoundFormat) -> None:
        self._monitor.source_rate_hz = form.rate_hz
        self._reader.open(form)

    def push(self, sounds: list[UnbrokenSound]) -> None:
        self._reader.push(*sounds)
        for block in self._reader.blocks():
            self.score.heard_s += len(block.samples) / self._monitor.sample_rate_hz
            self.score.add(self._monitor.push(block))
        self.score.scored_s = self._monitor.scored_s()


def compare_live(control: Path, settings: MachineConfig, old: Bundle, new: Bundle, *, seconds: float) -> Comparison | str:
    """Score `seconds` of the service's sound with both bundles, buffered sound first. Return the reason if there is no sound."""
    listeners = (_Listener(old, settings), _Listener(new, settings))
    try:
        shared = find_shared(shared_microphones(control), settings.microphone)
        stream = None if shared is None else open_shared(control, shared.selector, past=True)
    except (StethosError, OSError) as error:
        return str(error)
    if stream is None:
        return "the service does not run" if shared is None else "the service has stopped"
    with closing(stream):
        for listener in listeners:
            listener.open(stream.form)
        progress_s = time.monotonic()
        while min(one.score.heard_s for one in listeners) < seconds:
            sounds = stream.read()
            if sounds:
                progress_s = time.monotonic()
            for listener in listeners:
                listener.push(sounds)
            if stream.ended or time.monotonic() - progress_s > SILENT_S:
                return f"the sound ended after {listeners[1].score.heard_s:.0f} s"
            time.sleep(POLL_S)
    found = Comparison(*(one.score for one in listeners))
    if found.new.error is None and max(found.old.scored_s, found.new.scored_s) < MIN_SCORED * seconds:
        return f"only {max(found.old.scored_s, found.new.scored_s):.0f} s of {seconds:.0f} s could be scored: is the machine off?"
    return found


def false_alarm(clip: bytes, settings: MachineConfig, old: Bundle, new: Bundle) -> str | None:
    """Why an alarm of the new bundle is false: the old one is quiet in its clip. None if it is not, or cannot tell."""
    with tempfile.NamedTemporaryFile(suffix=".flac") as file:
        file.write(clip)
        file.flush()
        before, after = (_score_file(bundle, Path(file.name), settings) for bundle in (old, new))
    if before is None or after is None or not before.judges or before.is_abnormal or not after.is_abnormal:
        return None
    return f"{new.id} raised an alarm ({after.peak:.2f} x its threshold) where {old.id} was quiet ({before.peak:.2f})"


def _score_file(bundle: Bundle, path: Path, settings: MachineConfig) -> Score | None:
    """The outcome for a recording; None if it cannot be scored. `peak` also covers its score as one file."""
    monitor = Monitor(bundle, idle=settings.idle)
    score = Score(bundle.id, judges=not bundle.is_base)
    try:
        recording = Recording(path, sample_rate_hz=monitor.sample_rate_hz)
        monitor.source_rate_hz = recording.rate_hz
        for block in recording.blocks():
            score.add(monitor.push(block))
    except SourceError:
        return None
    score.add(monitor.flush())
    file_score = monitor.file_score() if score.judges else None
    if score.error is not None or (score.judges and file_score is None):
        return None
    score.peak = max(score.peak, 0.0 if file_score is None else file_score / bundle.manifest.calibration.file_threshold)
    return score

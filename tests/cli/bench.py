"""A configured fan without a service, and synthetic sound for it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import soundfile

from monitor.arrays import F32, F64
from monitor.audio.recording import Recording
from monitor.block import Block
from monitor.bundle import Bundle, load_bundle
from monitor.cli.main import main
from monitor.daemon.bundles.adaptations import in_use
from monitor.events.event import Anchor, Event, Identity
from monitor.events.pipeline import Pipeline
from monitor.scoring.scorer import score_stream
from train.synth import MACHINES, Growth, Scene

RATE_HZ = 16_000


def made(machine: str, *, seed: int = 0, take: int = 0, seconds: float = 60.0, fault: str | None = None) -> F32:
    """The sound of a synthetic machine; the demo's fan is fan 0."""
    scene = Scene(machine=MACHINES[machine](seed), take=take, fault=fault, growth=Growth())
    return np.concatenate(list(scene.chunks(seconds)))


def tilted(samples: F32, *, low_db: float, high_db: float) -> F32:
    """As recorded by a microphone whose response slopes from one gain to the other."""
    spectrum = np.fft.rfft(samples)
    gain_db = np.linspace(low_db, high_db, len(spectrum))
    return np.fft.irfft(spectrum * 10.0 ** (gain_db / 20.0), len(samples)).astype(np.float32)


@dataclass
class Bench:
    """A configured fan without a service, and sound for it."""

    folder: Path
    bundle: Path
    output: Callable[[], tuple[str, str]]  # captured since the last call: stdout and stderr
    log: pytest.LogCaptureFixture  # under pytest, errors are logged there and not on stderr

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def sound(self, samples: F32, name: str = "sound") -> Path:
        path = self.folder / f"{name}.wav"
        soundfile.write(path, samples, RATE_HZ, subtype="FLOAT")
        return path

    def run(self, *words: object, status: int = 0) -> str:
        """`monitor WORDS…`; returns its stdout, or its error if it fails."""
        assert main(["--config", str(self.folder / "monitor.yaml"), *map(str, words)]) == status
        out, err = self.output()
        return [*err.splitlines(), *self.log.messages][-1] if status else out

    def used(self) -> Bundle:
        return in_use(self.state, "fan", load_bundle(self.bundle))

    def events(self, samples: F32, *, threshold: float | None = None) -> list[Event]:
        """The events that start in this sound with the bundle in use; a low threshold finds one in any sound."""
        bundle = self.used()
        pipeline = Pipeline(
            bundle.scorer(),
            threshold=threshold or bundle.manifest.calibration.threshold,
            rule=bundle.manifest.rule,
            expected=bundle.expected,
            identity=Identity(node="pi", machine="fan", bundle=bundle.id, session="0"),
            anchor=Anchor(utc=datetime(1970, 1, 1, tzinfo=timezone.utc), sample_rate_hz=RATE_HZ, synced=True),
        )
        steps = list(pipeline.push(Block(0, samples)))
        return [step.event for step in steps if step.event is not None and step.event.event_type == "start"]

    def ratios(self, samples: F32) -> F64:
        """Score / threshold of each segment of this sound with the bundle in use."""
        return ratios(self.used(), Recording(self.sound(samples, "scored"), sample_rate_hz=RATE_HZ))


def ratios(bundle: Bundle, recording: Recording) -> F64:
    ticks = score_stream(bundle.scorer(), recording.blocks())
    return np.array([tick.score for tick in ticks if tick.score is not None]) / bundle.manifest.calibration.threshold

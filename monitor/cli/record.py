"""`monitor record`: record a machine as FLAC clips, in the layout that `train` reads."""

import argparse
import logging
import math
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from monitor.arrays import F32
from monitor.audio.pcm import to_float
from monitor.cli.arguments import channel_number, configured_machine, selector, within
from monitor.cli.progress import logs_above_progress
from monitor.cli.recording.level import levels
from monitor.cli.recording.microphone_input import POLL_S, MicrophoneInput, open_microphone
from monitor.cli.recording.session import RecordingSession, Take
from monitor.config import Config, load_config
from monitor.daemon.control.socket import NAME
from monitor.errors import UsageError

log = logging.getLogger(__name__)
LEVEL_EVERY_S = 1.0
REPEAT_S = 30.0  # minimum time between identical warnings
FULL_SCALE = float(1 << 31)
EPILOG = """\
Clips of at most a minute are written to DIR/normal. An interrupted session is resumed by the same command; a complete one is
continued. `monitor learn --from` and `train fit` learn from everything in DIR together.

  sudo monitor record --machine fan --minutes 60 --out my-fan
  monitor record --microphone usb:0d8c:0014 --minutes 5 --out my-fan --label anomaly
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--machine", metavar="ID", help="a configured machine: its microphone and channel")
    source.add_argument("--microphone", type=selector, metavar="SELECTOR", help="a microphone, as listed by `monitor devices`")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="data set folder; clips are written to DIR/LABEL")
    parser.add_argument(
        "--minutes", type=within(0.1, 100_000.0), metavar="N", required=True, help="total duration of the session"
    )
    parser.add_argument(
        "--clip-seconds", type=within(2.0, 600.0), metavar="S", default=60.0, help="length of a clip, 2 to 600 (default: 60)"
    )
    parser.add_argument("--label", choices=("normal", "anomaly"), default="normal", help="label of the clips (default: normal)")
    parser.add_argument(
        "--channel",
        type=channel_number,
        metavar="N",
        help="record only channel N, counted from 1 (default: the machine's, else all)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Record a session. Running the same command again resumes an interrupted one, and adds to a complete one."""
    config = load_config(arguments.config, os.environ)
    if config.private:
        raise UsageError("record stores sound, which the configuration forbids (private: true)")
    spec = _input_spec(arguments, config)
    folder = arguments.out / arguments.label
    control = config.runtime_dir / NAME
    opened = open_microphone(spec.selector, control, purpose="record", rate_hz=spec.rate_hz, channel=spec.channel)
    with logs_above_progress(), opened as microphone:
        take = Take(
            name=spec.name,
            rate_hz=microphone.form.rate_hz,
            n_channels=microphone.form.n_channels if spec.channel is None else 1,
            sample_format=microphone.form.sample_format,
            comment={"microphone": spec.selector, "channel": str(spec.channel or "all"), "label": arguments.label},
        )
        folder.mkdir(parents=True, exist_ok=True)
        wanted_s = 60.0 * arguments.minutes
        with (
            _stop_signals() as stopped,
            closing(RecordingSession(folder, take, clip_s=arguments.clip_seconds, wanted_s=wanted_s)) as session,
        ):
            if session.resumed_s:
                log.info("%s: resumed after %.1f of %g minutes", session.stem, session.resumed_s / 60, arguments.minutes)
            problems = _record(microphone, session, channel=spec.channel, wanted_s=wanted_s, stopped=stopped)
    clips = "1 clip" if session.n_clips == 1 else f"{session.n_clips} clips"
    print(f"{folder}: {clips}, {session.done_s / 60:.1f} of {arguments.minutes:g} minutes; {problems.in_words()}")
    if session.earlier_s:
        print(
            f"with the earlier ones there are {(session.earlier_s + session.done_s) / 60:.0f} minutes, which are learned together"
        )
    if not session.complete:
        print("run the same command again to resume")
        raise KeyboardInterrupt
    return 0


@dataclass(frozen=True)
class _InputSpec:
    name: str
    selector: str
    channel: int | None
    rate_hz: int | None


def _input_spec(arguments: argparse.Namespace, config: Config) -> _InputSpec:
    if arguments.machine is None:
        name = re.sub(r"[^a-z0-9]+", "-", arguments.microphone.lower()).strip("-")
        return _InputSpec(name or "microphone", arguments.microphone, arguments.channel, None)
    settings = config.machines[configured_machine(arguments.machine, config)]
    return _InputSpec(arguments.machine, settings.microphone, arguments.channel or settings.channel, settings.microphone_rate_hz)


@dataclass
class _Problems:
    """Gaps and bad levels, logged when they occur and counted for the summary."""

    n_gaps: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    _warned_s: dict[str, float] = field(default_factory=dict)

    def update(self, frames: F32) -> str:
        """Check about a second of frames (n, n_channels); return their level as text."""
        measured = levels(frames)
        for level in measured:
            if level.problem is not None:
                self.seconds[level.problem.partition(" (")[0]] += 1
                self._warn(f"channel {level.channel} is {level.problem}")
        loudest = max(measured, key=lambda level: level.rms_dbfs)
        return f"{loudest.rms_dbfs:.0f} dBFS, peak {max(level.peak_dbfs for level in measured):.0f}"

    def in_words(self) -> str:
        gaps = [f"{self.n_gaps} gap{'' if self.n_gaps == 1 else 's'}"] if self.n_gaps else []
        return ", ".join([*gaps, *(f"{n} s {problem}" for problem, n in self.seconds.items())]) or "no problems"

    def _warn(self, text: str) -> None:
        now_s = time.monotonic()
        if now_s - self._warned_s.get(text, -math.inf) > REPEAT_S:
            self._warned_s[text] = now_s
            log.warning("warning: %s", text)


def _record(
    microphone: MicrophoneInput, session: RecordingSession, *, channel: int | None, wanted_s: float, stopped: threading.Event
) -> _Problems:
    """Write sound until the session is complete or `stopped` is set."""
    problems = _Problems()
    unchecked: list[F32] = []
    next_frame: int | None = None  # the frame that continues the clip
    with tqdm(
        total=round(wanted_s), initial=round(session.done_s), desc=session.stem, unit="s", disable=None, leave=False
    ) as bar:
        while not session.complete and not stopped.wait(POLL_S):
            for sound in microphone.poll():
                if next_frame is not None and (sound.begins or sound.frame != next_frame):
                    problems.n_gaps += 1
                    session.end_clip()
                next_frame = sound.frame + sound.n_frames
                frames = to_float(sound.data, microphone.form)
                frames = frames if channel is None else frames[:, channel - 1 : channel]
                session.write(_to_int(frames))
                unchecked.append(frames)
            if microphone.trouble is not None:
                session.end_clip()
            if sum(map(len, unchecked)) >= LEVEL_EVERY_S * microphone.form.rate_hz:
                bar.set_postfix_str(problems.update(np.concatenate(unchecked)), refresh=False)
                unchecked = []
            bar.update(round(session.done_s) - bar.n)
    return problems


def _to_int(frames: F32) -> NDArray[np.int32]:
    """Scale [-1, 1] to [-2^31, 2^31). This is exact for up to 24 bits, FLAC's maximum."""
    return np.clip(np.rint(frames.astype(np.float64) * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int32)


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event set by SIGINT, SIGTERM and SIGHUP, so that the current clip can be completed."""
    stopped = threading.Event()
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""`monitor record`: a machine's sound as FLAC clips, laid out as `train` reads them."""

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
from monitor.audio.ring import RingFormat
from monitor.cli.arguments import channel_number, configured_machine, selector, within
from monitor.cli.level import levels
from monitor.cli.microphone_input import POLL_S, Told, open_sound
from monitor.cli.progress import logs_above_progress
from monitor.cli.recording_session import Session, Take
from monitor.config import Config, load_config
from monitor.daemon.control import NAME
from monitor.errors import UsageError

log = logging.getLogger(__name__)
LEVEL_EVERY_S = 1.0
REPEAT_S = 30.0  # the same warning at most so often
FULL_SCALE = float(1 << 31)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--machine", metavar="ID", help="a configured machine: its microphone and channel")
    which.add_argument("--microphone", type=selector, metavar="SELECTOR", help="a microphone, as `monitor devices` names it")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="the data set's folder; clips go to DIR/LABEL")
    parser.add_argument(
        "--minutes", type=within(0.1, 100_000.0), metavar="N", required=True, help="how much sound the session is to have"
    )
    parser.add_argument(
        "--clip-seconds", type=within(2.0, 600.0), metavar="S", default=10.0, help="length of a clip, 2 to 600 (10)"
    )
    parser.add_argument("--label", choices=("normal", "anomaly"), default="normal", help="what it is (normal)")
    parser.add_argument(
        "--channel", type=channel_number, metavar="N", help="channel N alone, from 1 (default: the machine's, else all)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Record; the same command again goes on with a session that was interrupted."""
    config = load_config(arguments.config, os.environ)
    if config.private:
        raise UsageError("record keeps sound, which the configuration forbids (private: true)")
    wish = _wish(arguments, config)
    folder = arguments.out / arguments.label
    opened = open_sound(wish.selector, config.runtime_dir / NAME, purpose="record", rate_hz=wish.rate_hz, channel=wish.channel)
    with logs_above_progress(), opened as (sound, form):
        take = Take(
            name=wish.name,
            rate_hz=form.rate_hz,
            n_channels=form.n_channels if wish.channel is None else 1,
            sample_format=form.sample_format,
            about={"microphone": wish.selector, "channel": str(wish.channel or "all"), "label": arguments.label},
        )
        folder.mkdir(parents=True, exist_ok=True)
        wanted_s = 60.0 * arguments.minutes
        with (
            _ended_by_signal() as ended,
            closing(Session(folder, take, clip_s=arguments.clip_seconds, wanted_s=wanted_s)) as session,
        ):
            if session.resumed_s:
                log.info("%s: goes on after %.1f of %g minutes", session.stem, session.resumed_s / 60, arguments.minutes)
            notes = _record(sound, form, session, channel=wish.channel, wanted_s=wanted_s, ended=ended)
    clips = "1 clip" if session.n_clips == 1 else f"{session.n_clips} clips"
    print(f"{folder}: {clips}, {session.done_s / 60:.1f} of {arguments.minutes:g} minutes; {notes.in_words()}")
    if not session.complete:
        print("the same command goes on from here")
        raise KeyboardInterrupt
    return 0


@dataclass(frozen=True)
class _Wish:
    name: str
    selector: str
    channel: int | None
    rate_hz: int | None


def _wish(arguments: argparse.Namespace, config: Config) -> _Wish:
    if arguments.machine is None:
        name = re.sub(r"[^a-z0-9]+", "-", arguments.microphone.lower()).strip("-")
        return _Wish(name or "microphone", arguments.microphone, arguments.channel, None)
    settings = config.machines[configured_machine(arguments.machine, config)]
    return _Wish(arguments.machine, settings.microphone, arguments.channel or settings.channel, settings.microphone_rate_hz)


@dataclass
class _Notes:
    """What went wrong, told when it happens and counted for the end."""

    n_gaps: int = 0
    seconds: Counter[str] = field(default_factory=Counter)
    _told_s: dict[str, float] = field(default_factory=dict)

    def update(self, frames: F32) -> str:
        """Warn of what is wrong with about a second of frames (n, n_channels); returns their level in words."""
        measured = levels(frames)
        for level in measured:
            if level.problem is not None:
                self.seconds[level.problem.partition(" (")[0]] += 1
                self._warn(f"channel {level.channel} is {level.problem}")
        loudest = max(measured, key=lambda level: level.rms_dbfs)
        return f"{loudest.rms_dbfs:.0f} dBFS, peak {max(level.peak_dbfs for level in measured):.0f}"

    def in_words(self) -> str:
        gaps = [f"{self.n_gaps} gap{'' if self.n_gaps == 1 else 's'}"] if self.n_gaps else []
        return ", ".join([*gaps, *(f"{n} s {problem}" for problem, n in self.seconds.items())]) or "nothing wrong with it"

    def _warn(self, text: str) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s.get(text, -math.inf) > REPEAT_S:
            self._told_s[text] = now_s
            log.warning("warning: %s", text)


def _record(
    sound: Told, form: RingFormat, session: Session, *, channel: int | None, wanted_s: float, ended: threading.Event
) -> _Notes:
    """Write what is heard until there is enough of it, or until told to end."""
    notes = _Notes()
    heard: list[F32] = []
    follows: int | None = None  # the frame that continues the clip
    with tqdm(
        total=round(wanted_s), initial=round(session.done_s), desc=session.stem, unit="s", disable=None, leave=False
    ) as bar:
        while not session.complete and not ended.wait(POLL_S):
            pieces = sound.poll()
            for piece in pieces:
                if follows is not None and (piece.begins or piece.frame != follows):
                    notes.n_gaps += 1
                    session.break_off()
                follows = piece.frame + piece.n_frames
                frames = to_float(piece.data, form)
                frames = frames if channel is None else frames[:, channel - 1 : channel]
                session.write(_to_int(frames))
                heard.append(frames)
            if sound.trouble is not None:
                session.break_off()
            if sum(map(len, heard)) >= LEVEL_EVERY_S * form.rate_hz:
                bar.set_postfix_str(notes.update(np.concatenate(heard)), refresh=False)
                heard = []
            bar.update(round(session.done_s) - bar.n)
    return notes


def _to_int(frames: F32) -> NDArray[np.int32]:
    """Full scale [-1, 1] as [-2^31, 2^31): exact for up to 24 bits, of which FLAC keeps no more."""
    return np.clip(np.rint(frames.astype(np.float64) * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int32)


@contextmanager
def _ended_by_signal() -> Iterator[threading.Event]:
    """An event set by ctrl-C, by SIGTERM, and by a terminal that is closed: the clip is brought to its end first."""
    ended = threading.Event()
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in numbers}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Sound as ticks for `monitor learn` and `monitor calibrate`: from recordings, or from the microphone."""

import argparse
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from monitor.audio.channel_reader import ChannelReader
from monitor.audio.recording import Recording
from monitor.block import Block
from monitor.bundle import Bundle
from monitor.cli.adapting.adaptation_input import Target
from monitor.cli.progress import logs_above_progress
from monitor.cli.recording.microphone_input import POLL_S, MicrophoneInput, open_microphone
from monitor.config import MachineConfig
from monitor.daemon.control.shared_microphone import find_shared, shared_microphones
from monitor.daemon.control.socket import ControlError
from monitor.errors import SourceError
from monitor.explain.profile import Profiler, SegmentProfile
from monitor.json_lines import to_json
from monitor.learning.report_text import duration
from monitor.learning.rescore import ProfiledTick, TickRun
from monitor.learning.stored.unfinished import UnfinishedSession
from monitor.scoring.features import FeatureExtractor, TickFrames
from monitor.scoring.scorer import ScorerSpec

log = logging.getLogger(__name__)
PROGRESS_EVERY_S = 1.0
EXTRA_S = 60.0  # extra time to wait for missing sound, beyond the requested duration
RESTART_S = 600.0  # the same for the service, whose microphone may come back late after a boot
REOPEN_S = 2.0


@dataclass
class Progress:
    """Passes on how far a recording is, once a second."""

    wanted_s: float
    resumed_s: float  # from before a restart
    microphone_problem: Callable[[], str | None]
    show: Callable[[dict[str, Any]], None] | None
    _at: float = 0.0

    def update(self, ticks: Sequence[TickFrames], done_s: float, *, waits: bool = False, is_end: bool = False) -> None:
        """`done_s` of sound are recorded since the restart. It `waits` while none arrives. At the end the bundle is computed."""
        if self.show is None or (time.monotonic() < self._at and not is_end):
            return
        self._at = time.monotonic() + PROGRESS_EVERY_S
        done_s = self.wanted_s if is_end else round(min(self.wanted_s, self.resumed_s + done_s), 1)
        lengths = {"done_s": done_s, "wanted_s": self.wanted_s, "resumed_s": round(self.resumed_s, 1)}
        problem = {"problem": self.microphone_problem()} if waits else {}
        self.show({"phase": "computing" if is_end else "recording", **lengths, **_input(ticks), **problem})


def collect_ticks(
    arguments: argparse.Namespace, target: Target, bundle: Bundle, unfinished: UnfinishedSession | None = None
) -> list[TickRun]:
    """Read sound into memory as ticks with frames and profiles: recordings, or the microphone for the given duration.

    Sound of an `unfinished` session counts, and new sound is added to it.
    """
    spec = bundle.manifest.scorer_spec
    channel = arguments.channel or (None if target.settings is None else target.settings.channel)
    with suppress(OSError):  # detection has priority, also when memory runs out
        os.nice(10)
        Path("/proc/self/oom_score_adj").write_text("500")
    if arguments.files:
        bar = tqdm(arguments.files, desc="reading", unit="file", disable=None, leave=False)
        return [_read_recording(path, spec, channel=channel) for path in bar]
    assert target.settings is not None
    with logs_above_progress():
        earlier = [] if unfinished is None else unfinished.read()
        progress = Progress(
            wanted_s=60.0 * arguments.minutes,
            resumed_s=sum(map(len, earlier)) * spec.tick_s,
            microphone_problem=partial(_microphone_problem, target.control, target.settings.microphone),
            show=_print_progress if arguments.progress else None,
        )
        if earlier:
            before = duration(progress.resumed_s / 3600)
            log.info("%s: continuing with %s of sound from before the restart", target.machine, before)
        new = _read_microphone(target, target.settings, spec, channel=channel, progress=progress, unfinished=unfinished)
        return [stream for stream in (*earlier, new) if stream]


class TickCollector:
    """Collects the ticks of a stream, each with a copy of its frames and, at the end of every segment, a profile."""

    def __init__(self, spec: ScorerSpec) -> None:
        self._extractor = FeatureExtractor(spec.front_end, tick_frames=spec.tick_frames)
        self._profiler = Profiler(spec.front_end, segment_ticks=spec.segment_ticks)
        self.step_samples = self._extractor.step_samples
        self.ticks: list[TickFrames] = []

    def push(self, block: Block) -> None:
        """Add a block."""
        for tick in self._extractor.push(block):
            profiles = self._profiler.push(tick)
            self.ticks.append(tick if tick.frames is None else replace(tick, samples=tick.samples[:0].copy()))
            self._attach(profiles)

    def end(self) -> list[TickFrames]:
        """Attach the remaining profiles and return all ticks."""
        self._attach(self._profiler.end())
        return self.ticks

    def _attach(self, profiles: Iterable[SegmentProfile]) -> None:
        for profile in profiles:
            self.ticks[-1] = ProfiledTick(**vars(self.ticks[-1]), profile=profile)


def _read_recording(path: Path, spec: ScorerSpec, *, channel: int | None) -> list[TickFrames]:
    collector = TickCollector(spec)
    recording = Recording(path, sample_rate_hz=spec.front_end.sample_rate_hz, channel=channel)
    for block in recording.blocks():
        collector.push(block)
    return collector.end()


def _read_microphone(
    target: Target,
    settings: MachineConfig,
    spec: ScorerSpec,
    *,
    channel: int | None,
    progress: Progress,
    unfinished: UnfinishedSession | None,
) -> list[TickFrames]:
    """Record like the service: its own stream if it is running, the same resampling and the same frames."""
    rate_hz = spec.front_end.sample_rate_hz
    collector = TickCollector(spec)
    reader = ChannelReader(channel=channel, sample_rate_hz=rate_hz)
    ticks = collector.ticks
    wanted_s = max(0.0, progress.wanted_s - progress.resumed_s)
    n_wanted = math.ceil(wanted_s * rate_hz / collector.step_samples)
    until_s = time.monotonic() + wanted_s + (EXTRA_S if unfinished is None else RESTART_S)
    bar = tqdm(total=round(wanted_s), desc=f"recording {target.machine}", unit="s", disable=None, leave=False)
    progress.update(ticks, 0.0)
    with ExitStack() as stack:
        if n_wanted:
            waits = unfinished is not None
            show = partial(progress.update, ticks, 0.0, waits=True)
            microphone = _open(stack, target, settings, channel=channel, until_s=until_s, waits=waits, show=show)
            reader.open(microphone.form)
        if unfinished is not None:
            stack.callback(lambda: unfinished.update(ticks, is_end=True))  # first of all, also when the service ends
        stack.enter_context(bar)
        while len(ticks) < n_wanted:
            time.sleep(POLL_S)
            reader.push(*microphone.poll())
            for block in reader.blocks():
                collector.push(block)
            if time.monotonic() > until_s:
                got_s = len(ticks) * collector.step_samples / rate_hz
                reason = microphone.trouble or "gaps"
                raise SourceError(f"microphone {settings.microphone}: got only {got_s:.0f} of {wanted_s:.0f} s: {reason}")
            if ticks:
                bar.set_postfix_str(_level(ticks[-1]), refresh=False)
            done_s = min(wanted_s, len(ticks) * collector.step_samples / rate_hz)
            bar.update(round(done_s) - bar.n)
            progress.update(ticks, done_s, waits=microphone.trouble is not None)
            if unfinished is not None:
                unfinished.update(ticks)
        collector.end()
    progress.update(ticks, wanted_s, is_end=True)
    return ticks


def _open(
    stack: ExitStack,
    target: Target,
    settings: MachineConfig,
    *,
    channel: int | None,
    until_s: float,
    waits: bool,
    show: Callable[[], None],
) -> MicrophoneInput:
    """Open the microphone. If it `waits`, a microphone that is not there yet is tried again until `until_s`, which is shown."""
    rate_hz = settings.microphone_rate_hz
    while True:
        try:
            opened = open_microphone(settings.microphone, target.control, purpose="measure", rate_hz=rate_hz, channel=channel)
            return stack.enter_context(opened)
        except SourceError:  # noqa: PERF203 (every two seconds)
            if not waits or time.monotonic() > until_s:
                raise
            show()
            time.sleep(REOPEN_S)


def _microphone_problem(control: Path, selector: str) -> str | None:
    """Why the service has no sound of a microphone, as a `reason` of its state; None if unknown."""
    try:
        shared = find_shared(shared_microphones(control), selector)
    except ControlError:
        return None
    return None if shared is None or shared.trouble is None else f"microphone_{shared.trouble.partition(':')[0]}"


def _input(ticks: Sequence[TickFrames]) -> dict[str, Any]:
    """Level and problem of the last tick, and how many ticks cannot be used."""
    if not ticks:
        return {"rms_dbfs": None, "problem": None, "n_unusable": 0, "n_ticks": 0}
    quality = ticks[-1].quality
    n_unusable = sum(tick.quality.reason is not None for tick in ticks)
    level = round(quality.rms_dbfs, 1)
    return {"rms_dbfs": level, "problem": quality.reason, "n_unusable": n_unusable, "n_ticks": len(ticks)}


def _print_progress(progress: dict[str, Any]) -> None:
    print(f"progress: {to_json(progress)}", flush=True)


def _level(tick: TickFrames) -> str:
    problem = "" if tick.quality.reason is None else f", {tick.quality.reason}"
    return f"{tick.quality.rms_dbfs:.0f} dBFS{problem}"

"""Helpers for `monitor learn` and `monitor calibrate`: find the machine, collect its sound as ticks, reload the service."""

import argparse
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from monitor.audio.channel_reader import ChannelReader
from monitor.audio.recording import Recording
from monitor.block import Block
from monitor.bundle import Bundle, load_bundle
from monitor.bundle.write import write_bundle
from monitor.cli.arguments import channel_number, configured_machine, within
from monitor.cli.progress import logs_above_progress
from monitor.cli.recording.microphone_input import POLL_S, open_microphone
from monitor.config import MachineConfig, load_config
from monitor.daemon.control.socket import NAME, request
from monitor.errors import SourceError, UsageError
from monitor.explain.profile import Profiler, SegmentProfile
from monitor.json_lines import to_json
from monitor.learning.on_device import AdaptedBundle
from monitor.learning.rescore import ProfiledTick, TickRun
from monitor.scoring.features import FeatureExtractor, TickFrames
from monitor.scoring.scorer import ScorerSpec

log = logging.getLogger(__name__)
IN_USE_WITHIN_S = 15.0
PROGRESS_EVERY_S = 1.0
EXTRA_S = 60.0  # extra time to wait for missing sound, beyond the requested duration


@dataclass(frozen=True)
class Target:
    """The machine to adapt, and its configured bundle."""

    machine: str | None  # None with `--model`
    settings: MachineConfig | None
    configured: Bundle
    state_dir: Path
    control: Path
    private: bool = False


def add_arguments(
    parser: argparse.ArgumentParser, *, minutes: float, min_minutes: float, max_minutes: float
) -> "argparse._MutuallyExclusiveGroup":
    """Add the options for the machine and its sound; return the group of mutually exclusive sound sources."""
    machine = parser.add_mutually_exclusive_group()
    machine.add_argument("--machine", metavar="ID", help="a configured machine (default: the only one)")
    machine.add_argument("--model", type=Path, metavar="DIR", help="a bundle instead of a machine, with --from and --out")
    sound = parser.add_mutually_exclusive_group()
    sound.add_argument(
        "--minutes",
        type=within(min_minutes, max_minutes),
        default=minutes,
        metavar="N",
        help=f"duration of sound, {min_minutes:g} to {max_minutes:g} (default: {minutes:g})",
    )
    sound.add_argument(
        "--from", dest="files", type=Path, nargs="+", metavar="FILE", help="recordings of the machine, instead of its microphone"
    )
    parser.add_argument(
        "--channel",
        type=channel_number,
        metavar="N",
        help="channel N, counted from 1 (default: the machine's, else the mean of all)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the bundle to DIR and do not change the service")
    # These two are used by the service.
    parser.add_argument("--end-with-stdin", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--progress", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--force", action="store_true", help="override checks that the sound matches the trained machine")
    return sound


def follow_service(arguments: argparse.Namespace) -> None:
    """Stop with the service, if it has started this command."""
    if arguments.end_with_stdin:
        threading.Thread(target=_exit_with_stdin, daemon=True).start()


def _exit_with_stdin() -> None:
    """Stop as if by ctrl-C when the process at the other end of stdin exits. It never writes."""
    try:
        os.read(sys.stdin.fileno(), 1)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)


def find_target(arguments: argparse.Namespace) -> Target:
    """Find the requested machine; otherwise UsageError, which lists the configured ones."""
    config = load_config(arguments.config, os.environ)
    control = config.runtime_dir / NAME
    if arguments.model is not None:
        if not arguments.files or arguments.out is None:
            raise UsageError("--model requires --from FILES and --out DIR, because it names no machine with a microphone")
        return Target(None, None, load_bundle(arguments.model), config.state_dir, control, config.private)
    name = configured_machine(arguments.machine, config)
    settings = config.machines[name]
    if arguments.out is None:
        _check_same_state_dir(config.state_dir, control)
    return Target(name, settings, load_bundle(settings.bundle), config.state_dir, control, config.private)


def collect_ticks(arguments: argparse.Namespace, target: Target, bundle: Bundle) -> list[TickRun]:
    """Read sound into memory as ticks with frames and profiles: recordings, or the microphone for the given duration."""
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
        wanted_s, show = 60.0 * arguments.minutes, _print_progress if arguments.progress else None
        return [_read_microphone(target, target.settings, spec, channel=channel, wanted_s=wanted_s, show=show)]


def take_into_use(target: Target, bundle_id: str) -> str:
    """Make the running service reload; return the result as text."""
    if request(target.control, {"do": "reload"}) is None:
        return "in use from the next start of the service"
    until_s = time.monotonic() + IN_USE_WITHIN_S
    while time.monotonic() < until_s:
        reply = request(target.control, {"do": "status"})
        machines = {} if reply is None else reply.body["machines"]
        if machines.get(target.machine, {}).get("bundle") == bundle_id:
            return "in use"
        if reply is not None and target.machine not in machines:
            return "in use once the machine is enabled"
        time.sleep(POLL_S)
    raise SourceError(f"the bundle was written, but the service does not use {bundle_id}; see its log (journalctl -u stethos)")


def write_out(folder: Path, made: AdaptedBundle) -> None:
    """Write a bundle for `--out` and print its messages."""
    write_bundle(folder, made.files, made.manifest)
    report(made, f"{folder}: {made.messages[-1]}")


def report(made: AdaptedBundle, last: str) -> None:
    """Print the messages. Call this after the bundle is written, so that a closed pipe cannot undo it."""
    print(*made.messages[:-1], last, sep="\n")


def _check_same_state_dir(state_dir: Path, control: Path) -> None:
    """UsageError if the running service uses another state directory, where it would not find the bundle.

    The service's answer is only compared. It may have been made up to have root write to another directory.
    """
    reply = request(control, {"do": "status"})
    used = state_dir if reply is None else Path(str(reply.body.get("state_dir", state_dir)))
    if used.resolve() != state_dir.resolve():
        raise UsageError(f"state_dir must be that of the running service, {used}, got {state_dir}; set it in the configuration")


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
    wanted_s: float,
    show: Callable[[dict[str, Any]], None] | None,
) -> list[TickFrames]:
    """Record like the service: its own stream if it is running, the same resampling and the same frames.

    `show` receives the progress once a second.
    """
    rate_hz = spec.front_end.sample_rate_hz
    collector = TickCollector(spec)
    reader = ChannelReader(channel=channel, sample_rate_hz=rate_hz)
    ticks = collector.ticks
    n_wanted = math.ceil(wanted_s * rate_hz / collector.step_samples)
    until_s = time.monotonic() + wanted_s + EXTRA_S
    opened = open_microphone(
        settings.microphone, target.control, purpose="measure", rate_hz=settings.microphone_rate_hz, channel=channel
    )
    show_at = 0.0
    bar = tqdm(total=round(wanted_s), desc=f"recording {target.machine}", unit="s", disable=None, leave=False)
    with opened as microphone, bar:
        reader.open(microphone.form)
        while len(ticks) < n_wanted:
            time.sleep(POLL_S)
            for sound in microphone.poll():
                reader.push(sound)
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
            if show is not None and time.monotonic() >= show_at:
                show_at = time.monotonic() + PROGRESS_EVERY_S
                show({"phase": "recording", "done_s": round(done_s, 1), "wanted_s": wanted_s, **_input(ticks)})
    if show is not None:
        show({"phase": "computing", "done_s": wanted_s, "wanted_s": wanted_s, **_input(ticks)})
    return collector.end()


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


def _level(tick: TickFrames) -> str:
    problem = "" if tick.quality.reason is None else f", {tick.quality.reason}"
    return f"{tick.quality.rms_dbfs:.0f} dBFS{problem}"

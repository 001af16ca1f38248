"""What `monitor learn` and `monitor calibrate` share: which machine, its sound as ticks in memory, and taking effect at once."""

import argparse
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from monitor.audio.channel_reader import ChannelReader
from monitor.audio.recording import Recording
from monitor.block import Block
from monitor.bundle import Bundle, load_bundle
from monitor.cli.arguments import channel_number, configured_machine, within
from monitor.cli.microphone_input import POLL_S, open_sound
from monitor.cli.progress import logs_above_progress
from monitor.config import Config, MachineConfig, load_config
from monitor.daemon.control import NAME, request
from monitor.errors import SourceError, UsageError
from monitor.explain.profile import Profiler, SegmentProfile
from monitor.learning.on_device import AdaptedBundle
from monitor.learning.rescore import ProfiledTick, TickRun
from monitor.scoring.features import FeatureExtractor, TickFrames
from monitor.scoring.scorer import ScorerSpec

log = logging.getLogger(__name__)
IN_USE_WITHIN_S = 15.0
PATIENCE_S = 60.0  # for sound that does not come, beside as long as was asked for


@dataclass(frozen=True)
class Target:
    """The machine that is taught, and the bundle that it is configured with."""

    machine: str | None  # None: no configured one, `--model`
    settings: MachineConfig | None
    configured: Bundle
    state_dir: Path
    control: Path
    private: bool = False


def add_arguments(
    parser: argparse.ArgumentParser, *, minutes: float, least: float, most: float
) -> "argparse._MutuallyExclusiveGroup":
    """Which machine, and where its sound comes from; returns the ways to say the latter, of which one may be given."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--machine", metavar="ID", help="a configured machine (default: the only one)")
    which.add_argument("--model", type=Path, metavar="DIR", help="a bundle instead, with --from and --out")
    sound = parser.add_mutually_exclusive_group()
    sound.add_argument(
        "--minutes",
        type=within(least, most),
        default=minutes,
        metavar="N",
        help=f"how long to listen, {least:g} to {most:g} ({minutes:g})",
    )
    sound.add_argument(
        "--from", dest="files", type=Path, nargs="+", metavar="FILE", help="recordings of the machine, instead of its microphone"
    )
    parser.add_argument(
        "--channel", type=channel_number, metavar="N", help="channel N, from 1 (default: the machine's, else all)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the bundle there and leave the service alone")
    parser.add_argument("--force", action="store_true", help="take sound that would be refused as strange all the same")
    return sound


def find_target(arguments: argparse.Namespace) -> Target:
    """The machine that is meant; UsageError names those that there are."""
    config = load_config(arguments.config, os.environ)
    control = config.runtime_dir / NAME
    if arguments.model is not None:
        if not arguments.files or arguments.out is None:
            raise UsageError("--model needs --from FILES and --out DIR: there is no machine whose microphone or service is meant")
        return Target(None, None, load_bundle(arguments.model), config.state_dir, control, config.private)
    name = configured_machine(arguments.machine, config)
    settings = config.machines[name]
    return Target(name, settings, load_bundle(settings.bundle), _state_dir(config, control), control, config.private)


def collect_ticks(arguments: argparse.Namespace, target: Target, bundle: Bundle) -> list[TickRun]:
    """The sound, as ticks of frames and portraits in memory: of recordings, or of the microphone for as long as was asked."""
    spec = bundle.manifest.scorer_spec
    channel = arguments.channel or (None if target.settings is None else target.settings.channel)
    with suppress(OSError):  # detection goes first
        os.nice(10)
    if arguments.files:
        bar = tqdm(arguments.files, desc="reading", unit="file", disable=None, leave=False)
        return [_recorded(path, spec, channel=channel) for path in bar]
    assert target.settings is not None
    with logs_above_progress():
        return [_live(target, target.settings, spec, channel=channel, wanted_s=60.0 * arguments.minutes)]


def take_into_use(target: Target, bundle_id: str) -> str:
    """Have the running service reload; returns what became of that, in words."""
    if request(target.control, {"do": "reload"}) is None:
        return "in use from the next start of the service on"
    until_s = time.monotonic() + IN_USE_WITHIN_S
    while time.monotonic() < until_s:
        reply = request(target.control, {"do": "status"})
        machines = {} if reply is None else reply.body["machines"]
        if machines.get(target.machine, {}).get("bundle") == bundle_id:
            return "in use"
        if reply is not None and target.machine not in machines:
            return "in use when the machine is enabled"
        time.sleep(POLL_S)
    raise SourceError(f"written, but the service has not taken {bundle_id} into use: see its log (journalctl -u stethos)")


def report(made: AdaptedBundle, last: str) -> None:
    """Tell people, once it is written: whoever stops reading must not undo it."""
    print(*made.said[:-1], last, sep="\n")


def _state_dir(config: Config, control: Path) -> Path:
    """Where the running service keeps its things, else where it would."""
    reply = request(control, {"do": "status"})
    return config.state_dir if reply is None else Path(reply.body.get("state_dir", config.state_dir))


def _recorded(path: Path, spec: ScorerSpec, *, channel: int | None) -> list[TickFrames]:
    ears = TickCollector(spec)
    recording = Recording(path, sample_rate_hz=spec.front_end.sample_rate_hz, channel=channel)
    for block in recording.blocks():
        ears.push(block)
    return ears.end()


def _live(target: Target, settings: MachineConfig, spec: ScorerSpec, *, channel: int | None, wanted_s: float) -> list[TickFrames]:
    """By the same way as the service's: the service's own ring where it runs, the same resampling, the same frames."""
    rate_hz = spec.front_end.sample_rate_hz
    ears = TickCollector(spec)
    tap = ChannelReader(channel=channel, sample_rate_hz=rate_hz)
    ticks = ears.ticks
    n_wanted = math.ceil(wanted_s * rate_hz / ears.step_samples)
    until_s = time.monotonic() + wanted_s + PATIENCE_S
    opened = open_sound(
        settings.microphone, target.control, purpose="measure", rate_hz=settings.microphone_rate_hz, channel=channel
    )
    bar = tqdm(total=round(wanted_s), desc=f"listening to {target.machine}", unit="s", disable=None, leave=False)
    with opened as (sound, form), bar:
        tap.open(form)
        while len(ticks) < n_wanted:
            time.sleep(POLL_S)
            for piece in sound.poll():
                tap.push(piece)
            for block in tap.blocks():
                ears.push(block)
            if time.monotonic() > until_s:
                heard_s = len(ticks) * ears.step_samples / rate_hz
                what = f"microphone {settings.microphone}"
                raise SourceError(f"{what}: gave {heard_s:.0f} of {wanted_s:.0f} s: {sound.trouble or 'gaps'}")
            if ticks:
                bar.set_postfix_str(_level(ticks[-1]), refresh=False)
            bar.update(round(min(wanted_s, len(ticks) * ears.step_samples / rate_hz)) - bar.n)
    return ears.end()


class TickCollector:
    """What is kept of a stream: its ticks, each with frames of its own, and a portrait with every segment's last."""

    def __init__(self, spec: ScorerSpec) -> None:
        self._ear = FeatureExtractor(spec.front_end, tick_frames=spec.tick_frames)
        self._portrayer = Profiler(spec.front_end, segment_ticks=spec.segment_ticks)
        self.step_samples = self._ear.step_samples
        self.ticks: list[TickFrames] = []

    def push(self, block: Block) -> None:
        """Take a block in."""
        for tick in self._ear.push(block):
            told = self._portrayer.push(tick)
            self.ticks.append(tick if tick.frames is None else replace(tick, samples=tick.samples[:0].copy()))
            self._attach(told)

    def end(self) -> list[TickFrames]:
        """All that was heard."""
        self._attach(self._portrayer.end())
        return self.ticks

    def _attach(self, portraits: Iterator[SegmentProfile]) -> None:
        for portrait in portraits:
            self.ticks[-1] = ProfiledTick(**vars(self.ticks[-1]), portrait=portrait)


def _level(tick: TickFrames) -> str:
    problem = "" if tick.quality.reason is None else f", {tick.quality.reason}"
    return f"{tick.quality.rms_dbfs:.0f} dBFS{problem}"

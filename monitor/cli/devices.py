"""`monitor devices`: list microphones with their selectors for the configuration, and measure their levels."""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from monitor.arrays import F32
from monitor.audio.capture_process import list_devices
from monitor.audio.devices import Device, device_to_json
from monitor.audio.pcm import to_float
from monitor.cli.arguments import selector, within
from monitor.cli.recording.level import FLOOR_DBFS, Level, levels
from monitor.cli.recording.microphone_input import POLL_S, MicrophoneInput, open_microphone
from monitor.config import Config, load_config
from monitor.daemon.control.shared_microphone import SharedMicrophone, shared_microphones
from monitor.daemon.control.socket import NAME, ControlError
from monitor.errors import SourceError

log = logging.getLogger(__name__)
BAR_DB = 90  # the bar starts at -90 dBFS
METER_EVERY_S, LINE_EVERY_S = 0.2, 1.0
NO_INPUT_S = 15.0
EPILOG = """\
Without --level, lists the microphones. The selector of each is the value of `microphone` in the configuration.

  monitor devices
  monitor devices --level usb:0d8c:0014 --seconds 10
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print one JSON object; with --level one JSON line a second")
    parser.add_argument(
        "--level",
        type=selector,
        metavar="SELECTOR",
        nargs="?",
        const="default",
        help="show the level of each channel of a microphone",
    )
    parser.add_argument(
        "--seconds", type=within(0.1, 604_800.0), metavar="N", help="stop --level after N seconds (default: at ctrl-C)"
    )


def run(arguments: argparse.Namespace) -> int:
    """List microphones, or measure levels."""
    config = load_config(arguments.config, os.environ)
    control = config.runtime_dir / NAME
    if arguments.level is not None:
        show_levels(arguments.level, control, seconds=arguments.seconds, as_json=arguments.json)
        return 0
    try:
        shared = shared_microphones(control)
    except ControlError as error:
        log.warning("warning: %s", error)
        shared = []
    devices = merge(list_devices(), shared)
    if arguments.json:
        print(
            json.dumps(
                {"devices": [_to_json(device, shared, config) for device in devices], "missing": _missing(shared)}, indent=2
            )
        )
        return 0
    for device in devices:
        print("\n".join(_in_words(_to_json(device, shared, config))))
    for item in _missing(shared):
        print(f"{item['selector']}: the service is waiting for it: {item['trouble']}")
    if not devices:
        raise SourceError("no microphone found; is one plugged in, and is this user in the group audio?")
    return 0


def merge(listed: Sequence[Device], shared: Sequence[SharedMicrophone]) -> list[Device]:
    """The devices that PortAudio lists, and those that it omits because the service has them open."""
    names = {device.name for device in listed}
    hidden = [one.device for one in shared if one.device is not None and one.device.name not in names]
    return [*listed, *hidden]


def _missing(shared: Sequence[SharedMicrophone]) -> list[dict[str, Any]]:
    return [{"selector": one.selector, "trouble": one.trouble} for one in shared if one.trouble is not None]


def _to_json(device: Device, shared: Sequence[SharedMicrophone], config: Config) -> dict[str, Any]:
    selectors = [one.selector for one in shared if one.device is not None and one.device.name == device.name]
    machines = [name for name, settings in config.machines.items() if settings.microphone in selectors]
    return {**device_to_json(device), "is_virtual": device.is_virtual, "held_as": selectors, "machines": machines}


def _in_words(device: Mapping[str, Any]) -> Iterator[str]:
    yield device["name"] + (" (default)" if device["is_default"] else "")
    yield f"    microphone: {_quoted(device['selector'])}"
    rates = ", ".join(map(str, device["rates_hz"])) or f"{device['default_rate_hz']}"
    channels = "1 channel" if device["n_channels"] == 1 else f"{device['n_channels']} channels"
    converts = "; converted in software, so all rates work" if device["is_virtual"] else ""
    yield f"    {channels}; {rates} Hz; {device['host_api']}{converts}"
    usb = device["usb"]
    if usb is not None:
        serial = f", serial number {usb['serial']}" if usb["serial"] else ""
        yield f"    USB {usb['vendor']}:{usb['product']}{serial}, in port {usb['port']} (usb-port:{usb['port']})"
    if device["held_as"]:
        machines = f" for {', '.join(device['machines'])}" if device["machines"] else ""
        yield f"    in use by the service as {', '.join(device['held_as'])}{machines}"


def _quoted(selector: str) -> str:
    """Quote a selector for YAML, which accepts JSON strings."""
    return json.dumps(selector, ensure_ascii=False)


@dataclass
class Heard:
    """The levels of a microphone over some time: for each part of it, those of the channels."""

    rate_hz: int
    levels: list[list[Level]] = field(default_factory=list)


def show_levels(selector: str, control: Path, *, seconds: float | None, as_json: bool = False) -> Heard:
    """Show levels for `seconds`, or until interrupted if None. SourceError if the microphone cannot be opened."""
    bars = sys.stderr.isatty() and not as_json
    until_s = float("inf") if seconds is None else time.monotonic() + seconds
    with open_microphone(selector, control, purpose="measure") as microphone, ExitStack() as stack:
        shown: list[tqdm[Any]] = []
        heard = Heard(microphone.form.rate_hz)
        for measured in _measure(microphone, selector, every_s=METER_EVERY_S if bars else LINE_EVERY_S, until_s=until_s):
            if seconds is not None:
                heard.levels.append(measured)
            if as_json:
                print(json.dumps({"channels": [level.as_json() for level in measured]}), flush=True)
            elif not bars:
                print("; ".join(f"{level.channel}: {_level_in_words(level)}" for level in measured), flush=True)
            else:
                shown = shown or [stack.enter_context(_bar(level.channel)) for level in measured]
                for bar, level in zip(shown, measured, strict=True):
                    bar.n = min(BAR_DB, max(0, round(BAR_DB + level.rms_dbfs)))
                    bar.set_postfix_str(_level_in_words(level))
        return heard


def _measure(microphone: MicrophoneInput, selector: str, *, every_s: float, until_s: float) -> Iterator[list[Level]]:
    frames: list[F32] = []
    last_s = time.monotonic()
    while time.monotonic() < until_s:
        frames += [to_float(sound.data, microphone.form) for sound in microphone.poll()]
        if sum(map(len, frames)) >= every_s * microphone.form.rate_hz:
            yield levels(np.concatenate(frames))
            frames, last_s = [], time.monotonic()
        elif time.monotonic() - last_s > NO_INPUT_S:
            raise SourceError(f"microphone {selector}: {microphone.trouble or 'no samples'}")
        time.sleep(POLL_S)


def _bar(channel: int) -> "tqdm[Any]":
    return tqdm(total=BAR_DB, desc=f"channel {channel}", position=channel - 1, bar_format="{desc} |{bar:40}|{postfix}")


def _level_in_words(level: Level) -> str:
    rms = "silent" if level.rms_dbfs <= FLOOR_DBFS else f"{level.rms_dbfs:.1f} dBFS"
    return f"{rms}, peak {level.peak_dbfs:.1f}" + (f", {level.problem}" if level.problem else "")

"""The microphone: which one, and whether its sound is fit for use."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from monitor.audio.capture_process import list_devices
from monitor.audio.devices import Device, find_device
from monitor.bundle.manifest import read_manifest
from monitor.cli.devices import merge, show_levels
from monitor.cli.recording.level import Level
from monitor.cli.setup.ask import Asker, read_line
from monitor.config.settings import SELECTOR, SELECTORS
from monitor.daemon.control.shared_microphone import shared_microphones
from monitor.errors import SourceError, StethosError, UsageError
from monitor.scoring.bandwidth import empty_bands

LISTEN_S = 5.0
AMIXER_S = 5.0
_CARD = re.compile(r"hw:(\d+),")
_GAIN_CONTROL = re.compile(r"'([^']*(?:auto gain|agc)[^']*)'", re.IGNORECASE)


def choose_microphone(asker: Asker, control: Path, *, bundle: Path, present: str | None, given: str | None) -> str:
    """The selector of the chosen microphone.

    SourceError if none was `given` or is `present` in the settings, and there is none or it cannot be opened, and nobody can be
    asked. The service waits for one that has been named.
    """
    while True:
        devices = _list(control)
        if not devices and given is None and present is None:
            if asker.yes:
                raise SourceError("no microphone found; is one plugged in?")
            print("  No microphone found. `monitor devices` lists them; a user needs the group audio.")
            answer = read_line("Plug one in and press Enter, or name one that comes later by its selector: ")
            given = answer if re.fullmatch(SELECTOR, answer) else None
            continue
        for number, device in enumerate(devices, start=1):
            print(f"  {number}  {device.name}  ({device.selector})")

        def check(answer: str, devices: Sequence[Device] = devices) -> str:
            if answer.isdecimal() and 1 <= int(answer) <= len(devices):
                return devices[int(answer) - 1].selector
            if not re.fullmatch(SELECTOR, answer):
                numbers = f"a number in 1..{len(devices)} or " if devices else ""
                raise UsageError(f"must be {numbers}{SELECTORS}, got {answer}")
            return answer

        default = _first(devices, present)
        selector = asker.text("microphone", "Microphone, by number or selector", default=default, given=given, check=check)
        try:
            problems = list(_problems(selector, devices, control, bundle))
        except SourceError as error:
            if asker.yes and given is None and present is None:
                raise
            problems = [str(error)]
        for problem in problems:
            print(f"  Warning: {problem}")
        if not problems:
            print("  Its level is fine.")
        if asker.yes or (given is not None and not problems):
            return selector
        answer = asker.choose("Go on (g), listen again (l) or choose another microphone (o)?", "lgo" if problems else "glo")
        if answer == "g":
            return selector
        given = selector if answer == "l" else None


def _list(control: Path) -> list[Device]:
    try:
        shared = shared_microphones(control)
    except StethosError:  # this user may not ask the service
        shared = []
    return merge(list_devices(), shared)


def _first(devices: Sequence[Device], present: str | None) -> str:
    """The selector to offer: the present one if it fits, else that of a USB microphone, else that of the default."""
    if present not in (None, "default"):
        return str(present)
    ordered = sorted(devices, key=lambda device: (device.usb is None, not device.is_default))
    return ordered[0].selector if ordered else "default"


def _problems(selector: str, devices: Sequence[Device], control: Path, bundle: Path) -> Iterator[str]:
    """Listen for some seconds."""
    print(f"  Listening for {LISTEN_S:.0f} s; the machine should run, as loud as it ever is:")
    heard = show_levels(selector, control, seconds=LISTEN_S)
    yield from level_problems(heard.levels)
    try:
        device = find_device(devices, selector)
    except SourceError:  # the service has it open, under another name
        yield from rate_problems(heard.rate_hz, bundle)
        return
    yield from rate_problems(heard.rate_hz if device.is_virtual else max((*device.rates_hz, heard.rate_hz)), bundle)
    if (card := _CARD.search(device.name)) is not None:
        yield from gain_control_problems(card[1])


def level_problems(heard: Sequence[Sequence[Level]]) -> Iterator[str]:
    """What is wrong with levels over some seconds, one sequence of channels a second; a line for each problem."""
    found = {levels[0].channel: _problem(levels) for levels in zip(*heard, strict=True)}
    if not found:
        yield "no sound arrived"
    heard_on = [channel for channel, problem in found.items() if not (problem or "").startswith("silent")]
    for channel, problem in found.items():
        if problem is not None and channel not in heard_on and heard_on:
            yield f"channel {channel} is silent; `channel: {heard_on[0]}` in the configuration uses only the other one"
        elif problem is not None:
            yield problem if len(found) == 1 else f"channel {channel}: {problem}"


def _problem(levels: Sequence[Level]) -> str | None:
    """What is wrong with the levels of a channel: clipped at any time, or silent or quiet all the time."""
    problems = [level.problem for level in levels]
    clipped = next((problem for problem in problems if problem and problem.startswith("clipped")), None)
    return clipped or (problems[-1] if all(problems) else None)


def rate_problems(rate_hz: int, bundle: Path) -> Iterator[str]:
    """Whether a sample rate leaves out what the bundle listens to."""
    try:
        front_end = read_manifest(bundle).front_end
    except StethosError:
        return  # reported when the configuration is checked
    if empty_bands(rate_hz, front_end):
        yield (
            f"its rate of {rate_hz} Hz is too low: sound above {rate_hz / 2_000:g} kHz is missing, and the bundle needs "
            f"{front_end.sample_rate_hz} Hz"
        )


def gain_control_problems(card: str) -> Iterator[str]:
    """Automatic gain controls of a sound card that are on, as far as ALSA's mixer shows them."""
    if shutil.which("amixer") is None:
        return
    try:
        command = ["amixer", "-c", card, "scontents"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=AMIXER_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    for control in done.stdout.split("Simple mixer control ")[1:]:
        name = _GAIN_CONTROL.match(control)
        if name is not None and "[on]" in control:
            yield (
                f"{name[1]} is on, so the level changes by itself; switch it off: "
                f"amixer -c {card} sset '{name[1]}' off && sudo alsactl store"
            )

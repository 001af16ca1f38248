"""The microphones that the service holds: what it says of them, and how it lends their sound to tools."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from monitor.audio.devices import Device, Unavailable, device_from_json, find_device
from monitor.audio.microphone import Microphone
from monitor.audio.ring import Ring
from monitor.daemon.control import ControlError, Reply, request
from monitor.errors import SourceError

Purpose = Literal["record", "measure"]  # what a tool wants sound for: to keep it, or figures of it


@dataclass(frozen=True)
class SharedMicrophone:
    """A microphone that the service has opened, or tries to open."""

    selector: str  # as configured
    device: Device | None  # None while it cannot be opened
    words: str | None  # device, rate, channels and format
    trouble: str | None  # why nothing is heard


def microphone_status(microphones: Iterable[Microphone]) -> Reply:
    """The service's answer to `microphones`."""
    return Reply({"microphones": [_to_json(microphone) for microphone in microphones]})


def lend(microphones: Iterable[Microphone], request: dict[str, Any], *, private: bool = False) -> Reply:
    """The service's answer to `ring`: the shared memory of the microphone that `request["microphone"]` names.

    Where it is `private`, not to a tool that would keep the sound.
    """
    selector = request.get("microphone")
    if private and request.get("for", "record") == "record":
        raise SourceError("no sound may be kept (private: true)")
    named = [microphone for microphone in microphones if microphone.selector == selector]
    running = [microphone.ring for microphone in named if microphone.ring is not None]
    if running:
        return Reply({}, (running[0].fd,))
    if not named:
        raise SourceError(f"no microphone is held as {str(selector)[:100]}")
    trouble = named[0].trouble
    raise SourceError(f"{named[0].selector}: {'is being opened' if trouble is None else trouble.detail}")


def shared_microphones(path: Path) -> list[SharedMicrophone]:
    """What the service at the control socket holds; nothing where none runs."""
    reply = request(path, {"do": "microphones"})
    return [] if reply is None else [_from_json(item) for item in reply.body["microphones"]]


def find_shared(held: Sequence[SharedMicrophone], selector: str) -> SharedMicrophone | None:
    """The one that a selector means, by the same words or by the device behind them."""
    for one in held:
        if one.selector == selector:
            return one
    devices = [one.device for one in held if one.device is not None and (selector != "default" or one.device.is_default)]
    try:
        found = find_device(devices, selector) if devices else None
    except Unavailable:
        return None
    return next((one for one in held if one.device is not None and one.device == found), None)


def open_shared(path: Path, selector: str, *, purpose: Purpose = "measure") -> Ring | None:
    """The ring of a microphone that the service holds, to be closed by the caller; None where no service runs."""
    reply = request(path, {"do": "ring", "microphone": selector, "for": purpose})
    if reply is None:
        return None
    if len(reply.fds) != 1:
        raise ControlError(f"{path}: must lend one ring, got {len(reply.fds)}")
    return Ring.attach(reply.fds[0])


def _to_json(microphone: Microphone) -> dict[str, Any]:
    device, trouble = microphone.opened, microphone.trouble
    counts = microphone.counts
    return {
        "selector": microphone.selector,
        "device": None if device is None else asdict(device),
        "words": microphone.device,
        "trouble": None if trouble is None else f"{trouble.reason}: {trouble.detail}",
        **asdict(counts),
    }


def _from_json(item: dict[str, Any]) -> SharedMicrophone:
    device = None if item["device"] is None else device_from_json(item["device"])
    return SharedMicrophone(item["selector"], device, item["words"], item["trouble"])

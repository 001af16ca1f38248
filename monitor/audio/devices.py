"""Which microphones there are, and which one a selector means. Imported by the capture process: standard library alone."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from monitor.errors import SourceError

Reason = Literal["absent", "busy", "denied", "frozen", "lost", "failed"]
ROOT = Path("/")  # of /sys and /dev; tests make one of their own
LIST_S = 15.0  # PortAudio opens every device to list them
FORMS = "default, name:TEXT, usb:VENDOR:PRODUCT[:SERIAL], usb-port:PATH, index:N"
_HARDWARE = re.compile(r" *\(?hw:(\d+),(\d+)\)?$")
_REASONS: dict[int | None, Reason] = {
    errno.EBUSY: "busy",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.ENOENT: "absent",
    errno.ENODEV: "absent",
    errno.ENXIO: "absent",
}


@dataclass(frozen=True)
class Usb:
    """A USB device's identity, as /sys has it."""

    vendor: str  # four hexadecimal digits
    product: str
    serial: str | None
    port: str  # the path of the socket it sits in, such as 1-1.2


@dataclass(frozen=True)
class Device:
    """A microphone as PortAudio lists it."""

    index: int  # changes with every plug and boot
    name: str
    host_api: str
    n_channels: int
    default_rate_hz: int
    rates_hz: tuple[int, ...]  # of the common ones; empty where they were not asked for
    is_default: bool
    usb: Usb | None
    selector: str  # the most stable one

    @property
    def plain_name(self) -> str:
        """The name without the card's number."""
        return _HARDWARE.sub("", self.name)

    @property
    def is_virtual(self) -> bool:
        """Whether ALSA or a sound server converts for it: it then claims every rate and many channels."""
        return _HARDWARE.search(self.name) is None


class Unavailable(SourceError):
    """A microphone cannot be had, and why."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason


def list_devices() -> list[Device]:
    """What PortAudio finds now, asked of a fresh process."""
    command = [sys.executable, "-m", "monitor.audio.capture", "--list"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIST_S, check=False)
        said = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"microphones: PortAudio must answer within {LIST_S:g} s, it did not") from error
    except ValueError as error:
        raise SourceError(f"microphones: the listing process failed with status {done.returncode}") from error
    if "trouble" in said:
        raise SourceError(f"microphones: {said['detail']}")
    return [device_from_json(item) for item in said["devices"]]


def device_from_json(item: dict[str, Any]) -> Device:
    """The inverse of `asdict`, through JSON."""
    usb = None if item["usb"] is None else Usb(**item["usb"])
    return Device(**{**item, "rates_hz": tuple(item["rates_hz"]), "usb": usb})


def identify(devices: Sequence[Device], *, root: Path = ROOT) -> list[Device]:
    """Devices with their USB identity and the selector that finds each again."""
    known = [replace(device, usb=_usb_of_card(card, root)) if (card := _card(device)) else device for device in devices]
    return [replace(device, selector=_stable_selector(device, known)) for device in known]


def find_device(devices: Sequence[Device], selector: str) -> Device:
    """The one device that a selector means; Unavailable names what is there."""
    kind, _, text = selector.partition(":")
    if kind == "default" and not text:
        found = [device for device in devices if device.is_default]
    elif kind == "name" and text:
        found = [device for device in devices if text.casefold() in device.plain_name.casefold()]
        found = [device for device in found if text.casefold() == device.plain_name.casefold()] or found
    elif kind in ("usb", "usb-port") and text:
        found = [device for device in devices if device.usb is not None and _is_usb(device.usb, kind, text)]
        found = found[:1] if len({_card(device) for device in found}) == 1 else found  # a card may have several inputs
    elif kind == "index" and text.isdecimal():
        found = [device for device in devices if device.index == int(text)]
    else:
        raise Unavailable("failed", f"microphone must be one of {FORMS}, got {selector}")
    there = ", ".join(f"{device.name} [{device.selector}]" for device in devices) or "none"
    if not found:
        raise Unavailable("absent", f"no microphone is {selector}; there: {there}")
    if len(found) > 1:
        raise Unavailable("failed", f"{selector} must mean one microphone, got {len(found)}; there: {there}")
    return found[0]


def why_missing(selector: str, *, root: Path = ROOT) -> Unavailable | None:
    """Why a sound card that is plugged in is not in PortAudio's list, which leaves out what it cannot open; None: unknown."""
    for card in _matching_cards(selector, root):
        for node in sorted((root / "dev/snd").glob(f"pcmC{card}D*c")):
            error = _opening_error(node)
            if error is not None:
                reason = _REASONS.get(error.errno, "failed")
                who = "; is this user in the group audio?" if reason == "denied" else ""
                return Unavailable(reason, f"{selector}: {node}: {error.strerror}{who}")
    return None


def is_unplugged(selector: str, *, root: Path = ROOT) -> bool:
    """Whether /sys alone says that the device is not there, for selectors by USB identity."""
    return selector.startswith(("usb:", "usb-port:")) and not any(_matching_cards(selector, root))


def _matching_cards(selector: str, root: Path) -> Iterator[str]:
    kind, _, text = selector.partition(":")
    for folder in sorted((root / "sys/class/sound").glob("card[0-9]*")):
        card = folder.name.removeprefix("card")
        usb = _usb_of_card(card, root)
        if kind in ("usb", "usb-port"):
            matches = usb is not None and _is_usb(usb, kind, text)
        elif kind == "name":
            names = (_read(folder / "id"), _read(folder / "device/../product"))
            matches = any(name and (text.casefold() in name.casefold() or name.casefold() in text.casefold()) for name in names)
        else:
            matches = True
        if matches:
            yield card


def _opening_error(node: Path) -> OSError | None:
    try:
        os.close(os.open(node, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        return error
    return None


def _is_usb(usb: Usb, kind: str, text: str) -> bool:
    if kind == "usb-port":
        return usb.port == text
    vendor, _, rest = text.partition(":")
    product, _, serial = rest.partition(":")
    return (usb.vendor, usb.product) == (vendor.lower(), product.lower()) and serial in ("", usb.serial)


def _card(device: Device) -> str | None:
    found = _HARDWARE.search(device.name)
    return found[1] if found else None


def _usb_of_card(card: str, root: Path) -> Usb | None:
    """Walk up from the card's device to the USB device that it is a part of."""
    place = (root / f"sys/class/sound/card{card}/device").resolve()
    while place != place.parent:
        vendor, product = _read(place / "idVendor"), _read(place / "idProduct")
        if vendor and product:
            return Usb(vendor.lower(), product.lower(), _read(place / "serial"), place.name)
        place = place.parent
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None


def _stable_selector(device: Device, among: Sequence[Device]) -> str:
    usb = device.usb
    if usb is None:
        alone = sum(device.plain_name.casefold() == other.plain_name.casefold() for other in among) == 1
        return f"name:{device.plain_name}" if alone else f"index:{device.index}"
    plain = f"usb:{usb.vendor}:{usb.product}"
    twins = [other.usb for other in among if other.usb and _is_usb(other.usb, "usb", f"{usb.vendor}:{usb.product}")]
    ports = {other.port for other in twins}
    if usb.serial and len({other.port for other in twins if other.serial == usb.serial}) == 1:
        return f"{plain}:{usb.serial}"
    return plain if len(ports) == 1 else f"usb-port:{usb.port}"

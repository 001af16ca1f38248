"""Microphones and their selectors. The capture process imports this module, so it loads little: a process costs memory."""

import errno
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from monitor.errors import SourceError

Reason = Literal["absent", "busy", "denied", "frozen", "lost", "failed"]
ROOT = Path("/")  # of /sys and /dev
SELECTORS = "default, name:TEXT, usb:VENDOR:PRODUCT[:SERIAL], usb-port:PATH, index:N"
_HARDWARE = re.compile(r" *\(?hw:(\d+),(\d+)\)?$")
_REASONS: dict[int | None, Reason] = {
    errno.EBUSY: "busy",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.ENOENT: "absent",
    errno.ENODEV: "absent",
    errno.ENXIO: "absent",
}


class Usb(NamedTuple):
    """The identity of a USB device, from /sys."""

    vendor: str  # four hexadecimal digits
    product: str
    serial: str | None
    port: str  # path of the USB port, such as 1-1.2


class Device(NamedTuple):
    """A microphone as PortAudio lists it."""

    index: int  # type: ignore[assignment]  # hides tuple.index; not stable across replugging and reboots
    name: str
    host_api: str
    n_channels: int
    default_rate_hz: int
    rates_hz: tuple[int, ...]  # the supported ones of COMMON_RATES_HZ; empty if not queried
    is_default: bool
    usb: Usb | None
    selector: str  # the most stable selector

    @property
    def plain_name(self) -> str:
        """The name without the card number."""
        return _HARDWARE.sub("", self.name)

    @property
    def is_virtual(self) -> bool:
        """Whether this is a converting ALSA device or a sound server; both claim to support every rate and many channels."""
        return _HARDWARE.search(self.name) is None


class Unavailable(SourceError):
    """A microphone cannot be used, for the given reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason


def device_to_json(device: Device) -> dict[str, Any]:
    """The device as JSON."""
    return {**device._asdict(), "usb": None if device.usb is None else device.usb._asdict()}


def device_from_json(item: dict[str, Any]) -> Device:
    """The inverse of `device_to_json`."""
    usb = None if item["usb"] is None else Usb(**item["usb"])
    return Device(**{**item, "rates_hz": tuple(item["rates_hz"]), "usb": usb})


def identify(devices: Sequence[Device], *, root: Path = ROOT) -> list[Device]:
    """Add the USB identity and the most stable selector to each device."""
    identified = [device._replace(usb=_usb_of_card(card, root)) if (card := _card(device)) else device for device in devices]
    return [device._replace(selector=_stable_selector(device, identified)) for device in identified]


def find_device(devices: Sequence[Device], selector: str) -> Device:
    """The one device that a selector matches; otherwise Unavailable, which lists those present. Callers add the selector."""
    kind, _, text = selector.partition(":")
    if kind == "default" and not text:
        found = [device for device in devices if device.is_default]
    elif kind == "name" and text:
        found = [device for device in devices if text.casefold() in device.plain_name.casefold()]
        found = [device for device in found if text.casefold() == device.plain_name.casefold()] or found
    elif kind in ("usb", "usb-port") and text:
        found = [device for device in devices if device.usb is not None and _is_usb(device.usb, kind, text)]
        found = (
            found[:1] if len({_card(device) for device in found}) == 1 else found
        )  # a card may have several inputs: take the first
    elif kind == "index" and text.isdecimal():
        found = [device for device in devices if device.index == int(text)]
    else:
        raise Unavailable("failed", f"microphone must be one of {SELECTORS}, got {selector}")
    present = ", ".join(f"{device.name} [{device.selector}]" for device in devices) or "none"
    if not found:
        raise Unavailable("absent", f"no such microphone; present: {present}")
    if len(found) > 1:
        raise Unavailable("failed", f"the selector must match one microphone, got {len(found)}; present: {present}")
    return found[0]


def why_missing(selector: str, *, root: Path = ROOT) -> Unavailable | None:
    """Why PortAudio does not list a plugged-in sound card: it omits cards that it cannot open. None if unknown."""
    for card in _matching_cards(selector, root):
        for node in sorted((root / "dev/snd").glob(f"pcmC{card}D*c")):
            error = _opening_error(node)
            if error is not None:
                reason = _REASONS.get(error.errno, "failed")
                hint = "; is this user in the group audio?" if reason == "denied" else ""
                return Unavailable(reason, f"{selector}: {node}: {error.strerror}{hint}")
    return None


def is_unplugged(selector: str, *, root: Path = ROOT) -> bool:
    """Whether /sys shows that the device is absent. False for selectors other than `usb:` and `usb-port:`."""
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
    """Walk up from the card's device to its USB device."""
    folder = (root / f"sys/class/sound/card{card}/device").resolve()
    while folder != folder.parent:
        vendor, product = _read(folder / "idVendor"), _read(folder / "idProduct")
        if vendor and product:
            return Usb(vendor.lower(), product.lower(), _read(folder / "serial"), folder.name)
        folder = folder.parent
    return None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip() or None
    except OSError:
        return None


def _stable_selector(device: Device, among: Sequence[Device]) -> str:
    usb = device.usb
    if usb is None:
        unique = sum(device.plain_name.casefold() == other.plain_name.casefold() for other in among) == 1
        return f"name:{device.plain_name}" if unique else f"index:{device.index}"
    plain = f"usb:{usb.vendor}:{usb.product}"
    twins = [other.usb for other in among if other.usb and _is_usb(other.usb, "usb", f"{usb.vendor}:{usb.product}")]
    ports = {other.port for other in twins}
    if usb.serial and len({other.port for other in twins if other.serial == usb.serial}) == 1:
        return f"{plain}:{usb.serial}"
    return plain if len(ports) == 1 else f"usb-port:{usb.port}"

"""The capture process: PortAudio on one device, and a callback that copies into a ring and returns.

`python -m monitor.audio.capture REQUEST` (JSON, see `Request`) fills the ring whose file descriptor it is given and says
on its output, one JSON line each, which device it opened or why it could not. It ends with its standard input, that is, with its
parent. `--list` says which devices there are. No NumPy here; whatever PortAudio does, the cure is to kill this process.
"""

import gc
import json
import os
import sys
import threading
import time
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from monitor.audio.devices import Device, Unavailable, find_device, identify, why_missing
from monitor.audio.ring import Ring, RingFormat

COMMON_RATES_HZ = (8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000)
VIRTUAL_RATE_HZ = 48_000  # what most devices behind a converting one do; the good resampler is ours
USUAL_CHANNELS = (1, 2, 4, 6, 8, 16, 32)
LATENCY_S = 0.2  # PortAudio's buffer: four periods of 50 ms, so 20 wake-ups a second and time for a busy computer
LOOK_S = 1.0  # how often a stream is asked whether it still runs
BUSY, NO_SUCH_DEVICE, NO_SUCH_RATE = -9985, -9996, -9997  # PortAudio's paDeviceUnavailable, paInvalidDevice, paInvalidSampleRate
NOT_OPENED = -9993  # its paBadIODeviceCombination, which stands for whatever else ALSA refuses with


_output = 1


class Request(NamedTuple):
    """What to capture, and where to."""

    selector: str
    wanted_rate_hz: int  # what the listener would like best
    rate_hz: int | None  # what it insists on
    n_channels: int  # at least, where the device converts (1: their mean); else all that it has
    sample_format: str
    ring_s: float
    ring_fd: int


def main(arguments: list[str]) -> None:
    """List, or capture until the device or the parent is gone."""
    _keep_output()
    try:
        if arguments == ["--list"]:
            _say({"devices": [asdict(device) for device in _devices(_portaudio(), with_rates=True)]})
        else:
            threading.Thread(target=_end_with_parent, daemon=True).start()
            _capture(Request(**json.loads(arguments[0])))
    except Unavailable as error:
        _say({"trouble": error.reason, "detail": str(error)})
    except Exception as error:  # whatever it is, the parent is to hear of it
        _say({"trouble": "failed", "detail": f"the capture process failed: {error!r}"})
        raise
    os._exit(0)  # PortAudio's own way out can hang


def _capture(request: Request) -> None:
    sd = _portaudio()
    try:
        device = find_device(_devices(sd, with_rates=False), request.selector)
    except Unavailable as error:
        raise (error.reason == "absent" and why_missing(request.selector)) or error from error
    n_channels = channels_of(device, request.n_channels)
    try:
        rate_hz = _choose_rate(sd, device, request, n_channels)
        form = RingFormat(rate_hz, n_channels, request.sample_format, round(request.ring_s * rate_hz))
        ring = Ring.create(form, fd=request.ring_fd)
        ended = threading.Event()

        def arrive(data: Any, n_frames: int, times: Any, status: Any) -> None:
            ring.write(memoryview(data), time_ns=time.monotonic_ns(), overrun=status.input_overflow)

        stream = sd.RawInputStream(
            device=device.index,
            channels=n_channels,
            samplerate=rate_hz,
            dtype=request.sample_format,
            blocksize=0,
            latency=LATENCY_S,
            callback=arrive,
            finished_callback=ended.set,
        )
        gc.disable()
        stream.start()
    except sd.PortAudioError as error:
        raise open_error_text(error, device, request.selector) from error
    _say({"device": asdict(device)})
    while not ended.wait(LOOK_S) and stream.active:
        pass
    raise Unavailable("lost", f"{device.name}: the stream ended")


def channels_of(device: Device, wanted: int) -> int:
    """How many channels to open: all of a real device. A sound server mixes what there is into as many as one asks for.

    There, two give both sides of stereo as they are, and one their mean; more than that are the server's to arrange.
    """
    if not device.is_virtual:
        return device.n_channels
    usual = next((n for n in USUAL_CHANNELS if n >= wanted), wanted)
    return min(usual, device.n_channels)


def _choose_rate(sd: Any, device: Device, request: Request, n_channels: int) -> int:
    """The first of the rates to try that the device takes; what it cannot do is resampled."""
    wanted_hz = max(VIRTUAL_RATE_HZ, request.wanted_rate_hz) if device.is_virtual else request.wanted_rate_hz
    for rate_hz in (request.rate_hz or wanted_hz, device.default_rate_hz, *reversed(COMMON_RATES_HZ)):
        if _takes(sd, device, rate_hz, n_channels, request.sample_format):
            return rate_hz
    raise Unavailable("failed", f"{device.name}: takes none of the rates {COMMON_RATES_HZ} with {n_channels} channels")


def _takes(sd: Any, device: Device, rate_hz: int, n_channels: int, sample_format: str) -> bool:
    try:
        sd.check_input_settings(device=device.index, channels=n_channels, samplerate=rate_hz, dtype=sample_format)
    except sd.PortAudioError as error:
        if error.args[1:2] == (NO_SUCH_RATE,):
            return False
        raise
    return True


def open_error_text(error: Exception, device: Device, selector: str) -> Unavailable:
    """What an error of PortAudio's (its text and code) means for a person."""
    text = " ".join(map(str, error.args)).replace("\n", " ")
    code = error.args[1] if len(error.args) > 1 else None
    if code == BUSY or "busy" in text.lower():
        return Unavailable("busy", f"{device.name}: another program uses it ({text})")
    if "permission" in text.lower():
        return Unavailable("denied", f"{device.name}: {text}")
    if code == NO_SUCH_DEVICE or "no such" in text.lower():
        return Unavailable("absent", f"{device.name}: {text}")
    if code == NOT_OPENED:
        text = f"is listed, but ALSA does not open it ({text})"
    return why_missing(selector) or Unavailable("failed", f"{device.name}: {text}")


def _devices(sd: Any, *, with_rates: bool) -> list[Device]:
    """Everything with an input."""
    hosts = sd.query_hostapis()
    default = next((host["default_input_device"] for host in hosts if host["default_input_device"] >= 0), None)
    devices = []
    for item in sd.query_devices():
        if item["max_input_channels"] > 0:
            device = Device(
                index=item["index"],
                name=item["name"],
                host_api=hosts[item["hostapi"]]["name"],
                n_channels=item["max_input_channels"],
                default_rate_hz=round(item["default_samplerate"]),
                rates_hz=(),
                is_default=item["index"] == default,
                usb=None,
                selector="",
            )
            devices.append(replace(device, rates_hz=_rates(sd, device)) if with_rates else device)
    return identify(devices)


def _rates(sd: Any, device: Device) -> tuple[int, ...]:
    n_channels = 1 if device.is_virtual else device.n_channels
    try:
        return tuple(rate_hz for rate_hz in COMMON_RATES_HZ if _takes(sd, device, rate_hz, n_channels, "int32"))
    except sd.PortAudioError:  # busy, say: it is listed nevertheless
        return ()


def _portaudio() -> Any:
    """Loads PortAudio, which lists the devices once and for all; ALSA's chatter is not ours."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        import sounddevice
    except OSError as error:
        raise Unavailable("failed", f"PortAudio cannot be loaded ({error}); on Debian: apt-get install libportaudio2") from error
    except Exception as error:  # a PortAudioError, which cannot be named before the import that raises it
        raise Unavailable("failed", f"PortAudio does not start: {error}") from error
    return sounddevice


def _end_with_parent() -> None:
    """Also when the main thread hangs in PortAudio."""
    while os.read(0, 1):
        pass
    os._exit(0)


def _keep_output() -> None:
    """What we say goes where output went; what a library prints there, nowhere."""
    global _output
    _output = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)


def _say(message: dict[str, Any]) -> None:
    os.write(_output, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])

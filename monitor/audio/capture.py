"""The capture process: PortAudio on one device, with a callback that only copies samples into a ring.

`python -m monitor.audio.capture` loads PortAudio, reads a request from standard input (a JSON line, see `Request`) and fills the
ring whose file descriptor it inherits. On standard output it prints a JSON line with the device that it opened or the reason for
its failure. It exits when its standard input closes, that is, when its parent exits. `--list` prints the devices. This module
does not import NumPy. If PortAudio hangs, the parent kills this process.
"""

import gc
import json
import os
import sys
import threading
import time
from queue import SimpleQueue
from typing import Any, NamedTuple

from monitor.audio.devices import Device, Unavailable, device_to_json, find_device, identify, is_unplugged, why_missing
from monitor.audio.ring import Ring, SoundFormat

COMMON_RATES_HZ = (8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000)
VIRTUAL_RATE_HZ = 48_000  # native rate of most devices behind a converting one, whose resampler is worse than ours
USUAL_CHANNELS = (1, 2, 4, 6, 8, 16, 32)
LATENCY_S = 0.4  # PortAudio's buffer: four periods of 100 ms, for 10 wake-ups a second and headroom on a busy computer
CHECK_S = 5.0  # how often the stream is checked; the parent misses samples earlier
BUSY, NO_SUCH_DEVICE, NO_SUCH_RATE = -9985, -9996, -9997  # PortAudio's paDeviceUnavailable, paInvalidDevice, paInvalidSampleRate
NOT_OPENED = -9993  # paBadIODeviceCombination, used for all other ALSA errors


_output = 1


class Request(NamedTuple):
    """The device and format to capture, and the ring to fill."""

    selector: str
    wanted_rate_hz: int  # preferred
    rate_hz: int | None  # required
    n_channels: int  # minimum for a converting device (1: the mean); real devices are opened with all their channels
    sample_format: str
    ring_s: float
    ring_fd: int


def main(arguments: list[str]) -> None:
    """List the devices, or capture until the device or the parent is gone."""
    redirect_output()
    try:
        if arguments == ["--list"]:
            send({"devices": [device_to_json(device) for device in _devices(_portaudio(), with_rates=True)]})
        else:
            requested = listen_to_parent()
            sd = _portaudio()
            is_old = requested.empty()  # PortAudio listed the devices before this request, perhaps long ago
            _capture(sd, requested.get(), lists_again=is_old)
    except Unavailable as error:
        send({"trouble": error.reason, "detail": str(error)})
    except Exception as error:  # the parent reports it
        send({"trouble": "failed", "detail": f"the capture process failed: {error!r}"})
        raise
    os._exit(0)  # a normal exit can hang in PortAudio


def _capture(sd: Any, request: Request, *, lists_again: bool) -> None:
    device = _find(sd, request.selector, lists_again=lists_again)
    n_channels = channels_of(device, request.n_channels)
    try:
        rate_hz = _choose_rate(sd, device, request, n_channels)
        form = SoundFormat(rate_hz, n_channels, request.sample_format)
        ring = Ring.create(form, round(request.ring_s * rate_hz), fd=request.ring_fd)
        ended = threading.Event()

        def on_samples(data: Any, n_frames: int, times: Any, status: Any) -> None:
            ring.write(memoryview(data), time_ns=time.monotonic_ns(), overrun=status.input_overflow)

        stream = sd.RawInputStream(
            device=device.index,
            channels=n_channels,
            samplerate=rate_hz,
            dtype=request.sample_format,
            blocksize=0,
            latency=LATENCY_S,
            callback=on_samples,
            finished_callback=ended.set,
        )
        gc.disable()
        stream.start()
    except sd.PortAudioError as error:
        raise open_error_text(error, device, request.selector) from error
    send({"device": device_to_json(device)})
    while not ended.wait(CHECK_S) and stream.active:
        pass
    raise Unavailable("lost", f"{device.name}: the stream ended")


def _find(sd: Any, selector: str, *, lists_again: bool) -> Device:
    """The device; with `lists_again`, one that is absent may have come since PortAudio listed the devices."""
    try:
        return find_device(_devices(sd, with_rates=False), selector)
    except Unavailable as error:
        if error.reason != "absent":
            raise
        if not lists_again or is_unplugged(selector):
            raise why_missing(selector) or error from error
    sd._terminate()
    sd._initialize()
    return _find(sd, selector, lists_again=False)


def channels_of(device: Device, wanted: int) -> int:
    """The number of channels to open. Real devices are opened with all their channels.

    A sound server mixes its device's channels into any number: two are left and right, one is their mean.
    """
    if not device.is_virtual:
        return device.n_channels
    usual = next((n for n in USUAL_CHANNELS if n >= wanted), wanted)
    return min(usual, device.n_channels)


def _choose_rate(sd: Any, device: Device, request: Request, n_channels: int) -> int:
    """The first supported rate, in order of preference. The readers resample from it."""
    wanted_hz = max(VIRTUAL_RATE_HZ, request.wanted_rate_hz) if device.is_virtual else request.wanted_rate_hz
    for rate_hz in (request.rate_hz or wanted_hz, device.default_rate_hz, *reversed(COMMON_RATES_HZ)):
        if _supports(sd, device, rate_hz, n_channels, request.sample_format):
            return rate_hz
    raise Unavailable("failed", f"{device.name}: supports none of the rates {COMMON_RATES_HZ} with {n_channels} channels")


def _supports(sd: Any, device: Device, rate_hz: int, n_channels: int, sample_format: str) -> bool:
    try:
        sd.check_input_settings(device=device.index, channels=n_channels, samplerate=rate_hz, dtype=sample_format)
    except sd.PortAudioError as error:
        if error.args[1:2] == (NO_SUCH_RATE,):
            return False
        raise
    return True


def open_error_text(error: Exception, device: Device, selector: str) -> Unavailable:
    """Convert a PortAudio error (text and code) to a reason and a one-line message."""
    text = " ".join(map(str, error.args)).replace("\n", " ")
    code = error.args[1] if len(error.args) > 1 else None
    if code == BUSY or "busy" in text.lower():
        return Unavailable("busy", f"{device.name}: in use by another program ({text})")
    if "permission" in text.lower():
        return Unavailable("denied", f"{device.name}: {text}")
    if code == NO_SUCH_DEVICE or "no such" in text.lower():
        return Unavailable("absent", f"{device.name}: {text}")
    if code == NOT_OPENED:
        text = f"is listed, but ALSA cannot open it ({text})"
    return why_missing(selector) or Unavailable("failed", f"{device.name}: {text}")


def _devices(sd: Any, *, with_rates: bool) -> list[Device]:
    """All devices with an input."""
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
            devices.append(device._replace(rates_hz=_rates(sd, device)) if with_rates else device)
    return identify(devices)


def _rates(sd: Any, device: Device) -> tuple[int, ...]:
    n_channels = 1 if device.is_virtual else device.n_channels
    try:
        return tuple(rate_hz for rate_hz in COMMON_RATES_HZ if _supports(sd, device, rate_hz, n_channels, "int32"))
    except sd.PortAudioError:  # for example, the device is busy; list it anyway
        return ()


def _portaudio() -> Any:
    """Load PortAudio, which enumerates the devices only when it is loaded. ALSA's messages on stderr are discarded."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        import sounddevice
    except OSError as error:
        raise Unavailable("failed", f"cannot load PortAudio ({error}); on Debian: apt-get install libportaudio2") from error
    except Exception as error:  # a PortAudioError, whose class is not imported yet
        raise Unavailable("failed", f"PortAudio failed to start: {error}") from error
    sounddevice._ffi = _Utf8(sounddevice._ffi)
    return sounddevice


class _Utf8:
    """sounddevice's cffi, whose strings are valid UTF-8. One name that is not would make every listing and opening fail."""

    def __init__(self, ffi: Any) -> None:
        self._ffi = ffi

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ffi, name)

    def string(self, cdata: Any, *length: int) -> bytes:
        """The string, with `\\xfc` for each byte that is not UTF-8."""
        text: bytes = self._ffi.string(cdata, *length)
        return text.decode(errors="backslashreplace").encode()


def listen_to_parent() -> SimpleQueue[Request]:
    """Exit when the parent does, from now on. The queue receives its request.

    A separate thread reads standard input, because the main thread may hang in PortAudio.
    """
    requested: SimpleQueue[Request] = SimpleQueue()

    def listen() -> None:
        try:
            with open(0, "rb", closefd=False) as lines:
                for line in lines:
                    requested.put(Request(**json.loads(line)))
        finally:
            os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    return requested


def redirect_output() -> None:
    """Reserve standard output for our messages, and discard the output of libraries."""
    global _output
    _output = os.dup(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)


def send(message: dict[str, Any]) -> None:
    """Send a message to the parent."""
    os.write(_output, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])

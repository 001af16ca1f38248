"""A capture process that plays recordings: it writes their samples into the ring at the pace of a microphone, over and over.

`python -m monitor.demo.playback PLAN`, PLAN being JSON, {selector: [file, …]}, takes the place of `monitor.audio.capture`, with
the same request and the same messages.
"""

import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from monitor.arrays import F32
from monitor.audio.capture import listen_to_parent, redirect_output, send
from monitor.audio.devices import Device, device_to_json
from monitor.audio.recording import Recording
from monitor.audio.ring import Ring, SoundFormat
from monitor.child_process import child_command
from monitor.errors import SourceError

PERIOD_S = 0.1  # like the capture process
FULL_SCALE = {"int16": (1 << 15, "<i2"), "int32": (1 << 31, "<i4")}


def playback_command(plan: Mapping[str, Sequence[Path]]) -> list[str]:
    """The command that captures recordings instead of devices, by selector."""
    return child_command(
        "monitor.demo.playback", json.dumps({selector: list(map(str, files)) for selector, files in plan.items()})
    )


def main(arguments: list[str]) -> None:
    """Play until the parent exits."""
    redirect_output()
    request = listen_to_parent().get()
    files = [Path(name) for name in json.loads(arguments[0])[request.selector]]
    rate_hz = request.rate_hz or request.wanted_rate_hz
    try:
        ring = Ring.create(SoundFormat(rate_hz, 1, request.sample_format), round(request.ring_s * rate_hz), fd=request.ring_fd)
        periods = _periods(files, rate_hz)
        first = next(periods)
        send({"device": device_to_json(_device(files, rate_hz, request.selector))})
        _play(ring, itertools.chain([first], periods))
    except SourceError as error:
        send({"trouble": "failed", "detail": str(error)})


def _play(ring: Ring, periods: Iterator[F32]) -> None:
    """Write each period when its last sample would have arrived. A busy computer delays sound, but none is lost."""
    scale, dtype = FULL_SCALE[ring.format.sample_format]
    started_ns, n_frames = time.monotonic_ns(), 0
    for samples in periods:
        n_frames += len(samples)
        due_ns = started_ns + n_frames * 1_000_000_000 // ring.format.rate_hz
        time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        data = np.clip(np.rint(samples.astype(np.float64) * scale), -scale, scale - 1).astype(dtype).tobytes()
        ring.write(memoryview(data), time_ns=due_ns)


def _periods(files: Sequence[Path], rate_hz: int) -> Iterator[F32]:
    """The samples of all recordings, endlessly, in pieces of at most one period."""
    n = round(PERIOD_S * rate_hz)
    for path in itertools.cycle(files):
        for block in Recording(path, sample_rate_hz=rate_hz).blocks():
            for at in range(0, len(block.samples), n):
                yield block.samples[at : at + n]


def _device(files: Sequence[Path], rate_hz: int, selector: str) -> Device:
    name = f"{selector.partition(':')[2]}: {', '.join(path.name for path in files)}"  # so that the selector matches it
    return Device(
        index=0,
        name=name,
        host_api="demo",
        n_channels=1,
        default_rate_hz=rate_hz,
        rates_hz=(rate_hz,),
        is_default=True,
        usb=None,
        selector=selector,
    )


if __name__ == "__main__":
    main(sys.argv[1:])

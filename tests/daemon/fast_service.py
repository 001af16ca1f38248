"""The service with a microphone whose time runs fast: `python -m tests.daemon.fast_service …`, with the arguments of `monitor`.

Its capture process plays the recording that the file FAST_SOUND names, over and over, SPEED times as fast as it was recorded.
The file may name another one at any time. All else is the service's own.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from monitor.audio.capture import Request, listen_to_parent, redirect_output, send
from monitor.audio.capture_process import CaptureLauncher
from monitor.audio.devices import Device, device_to_json
from monitor.audio.ring import Ring, SoundFormat
from monitor.child_process import child_command
from monitor.cli.commands import parse
from monitor.daemon.daemon import run_daemon

SPEED = 12
PERIOD_S = 0.05
NAMED = "FAST_SOUND"


def play(request: Request) -> None:
    """Write the samples until the parent exits."""
    rate_hz = request.rate_hz or request.wanted_rate_hz
    ring = Ring.create(SoundFormat(rate_hz, 1, request.sample_format), round(request.ring_s * rate_hz), fd=request.ring_fd)
    device = Device(0, request.selector.partition(":")[2], "fast", 1, rate_hz, (rate_hz,), True, None, request.selector)
    send({"device": device_to_json(device)})
    began = time.monotonic()
    for n_periods, part in enumerate(parts(round(SPEED * PERIOD_S * rate_hz), request.sample_format), start=1):
        time.sleep(max(0.0, began + n_periods * PERIOD_S - time.monotonic()))
        ring.write(memoryview(part.tobytes()), time_ns=time.monotonic_ns())


def parts(n: int, sample_format: str) -> Iterator[NDArray[np.generic]]:
    """The samples (n,) of each period."""
    name, samples, at = "", np.zeros(1), 0
    while True:
        if (wanted := Path(os.environ[NAMED]).read_text()) != name:
            name, at = wanted, 0
            samples, _ = soundfile.read(name, dtype=sample_format)
        yield np.take(samples, np.arange(at, at + n), mode="wrap")
        at = (at + n) % len(samples)


if __name__ == "__main__":
    if sys.argv[1] == "--play":
        redirect_output()
        play(listen_to_parent().get())
    else:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
        launcher = CaptureLauncher(child_command("tests.daemon.fast_service", "--play"))
        sys.exit(run_daemon(parse(sys.argv[1:]).config, os.environ, launcher))

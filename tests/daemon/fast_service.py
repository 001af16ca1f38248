"""The service with a microphone whose time runs fast: `python -m tests.daemon.fast_service …`, with the arguments of `monitor`.

Its capture process plays the recording that the file FAST_SOUND names, over and over, SPEED times as fast as it was recorded.
The file may name another one at any time. All else is the service's own.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from monitor.audio.capture import Request, exit_with_parent, redirect_output, send
from monitor.audio.devices import Device
from monitor.audio.ring import Ring, SoundFormat
from monitor.child_process import child_command
from monitor.cli.commands import parse
from monitor.daemon.daemon import run_daemon

SPEED = 12
PERIOD_S = 0.05
NAMED = "FAST_SOUND"


def play(request: Request) -> None:
    """Write the samples until the parent exits."""
    threading.Thread(target=exit_with_parent, daemon=True).start()
    rate_hz = request.rate_hz or request.wanted_rate_hz
    ring = Ring.create(SoundFormat(rate_hz, 1, request.sample_format), round(request.ring_s * rate_hz), fd=request.ring_fd)
    device = Device(0, request.selector.partition(":")[2], "fast", 1, rate_hz, (rate_hz,), True, None, request.selector)
    send({"device": asdict(device)})
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


def command(request: Request) -> list[str]:
    """The command of a capture process."""
    return child_command("tests.daemon.fast_service", "--play", json.dumps(request._asdict()))


if __name__ == "__main__":
    if sys.argv[1] == "--play":
        redirect_output()
        play(Request(**json.loads(sys.argv[2])))
    else:
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
        sys.exit(run_daemon(parse(sys.argv[1:]).config, os.environ, command))

"""The child of `live.pcm`: sound of one of the service's microphones to stdout, 16 kHz, mono, int16, after one line of JSON.

Arguments: the control socket, the microphone's selector, and the channel (0: the mean of all).
"""

import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np

from monitor.arrays import F32
from monitor.audio.pcm import mono
from monitor.audio.resample import Resampler
from monitor.daemon.control.shared_microphone import SoundStream, open_shared
from monitor.daemon.control.socket import REFUSED
from monitor.errors import StethosError
from monitor.json_lines import to_json

RATE_HZ = 16_000
POLL_S = 0.03


def main(socket: str, selector: str, channel: str) -> None:
    """Write sound until the microphone, the service or the reader goes away."""
    out = sys.stdout.buffer
    try:
        stream = open_shared(Path(socket), selector, purpose="listen")
        if stream is None:
            raise StethosError("the service does not run")
        if int(channel) > stream.form.n_channels:
            raise StethosError(f"the microphone has {stream.form.n_channels} channels, the machine needs {channel}")
    except StethosError as error:
        out.write(to_json({"error": str(error).removeprefix(REFUSED)}).encode() + b"\n")
        return
    try:
        out.write(b"{}\n")
        out.flush()
        _copy(stream, out, int(channel) or None)
    except BrokenPipeError:
        os._exit(1)  # a flush at the end would fail, too


def _copy(stream: SoundStream, out: BinaryIO, channel: int | None) -> None:
    resampler = Resampler(from_hz=stream.form.rate_hz, to_hz=RATE_HZ)
    next_frame, parent = None, os.getppid()
    while not stream.ended and os.getppid() == parent:
        for sound in stream.read():
            if sound.begins or next_frame not in (None, sound.frame):  # a gap: what follows has nothing to do with it
                resampler = Resampler(from_hz=stream.form.rate_hz, to_hz=RATE_HZ)
            next_frame = sound.frame + sound.n_frames
            for block in resampler.push(mono(sound.data, stream.form, channel)):
                out.write(_to_int16(block.samples))
        out.flush()
        time.sleep(POLL_S)


def _to_int16(samples: F32) -> bytes:
    return bytes(np.clip(np.rint(samples * 32_767), -32_768, 32_767).astype("<i2").tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])

"""An independent recorder on the virtual microphone, to find out when sound was really played. It shares no code with ours."""

import os
import subprocess
import threading
import time

import numpy as np

from monitor.arrays import F64
from monitor.audio.gaps import UnbrokenSound
from monitor.daemon.control.shared_microphone import SoundStream
from tests.rig import VirtualMicrophone

RATE_HZ = 16000
LATENCY_MS = 10  # maximum delay in parec: a sample may have been played this much earlier than reported
COMPARED_S = 5.0


class Ear:
    """A running parec whose output is timestamped as it arrives."""

    def __init__(self, microphone: VirtualMicrophone, *, rate_hz: int = RATE_HZ) -> None:
        self._rate_hz = rate_hz
        command = ["parec", "--device=machine.monitor", f"--rate={rate_hz}", "--channels=1", "--format=s16le", "--raw"]
        self._process = subprocess.Popen(
            [*command, f"--latency-msec={LATENCY_MS}"], env={**os.environ, **microphone.environment}, stdout=subprocess.PIPE
        )
        self._heard = bytearray()
        self._origin_s = float("inf")  # wall-clock time of its first sample, from the chunk with the least delay
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        while data := os.read(self._process.stdout.fileno(), 65536):
            self._heard += data
            self._origin_s = min(self._origin_s, time.time() - len(self._heard) / 2 / self._rate_hz)

    def played_at(self, stream: SoundStream) -> float:
        """The wall-clock time at which frame 0 of a capture at its rate was played.

        It is found by comparing the next seconds of both recordings.
        """
        sounds: list[UnbrokenSound] = []
        while sum(sound.n_frames for sound in sounds) < COMPARED_S * self._rate_hz:
            time.sleep(0.1)
            sounds += stream.read()
        data = b"".join(sound.data for sound in sounds)
        theirs = np.frombuffer(data, "<i4").reshape(-1, stream.form.n_channels).mean(axis=1)[-round(COMPARED_S * self._rate_hz) :]
        ours = np.frombuffer(bytes(self._heard[: len(self._heard) // 2 * 2]), "<i2").astype(np.float64)
        first = max(0, len(ours) - 3 * len(theirs))
        at = first + _where(ours[first:], theirs)
        frame = sounds[-1].frame + sounds[-1].n_frames - len(theirs)
        return self._origin_s + (at - frame) / self._rate_hz

    def close(self) -> None:
        """Stop recording."""
        self._process.kill()
        self._process.wait()


def _where(heard: F64, part: F64) -> int:
    """The position of the part in the recording."""
    n = 1 << (len(heard) + len(part)).bit_length()
    products = np.fft.irfft(np.fft.rfft(heard, n) * np.conj(np.fft.rfft(part, n)), n)
    return int(np.argmax(products[: len(heard) - len(part)]))

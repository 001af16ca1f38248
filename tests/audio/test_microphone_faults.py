"""Unexpected errors in a microphone are counted and reported as trouble."""

import time
from unittest.mock import Mock

import pytest

from monitor.audio.devices import Device
from monitor.audio.microphone import Microphone
from monitor.audio.ring import Ring, SoundFormat


class _Process:
    """A capture process that has opened its device and ends at once."""

    pid = 1

    def opened(self) -> None:
        """Nothing new."""

    def kill(self) -> None:
        """It has ended."""

    def is_gone(self) -> bool:
        return True

    def wait(self, timeout_s: float) -> None:
        """It has ended."""


def test_a_reader_that_fails_on_the_sound_held_back_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    microphone = Microphone("name:mic", wanted_rate_hz=16_000)
    reader = microphone.add_reader(channel=None, sample_rate_hz=16_000)
    ring = Ring.create(SoundFormat(16_000, 1, "int32"), 16_000)
    monkeypatch.setattr(microphone, "_process", _Process())
    microphone._open(Device(0, "mic", "ALSA", 1, 16_000, (), True, None, ""), ring)
    monkeypatch.setattr(reader, "push", Mock(side_effect=MemoryError("resampler")))
    began_ns = time.monotonic_ns()
    for n, overrun in enumerate([False] * 12 + [True]):  # 0.6 s of sound, and a chunk that is held back
        ring.write(memoryview(bytes(800 * 4)), time_ns=began_ns + n * 50_000_000, overrun=overrun)
    microphone.poll()
    assert microphone.counts.faults == 2
    assert microphone.trouble is not None
    assert "resampler" in microphone.trouble.detail
    assert (microphone.ring, microphone.pid) == (None, None)
    microphone.close()

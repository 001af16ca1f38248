"""A capture process whose beginnings go wrong."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from monitor.audio.capture import Request, channels_of
from monitor.audio.capture_process import CaptureProcess
from monitor.audio.devices import Device, Unavailable
from monitor.audio.microphone import Microphone
from monitor.audio.ring import Ring, RingFormat
from tests.rig import virtual_microphone

REQUEST = Request("name:x", 16000, None, 1, "int32", 1.0, -1)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_an_attempt_that_cannot_start_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    before = descriptors()
    for _ in range(5):
        with pytest.raises(OSError, match="nowhere"):
            CaptureProcess(REQUEST)
    assert descriptors() == before


def test_what_is_no_message_is_a_failure_and_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chatty = tmp_path / "chatty"
    chatty.write_text("#!/bin/sh\necho I am a library\nsleep 5\n")
    chatty.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(chatty))
    process = CaptureProcess(REQUEST)
    try:
        with pytest.raises(Unavailable, match="the capture process said b'I am a library'"):
            for _ in range(500):
                process.opened()
                time.sleep(0.01)
    finally:
        process.kill()
        process.wait(5.0)


def test_what_libraries_print_is_no_message() -> None:
    code = "from monitor.audio import capture; capture._keep_output(); print('chatter', flush=True); capture._say({'device': 1})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == '{"device": 1}\n'


def test_whoever_borrows_a_ring_cannot_change_its_size() -> None:
    ring = Ring.create(RingFormat(16000, 1, "int16", 1600))
    with pytest.raises(PermissionError):
        os.ftruncate(ring.fd, 0)
    ring.close()


@pytest.mark.parametrize(("n_channels", "wanted", "opened"), [(32, 1, 1), (32, 2, 2), (32, 3, 4), (32, 7, 8), (2, 7, 2)])
def test_a_sound_server_is_asked_for_a_usual_number_of_channels(n_channels: int, wanted: int, opened: int) -> None:
    pulse = Device(0, "pulse", "ALSA", n_channels, 48000, (), False, None, "name:pulse")
    assert pulse.is_virtual
    assert channels_of(pulse, wanted) == opened


def test_one_side_of_stereo_is_that_side_whoever_else_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import soundfile

    left = 0.1 * np.sin(2 * np.pi * 440 * np.arange(48000 * 20) / 48000)
    soundfile.write(tmp_path / "left.wav", np.stack((left, 0 * left), axis=1), 48000)
    with virtual_microphone(tmp_path / "audio", channels=2) as rig:
        for name, value in rig.environment.items():
            monkeypatch.setenv(name, value)
        microphone = Microphone("name:mic", wanted_rate_hz=16000)
        first = microphone.tap(channel=1, sample_rate_hz=16000)
        rig.play(tmp_path / "left.wav")
        try:
            alone = _level(microphone, first)
            second = microphone.tap(channel=2, sample_rate_hz=16000)
            assert _level(microphone, first) == pytest.approx(alone, rel=0.02)
            assert microphone.counts.restarts == 0
            assert alone == pytest.approx(0.1 / np.sqrt(2), rel=0.05)
            assert _level(microphone, second) < 0.001
        finally:
            microphone.close()


def _level(microphone: Microphone, tap: object) -> float:
    """RMS of the tap's next second of sound."""
    from monitor.audio.channel_reader import ChannelReader

    assert isinstance(tap, ChannelReader)
    heard: list[np.ndarray] = []
    deadline = time.monotonic() + 20
    skipped = 0
    while sum(map(len, heard)) < 16000 and time.monotonic() < deadline:
        microphone.poll()
        for block in tap.blocks():
            skipped += len(block.samples)
            if skipped > 32000:  # playing has begun by now
                heard.append(block.samples)
        time.sleep(0.05)
    return float(np.sqrt(np.mean(np.concatenate(heard) ** 2)))

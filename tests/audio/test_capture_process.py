"""Capture processes that fail to start, and the number of channels that they open."""

import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from monitor.audio.capture import Request, channels_of
from monitor.audio.capture_process import CaptureLauncher, CaptureProcess
from monitor.audio.channel_reader import ChannelReader
from monitor.audio.devices import Device, Unavailable
from monitor.audio.microphone import Microphone
from monitor.audio.ring import Ring, SoundFormat
from tests.rig import VirtualMicrophone, virtual_microphone
from tests.waiting import wait_until

REQUEST = Request("name:x", 16000, None, 1, "int32", 1.0, -1)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_process_that_cannot_start_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    before = descriptors()
    for _ in range(5):
        with pytest.raises(OSError, match="nowhere"):
            CaptureProcess()
    assert descriptors() == before


def test_the_process_launched_ahead_is_the_first_one_if_it_still_runs() -> None:
    waiting = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    launcher, ended = CaptureLauncher(waiting, ahead=True), CaptureLauncher([sys.executable, "-c", ""], ahead=True)
    children = {child.pid for child in psutil.Process().children()}
    wait_until(lambda: any(child.status() == psutil.STATUS_ZOMBIE for child in psutil.Process().children()))
    before = descriptors()
    first, second, other = launcher(), launcher(), ended()
    assert first.pid in children
    assert second.pid not in children
    assert other.pid not in children
    for process in (first, second, other):
        process.kill()
        process.wait(5.0)
    unused = CaptureLauncher(waiting, ahead=True)
    unused.discard()
    unused.close()
    assert psutil.Process().children() == []
    del first, second, other
    assert descriptors() == before - 2 * 3  # a ring and two pipes of the first, and of the one that had ended


def test_a_process_that_cannot_be_launched_ahead_is_an_error_of_its_microphone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    launcher = CaptureLauncher(ahead=True)
    with closing(Microphone("name:x", wanted_rate_hz=16000, launch=launcher)) as microphone:
        microphone.poll()
        assert microphone.trouble is not None
        assert microphone.trouble.detail.startswith("cannot start the capture process: ")
    launcher.close()


def test_a_device_that_came_after_the_process_was_launched_ahead_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = VirtualMicrophone(tmp_path)
    for name, value in rig.environment.items():
        monkeypatch.setenv(name, value)
    launcher = CaptureLauncher(ahead=True)
    (child,) = psutil.Process().children()
    wait_until(lambda: _waits_for_request(child), within_s=30.0, what="PortAudio loaded")
    with closing(rig):
        rig.start()
        with closing(Microphone("name:mic", wanted_rate_hz=16000, launch=launcher)) as microphone:

            def is_open() -> bool:
                microphone.poll()
                return microphone.opened is not None

            wait_until(is_open)
            assert microphone.pid == child.pid
            assert microphone.counts.restarts == 0


def _waits_for_request(process: psutil.Process) -> bool:
    """Whether a capture process has loaded PortAudio and does nothing more."""
    before = process.cpu_times()
    time.sleep(0.5)
    return "libportaudio" in Path(f"/proc/{process.pid}/maps").read_text() and process.cpu_times() == before


def test_output_that_is_no_message_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chatty = tmp_path / "chatty"
    chatty.write_text("#!/bin/sh\necho I am a library\nsleep 5\n")
    chatty.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(chatty))
    process = CaptureProcess()
    try:
        with pytest.raises(Unavailable, match="unexpected output of the capture process: b'I am a library'"):
            wait_until(process.opened)
    finally:
        process.kill()
        process.wait(5.0)


def test_an_unexpected_error_is_logged_once_counted_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Here by a message that a capture process of this version does not send."""
    strange = tmp_path / "strange"
    strange.write_text("#!/bin/sh\necho '{\"device\": 5}'\nsleep 5\n")
    strange.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(strange))
    with closing(Microphone("name:x", wanted_rate_hz=16000)) as microphone:

        def is_repeated() -> bool:
            microphone.poll()
            return microphone.counts.faults >= 2

        wait_until(is_repeated)
        assert microphone.trouble is not None
        assert microphone.trouble.reason == "failed"
        assert microphone.trouble.detail.startswith("unexpected error: TypeError(")
        n_polls = microphone.advanced()
        microphone.poll()
        assert microphone.advanced() == n_polls + 1
    assert caplog.messages.count("microphone name:x: unexpected error") == 1


def test_output_of_libraries_is_discarded() -> None:
    code = (
        "from monitor.audio import capture; capture.redirect_output(); print('chatter', flush=True); capture.send({'device': 1})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == '{"device": 1}\n'


def test_the_size_of_a_ring_cannot_be_changed() -> None:
    ring = Ring.create(SoundFormat(16000, 1, "int16"), 1600)
    with pytest.raises(PermissionError):
        os.ftruncate(ring.fd, 0)
    ring.close()


@pytest.mark.parametrize(("n_channels", "wanted", "opened"), [(32, 1, 1), (32, 2, 2), (32, 3, 4), (32, 7, 8), (2, 7, 2)])
def test_a_sound_server_is_opened_with_a_usual_number_of_channels(n_channels: int, wanted: int, opened: int) -> None:
    pulse = Device(0, "pulse", "ALSA", n_channels, 48000, (), False, None, "name:pulse")
    assert pulse.is_virtual
    assert channels_of(pulse, wanted) == opened


def test_one_side_of_stereo_stays_that_side_when_readers_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = 0.1 * np.sin(2 * np.pi * 440 * np.arange(48000 * 20) / 48000)
    soundfile.write(tmp_path / "left.wav", np.stack((left, 0 * left), axis=1), 48000)
    with virtual_microphone(tmp_path / "audio", channels=2) as rig:
        for name, value in rig.environment.items():
            monkeypatch.setenv(name, value)
        microphone = Microphone("name:mic", wanted_rate_hz=16000)
        first = microphone.add_reader(channel=1, sample_rate_hz=16000)
        rig.play(tmp_path / "left.wav")
        try:
            alone = _level(microphone, first)
            second = microphone.add_reader(channel=2, sample_rate_hz=16000)
            assert _level(microphone, first) == pytest.approx(alone, rel=0.02)
            assert microphone.counts.restarts == 0
            assert alone == pytest.approx(0.1 / np.sqrt(2), rel=0.05)
            assert _level(microphone, second) < 0.001
        finally:
            microphone.close()


def _level(microphone: Microphone, reader: ChannelReader) -> float:
    """RMS of the reader's next second of sound."""
    received: list[np.ndarray] = []
    deadline = time.monotonic() + 20
    skipped = 0
    while sum(map(len, received)) < 16000 and time.monotonic() < deadline:
        microphone.poll()
        for block in reader.blocks():
            skipped += len(block.samples)
            if skipped > 32000:  # playing has begun by now
                received.append(block.samples)
        time.sleep(0.05)
    return float(np.sqrt(np.mean(np.concatenate(received) ** 2)))


def test_a_device_that_is_described_wrongly_leaves_no_open_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    process = CaptureProcess()
    fd = process._ring_fd
    assert fd is not None
    monkeypatch.setattr(process, "_message", lambda: {"device": {}})
    with pytest.raises(KeyError):
        process.opened()
    process.kill()
    process.wait(5.0)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)

"""A microphone with real PortAudio: its sound arrives, and faults of the device are reported and survived."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from monitor.arrays import F32
from monitor.audio.capture_process import list_devices
from monitor.audio.channel_reader import ChannelReader
from monitor.audio.devices import find_device
from monitor.audio.microphone import OPEN_S, Microphone
from monitor.block import Block
from tests.rig import VirtualMicrophone, virtual_microphone
from tests.signals import noise
from tests.waiting import wait_until

RATE_HZ = 16000
PARENT = """
import sys, time
from monitor.audio.microphone import Microphone
microphone = Microphone("name:mic", wanted_rate_hz=16000)
while microphone.device is None:
    microphone.poll()
    time.sleep(0.05)
print(microphone.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualMicrophone]:
    with virtual_microphone(tmp_path / "rig") as rig:
        for name, value in rig.environment.items():
            monkeypatch.setenv(name, value)
        yield rig


@contextmanager
def opened(microphone: Microphone) -> Iterator[Microphone]:
    with closing(microphone):
        yield microphone


class Listener:
    """Polls as the service does, and collects the readers' blocks."""

    def __init__(self, microphone: Microphone, *readers: ChannelReader) -> None:
        self._microphone = microphone
        self._readers = readers or (microphone.add_reader(channel=None, sample_rate_hz=RATE_HZ),)
        self.reader = self._readers[0]
        self.received: list[list[Block]] = [[] for _ in self._readers]

    @property
    def blocks(self) -> list[Block]:
        return self.received[0]

    def until(self, condition: Callable[[], bool], *, timeout_s: float = 20.0) -> float:
        """Poll until then; returns how long it took."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < timeout_s, f"{self._microphone.trouble} {self._microphone.device}"
            self._microphone.poll()
            for received, reader in zip(self.received, self._readers, strict=True):
                received += reader.blocks()
            time.sleep(0.05)
        return time.monotonic() - began

    def listen(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > ends)

    def until_sound(self, seconds: float = 0.5) -> float:
        """Poll until this much more sound has arrived."""
        n_before = sum(len(block.samples) for block in self.blocks)
        return self.until(lambda: sum(len(block.samples) for block in self.blocks) - n_before > seconds * RATE_HZ)

    def until_trouble(self, *reasons: str) -> float:
        def has_trouble() -> bool:
            trouble = self._microphone.trouble
            return trouble is not None and trouble.reason in reasons

        return self.until(has_trouble)

    def gaps(self) -> list[int]:
        """Jumps in the index, in samples."""
        ends = ((a.start + len(a.samples), b.start) for a, b in pairwise(self.blocks))
        return [start - end for end, start in ends if start != end]


def joined(blocks: list[Block]) -> F32:
    return np.concatenate([block.samples for block in blocks])


def is_running(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def played(folder: Path, *, seconds: int = 3, rate_hz: int = 48000, n_channels: int = 1) -> tuple[Path, F32]:
    """Noise below 6 kHz in a file, and as samples (n, n_channels) at RATE_HZ."""
    n = seconds * RATE_HZ
    spectra = np.fft.rfft(noise(5, n_channels * n, level=0.1).reshape(-1, n_channels), axis=0)
    spectra[round(6000 / RATE_HZ * n) :] = 0
    padded = np.zeros((seconds * rate_hz // 2 + 1, n_channels), complex)
    padded[: len(spectra)] = spectra * rate_hz / RATE_HZ
    path = folder / "played.wav"
    soundfile.write(path, np.fft.irfft(padded, axis=0), rate_hz, subtype="FLOAT")
    return path, np.asarray(np.fft.irfft(spectra, axis=0), np.float32)


def likeness(received: F32, sound: F32) -> tuple[float, int]:
    """Greatest correlation of the sound with a part of the received sound, 1 if equal, and the position of that part."""
    n = 1 << (len(received) + len(sound)).bit_length()
    products = np.fft.irfft(np.fft.rfft(received, n) * np.conj(np.fft.rfft(sound, n)), n)[: len(received)]
    at = int(np.argmax(products))
    stretch = received[at : at + len(sound)]
    return float(products[at] / np.sqrt(np.dot(stretch, stretch) * np.dot(sound, sound))), at


@pytest.mark.parametrize("sample_format", ["int16", "int24", "int32", "float32"])
def test_played_sound_arrives(rig: VirtualMicrophone, tmp_path: Path, sample_format: str) -> None:
    path, sound = played(tmp_path, seconds=1)
    with opened(Microphone("name:mic", wanted_rate_hz=RATE_HZ, sample_format=sample_format)) as microphone:
        listener = Listener(microphone)
        listener.until_sound()
        player = rig.play(path)
        listener.until(lambda: player.poll() is not None)
        listener.listen(0.7)
        assert microphone.trouble is None
        assert microphone.device == f"mic, 48000 Hz, 1 channel, {sample_format}"
        assert microphone.counts.restarts == 0
    if microphone.counts.overruns == 0:  # a busy computer may lose some, and then reports it
        assert listener.gaps() == []
        assert likeness(joined(listener.blocks), sound[:, 0])[0] > 0.999


def test_readers_get_the_same_sound_at_their_rates_and_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sound = played(tmp_path, seconds=1, n_channels=2)
    with virtual_microphone(tmp_path / "rig", channels=2) as rig:
        for name, value in rig.environment.items():
            monkeypatch.setenv(name, value)
        with opened(Microphone("name:mic", wanted_rate_hz=RATE_HZ)) as microphone:
            mean = microphone.add_reader(channel=None, sample_rate_hz=RATE_HZ)
            right = microphone.add_reader(channel=2, sample_rate_hz=RATE_HZ)
            fast = microphone.add_reader(channel=2, sample_rate_hz=32000)
            listener = Listener(microphone, right, mean, fast)
            listener.until_sound()
            player = rig.play(path)
            listener.until(lambda: player.poll() is not None)
            listener.listen(0.7)
            restarts, overruns = microphone.counts.restarts, microphone.counts.overruns
    assert restarts == 0
    if overruns == 0:
        of_right, of_mean, of_fast = (joined(blocks) for blocks in listener.received)
        alike, at = likeness(of_right, sound[:, 1])
        assert alike > 0.999
        assert likeness(of_right, sound[:, 0])[0] < 0.1
        assert likeness(of_mean, sound.mean(axis=1))[0] > 0.999
        slow_alike, fast_at = likeness(of_fast[::2], sound[:, 1])
        assert slow_alike > 0.99
        starts = [
            blocks[0].start / reader.sample_rate_hz for blocks, reader in zip(listener.received, (right, mean, fast), strict=True)
        ]
        assert starts[2] + fast_at / RATE_HZ == pytest.approx(starts[0] + at / RATE_HZ, abs=0.002)  # the same moment


def test_an_unplugged_microphone_is_reported_and_resumes(rig: VirtualMicrophone, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with opened(Microphone("name:mic", wanted_rate_hz=RATE_HZ)) as microphone:
        listener = Listener(microphone)
        listener.until_sound()
        rig.kill()
        assert listener.until_trouble("lost", "absent", "frozen") < 5
        listener.until_trouble("absent")
        assert microphone.trouble is not None
        assert "\n" not in microphone.trouble.detail
        assert microphone.device is None
        listener.listen(2.0)  # several attempts
        n_lines = len(caplog.messages)
        rig.start()
        assert listener.until(lambda: microphone.trouble is None) < 6
        listener.until_sound()
        assert n_lines <= 3  # opened, lost, absent: not a line for each attempt
        assert "recovered after" in caplog.messages[-1]
        assert microphone.counts.restarts >= 2
        # The index ran on: the newest sample is about now, and the gap is as long as the outage.
        end = listener.blocks[-1].start + len(listener.blocks[-1].samples)
        assert listener.reader.now - end < 0.5 * RATE_HZ
        assert max(listener.gaps()) > 2.0 * RATE_HZ


def test_the_index_after_a_gap_follows_the_clock(rig: VirtualMicrophone, tmp_path: Path) -> None:
    path, sound = played(tmp_path, seconds=1)
    with opened(Microphone("name:mic", wanted_rate_hz=RATE_HZ)) as microphone:
        listener = Listener(microphone)
        listener.until_sound(1.0)
        before = arrivals(listener, 1.0)
        assert microphone.pid is not None
        os.killpg(microphone.pid, signal.SIGKILL)  # the capture process crashes
        assert listener.until_trouble("lost") < 5
        listener.until_sound(1.0)
        after = arrivals(listener, 1.0)
        assert abs(after - before) < 0.05 * RATE_HZ  # the server delivers in steps of 10 to 20 ms, a busy computer later
        assert len(listener.gaps()) == 1
        assert "SIGKILL" not in (microphone.trouble.detail if microphone.trouble else "")
        player = rig.play(path)
        listener.until(lambda: player.poll() is not None)
        listener.listen(0.7)
        assert likeness(joined(listener.blocks), sound[:, 0])[0] > 0.999


def arrivals(listener: Listener, seconds: float) -> float:
    """The smallest delay of the newest sample against the clock, in samples."""
    best = float("inf")
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        n = len(listener.blocks)
        listener.until(lambda n=n: len(listener.blocks) > n)  # type: ignore[misc]
        newest = listener.blocks[-1]
        best = min(best, listener.reader.now - newest.start - len(newest.samples))
    return best


def test_a_frozen_microphone_is_reported_and_resumes(rig: VirtualMicrophone) -> None:
    with opened(Microphone("name:mic", wanted_rate_hz=RATE_HZ)) as microphone:
        listener = Listener(microphone)
        listener.until_sound()
        rig.freeze()
        assert listener.until_trouble("frozen") < 5
        listener.listen(OPEN_S + 1.0)  # a process that hangs while it opens is killed, too
        assert microphone.trouble is not None
        assert microphone.trouble.reason == "frozen"
        rig.thaw()
        assert listener.until(lambda: microphone.trouble is None) < 6
        listener.until_sound()
        assert max(listener.gaps()) > OPEN_S * RATE_HZ


def test_a_microphone_that_stalls_for_a_moment_leaves_no_splice(rig: VirtualMicrophone) -> None:
    with opened(Microphone("name:mic", wanted_rate_hz=RATE_HZ)) as microphone:
        listener = Listener(microphone)
        listener.until_sound(1.0)
        before = arrivals(listener, 1.0)
        rig.freeze()
        listener.listen(1.5)
        rig.thaw()
        listener.until_sound(1.0)
        listener.listen(1.0)
        after = arrivals(listener, 1.0)
        assert microphone.counts.restarts == 0
        assert abs(after - before) < 0.05 * RATE_HZ
        assert sum(listener.gaps()) == pytest.approx(microphone.counts.lost_frames * RATE_HZ / 48000, abs=0.01 * RATE_HZ)


def test_a_capture_process_that_is_held_up_leaves_no_splice(rig: VirtualMicrophone) -> None:
    with opened(Microphone("name:mic", wanted_rate_hz=RATE_HZ)) as microphone:
        listener = Listener(microphone)
        listener.until_sound(1.0)
        before = arrivals(listener, 1.0)
        assert microphone.pid is not None
        os.kill(microphone.pid, signal.SIGSTOP)
        listener.listen(1.5)
        os.kill(microphone.pid, signal.SIGCONT)
        listener.until_sound(1.0)
        after = arrivals(listener, 1.0)
        counts = microphone.counts
        assert counts.restarts == 0
        assert abs(after - before) < 0.05 * RATE_HZ
        assert sum(listener.gaps()) == pytest.approx(counts.lost_frames * RATE_HZ / 48000, abs=0.01 * RATE_HZ)


def test_a_slow_reader_misses_sound_and_counts_it(rig: VirtualMicrophone) -> None:
    with opened(Microphone("name:mic", wanted_rate_hz=RATE_HZ, ring_s=1.0)) as microphone:
        listener = Listener(microphone)
        listener.until_sound(1.0)
        time.sleep(2.0)
        listener.until_sound(1.0)
        counts = microphone.counts
        assert counts.overruns >= 1
        assert counts.lost_frames > 0.9 * 48000
        assert sum(listener.gaps()) == pytest.approx(counts.lost_frames * RATE_HZ / 48000, abs=2 * counts.overruns)


def test_one_absent_at_the_start_is_opened_when_it_appears(rig: VirtualMicrophone) -> None:
    rig.kill()
    with opened(Microphone("name:mic", wanted_rate_hz=RATE_HZ)) as microphone:
        listener = Listener(microphone)
        assert listener.until_trouble("absent") < 5
        assert microphone.trouble is not None
        assert "no such microphone; present: " in microphone.trouble.detail
        rig.start()
        assert listener.until(lambda: microphone.trouble is None) < 6
        listener.until_sound()


def test_a_microphone_that_is_not_there_does_not_disturb_another(rig: VirtualMicrophone) -> None:
    with (
        opened(Microphone("name:mic", wanted_rate_hz=RATE_HZ)) as microphone,
        opened(Microphone("usb:1209:0000", wanted_rate_hz=RATE_HZ)) as absent,
    ):
        listener = Listener(microphone)
        listener.until_sound()
        ends = time.monotonic() + 1

        def both() -> bool:
            absent.poll()
            return time.monotonic() > ends

        listener.until(both)
        assert microphone.trouble is None
        assert absent.trouble is not None
        assert absent.trouble.reason == "absent"
        assert absent.counts.restarts == 0  # /sys shows it without a process
        assert listener.gaps() == [] or microphone.counts.overruns


def test_a_required_rate_is_requested_from_the_device(rig: VirtualMicrophone) -> None:
    with opened(Microphone("name:mic", wanted_rate_hz=RATE_HZ, rate_hz=16000)) as microphone:
        Listener(microphone).until_sound()
        assert microphone.device == "mic, 16000 Hz, 1 channel, int32"


def test_no_process_is_left_behind(rig: VirtualMicrophone) -> None:
    with opened(Microphone("default", wanted_rate_hz=RATE_HZ)) as microphone:
        Listener(microphone).until_sound()
        assert microphone.pid is not None
        pid = microphone.pid
        assert is_running(pid)
    assert not is_running(pid)


def test_a_hanging_child_exits_with_its_parent(rig: VirtualMicrophone) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_running(child)
        rig.freeze()
        parent.kill()
    wait_until(lambda: not is_running(child), 10.0)


def test_devices_are_listed_with_their_selectors(rig: VirtualMicrophone) -> None:
    devices = list_devices()
    found = find_device(devices, "name:mic")
    assert (found.name, found.host_api, found.selector, found.usb) == ("mic", "ALSA", "name:mic", None)
    assert found.is_virtual
    assert 16000 in found.rates_hz
    assert find_device(devices, "default").is_default

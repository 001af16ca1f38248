"""Recordings in place of a microphone: the same samples, at the pace of a microphone, over and over."""

import time
from contextlib import closing
from pathlib import Path

import numpy as np
import soundfile

from monitor.arrays import F32
from monitor.audio.capture_process import CaptureLauncher
from monitor.audio.channel_reader import ChannelReader
from monitor.audio.microphone import Microphone
from monitor.demo.playback import playback_command
from tests.waiting import wait_until

RATE_HZ = 16_000


def noise(n: int, seed: int) -> F32:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, n)
    return np.asarray(np.rint(samples * 32768) / 32768, np.float32)


def play(microphone: Microphone, reader: ChannelReader, n: int) -> F32:
    """The first `n` samples that arrive."""
    parts: list[F32] = []

    def poll() -> bool:
        microphone.poll()
        parts.extend(block.samples for block in reader.blocks())
        return sum(map(len, parts)) >= n

    wait_until(poll, what=f"{n} samples; trouble: {microphone.trouble}")
    return np.concatenate(parts)[:n]


def test_the_recordings_are_captured_without_loss_in_real_time_and_again(tmp_path: Path) -> None:
    first, second = noise(17_000, 1), noise(9_000, 2)
    files = [tmp_path / "first.flac", tmp_path / "second.wav"]
    for path, samples in zip(files, (first, second), strict=True):
        soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    command = playback_command({"name:recordings": files})
    microphone = Microphone("name:recordings", wanted_rate_hz=RATE_HZ, launch=CaptureLauncher(command))
    with closing(microphone):
        reader = microphone.add_reader(channel=None, sample_rate_hz=RATE_HZ)
        began = time.monotonic()
        n = len(first) + len(second) + 5_000
        captured = play(microphone, reader, n)
        assert time.monotonic() - began > 0.9 * n / RATE_HZ
        assert np.array_equal(captured, np.concatenate([first, second, first])[:n])
        assert microphone.device == f"recordings: first.flac, second.wav, {RATE_HZ} Hz, 1 channel, int32"
        assert microphone.counts.lost_frames == microphone.counts.overruns == 0


def test_a_recording_that_cannot_be_read_is_a_trouble_of_the_microphone(tmp_path: Path) -> None:
    missing = tmp_path / "missing.wav"
    command = playback_command({"name:recordings": [missing]})
    microphone = Microphone("name:recordings", wanted_rate_hz=RATE_HZ, launch=CaptureLauncher(command))
    with closing(microphone):
        microphone.add_reader(channel=None, sample_rate_hz=RATE_HZ)

        def trouble() -> bool:
            microphone.poll()
            return microphone.trouble is not None

        wait_until(trouble)
        assert microphone.trouble is not None
        assert microphone.trouble.detail == f"{missing}: cannot be read: No such file or directory"

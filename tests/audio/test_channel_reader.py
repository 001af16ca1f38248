"""The sample index of a channel reader is exact over hours, jumps at gaps, and never decreases."""

from itertools import pairwise

import numpy as np
import pytest

from monitor.arrays import F32
from monitor.audio.channel_reader import MAX_BUFFERED_S, ChannelReader
from monitor.audio.gaps import UnbrokenSound
from monitor.audio.resample import Resampler
from monitor.audio.ring import SoundFormat
from monitor.block import Block
from tests.signals import hum


class Device:
    """A device whose frame 0 arrived a second after the reader was made."""

    def __init__(self, reader: ChannelReader, *, rate_hz: int, n_channels: int = 1) -> None:
        self._rate_hz = rate_hz
        self._origin_s = reader.timeline.began_s + 1.0
        self.form = SoundFormat(rate_hz, n_channels, "float32")

    def sound(self, samples: F32, frame: int, *, begins: bool = False, lost_s: float = 0.0) -> UnbrokenSound:
        self._origin_s += lost_s
        arrived_s = self._origin_s + (frame + len(samples)) / self._rate_hz
        return UnbrokenSound(frame, len(samples), samples.tobytes(), self._origin_s, arrived_s, begins)


def joined(blocks: list[Block]) -> F32:
    return np.concatenate([block.samples for block in blocks])


@pytest.mark.parametrize("size", [480, 2400, 7777])
def test_the_samples_are_those_of_one_resampler(size: int) -> None:
    reader, sound = ChannelReader(channel=None, sample_rate_hz=16000), hum(1, 48000 * 4, rate_hz=48000)
    device = Device(reader, rate_hz=48000)
    reader.open(device.form)
    for at in range(0, len(sound), size):
        reader.push(device.sound(sound[at : at + size], at, begins=at == 0))
    blocks = reader.blocks()
    (block,) = Resampler(from_hz=48000, to_hz=16000).push(sound)
    expected = block.samples
    received = joined(blocks)
    np.testing.assert_array_equal(received, expected[: len(received)])
    assert len(expected) - len(received) < 1000
    assert blocks[0].start == 16000
    assert all(a.start + len(a.samples) == b.start for a, b in pairwise(blocks))
    assert reader.blocks() == []


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44100, 16000), (48000, 16000), (16000, 16000), (32000, 44100)])
def test_the_index_is_exact_after_a_year(from_hz: int, to_hz: int) -> None:
    reader = ChannelReader(channel=None, sample_rate_hz=to_hz)
    device = Device(reader, rate_hz=from_hz)
    reader.open(device.form)
    sound = hum(1, from_hz, rate_hz=from_hz)
    year_s = 365 * 86400
    reader.push(device.sound(sound, 0, begins=True))
    reader.push(device.sound(sound, year_s * from_hz))  # everything between was missed
    blocks = reader.blocks()
    assert (blocks[0].start, blocks[-1].start) == (to_hz, to_hz + year_s * to_hz)
    assert sum(len(block.samples) for block in blocks[:-1]) == to_hz  # the resampler was flushed


def test_missed_frames_are_a_gap_of_their_length() -> None:
    reader = ChannelReader(channel=None, sample_rate_hz=16000)
    device = Device(reader, rate_hz=48000)
    reader.open(device.form)
    sound = hum(1, 48000, rate_hz=48000)
    reader.push(device.sound(sound, 0, begins=True))
    reader.push(device.sound(sound, 48000 + 4800))
    *before, after = reader.blocks()
    assert len(joined(before)) == 16000
    assert after.start == 16000 + 16000 + 1600


@pytest.mark.parametrize(("lost_s", "expected"), [(0.5, 8000), (0.0, 1), (-0.01, 1)])
def test_frames_lost_by_the_device_are_a_gap_by_the_clock_of_at_least_one_sample(lost_s: float, expected: int) -> None:
    reader = ChannelReader(channel=None, sample_rate_hz=16000)
    device = Device(reader, rate_hz=16000)
    reader.open(device.form)
    sound = hum(1, 16000)
    reader.push(device.sound(sound, 0, begins=True))
    reader.push(device.sound(sound, 16000, begins=True, lost_s=lost_s))
    first, second = reader.blocks()
    assert second.start - (first.start + 16000) == expected
    np.testing.assert_array_equal(second.samples, sound)


def test_a_channel_is_selected_and_a_missing_one_is_reported() -> None:
    left, other, third = (ChannelReader(channel=channel, sample_rate_hz=16000) for channel in (1, None, 3))
    device = Device(left, rate_hz=16000, n_channels=2)
    sound = np.stack((hum(1, 1600), hum(2, 1600)), axis=1)
    for reader in (left, other, third):
        reader.open(device.form)
        reader.push(device.sound(sound, 0, begins=True))
    np.testing.assert_array_equal(joined(left.blocks()), sound[:, 0])
    np.testing.assert_array_equal(joined(other.blocks()), sound.mean(axis=1))
    assert third.blocks() == []
    assert third.trouble == "channel must be in 1..2, got 3"


def test_sound_that_is_not_read_does_not_fill_the_memory() -> None:
    reader = ChannelReader(channel=None, sample_rate_hz=16000)
    device = Device(reader, rate_hz=16000)
    reader.open(device.form)
    second = hum(1, 16000)
    for at in range(round(MAX_BUFFERED_S) + 30):
        reader.push(device.sound(second, at * 16000, begins=at == 0))
    blocks = reader.blocks()
    assert len(joined(blocks)) == MAX_BUFFERED_S * 16000
    assert blocks[0].start == 16000 * 31


def test_sounds_that_arrive_together_are_read_as_if_they_came_alone_gaps_included() -> None:
    sound = hum(1, 48000, rate_hz=48000)
    readers = [ChannelReader(channel=None, sample_rate_hz=16000) for _ in range(2)]
    readers[1].timeline.began_s = readers[0].timeline.began_s
    device = Device(readers[0], rate_hz=48000)
    starts = [0, 4800, 9600, 20000, 24800]  # frames 14400 to 20000 are lost
    sounds = [device.sound(sound[at : at + 4800], at, begins=not at) for at in starts]
    for reader in readers:
        reader.open(device.form)
    readers[0].push(*sounds)
    for one in sounds:
        readers[1].push(one)
    together, alone = (reader.blocks() for reader in readers)
    assert len(together) < len(alone)
    np.testing.assert_array_equal(joined(together), joined(alone))
    gaps = [[b.start - a.start - len(a.samples) for a, b in pairwise(blocks)] for blocks in (together, alone)]
    assert [sorted(set(one))[-1] for one in gaps] == [(20000 - 14400) // 3] * 2


@pytest.mark.parametrize(("n_samples", "arrives_s"), [(1, 0.1), (1600, 0.1), (1601, 0.2), (8000, 0.5)])
def test_samples_are_expected_a_period_at_a_time(n_samples: int, arrives_s: float) -> None:
    reader = ChannelReader(channel=None, sample_rate_hz=16000)
    device = Device(reader, rate_hz=48000)
    reader.open(device.form)
    assert reader.arrives_s(16000) < reader.timeline.began_s + 0.001, "nothing is known yet, so look now"
    period = hum(1, 4800, rate_hz=48000)
    sounds = [device.sound(period, at, begins=not at) for at in (0, 4800)]
    reader.push(*sounds)
    assert reader.arrives_s(n_samples) == pytest.approx(sounds[-1].arrived_s + arrives_s, abs=0.001)

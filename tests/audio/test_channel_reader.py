"""A tap: its sample index is exact over hours, jumps where sound is missing, and never goes back."""

from itertools import pairwise

import numpy as np
import pytest

from monitor.arrays import F32
from monitor.audio.channel_reader import KEPT_S, ChannelReader
from monitor.audio.gaps import UnbrokenSound
from monitor.audio.resample import Resampler
from monitor.audio.ring import RingFormat
from monitor.block import Block
from tests.signals import hum


class Pieces:
    """A device at a rate whose opening's frame 0 came a second after the tap was made."""

    def __init__(self, tap: ChannelReader, *, rate_hz: int, n_channels: int = 1) -> None:
        self._rate_hz = rate_hz
        self._origin_s = tap.timeline._bends[0].monotonic_s + 1.0
        self.form = RingFormat(rate_hz, n_channels, "float32", 1 << 20)

    def piece(self, samples: F32, frame: int, *, begins: bool = False, lost_s: float = 0.0) -> UnbrokenSound:
        self._origin_s += lost_s
        arrived_s = self._origin_s + (frame + len(samples)) / self._rate_hz
        return UnbrokenSound(frame, len(samples), samples.tobytes(), self._origin_s, arrived_s, begins)


def joined(blocks: list[Block]) -> F32:
    return np.concatenate([block.samples for block in blocks])


@pytest.mark.parametrize("size", [480, 2400, 7777])
def test_it_gives_the_same_samples_as_one_resampler(size: int) -> None:
    tap, sound = ChannelReader(channel=None, sample_rate_hz=16000), hum(1, 48000 * 4, rate_hz=48000)
    device = Pieces(tap, rate_hz=48000)
    tap.open(device.form)
    for at in range(0, len(sound), size):
        tap.push(device.piece(sound[at : at + size], at, begins=at == 0))
    blocks = tap.blocks()
    expected = Resampler(from_hz=48000, to_hz=16000).push(sound)
    heard = joined(blocks)
    np.testing.assert_array_equal(heard, expected[: len(heard)])
    assert len(expected) - len(heard) < 1000
    assert blocks[0].start == 16000
    assert all(a.start + len(a.samples) == b.start for a, b in pairwise(blocks))
    assert tap.blocks() == []


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44100, 16000), (48000, 16000), (16000, 16000), (32000, 44100)])
def test_the_index_is_exact_after_a_year(from_hz: int, to_hz: int) -> None:
    tap = ChannelReader(channel=None, sample_rate_hz=to_hz)
    device = Pieces(tap, rate_hz=from_hz)
    tap.open(device.form)
    sound = hum(1, from_hz, rate_hz=from_hz)
    year_s = 365 * 86400
    tap.push(device.piece(sound, 0, begins=True))
    tap.push(device.piece(sound, year_s * from_hz))  # the reader has missed all between
    blocks = tap.blocks()
    assert (blocks[0].start, blocks[-1].start) == (to_hz, to_hz + year_s * to_hz)
    assert sum(len(block.samples) for block in blocks[:-1]) == to_hz  # the resampler has kept nothing back


def test_what_the_reader_missed_is_a_gap_of_that_size() -> None:
    tap = ChannelReader(channel=None, sample_rate_hz=16000)
    device = Pieces(tap, rate_hz=48000)
    tap.open(device.form)
    sound = hum(1, 48000, rate_hz=48000)
    tap.push(device.piece(sound, 0, begins=True))
    tap.push(device.piece(sound, 48000 + 4800))
    *before, after = tap.blocks()
    assert len(joined(before)) == 16000
    assert after.start == 16000 + 16000 + 1600


@pytest.mark.parametrize(("lost_s", "expected"), [(0.5, 8000), (0.0, 1), (-0.01, 1)])
def test_what_the_device_lost_is_a_gap_by_the_clock_and_of_one_sample_at_least(lost_s: float, expected: int) -> None:
    tap = ChannelReader(channel=None, sample_rate_hz=16000)
    device = Pieces(tap, rate_hz=16000)
    tap.open(device.form)
    sound = hum(1, 16000)
    tap.push(device.piece(sound, 0, begins=True))
    tap.push(device.piece(sound, 16000, begins=True, lost_s=lost_s))
    first, second = tap.blocks()
    assert second.start - (first.start + 16000) == expected
    np.testing.assert_array_equal(second.samples, sound)


def test_a_channel_is_picked_and_one_that_is_not_there_is_said() -> None:
    left, other, third = (ChannelReader(channel=channel, sample_rate_hz=16000) for channel in (1, None, 3))
    device = Pieces(left, rate_hz=16000, n_channels=2)
    sound = np.stack((hum(1, 1600), hum(2, 1600)), axis=1)
    for tap in (left, other, third):
        tap.open(device.form)
        tap.push(device.piece(sound, 0, begins=True))
    np.testing.assert_array_equal(joined(left.blocks()), sound[:, 0])
    np.testing.assert_array_equal(joined(other.blocks()), sound.mean(axis=1))
    assert third.blocks() == []
    assert third.trouble == "channel must be in 1..2, got 3"


def test_sound_that_nobody_fetches_does_not_fill_the_memory() -> None:
    tap = ChannelReader(channel=None, sample_rate_hz=16000)
    device = Pieces(tap, rate_hz=16000)
    tap.open(device.form)
    second = hum(1, 16000)
    for at in range(round(KEPT_S) + 30):
        tap.push(device.piece(second, at * 16000, begins=at == 0))
    blocks = tap.blocks()
    assert len(joined(blocks)) == KEPT_S * 16000
    assert blocks[0].start == 16000 * 31

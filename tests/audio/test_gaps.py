"""Gaps: the place and number of missing frames, from the arrival times of the others."""

import pytest

from monitor.audio.gaps import GapDetector, UnbrokenSound
from monitor.audio.ring import Chunk, WriteRecord

RATE_HZ, N = 16000, 1600  # 100 ms


class Device:
    """Delivers N frames every 100 ms, 3 ms after the last of them, `slower` than it should."""

    def __init__(self, *, slower: float = 0.0) -> None:
        self.frame, self._clock_s, self._slower = 0, 100.0, slower

    def chunk(self, *, late_s: float = 0.0, overrun: bool = False, n_overwritten: int = 0) -> Chunk:
        self.frame += n_overwritten
        self._clock_s += (N + n_overwritten) / RATE_HZ * (1 + self._slower)
        record = WriteRecord(self.frame, N, round((self._clock_s + 0.003 + late_s) * 1e9), overrun)
        self.frame += N
        return Chunk(record, b"", n_overwritten)

    def lose(self, seconds: float) -> None:
        self._clock_s += seconds

    def play(self, seconds: float) -> list[Chunk]:
        return [self.chunk(late_s=0.001 * (at % 3)) for at in range(round(seconds * RATE_HZ / N))]


def begins(sounds: list[UnbrokenSound]) -> list[tuple[int, float]]:
    return [(sound.frame, round(sound.origin_s, 4)) for sound in sounds if sound.begins]


def frames(sounds: list[UnbrokenSound]) -> list[int]:
    return [sound.frame for sound in sounds]


def test_steady_sound_is_one_run_that_began_with_its_first_frame() -> None:
    device, runs = Device(), GapDetector(rate_hz=RATE_HZ)
    sounds = runs.push([device.chunk(late_s=0.4), *device.play(20)])  # opening takes its time
    assert frames(sounds) == list(range(0, device.frame, N))
    assert begins(sounds) == [(0, 100.003)]
    assert (runs.overruns, runs.lost_frames) == (0, 0)


@pytest.mark.parametrize("size", [1, 3, 50])
def test_an_overrun_ends_the_run_at_its_sample(size: int) -> None:
    device, runs = Device(), GapDetector(rate_hz=RATE_HZ)
    chunks = device.play(5)
    device.lose(0.25)
    chunks += [device.chunk(overrun=True, late_s=0.02), *device.play(5)]
    sounds = [sound for at in range(0, len(chunks), size) for sound in runs.push(chunks[at : at + size])]
    assert frames(sounds) == list(range(0, device.frame, N))
    assert begins(sounds) == [(0, 100.003), (5 * RATE_HZ, 100.253)]
    assert (runs.overruns, runs.lost_frames) == (1, 4000)


def test_a_stall_that_loses_nothing_changes_nothing() -> None:
    device, runs = Device(), GapDetector(rate_hz=RATE_HZ)
    chunks = device.play(5)
    chunks += [device.chunk(late_s=1.0 - at * N / RATE_HZ) for at in range(10)]  # all at once, a second late
    sounds = runs.push(chunks + device.play(5))
    assert frames(sounds) == list(range(0, device.frame, N))
    assert begins(sounds) == [(0, 100.003)]
    assert runs.overruns == 0


def test_a_stall_that_loses_sound_without_a_word_is_a_gap() -> None:
    device, runs = Device(), GapDetector(rate_hz=RATE_HZ)
    chunks = device.play(5)
    device.lose(2.0)
    sounds = runs.push(chunks + device.play(5))
    assert begins(sounds) == [(0, 100.003), (5 * RATE_HZ, 102.003)]
    assert (runs.overruns, runs.lost_frames) == (1, 32000)


def test_what_the_reader_missed_is_counted_and_keeps_its_place() -> None:
    device, runs = Device(), GapDetector(rate_hz=RATE_HZ)
    sounds = runs.push([*device.play(5), device.chunk(n_overwritten=12345), *device.play(5)])
    assert begins(sounds) == [(0, 100.003)]
    assert 5 * RATE_HZ + 12345 in frames(sounds)
    assert (runs.overruns, runs.lost_frames) == (1, 12345)


@pytest.mark.parametrize("slower", [-300e-6, 300e-6])
def test_a_crystal_that_drifts_is_no_gap(slower: float) -> None:
    device, runs = Device(slower=slower), GapDetector(rate_hz=RATE_HZ)
    assert len(begins(runs.push(device.play(2 * 3600)))) == 1
    assert runs.overruns == 0


def test_what_is_held_back_is_not_lost_when_the_device_dies() -> None:
    device, runs = Device(), GapDetector(rate_hz=RATE_HZ)
    assert runs.push(device.play(0.2)) == []
    assert frames(runs.release()) == list(range(0, device.frame, N))

"""Clips and pictures as files: bounded, whole, and only ours."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from monitor.arrays import F32
from monitor.clips.store import ClipStore, clip_stem, encode_flac, shorten_flac
from monitor.errors import SinkError
from tests.signals import hum, noise
from tests.tmpfs import tmpfs

IDS = [f"{number:08x}-0000-5000-8000-000000000000" for number in range(100)]


def stem(number: int, machine: str = "fan") -> str:
    return clip_stem(machine, IDS[number])


def keep(store: ClipStore, number: int, *, n_bytes: int = 1_000) -> None:
    """A clip and a picture of so many bytes together, as old as their number is small."""
    store.save(stem(number), {".flac": bytes(n_bytes - 100), ".png": bytes(100)})
    for path in store.folder.glob(f"{stem(number)}.*"):
        os.utime(path, (1_000 + number, 1_000 + number))


def numbers(store: ClipStore) -> list[int]:
    return [number for number in range(len(IDS)) if stem(number) in store.stems]


def total(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def decode(flac: bytes) -> F32:
    samples, rate_hz = soundfile.read(io.BytesIO(flac), dtype="float32")
    assert rate_hz == 16_000
    return np.asarray(samples, np.float32)


def test_sound_of_16_bits_comes_back_exactly() -> None:
    edges = np.array([-1.0, 32_767 / 32_768, 0.0, 1 / 32_768], np.float32)
    sound = np.concatenate((np.rint(hum(1, 16_000) * 32_768) / 32_768, edges)).astype(np.float32)
    assert np.array_equal(decode(encode_flac(sound, rate_hz=16_000, title="fan", comment="")), sound)


def test_sound_beyond_full_scale_is_clipped_not_wrapped() -> None:
    loud = np.array([1.0, 1.5, -1.0, -1.5], np.float32)
    got = decode(encode_flac(loud, rate_hz=16_000, title="fan", comment=""))
    assert np.allclose(got, [1.0, 1.0, -1.0, -1.0], atol=1 / 32_768)


def test_a_clip_too_long_to_send_is_cut_at_its_end() -> None:
    sound = noise(1, 160_000)
    whole = encode_flac(sound, rate_hz=16_000, title="fan", comment="hiss")
    short = shorten_flac(whole, max_bytes=100_000)
    assert 80_000 < len(short) <= 100_000
    got = decode(short)
    assert np.array_equal(got, decode(whole)[: len(got)])
    assert shorten_flac(whole, max_bytes=len(whole)) == whole


def test_the_oldest_events_make_room_as_a_whole(tmp_path: Path) -> None:
    store = ClipStore(tmp_path, max_bytes=3_500)
    for number in range(6):
        keep(store, number)
    assert numbers(store) == [3, 4, 5]
    assert total(tmp_path) == 3_000
    keep(store, 6, n_bytes=2_500)
    assert numbers(store) == [5, 6]
    assert len(list(tmp_path.iterdir())) == 4


def test_room_is_made_before_anything_is_written(tmp_path: Path) -> None:
    with tmpfs(tmp_path, n_bytes=200_000) as folder:
        store = ClipStore(folder, max_bytes=180_000)  # with two clips of 80 kB a third one would not fit on the disk
        for number in range(20):
            keep(store, number, n_bytes=80_000)
        assert numbers(store) == [18, 19]


def test_an_event_larger_than_the_cap_is_refused_and_nothing_is_removed(tmp_path: Path) -> None:
    store = ClipStore(tmp_path, max_bytes=3_500)
    keep(store, 1)
    with pytest.raises(SinkError, match=r"must have at most 3500 bytes \(clips.max_mb\), got 4000"):
        keep(store, 2, n_bytes=4_000)
    assert numbers(store) == [1]


def test_odd_files_are_neither_counted_nor_touched(tmp_path: Path) -> None:
    odd = ["notes.txt", "fan.flac", f"{stem(1)}.wav", f"{IDS[1]}.flac", f"copy of {stem(2)}.flac", ".hidden"]
    for name in odd:
        (tmp_path / name).write_bytes(bytes(5_000))
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / f"{stem(3)}.flac").mkdir()
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.write_bytes(bytes(5_000))
    (tmp_path / f"{stem(4)}.flac").symlink_to(elsewhere)
    store = ClipStore(tmp_path, max_bytes=2_500)
    for number in range(10, 20):
        keep(store, number)
    assert numbers(store) == [18, 19]
    assert {name for name in odd if (tmp_path / name).stat().st_size == 5_000} == set(odd)
    assert (tmp_path / f"{stem(3)}.flac").is_dir()
    assert (tmp_path / f"{stem(4)}.flac").is_symlink()
    assert elsewhere.stat().st_size == 5_000


def test_what_a_crash_left_half_written_counts_and_makes_room(tmp_path: Path) -> None:
    part = tmp_path / f"{stem(0)}.flac.part"
    part.write_bytes(bytes(2_000))
    os.utime(part, (1, 1))
    store = ClipStore(tmp_path, max_bytes=2_500)
    keep(store, 1)
    assert not part.exists()
    assert numbers(store) == [1]


def test_an_event_that_is_told_again_is_written_again(tmp_path: Path) -> None:
    store = ClipStore(tmp_path, max_bytes=2_500)
    for number in (1, 2, 1):
        keep(store, number)
    assert numbers(store) == [1, 2]
    assert total(tmp_path) == 2_000


def test_a_full_disk_leaves_what_was_there_and_nothing_half_written(tmp_path: Path) -> None:
    with tmpfs(tmp_path, n_bytes=100_000) as folder:
        store = ClipStore(folder, max_bytes=10**9)
        keep(store, 1, n_bytes=50_000)
        with pytest.raises(SinkError, match="cannot be written: No space left on device"):
            keep(store, 2, n_bytes=90_000)
        assert numbers(store) == [1]
        assert sorted(path.suffix for path in folder.iterdir()) == [".flac", ".png"]


def test_clips_of_an_earlier_run_are_known_and_read(tmp_path: Path) -> None:
    keep(ClipStore(tmp_path, max_bytes=10_000), 1)
    later = ClipStore(tmp_path, max_bytes=10_000)
    later.rescan()
    assert numbers(later) == [1]
    assert later.read(stem(1)) == bytes(900)
    with pytest.raises(SinkError, match="cannot be read: No such file"):
        later.read(stem(2))

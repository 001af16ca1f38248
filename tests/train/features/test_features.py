"""Frames and windows for training: those of the device, cached, mapped, and gathered lazily."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from monitor.arrays import F32, F64
from monitor.audio.recording import Recording
from monitor.errors import ConfigError, SourceError
from monitor.explain.profile import Profiler
from monitor.scoring.components import Detector, Observation
from monitor.scoring.fast_path import frequent_frames
from monitor.scoring.front_end import LogMelSpec
from monitor.scoring.scorer import Scorer, ScorerSpec, score_stream
from monitor.scoring.windows import Windows, WindowSpec
from tests.signals import hum
from train.datasets import Piece
from train.features.cache import cached_frames, default_folder, stored_pieces
from train.features.frames import PieceFrames, WindowSet, left_out_s, piece_frames, stream_piece

SPEC = LogMelSpec(sample_rate_hz=16000, n_fft=512, hop_length=256, n_mels=16, fmax_hz=8000.0)
ROOT = Path(__file__).parents[3]


@pytest.fixture
def sounds(tmp_path: Path) -> list[Piece]:
    """Three recordings of several seconds and one shorter than a frame."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for seed, n in enumerate((48_000, 50_123, 16_000, 100)):
        soundfile.write(folder / f"{seed}.flac", hum(seed, n), 16000)
    return [Piece(Recording(path, sample_rate_hz=16000)) for path in sorted(folder.iterdir())]


def frames(pieces: Sequence[Piece], folder: Path, *, spec: LogMelSpec = SPEC, workers: int | None = None) -> list[PieceFrames]:
    return cached_frames(pieces, spec, tick_frames=32, folder=folder, workers=workers)


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of every file below, by name."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def assert_same(got: Sequence[PieceFrames], pieces: Sequence[Piece], *, spec: LogMelSpec = SPEC) -> None:
    """Exactly what the front end gives."""
    for one, piece in zip(got, pieces, strict=True):
        expected = piece_frames(piece, spec, tick_frames=32)
        assert all(run.dtype == np.float32 for run in one.runs)
        assert [run.shape for run in one.runs] == [run.shape for run in expected.runs]
        assert [run.tobytes() for run in one.runs] == [run.tobytes() for run in expected.runs]
        assert one.left_out == expected.left_out


def lengths(got: Sequence[PieceFrames]) -> list[list[int]]:
    return [[len(run) for run in one.runs] for one in got]


def test_the_cache_gives_the_bits_of_the_front_end(sounds: list[Piece], tmp_path: Path) -> None:
    for _ in range(2):
        got = frames(sounds, tmp_path / "cache")
        assert_same(got, sounds)
    assert lengths(got) == [[186], [194], [61], []]


def test_what_is_cached_is_not_computed_again(sounds: list[Piece], tmp_path: Path) -> None:
    frames(sounds, tmp_path / "cache")
    before = files(tmp_path / "cache")
    frames(sounds[::-1], tmp_path / "cache")
    assert files(tmp_path / "cache") == before
    (shard,) = (tmp_path / "cache").rglob("*.npy")
    np.load(shard, mmap_mode="r+")[:] = 7.0  # what is read now can come from nowhere else
    one, empty = frames(sounds[2:], tmp_path / "cache")
    assert (one.runs[0].tolist(), empty.runs) == ([[7.0] * 16] * 61, ())


def test_only_what_is_missing_is_computed(sounds: list[Piece], tmp_path: Path) -> None:
    frames(sounds[:2], tmp_path / "cache")
    before = files(tmp_path / "cache")
    assert_same(frames(sounds, tmp_path / "cache"), sounds)
    after = files(tmp_path / "cache")
    assert {name: after[name] for name in before} == before
    new = [path for path in (tmp_path / "cache").rglob("*.npy") if path.name not in before]
    assert [np.load(path).shape for path in new] == [(61, 16)]


def test_a_file_goes_by_its_content(sounds: list[Piece], tmp_path: Path) -> None:
    frames(sounds, tmp_path / "cache")
    before = files(tmp_path / "cache")
    moved = sounds[0].recording.path.rename(tmp_path / "moved.flac")
    frames([Piece(Recording(moved, sample_rate_hz=16000))], tmp_path / "cache")
    assert files(tmp_path / "cache") == before
    soundfile.write(moved, hum(9, 48_000), 16000)
    changed = [Piece(Recording(moved, sample_rate_hz=16000))]
    assert_same(frames(changed, tmp_path / "cache"), changed)


@pytest.mark.parametrize(
    "change", [{"floor": 1e-9}, {"n_mels": 15}, {"hop_length": 200}, {"fmin_hz": 100.0}, {"window_fn": "boxcar"}]
)
def test_another_front_end_has_its_own_frames(change: dict[str, object], sounds: list[Piece], tmp_path: Path) -> None:
    frames(sounds, tmp_path / "cache")
    other = LogMelSpec(**{**vars(SPEC), **change})
    assert_same(frames(sounds, tmp_path / "cache", spec=other), sounds, spec=other)


def test_channels_times_and_ticks_have_their_own_frames(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([hum(0, 32_000), hum(1, 32_000)], axis=1), 16000)
    channels = [Piece(Recording(path, sample_rate_hz=16000, channel=channel)) for channel in (None, 1, 2)]
    times = [Piece(Recording(path, sample_rate_hz=16000), start_s=start, stop_s=stop) for start, stop in ((0, 1), (1, 2), (1, 9))]
    assert_same(frames([*channels, *times], tmp_path / "cache"), [*channels, *times])
    before = files(tmp_path / "cache")
    cached_frames(channels, SPEC, tick_frames=16, folder=tmp_path / "cache")
    assert len(files(tmp_path / "cache")) == 2 * len(before)


def test_several_processes_give_the_same_bits(sounds: list[Piece], tmp_path: Path) -> None:
    assert_same(frames(sounds, tmp_path / "cache", workers=2), sounds)
    assert len(list((tmp_path / "cache").rglob("*.npy"))) > 1


def test_frames_are_mapped_and_read_only(sounds: list[Piece], tmp_path: Path) -> None:
    one = frames(sounds, tmp_path / "cache")[0].runs[0]
    assert not one.flags.writeable
    base: object = one
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_cannot_be_read_leaves_nothing_broken(workers: int, sounds: list[Piece], tmp_path: Path) -> None:
    path = sounds[1].recording.path
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"1\.flac: is truncated after"):
        frames(sounds, tmp_path / "cache", workers=workers)
    left = [name for name in files(tmp_path / "cache") if name.endswith(".part")]
    assert left == []
    path.write_bytes(whole)
    assert_same(frames(sounds, tmp_path / "cache"), sounds)


def test_a_kill_leaves_nothing_broken(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.tile(hum(0, 16000 * 60), 30), 16000)
    code = (
        "import sys; from pathlib import Path; from tests.train.features.test_features import *\n"
        "recording = Recording(Path(sys.argv[1]), sample_rate_hz=16000)\n"
        "frames([Piece(recording, stop_s=900.0), Piece(recording, start_s=900.0)], Path(sys.argv[2]), workers=2)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path), str(tmp_path / "cache")], cwd=ROOT)
    deadline = time.monotonic() + 30
    while not list((tmp_path / "cache").rglob("*.part")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    helpers = [Path("/proc", child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert helpers
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was over before it could be killed"
    while (left := [helper for helper in helpers if helper.exists()]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []
    assert all(name.endswith(".part") for name in files(tmp_path / "cache"))
    piece = Piece(Recording(path, sample_rate_hz=16000))
    assert_same(frames([piece], tmp_path / "cache"), [piece])


@pytest.mark.parametrize("damage", ["cut", "no frames", "no ticks", "no profiles", "no index", "no json"])
def test_damage_is_computed_again(damage: str, sounds: list[Piece], tmp_path: Path) -> None:
    frames(sounds, tmp_path / "cache")
    (shard,), (index,) = (list((tmp_path / "cache").rglob(pattern)) for pattern in ("*.npy", "*.json"))
    if damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif damage in ("no frames", "no ticks", "no profiles"):
        shard.with_suffix({"no frames": ".npy", "no ticks": ".ticks", "no profiles": ".profiles"}[damage]).unlink()
    elif damage == "no index":
        index.unlink()
    else:
        index.write_text(index.read_text()[:-5])
    assert_same(frames(sounds, tmp_path / "cache"), sounds)


def test_the_cache_is_plain_numpy_and_json(sounds: list[Piece], tmp_path: Path) -> None:
    frames(sounds, tmp_path / "cache")
    (shard,), (index,) = (list((tmp_path / "cache").rglob(pattern)) for pattern in ("*.npy", "*.json"))
    assert np.load(shard, allow_pickle=False).shape == (441, 16)
    assert sum(n for place in json.loads(index.read_text()).values() for _, n in place["runs"]) == 441


@pytest.mark.parametrize(
    ("base", "folder"), [("/var/x", "/var/x"), (None, "/home/me/.cache"), ("not/absolute", "/home/me/.cache")]
)
def test_the_cache_is_where_caches_are(base: str | None, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "HOME", "/home/me")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if base is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", base)
    assert default_folder() == Path(folder) / "stethos" / "frames"


def naive(recordings: Sequence[F32], *, n_frames: int, hop_frames: int) -> list[list[float]]:
    return [
        one[first : first + n_frames].reshape(-1).tolist()
        for one in recordings
        for first in range(0, len(one) - n_frames + 1, hop_frames)
    ]


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    n_frames=st.integers(1, 8),
    hop_frames=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_windows_are_those_of_a_naive_loop(lengths: list[int], n_frames: int, hop_frames: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    recordings = [rng.standard_normal((n, 3)).astype(np.float32) for n in lengths]
    windows = WindowSet(recordings, n_frames=n_frames, hop_frames=hop_frames)
    expected = naive(recordings, n_frames=n_frames, hop_frames=hop_frames)
    assert len(windows) == len(expected)
    which = rng.integers(0, len(expected), 50) if expected else np.empty(0, np.intp)
    got = windows.windows(which)
    assert got.dtype == np.float32
    assert got.shape == (len(which), 3 * n_frames)
    assert got.tolist() == [expected[i] for i in which]
    assert windows.windows(np.arange(len(windows))).tolist() == expected


@pytest.mark.parametrize(("n_frames", "hop_frames"), [(1, 1), (5, 1), (5, 4), (8, 8), (3, 16)])
def test_windows_are_those_of_the_device(n_frames: int, hop_frames: int) -> None:
    frames = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    device = Windows(WindowSpec(n_frames=n_frames, hop_frames=hop_frames), n_bands=3, tick_frames=32)
    expected = []
    for first in range(0, 200, 32):
        tick = np.zeros((32, 3), np.float32)
        n_valid = len(frames[first : first + 32])
        tick[:n_valid] = frames[first : first + 32]
        rows, valid = device.push(tick, n_valid)
        expected += rows[valid].tolist()
    windows = WindowSet([frames], n_frames=n_frames, hop_frames=hop_frames)
    assert windows.windows(np.arange(len(windows))).tolist() == expected


def test_windows_of_mapped_and_of_loaded_frames_mix(sounds: list[Piece], tmp_path: Path) -> None:
    mapped = [run for one in frames(sounds, tmp_path / "cache") for run in one.runs]
    loaded = [np.array(one) for one in mapped]
    mixed = WindowSet([mapped[0], loaded[1], mapped[2]], n_frames=5)
    plain = WindowSet(loaded, n_frames=5)
    which = np.random.default_rng(0).permutation(len(plain))
    assert np.array_equal(mixed.windows(which), plain.windows(which))
    assert np.array_equal(mixed.band_statistics(), plain.band_statistics())
    assert mixed.range() == plain.range()


def test_frames_are_not_copied() -> None:
    recordings = [np.zeros((100, 3), np.float32), np.zeros((50, 3), np.float32)]
    windows = WindowSet(recordings, n_frames=5)
    recordings[1][:] = 1.0
    assert windows.windows(np.array([0, len(windows) - 1])).tolist() == [[0.0] * 15, [1.0] * 15]


@given(st.lists(st.integers(0, 9000), min_size=1, max_size=4), st.floats(-100, 0), st.integers(0, 9))
def test_statistics_are_those_of_all_frames_at_once(lengths: list[int], level: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    recordings = [(level + rng.standard_normal((n, 2)) * (3.0, 0.01)).astype(np.float32) for n in [*lengths, 7]]
    everything = np.concatenate(recordings).astype(np.float64)
    windows = WindowSet(recordings, n_frames=5)
    mean, deviation = windows.band_statistics()
    # Both sum up in float64, in another order.
    np.testing.assert_allclose(mean, everything.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(deviation, np.maximum(everything.std(axis=0), 0.1), rtol=1e-9)
    assert windows.range() == (everything.min(), everything.max())


@pytest.mark.parametrize("which", [[-1], [11], [0, 99]])
def test_a_window_that_is_not_there_is_an_error(which: list[int]) -> None:
    windows = WindowSet([np.zeros((15, 3), np.float32)], n_frames=5)
    with pytest.raises(IndexError, match=r"windows must be in 0\.\.10, got"):
        windows.windows(np.array(which))


def test_impossible_windows_are_named() -> None:
    frame = np.zeros((15, 3), np.float32)
    with pytest.raises(ConfigError, match="hop_frames must be at least 1, got 0"):
        WindowSet([frame], n_frames=5, hop_frames=0)
    with pytest.raises(ConfigError, match="runs must have the same bands, got 3, 4"):
        WindowSet([frame, np.zeros((15, 4), np.float32)], n_frames=5)
    with pytest.raises(SourceError, match="must hold at least one frame"):
        WindowSet([frame[:0]], n_frames=5).band_statistics()


TICK = 32 * SPEC.hop_length


def with_holes(path: Path) -> Piece:
    """Twelve ticks and a bit; the 4th is silent, the 7th clipped, the 8th stands still, and so does the bit."""
    sound = hum(3, 12 * TICK + 4000)
    for first, last, value in ((3, 4, 0.0), (6, 7, 1.0), (7, 8, 0.25), (12, 13, 0.25)):
        stop = last * TICK + SPEC.n_fft - SPEC.hop_length if value == 0.25 else last * TICK
        sound[first * TICK : stop] = value
    sound[6 * TICK : 7 * TICK : 2] = -1.0
    soundfile.write(path, sound, 16000, subtype="FLOAT")
    return Piece(Recording(path, sample_rate_hz=16000))


class Listening:
    """In a detector's place: keeps the windows that the device would score."""

    def __init__(self) -> None:
        self.heard: list[list[float]] = []

    def measure(self, observation: Observation) -> F64:
        self.heard += observation.target[observation.valid].tolist()
        return np.array([float(observation.valid.any())])

    def score(self, sums: F64) -> float | None:
        return float(sums[0]) or None


class Echo:
    def encode(self, frames: F32) -> F32:
        return frames

    def predict(self, windows: F32) -> F32:
        return windows


@pytest.mark.parametrize(("n_frames", "hop_frames"), [(1, 1), (5, 1), (8, 8), (3, 16), (32, 4)])
def test_training_hears_exactly_the_windows_that_the_device_scores(n_frames: int, hop_frames: int, tmp_path: Path) -> None:
    piece = with_holes(tmp_path / "holes.wav")
    every = tuple(range(n_frames))
    window = WindowSpec(n_frames=n_frames, hop_frames=hop_frames)
    spec = ScorerSpec(front_end=SPEC, window=window, tick_frames=32, segment_ticks=10, input_frames=every, target_frames=every)
    device = Listening()
    ticks = score_stream(Scorer(spec, Echo(), cast(Detector, device)), piece.recording.blocks())
    assert {tick.reason for tick in ticks} >= {None, "silent", "clipped", "flat_line"}
    (got,) = frames([piece], tmp_path / "cache")
    assert lengths([got]) == [[64, 32, 128]]
    assert got.left_out == {"silent": 32, "gap": 32, "clipped": 64, "flat_line": 46}  # a tick that is partly silent is a gap
    windows = WindowSet(got.runs, n_frames=n_frames, hop_frames=hop_frames)
    assert windows.windows(np.arange(len(windows))).tolist() == device.heard
    assert_same([got], [piece])


def test_what_is_left_out_is_counted_in_seconds(tmp_path: Path) -> None:
    piece = with_holes(tmp_path / "holes.wav")
    one = piece_frames(piece, SPEC, tick_frames=32)
    assert left_out_s([one, one], SPEC) == {"clipped": 2.048, "flat_line": 2 * 46 * 0.016, "gap": 1.024, "silent": 1.024}


def test_frames_of_an_older_cache_are_not_used(sounds: list[Piece], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr("train.features.cache._FORMAT", 1)
        frames(sounds, tmp_path / "cache")
    assert_same(frames(sounds, tmp_path / "cache"), sounds)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def resident_file_mb() -> float:
    text = Path("/proc/self/status").read_text()
    return int(text.split("RssFile:")[1].split()[0]) / 1024


def test_mapped_frames_do_not_pile_up_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "hours.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (3 << 20, 64)})
        file.truncate(file.tell() + (3 << 20) * 64 * 4)  # 768 MB of zeros, which take no room on the disk
    windows = WindowSet([np.load(path, mmap_mode="r")], n_frames=5)
    before = resident_file_mb()
    most = 0.0
    for step in windows.range(), windows.band_statistics():
        assert len(step) == 2
        most = max(most, resident_file_mb())
    for which in np.random.default_rng(0).permutation(len(windows))[: 512 * 60].reshape(60, 512):
        windows.windows(which)
        most = max(most, resident_file_mb())
    assert most - before < 500


def test_frequent_frames_of_runs_looked_through_in_parts_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(4)
    runs = [rng.normal(size=(n, 3)).astype(np.float32) for n in (600 * 4 + 3, 5, 4 * 256, 9)]
    rows = WindowSet(runs, n_frames=2).frequent_frames(tick_frames=4)
    assert np.array_equal(rows, np.concatenate([frequent_frames(run, tick_frames=4) for run in runs]))
    assert len(rows) == 599 + 0 + 255 + 1


def test_the_cache_gives_the_ticks_and_profiles_of_the_device(sounds: list[Piece], tmp_path: Path) -> None:
    pieces = [*sounds, with_holes(tmp_path / "holes.wav")]
    for one, piece in zip(
        stored_pieces(pieces, SPEC, tick_frames=32, segment_ticks=3, folder=tmp_path / "cache"), pieces, strict=True
    ):
        profiler = Profiler(SPEC, segment_ticks=3)
        expected = list(stream_piece(piece, SPEC, tick_frames=32))
        ticks = list(one.ticks(tick_frames=32))
        for tick, device in zip(ticks, expected, strict=True):
            same = (tick.start, tick.stop, tick.n_frames, tick.fresh, tick.quality)
            assert same == (device.start, device.stop, device.n_frames, device.fresh, device.quality)
            assert (tick.frames is None) == (device.frames is None)
            if tick.frames is not None and device.frames is not None:
                assert tick.frames.shape == device.frames.shape
                assert tick.frames[: tick.n_frames].tobytes() == device.frames[: tick.n_frames].tobytes()
        profiles = [profile for tick in expected for profile in profiler.push(tick)] + profiler.end()
        np.testing.assert_equal([vars(profile) for profile in one.profiles()], [vars(profile) for profile in profiles])
    assert len(profiles) == 2


def test_what_is_stored_needs_no_sound_any_more(sounds: list[Piece], tmp_path: Path) -> None:
    (one,) = stored_pieces(sounds[:1], SPEC, tick_frames=32, segment_ticks=3, folder=tmp_path / "cache")
    sounds[0].recording.path.unlink()
    assert sum(tick.n_frames for tick in one.ticks(tick_frames=32)) == 186
    assert len(one.profiles()) == 2


def test_a_process_takes_no_memory_anew_with_each_tick(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.tile(hum(0, 16000 * 60), 5), 16000)
    code = (
        "import sys, resource; from pathlib import Path; from tests.train.features.test_features import *\n"
        "piece, faults = Piece(Recording(Path(sys.argv[1]), sample_rate_hz=16000)), []\n"
        "for _ in range(3):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    n = sum(1 for _ in stream_piece(piece, SPEC, tick_frames=32))\n"
        "    faults.append((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / n)\n"
        "print(min(faults))"
    )
    out = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    assert float(out.stdout) < 5.0

"""Clips: the sound around an event and its picture, on real disks."""

import io
import logging
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from monitor.arrays import F32
from monitor.block import Block
from monitor.clips.recorder import ClipRecorder
from monitor.clips.service import ClipService
from monitor.clips.spectrogram import PictureReference
from monitor.clips.store import ClipStore, clip_stem
from monitor.clips.worker import MAX_WAITING, BackgroundWorker, Job
from monitor.config import ClipsConfig
from monitor.errors import SinkError
from monitor.events.pipeline import Result
from monitor.explain.reference import Reference
from monitor.scoring.front_end import LogSpectrumSpec
from monitor.scoring.quality import measure_quality
from monitor.scoring.scorer import TickScore
from tests.mqtt.anomalies import anomaly
from tests.scoring.linear import FRONT_END, TICK, frames_of
from tests.signals import hum, noise
from tests.tmpfs import tmpfs

RATE_HZ = 16_000
CLIPS = ClipsConfig(pre_s=2, post_s=1, max_s=20)
NORMAL = frames_of([Block(0, hum(0, 160_000))])
REFERENCE = PictureReference(
    front_end=FRONT_END,
    tick_frames=32,
    segment_ticks=10,
    expected=Reference(NORMAL.mean(axis=0), np.full(FRONT_END.n_bands, 0.5, np.float32)),
)


def at_once(folder: Path | None, *, private: bool = False, shown: list[bytes] | None = None) -> ClipService:
    """A service that writes while it is told."""
    store = None if folder is None else ClipStore(folder, max_bytes=10**8)
    present = None if shown is None else lambda _machine, _event, png: shown.append(png)
    return ClipService(store, run=lambda job: job(), present=present, private=private)


@dataclass
class Story:
    """What a pipeline would say: an event that is raised at the end of one tick and over at the end of another."""

    start_tick: int
    end_tick: int
    onset_ticks: int = 3  # before it is raised
    number: int = 1

    def step(self, tick: int, stop: int, samples: F32) -> Result:
        start, _update, end = anomaly(self.number)
        start = replace(start, onset_ts=start.ts - timedelta(seconds=self.onset_ticks * TICK / RATE_HZ))
        event = start if tick == self.start_tick else replace(end, onset_ts=start.onset_ts) if tick == self.end_tick else None
        score = TickScore(stop - TICK, stop, measure_quality(samples, sample_rate_hz=16_000), None, 1.0, 10)
        ratio = 2.0 if self.start_tick <= tick < self.end_tick else 0.5
        return Result(score, ratio, "anomaly" if ratio > 1 else "normal", None, 0, event)


def listen(recorder: ClipRecorder, sound: F32, story: Story, *, size: int = 1_600, gaps: Sequence[int] = ()) -> None:
    """Sound in blocks of a size, each tick told as soon as it is whole; at each of `gaps` a sample is missing."""
    n_ticks, held = 0, 0
    for at in range(0, len(sound), size):
        edges = [at, *(gap for gap in gaps if at < gap < at + size), min(at + size, len(sound))]
        for begin, end in pairwise(edges):
            skipped = begin in gaps
            recorder.push_block(Block(begin + skipped, sound[begin + skipped : end]))
            held = end
            while (n_ticks + 1) * TICK <= held:
                stop = (n_ticks + 1) * TICK
                recorder.push(story.step(n_ticks, stop, sound[stop - TICK : stop]))
                n_ticks += 1


def stem(number: int = 1) -> str:
    return clip_stem("fan", anomaly(number)[0].id)


def heard(folder: Path, number: int = 1) -> F32:
    samples, rate_hz = soundfile.read(folder / f"{stem(number)}.flac", dtype="float32")
    assert rate_hz == RATE_HZ
    return np.asarray(samples, np.float32)


def as_16_bits(sound: F32) -> F32:
    return np.asarray(np.rint(sound * 32_768) / 32_768, np.float32)


SOUND = as_16_bits(hum(1, 60 * RATE_HZ))


def test_a_clip_reaches_from_before_the_onset_to_after_the_end(tmp_path: Path) -> None:
    listen(ClipRecorder(at_once(tmp_path), REFERENCE, CLIPS), SOUND, Story(start_tick=19, end_tick=24))
    onset, over = 17 * TICK, 25 * TICK
    assert np.array_equal(heard(tmp_path), SOUND[onset - 2 * RATE_HZ : over + RATE_HZ])
    assert at_once(tmp_path).clip_name("fan", anomaly(1)[0].id) == f"{stem()}.flac"


def test_a_clip_is_as_long_as_allowed_and_no_longer(tmp_path: Path) -> None:
    listen(ClipRecorder(at_once(tmp_path), REFERENCE, CLIPS), SOUND, Story(start_tick=19, end_tick=50))
    begin = 17 * TICK - 2 * RATE_HZ
    assert np.array_equal(heard(tmp_path), SOUND[begin : begin + 20 * RATE_HZ])


@pytest.mark.parametrize("end_tick", [24, 50])
@pytest.mark.parametrize("size", [160, 7_919, 32_000, 480_000])
def test_the_same_sound_gives_the_same_files_in_whatever_blocks_it_comes(tmp_path: Path, size: int, end_tick: int) -> None:
    for name, blocks in (("one", 1_600), ("other", size)):
        listen(ClipRecorder(at_once(tmp_path / name), REFERENCE, CLIPS), SOUND, Story(19, end_tick), size=blocks)
    for suffix in (".flac", ".png"):
        one, other = ((tmp_path / name / f"{stem()}{suffix}").read_bytes() for name in ("one", "other"))
        assert one == other


def test_a_clip_begins_after_a_gap_before_the_event_was_raised(tmp_path: Path) -> None:
    gap = 18 * TICK + 5
    listen(ClipRecorder(at_once(tmp_path), REFERENCE, CLIPS), SOUND, Story(19, 24), gaps=[gap])
    assert np.array_equal(heard(tmp_path), SOUND[gap + 1 : 25 * TICK + RATE_HZ])


def test_a_clip_ends_at_a_gap_in_its_middle(tmp_path: Path) -> None:
    gap = 22 * TICK + 5
    listen(ClipRecorder(at_once(tmp_path), REFERENCE, CLIPS), SOUND, Story(19, 24), gaps=[gap])
    assert np.array_equal(heard(tmp_path), SOUND[17 * TICK - 2 * RATE_HZ : gap])


def test_a_clip_ends_where_nothing_arrives_any_more(tmp_path: Path) -> None:
    recorder = ClipRecorder(at_once(tmp_path), REFERENCE, CLIPS)
    listen(recorder, SOUND[: 22 * TICK], Story(19, 24))
    recorder.push(Result(TickScore(23 * TICK, 23 * TICK, None, "microphone_lost", None, 0), None, "unknown", None, 0, None))
    assert np.array_equal(heard(tmp_path), SOUND[17 * TICK - 2 * RATE_HZ : 22 * TICK])


def test_what_is_open_at_the_end_is_kept(tmp_path: Path) -> None:
    recorder = ClipRecorder(at_once(tmp_path), REFERENCE, CLIPS)
    listen(recorder, SOUND[: 22 * TICK], Story(19, 24))
    recorder.close(anomaly(1)[-1])
    assert np.array_equal(heard(tmp_path), SOUND[17 * TICK - 2 * RATE_HZ : 22 * TICK])


def test_an_event_soon_after_another_has_a_clip_of_its_own(tmp_path: Path) -> None:
    @dataclass
    class Two(Story):
        def step(self, tick: int, stop: int, samples: F32) -> Result:
            return Story(*((19, 24) if tick < 25 else (25, 30)), number=1 if tick < 25 else 2).step(tick, stop, samples)

    listen(ClipRecorder(at_once(tmp_path), REFERENCE, ClipsConfig(pre_s=2, post_s=2, max_s=20)), SOUND, Two(0, 0))
    assert np.array_equal(heard(tmp_path, 1), SOUND[17 * TICK - 2 * RATE_HZ : 26 * TICK])
    assert np.array_equal(heard(tmp_path, 2), SOUND[23 * TICK - 2 * RATE_HZ : 31 * TICK + 2 * RATE_HZ])


def test_without_clips_or_in_private_nothing_is_written_or_named(tmp_path: Path) -> None:
    for service in (at_once(None), at_once(tmp_path, private=True)):
        recorder = ClipRecorder(service, REFERENCE, CLIPS)
        listen(recorder, SOUND, Story(19, 24))
        assert recorder.clip_name("fan", anomaly(1)[0].id) is None
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_time() -> None:
    recorder = ClipRecorder(at_once(None), REFERENCE, CLIPS)
    never, sound = Story(10**9, 10**9), hum(1, 1_600)
    starts = count(0, 1_600)

    def after(minutes: int) -> int:
        for _ in range(minutes * 600):
            start = next(starts)
            recorder.push_block(Block(start, sound.copy()))
            recorder.push(never.step(0, start, sound))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        first, later = after(1), after(5)
    finally:
        tracemalloc.stop()
    assert first < 2.5e6  # 20 s of float32
    assert abs(later - first) < 50_000


# The picture.


def test_a_picture_shows_the_excess_where_it_is(tmp_path: Path) -> None:
    t = np.arange(len(SOUND)) / RATE_HZ
    tone = np.where(t > 17 * TICK / RATE_HZ, 0.1 * np.sin(2 * np.pi * 3_000 * t), 0.0).astype(np.float32)
    listen(ClipRecorder(at_once(tmp_path), REFERENCE, CLIPS), SOUND + tone, Story(19, 24))
    picture = np.asarray(Image.open(tmp_path / f"{stem()}.png").convert("RGB"), int)
    assert picture.shape == (436, 960, 3)
    is_red = (abs(picture - [200, 55, 31]).sum(axis=2) == 0)[57:311, 880:933]  # right of the excess panel's middle
    rows = np.flatnonzero(is_red.sum(axis=1) > 20)
    limits = FRONT_END.band_limits_hz()
    band = int(np.searchsorted(limits, 3_000)) - 1
    height = 56 + 256 * (1 - (band + 0.5) / FRONT_END.n_bands)
    assert len(rows) > 0
    assert abs(57 + rows.mean() - height) < 8  # two bands


def test_a_snapshot_is_shown_at_the_start_and_small_even_where_nothing_compresses(tmp_path: Path) -> None:
    fine = LogSpectrumSpec(sample_rate_hz=RATE_HZ, n_fft=1024, hop_length=256, n_bins=512)
    reference = replace(REFERENCE, front_end=fine, expected=None)
    shown: list[bytes] = []
    recorder = ClipRecorder(at_once(None, shown=shown), reference, ClipsConfig(max_s=120))
    listen(recorder, noise(1, 20 * TICK), Story(19, 10**9, onset_ticks=18))
    (png,) = shown
    assert len(png) <= 100_000
    assert Image.open(io.BytesIO(png)).size == (960, 436)


def test_in_private_a_picture_shows_whole_seconds(tmp_path: Path) -> None:
    clicks = SOUND.copy()
    clicks[::1_000] += 0.5
    n_columns = []
    for private in (False, True):
        shown: list[bytes] = []
        listen(ClipRecorder(at_once(None, private=private, shown=shown), REFERENCE, CLIPS), clicks[: 20 * TICK], Story(19, 10**9))
        row = np.asarray(Image.open(io.BytesIO(shown[0])).convert("RGB"), int)[60:300, 58:654].reshape(240, -1)
        strips = row.reshape(240, 596, 3)
        n_columns.append(1 + int((abs(np.diff(strips, axis=1)).sum(axis=(0, 2)) > 0).sum()))
    assert n_columns[0] > 100
    assert n_columns[1] <= 6  # of the 5.07 s from 2 s before the onset to the decision


# What a disk can do to it.


@pytest.fixture
def worker() -> Iterator[BackgroundWorker]:
    made = BackgroundWorker("clips")
    yield made
    made.close(10)


def test_a_stalled_disk_blocks_no_caller_and_lost_clips_are_counted_and_logged(
    tmp_path: Path, worker: BackgroundWorker, caplog: pytest.LogCaptureFixture
) -> None:
    is_stalled, disk_is_back = threading.Event(), threading.Event()

    def stall() -> None:
        is_stalled.set()
        disk_is_back.wait()

    service = ClipService(ClipStore(tmp_path, max_bytes=10**8), run=worker.put, present=None)
    worker.put(stall)
    assert is_stalled.wait(10)
    recorder = ClipRecorder(service, REFERENCE, CLIPS)
    slowest_s = 0.0
    for number in range(MAX_WAITING + 3):
        listen(recorder, SOUND[: 20 * TICK], Story(19, 24, number=number))
        began = time.monotonic()
        recorder.close(anomaly(number)[-1])
        slowest_s = max(slowest_s, time.monotonic() - began)
    assert slowest_s < 1.0
    assert worker.n_dropped == 3
    assert caplog.messages == ["clips: the disk is too slow; dropped so far: 1"]
    disk_is_back.set()
    worker.close(20)
    assert service.n_saved == MAX_WAITING


def test_a_full_disk_is_logged_once_and_later_clips_are_written(
    tmp_path: Path, worker: BackgroundWorker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with tmpfs(tmp_path, n_bytes=2_000_000) as disk:
        full = disk / "somebody-elses"
        full.write_bytes(bytes(1_990_000))
        service = ClipService(ClipStore(disk / "clips", max_bytes=10**8), run=worker.put, present=None)
        recorder = ClipRecorder(service, REFERENCE, CLIPS)
        for number in range(3):
            listen(recorder, SOUND, Story(19, 24, number=number))
            worker.close(20)
        assert (service.n_saved, worker.n_failed) == (0, 3)
        full.unlink()
        listen(recorder, SOUND, Story(19, 24, number=3))
        worker.close(20)
        assert service.n_saved == 1
        assert sorted(path.name for path in (disk / "clips").iterdir()) == [f"{stem(3)}.flac", f"{stem(3)}.png"]
    assert len(caplog.messages) == 2
    assert "cannot be written: No space left on device" in caplog.messages[0]
    assert caplog.messages[1] == "clips: written again; failed so far: 3"


# Fetching.


def test_a_clip_is_fetched_and_the_next_one_only_after_a_while(tmp_path: Path) -> None:
    service = at_once(tmp_path)
    listen(ClipRecorder(service, REFERENCE, CLIPS), SOUND, Story(19, 24))
    got: list[bytes] = []
    event_id = anomaly(1)[0].id
    assert service.fetch("fan", event_id, snapshot=None, now=100.0, send=got.append) is None
    assert got == [(tmp_path / f"{stem()}.flac").read_bytes()]
    assert service.fetch("fan", event_id, snapshot=None, now=104.0, send=got.append) == "one clip every 10 s: try again in 6 s"
    assert service.fetch("fan", event_id, snapshot=None, now=110.0, send=got.append) is None
    assert len(got) == 2


def test_a_clip_that_is_not_there_or_may_not_leave_is_refused(tmp_path: Path) -> None:
    got: list[bytes] = []
    event_id = anomaly(1)[0].id
    for service, why in (
        (at_once(tmp_path), f"there is no clip of {event_id}"),
        (at_once(None), "clips are disabled (clips.enabled: false)"),
        (at_once(tmp_path, private=True), "sending sound is disabled (private: true)"),
    ):
        assert service.fetch("fan", event_id, snapshot=None, now=0.0, send=got.append) == why
    assert got == []


def test_a_deleted_clip_is_logged_once_and_does_not_count_as_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    service = at_once(tmp_path)
    listen(ClipRecorder(service, REFERENCE, CLIPS), SOUND, Story(19, 24))
    (tmp_path / f"{stem()}.flac").unlink()
    got: list[bytes] = []
    event_id = anomaly(1)[0].id
    assert service.fetch("fan", event_id, snapshot=None, now=0.0, send=got.append) is None
    assert service.fetch("fan", event_id, snapshot=None, now=10.0, send=got.append) == f"there is no clip of {event_id}"
    assert got == []
    assert [message.rpartition(": ")[2] for message in caplog.messages] == ["No such file or directory"]


def test_a_folder_that_cannot_be_read_changes_nothing_of_what_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{stem()}.flac").touch()
    store = ClipStore(tmp_path, max_bytes=10**6)
    store.rescan()

    def refuse(_: Path) -> Iterator[Path]:
        raise PermissionError

    monkeypatch.setattr(Path, "iterdir", refuse)
    store.rescan()
    assert store.stems == {stem()}


def test_the_clip_of_an_open_event_is_sent_as_far_as_it_is_recorded(tmp_path: Path) -> None:
    service = at_once(tmp_path)
    recorder = ClipRecorder(service, REFERENCE, CLIPS)
    listen(recorder, SOUND[: 22 * TICK], Story(19, 24))
    got: list[bytes] = []
    event_id = anomaly(1)[0].id
    assert recorder.snapshot("another") is None
    assert service.fetch("fan", event_id, snapshot=recorder.snapshot(event_id), now=0.0, send=got.append) is None
    samples, _rate_hz = soundfile.read(io.BytesIO(got[0]), dtype="float32")
    assert np.array_equal(samples, SOUND[17 * TICK - 2 * RATE_HZ : 22 * TICK])


def test_a_clip_that_is_still_to_be_written_is_sent_and_read(tmp_path: Path) -> None:
    jobs: list[Job] = []
    store = ClipStore(tmp_path, max_bytes=10**8)
    service = ClipService(store, run=jobs.append, present=None)
    listen(ClipRecorder(service, REFERENCE, CLIPS), SOUND, Story(19, 24))
    got: list[bytes] = []
    event_id = anomaly(1)[0].id
    assert not store.stems
    name, read = service.read_clip(event_id, snapshot=None)
    assert name == f"{stem()}.flac"
    assert service.fetch("pump", event_id, snapshot=None, now=0.0, send=got.append) == f"there is no clip of {event_id}"
    assert service.fetch("fan", event_id, snapshot=None, now=0.0, send=got.append) is None
    while jobs:
        jobs.pop(0)()
    assert got == [read] == [(tmp_path / name).read_bytes()]
    (tmp_path / name).unlink()
    store.rescan()
    with pytest.raises(SinkError, match="there is no clip of"):
        service.read_clip(event_id, snapshot=None)


def test_what_is_sent_is_bounded(tmp_path: Path) -> None:
    service = at_once(tmp_path)
    recorder = ClipRecorder(service, REFERENCE, ClipsConfig(max_s=120))
    listen(recorder, noise(1, 120 * RATE_HZ, level=0.2), Story(19, 110))
    recorder.close(None)
    assert (tmp_path / f"{stem()}.flac").stat().st_size > 1_500_000
    got: list[bytes] = []
    service.fetch("fan", anomaly(1)[0].id, snapshot=None, now=0.0, send=got.append)
    assert 800_000 < len(got[0]) <= 1_000_000

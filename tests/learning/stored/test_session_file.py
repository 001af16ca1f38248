"""A session as a file: what it keeps, how it is thinned, and the damage that is detected."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from monitor.block import Block
from monitor.errors import SourceError
from monitor.explain.envelope import pooled_shape
from monitor.explain.profile import SegmentProfile
from monitor.learning.rescore import ProfiledTick
from monitor.learning.stored.session_file import decode, encode, halved
from monitor.learning.stored.sessions import LearnedSession, read_sessions, remove_other_sessions, remove_session, write_session
from monitor.scoring.features import TickFrames
from tests.scoring.linear import FRONT_END, TICK, linear_scorer
from tests.signals import hum

SCORER = linear_scorer(segment_ticks=2)
SPEC = SCORER.spec


def stream(n_ticks: int, *, seed: int = 0) -> list[TickFrames]:
    SCORER.reset()
    return SCORER.extract(Block(0, hum(seed, n_ticks * TICK + 512)))


def profiled(tick: TickFrames, *, start: int) -> ProfiledTick:
    shape = pooled_shape(16000)
    envelope_db = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    return ProfiledTick(**vars(tick), profile=SegmentProfile(np.arange(64.0), -np.arange(64.0), envelope_db, start))


def unscored(tick: TickFrames, reason: str) -> TickFrames:
    return replace(tick, frames=None, quality=replace(tick.quality, reason=reason))


def session() -> list[list[TickFrames]]:
    """Two streams; ticks 1 and 4 complete segments, ticks 2 and 3 may not be scored."""
    first, second = stream(4), stream(3, seed=1)
    first[1] = profiled(first[1], start=first[0].start)
    first[2], first[3] = unscored(first[2], "silent"), unscored(first[3], "clipped")
    second[0] = profiled(second[0], start=7)
    second[2] = replace(second[2], n_frames=31, fresh=True)
    return [first, second]


def test_a_session_keeps_everything_but_the_samples() -> None:
    before = session()
    after = decode(encode(before, SPEC), SPEC)
    assert [len(one) for one in after] == [4, 3]
    for old, new in zip((tick for one in before for tick in one), (tick for one in after for tick in one), strict=True):
        assert (new.start, new.stop, new.n_frames, new.fresh, new.quality) == (
            old.start,
            old.stop,
            old.n_frames,
            old.fresh,
            old.quality,
        )
        assert len(new.samples) == 0
        if old.frames is None:
            assert new.frames is None
        else:
            assert new.frames is not None and new.frames.dtype == np.float32
            np.testing.assert_allclose(new.frames, old.frames, atol=0.04)
        assert isinstance(new, ProfiledTick) == isinstance(old, ProfiledTick)
        if isinstance(old, ProfiledTick) and isinstance(new, ProfiledTick):
            assert new.profile.start == old.profile.start
            np.testing.assert_array_equal(new.profile.mean_db, old.profile.mean_db)
            np.testing.assert_array_equal(new.profile.level_db, old.profile.level_db)
            np.testing.assert_array_equal(new.profile.envelope_db, old.profile.envelope_db)


def test_another_front_end_or_segment_is_refused() -> None:
    content = encode(session(), SPEC)
    for other in (
        replace(SPEC, segment_ticks=3),
        linear_scorer(segment_ticks=2, front_end=replace(FRONT_END, fmin_hz=1.0)).spec,
    ):
        with pytest.raises(SourceError, match="was recorded with a different front end"):
            decode(content, other)
    decode(content, replace(SPEC, input_frames=(0,)))  # the network does not matter


Arrays = dict[str, NDArray[Any]]


def put(name: str, at: int, value: object) -> Callable[[Arrays], object]:
    return lambda arrays: arrays[name].__setitem__(at, value)


CHRONOLOGY = "is damaged: its ticks are not in chronological order"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("stream", 2, 1), CHRONOLOGY),  # back to stream 0 after it
        (put("start", 0, -1), CHRONOLOGY),
        (put("stop", 1, TICK), CHRONOLOGY),  # empty
        (put("stop", 5, 9 * TICK), CHRONOLOGY),  # overlaps the next one
        (put("n_frames", 0, 0), CHRONOLOGY),
        (put("n_frames", 0, 33), CHRONOLOGY),
        (put("reason", 2, 2), CHRONOLOGY),
        (put("reason", 0, -2), CHRONOLOGY),
        (put("reason", 2, -1), CHRONOLOGY),  # a tick without frames
        (put("portrait_at", 0, -1), CHRONOLOGY),
        (put("portrait_at", 1, 7), CHRONOLOGY),
        (put("portrait_at", 1, 1), CHRONOLOGY),  # twice the same tick
        (put("portrait_at", 1, 0), CHRONOLOGY),
        (put("portrait_at", 1, 2), CHRONOLOGY),  # of a tick without frames
        (put("mean_db", 0, np.nan), "is damaged: mean_db must be"),
        (put("frames", 0, np.inf), "is damaged: frames must be"),
        (lambda arrays: arrays.pop("fresh"), "is damaged: must hold"),
        (lambda arrays: arrays.update(more=np.zeros(1)), "is damaged: must hold"),
        (lambda arrays: arrays.update(start=arrays["start"].astype(np.float64)), "is damaged: start must be"),
        (lambda arrays: arrays.update(start=arrays["start"][:-1]), "is damaged: start must be"),
        (lambda arrays: arrays.update(stream=np.int64(1)), "is damaged: an array has no rows"),
        (lambda arrays: arrays.update(header=arrays["header"][:-1]), "is damaged: its header is not one of monitor learn"),
    ],
)
def test_damage_is_detected(change: Callable[[Arrays], object], message: str) -> None:
    with np.load(io.BytesIO(encode(session(), SPEC))) as loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    change(arrays)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with pytest.raises(SourceError, match=message):
        decode(buffer.getvalue(), SPEC)


def test_profiles_must_be_in_order_all_along() -> None:
    three = session()
    three[1][1] = profiled(three[1][1], start=9)
    with np.load(io.BytesIO(encode(three, SPEC))) as loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    assert arrays["portrait_at"].tolist() == [1, 4, 5]
    arrays["portrait_at"][:] = [1, 5, 4]
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with pytest.raises(SourceError, match=CHRONOLOGY):
        decode(buffer.getvalue(), SPEC)


@pytest.mark.parametrize("schema", [0, 2])
def test_another_schema_is_named(schema: int) -> None:
    with np.load(io.BytesIO(encode(session(), SPEC))) as loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    text = arrays["header"].tobytes().replace(b'"schema": 1', f'"schema": {schema}'.encode())
    buffer = io.BytesIO()
    np.savez(buffer, **(arrays | {"header": np.frombuffer(text, np.uint8)}))
    with pytest.raises(SourceError, match=f"must be of schema 1, got {schema}"):
        decode(buffer.getvalue(), SPEC)


def test_every_second_minute_of_a_long_session_is_kept() -> None:
    """A part has six segments, here twelve ticks; the first tick of each is fresh."""
    (tick,) = stream(1)
    ticks = [replace(tick, start=at, stop=at + 1, fresh=False) for at in range(120)]
    kept = halved([ticks], SPEC)
    assert kept is not None
    assert [one.start for one in kept[0]] == [at for at in range(120) if at // 12 % 2 == 0]
    assert [one.start for one in kept[0] if one.fresh] == [0, 24, 48, 72, 96]
    assert halved([ticks[:108]], SPEC) is None  # nine parts
    assert halved([ticks[:109]], SPEC) is not None
    two = halved([ticks[:36], ticks[:84]], SPEC)
    assert two is not None
    assert [[one.start for one in some if one.fresh] for some in two] == [[0, 24], [12, 36, 60]]


def test_sessions_are_read_in_order_and_removed_by_name(tmp_path: Path) -> None:
    names = [f"learn-20261121T1000000{number}0000" for number in (2, 1)]
    for name in names:
        write_session(tmp_path, "fan", name, session(), SPEC)
    (tmp_path / "learned" / "fan" / "notes.npz").write_text("not a session")
    found = read_sessions(tmp_path, "fan", SPEC)
    assert [one.path.stem for one in found] == ["20261121T100000010000", "20261121T100000020000"]
    assert found[0].in_words(60.0) == "2026-11-21 10:00 UTC (7 min)"
    assert LearnedSession(found[0].path, [[]]).in_words(1.0) == "2026-11-21 10:00 UTC (0 s)"
    remove_other_sessions(tmp_path, "fan", names[0])
    assert [one.path.stem for one in read_sessions(tmp_path, "fan", SPEC)] == ["20261121T100000020000"]
    remove_session(tmp_path, "fan", names[0])
    assert read_sessions(tmp_path, "fan", SPEC) == []


def test_a_damaged_session_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "learned" / "fan" / "20261121T100000000000.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"junk")
    with pytest.raises(SourceError, match=r"0000\.npz: is damaged: .*; remove it, or learn without --extend"):
        read_sessions(tmp_path, "fan", SPEC)
    with path.open("wb") as file:
        file.truncate(64_000_001)
    with pytest.raises(SourceError, match="must have at most 64,000,000 bytes, got 64,000,001"):
        read_sessions(tmp_path, "fan", SPEC)

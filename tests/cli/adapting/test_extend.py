"""`monitor learn --extend`: learn a machine over several sessions, which are stored as frames, not as sound."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitor.block import Block
from monitor.bundle import load_bundle
from monitor.cli.adapting.tick_input import TickCollector
from monitor.daemon.bundles.adaptations import FOLDER
from monitor.errors import SourceError
from monitor.learning.false_alarms import count_events
from monitor.learning.rescore import ProfiledTick, profiles
from monitor.learning.stored import sessions as learned
from monitor.learning.stored.session_file import decode, encode, halved
from monitor.learning.stored.sessions import read_sessions, remove_other_sessions, write_session
from monitor.scoring.features import TickFrames
from monitor.scoring.scorer import ScorerSpec
from tests.cli.bench import RATE_HZ, Bench, made
from tests.conftest import ROOT
from tests.tmpfs import tmpfs
from train.recipes.recipe import load_recipe

RULE_S = 60.0


def day(bench: Bench, number: int, *, seconds: float = 330.0) -> Path:
    """A pump, with another flow each day."""
    return bench.sound(made("pump", seed=3, take=number, seconds=seconds), f"day-{number}")


def n_events(bench: Bench, number: int, fault: str | None = None) -> int:
    sound = made("pump", seed=3, take=number, seconds=RULE_S, fault=fault)
    return count_events(bench.ratios(sound), bench.used().manifest.rule)


def stored(bench: Bench) -> list[Path]:
    return sorted((bench.state / learned.FOLDER / "fan").iterdir())


def test_two_days_are_both_normal_where_one_alone_is_not(bench: Bench, record_property: Callable[[str, object], None]) -> None:
    bench.run("learn", "--yes", "--from", day(bench, 0))
    other = made("pump", seed=3, take=3, seconds=RULE_S)
    before = np.median(bench.ratios(other))
    assert (n_events(bench, 0), n_events(bench, 3)) == (0, 1)
    output = bench.run("learn", "--yes", "--extend", "--from", day(bench, 3))
    assert re.search(r"extends 1 earlier session: 20\d\d-\d\d-\d\d \d\d:\d\d UTC \(5\.5 min\)", output)
    assert "learned from 11 min of sound" in output
    assert (n_events(bench, 0), n_events(bench, 3)) == (0, 0)
    assert n_events(bench, 3, "bearing") == 1
    after = np.median(bench.ratios(other))
    record_property("figures", f"another flow: {before:.1f} x the threshold (median), {after:.1f} x once it was added")
    expected = bench.used().expected
    assert (
        expected is not None and expected.levels is not None and expected.envelope is not None
    )  # the profiles of the day before count, too
    bench.run("learn", "--yes", "--from", day(bench, 3))  # starts over: the first day is dropped
    assert (n_events(bench, 0), n_events(bench, 3)) == (1, 0)
    assert len(stored(bench)) == 1


def test_undoing_an_extension_restores_the_earlier_bundle_and_drops_the_session(bench: Bench) -> None:
    configured = bench.used().id
    bench.run("learn", "--yes", "--from", day(bench, 0))
    first, sessions = bench.used().id, stored(bench)
    bench.run("learn", "--yes", "--extend", "--from", day(bench, 1))
    second = bench.used().id
    bench.run("calibrate", "--from", day(bench, 1, seconds=60.0))
    assert f"calibration undone; {second} is in use" in bench.run("calibrate", "--undo")
    assert len(stored(bench)) == 2
    assert f"learning undone; {first} is in use" in bench.run("calibrate", "--undo")
    assert stored(bench) == sessions
    assert f"learning undone; {configured} is in use" in bench.run("calibrate", "--undo")
    assert stored(bench) == []
    assert "nothing was learned or calibrated here for fan" in bench.run("calibrate", "--undo", status=2)
    assert sorted(path.name for path in (bench.state / FOLDER / "fan").iterdir()) == ["in-use.json", "lock"]
    assert "no earlier session found; this is the first" in bench.run("learn", "--yes", "--extend", "--from", day(bench, 0))


def test_the_step_that_leaves_nothing_learned_is_taken_only_after_a_warning(bench: Bench) -> None:
    manifest = bench.bundle / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "base": True}))
    assert "base bundle: nothing is judged until it has learned; next: monitor learn --machine fan" in bench.run("check-config")
    bench.run("learn", "--yes", "--from", day(bench, 0))
    assert not bench.used().is_base
    bench.run("calibrate", "--from", day(bench, 0, seconds=60.0))
    assert "calibration undone" in bench.run("calibrate", "--undo")
    warning = "this would leave nothing learned: fan would not be monitored until it has learned again"
    assert warning in bench.run("calibrate", "--undo", status=2)
    assert not bench.used().is_base
    assert "learning undone" in bench.run("calibrate", "--undo", "--force")
    assert bench.used().is_base
    assert "knows no machine to compare with" in bench.run("calibrate", "--from", day(bench, 0, seconds=60.0), status=1)


def test_what_was_learned_survives_an_upgrade_of_the_base_bundle(bench: Bench, tmp_path: Path) -> None:
    """The base bundle of the next version has another network and another front end."""
    manifest = bench.bundle / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "base": True}))
    bench.run("learn", "--yes", "--from", day(bench, 0))
    learned_from_old = bench.used().id
    shutil.rmtree(bench.bundle)
    shutil.copytree(ROOT / "models" / "base", bench.bundle)
    text = (bench.bundle / "manifest.json").read_text()
    (bench.bundle / "manifest.json").write_text(text.replace('"name": "base"', '"name": "demo-fan"'))
    assert bench.used().id == learned_from_old
    assert "made by monitor learn from demo-fan@" in bench.run("check-config")
    assert n_events(bench, 0, "bearing") == 1
    bench.run("calibrate", "--from", day(bench, 0, seconds=60.0))
    assert bench.used().manifest.provenance.adapted is not None
    bench.run("calibrate", "--undo")
    assert bench.used().id == learned_from_old
    refused = bench.run("learn", "--yes", "--extend", "--from", day(bench, 1), status=1)
    assert refused.endswith("different front end than the configured bundle's; remove it, or learn without --extend")
    bench.run("learn", "--yes", "--from", day(bench, 1))
    assert bench.used().model == load_bundle(bench.bundle).model


def test_unusable_sound_is_not_stored(bench: Bench) -> None:
    bench.run("learn", "--yes", "--from", day(bench, 0))
    before = {path: path.read_bytes() for path in stored(bench)}
    noise = bench.sound(np.zeros(330 * RATE_HZ, np.float32), "silence")
    assert "mostly silent" in bench.run("learn", "--yes", "--extend", "--from", noise, status=1)
    assert {path: path.read_bytes() for path in stored(bench)} == before


@pytest.mark.parametrize("private", [False, True])
def test_no_sound_is_stored_and_nothing_with_private(private: bool, bench: Bench) -> None:
    if private:
        with (bench.folder / "monitor.yaml").open("a") as file:
            file.write("private: true\n")
    bench.run("learn", "--yes", "--from", day(bench, 0))
    if private:
        assert not (bench.state / learned.FOLDER).exists()
        refusal = bench.run("learn", "--yes", "--extend", "--from", day(bench, 0), status=2)
        assert "--extend needs stored frames of earlier sessions, which the configuration forbids (private: true)" in refusal
        return
    (path,) = stored(bench)
    with np.load(path) as archive:
        assert set(archive.files) == {
            *("header", "stream", "start", "stop", "n_frames", "fresh", "reason", "quality", "frames"),
            *("portrait_at", "portrait_start", "mean_db", "level_db", "envelope_db"),
        }
        n_ticks = len(archive["start"])
        assert archive["frames"].shape == (n_ticks, 32, 64)
    assert path.stat().st_size < 4_900 * n_ticks  # an hour is 17 MB


@pytest.mark.parametrize("more", ["--out x", "--model x"])
def test_extending_needs_a_configured_machine(more: str, bench: Bench) -> None:
    assert "cannot be combined with --model or --out" in bench.run(
        "learn", "--yes", "--extend", "--from", day(bench, 0, seconds=1.0), *more.split(), status=2
    )


def test_an_unusable_store_is_refused_in_one_line_before_any_sound_is_read(bench: Bench) -> None:
    bench.run("learn", "--yes", "--from", day(bench, 0))
    used, (path,) = bench.used().id, stored(bench)
    whole = path.read_bytes()
    nothing = bench.folder / "nothing.wav"  # never opened
    for content in (b"", b"no archive", whole[: len(whole) // 2], whole[:100_000] + bytes(1_000) + whole[101_000:]):
        path.write_bytes(content)
        output = bench.run("learn", "--yes", "--extend", "--from", nothing, status=1)
        assert output.startswith(f"monitor: error: {path}: is damaged: ")
        assert output.endswith("; remove it, or learn without --extend")
    path.write_bytes(bytes(70_000_000))
    assert "must have at most 64,000,000 bytes, got 70,000,000" in bench.run(
        "learn", "--yes", "--extend", "--from", nothing, status=1
    )
    assert bench.used().id == used
    bench.run("learn", "--yes", "--from", day(bench, 0))  # starts over, so it does not matter
    assert len(stored(bench)) == 1


def test_on_a_full_disk_the_bundle_is_kept_and_the_lost_session_reported(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    sound = day(bench, 0)
    with tmpfs(bench.folder, n_bytes=1_000_000) as small:
        text = (bench.folder / "monitor.yaml").read_text()
        (bench.folder / "monitor.yaml").write_text(text.replace("state_dir: state", f"state_dir: {small}"))
        bench.run("learn", "--yes", "--from", sound)
        assert "the session was not stored, so --extend cannot use it" in caplog.text
        assert "No space left on device" in caplog.text
        assert [path.name for path in (small / learned.FOLDER / "fan").iterdir()] == []
        in_use = json.loads((small / FOLDER / "fan" / "in-use.json").read_text())
        assert load_bundle(small / FOLDER / "fan" / in_use["learn"]).manifest.provenance.adapted is not None


# The file and the folder


@pytest.fixture(scope="module")
def spec() -> ScorerSpec:
    return load_recipe("default").scorer_spec


def ticks_of(spec: ScorerSpec, seconds: float, *, take: int = 0) -> list[TickFrames]:
    ears = TickCollector(spec)
    samples = made("pump", take=take, seconds=seconds)
    samples[8 * RATE_HZ : 9 * RATE_HZ] = 0.0
    ears.push(Block(0, samples[: 20 * RATE_HZ]))
    ears.push(Block(21 * RATE_HZ, samples[21 * RATE_HZ :]))
    return ears.end()


def test_a_session_is_restored(spec: ScorerSpec) -> None:
    """Frames within the rounding of float16, profiles within that of float32, all else exactly."""
    streams = [ticks_of(spec, 45.0), ticks_of(spec, 30.0, take=1)]
    found = decode(encode(streams, spec), spec)
    assert [len(stream) for stream in found] == [len(stream) for stream in streams]
    ticks, same = [tick for stream in streams for tick in stream], [tick for stream in found for tick in stream]
    assert {tick.quality.reason for tick in ticks} == {None, "silent"} or {tick.quality.reason for tick in ticks} >= {None, "gap"}
    for one, other in zip(ticks, same, strict=True):
        assert type(one) is type(other)
        assert (one.start, one.stop, one.n_frames, one.fresh, one.quality) == (
            *(other.start, other.stop, other.n_frames, other.fresh, other.quality),
        )
        assert (one.frames is None) == (other.frames is None)
        if one.frames is not None and other.frames is not None:
            np.testing.assert_allclose(other.frames, one.frames, atol=0.032)
    assert len(profiles(found)) == len(profiles(streams)) > 3
    for drawn, again in zip(profiles(streams), profiles(found), strict=True):
        assert drawn.start == again.start
        for name in ("mean_db", "level_db", "envelope_db"):
            np.testing.assert_allclose(getattr(again, name), getattr(drawn, name), atol=1e-4)


def test_a_session_of_another_front_end_is_refused(spec: ScorerSpec) -> None:
    content = encode([ticks_of(spec, 30.0)], spec)
    for other in (
        replace(spec, front_end=replace(spec.front_end, hop_length=256)),
        replace(spec, tick_frames=16),
        replace(spec, segment_ticks=5),
    ):
        with pytest.raises(SourceError, match=r"was recorded with a different front end than the configured bundle's"):
            decode(content, other)


def changed(content: bytes, spec: ScorerSpec, tmp_path: Path, **arrays: object) -> bytes:
    del spec
    (tmp_path / "session.npz").write_bytes(content)
    with np.load(tmp_path / "session.npz") as archive:
        known = {name: archive[name] for name in archive.files}
    known |= {name: np.asarray(value) for name, value in arrays.items()}
    np.savez(tmp_path / "changed.npz", allow_pickle=True, **known)
    return (tmp_path / "changed.npz").read_bytes()


def test_every_damage_is_found(spec: ScorerSpec, tmp_path: Path) -> None:
    content = encode([ticks_of(spec, 30.0)], spec)
    with np.load(_file(tmp_path, content)) as archive:
        start, frames, at, reason = (archive[name] for name in ("start", "frames", "portrait_at", "reason"))
    for arrays in (
        {"start": start[::-1]},
        {"start": start[:-1]},
        {"start": start.astype(np.float64)},
        {"start": 0},
        {"frames": frames[:-1]},
        {"frames": frames * np.float16(np.nan)},
        {"frames": np.array([None])},
        {"portrait_at": at + 1_000},
        {"portrait_at": at[::-1]},
        {"reason": reason + 5},
        {"more": start},
        {"header": np.frombuffer(b"{}", np.uint8)},
        {"header": np.frombuffer(b'{"schema": 1, "reasons": 1, "heard_with": {}}', np.uint8)},
    ):
        with pytest.raises(SourceError, match="is damaged: ") as error:
            decode(changed(content, spec, tmp_path, **arrays), spec)
        assert "\n" not in str(error.value)
    with pytest.raises(SourceError, match="must be of schema 1, got 2"):
        decode(changed(content, spec, tmp_path, header=np.frombuffer(b'{"schema": 2}', np.uint8)), spec)


def _file(folder: Path, content: bytes) -> Path:
    (folder / "file.npz").write_bytes(content)
    return folder / "file.npz"


def test_half_a_session_still_spans_all_of_it(spec: ScorerSpec) -> None:
    ticks = [*ticks_of(spec, 60.0)]
    step = ticks[-1].stop - ticks[-1].start
    whole = [replace(ticks[at % 8], start=at * step, stop=(at + 1) * step, fresh=at == 0) for at in range(660)]
    half = halved([whole], spec)
    assert half is not None
    (stream,) = half
    assert len(stream) == 6 * 60
    assert [tick.start // step for tick in stream] == [at for at in range(660) if at // 60 % 2 == 0]
    assert [tick.start // step for tick in stream if tick.fresh] == [0, 120, 240, 360, 480, 600]
    assert halved([whole[:540]], spec) is None
    assert [len(one) for one in halved([whole[at : at + 50] for at in range(0, 600, 50)], spec) or []] == [50] * 6


def test_the_store_stays_within_its_limit_and_keeps_every_session_as_long_as_possible(
    spec: ScorerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = ticks_of(spec, 60.0)
    ticks = [tick for tick in ticks if tick.frames is not None and not isinstance(tick, ProfiledTick)][:8]
    step = ticks[0].stop - ticks[0].start
    long, short = ([[replace(ticks[at % 8], start=at * step, stop=(at + 1) * step) for at in range(n)]] for n in (1_200, 300))
    size = len(encode(long, spec))
    monkeypatch.setattr(learned, "MAX_BYTES", 2 * size + 10_000)

    def lengths() -> list[int]:
        return [sum(map(len, session.streams)) for session in read_sessions(tmp_path, "fan", spec)]

    for number, session in enumerate((long, long, long, short)):
        write_session(tmp_path, "fan", f"learn-2026112{number}T100000000000", session, spec)
        assert sum(path.stat().st_size for path in (tmp_path / "learned/fan").iterdir()) <= 2 * size + 10_000
    assert lengths() == [600, 600, 600, 300]  # of three, the oldest was halved first, and then the next
    assert read_sessions(tmp_path, "fan", spec)[0].in_words(1.0) == "2026-11-20 10:00 UTC (10 min)"
    monkeypatch.setattr(learned, "MAX_BYTES", size // 2 + 20_000)
    write_session(tmp_path, "fan", "learn-20261129T100000000000", short, spec)
    assert lengths() == [300, 300]  # sessions too short to be halved are dropped, oldest first
    remove_other_sessions(tmp_path, "fan", "learn-20261129T100000000000")
    assert lengths() == [300]

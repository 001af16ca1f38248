"""The sound of an interrupted learning on disk, and what is promised while a machine is learned."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monitor.block import Block
from monitor.cli.adapting.tick_input import TickCollector
from monitor.learning.predictive import fit_score_model
from monitor.learning.promise import promise_after
from monitor.learning.stored import unfinished
from monitor.learning.stored.unfinished import UnfinishedSession, remove_unfinished, unfinished_folder
from monitor.learning.thresholds import ALARM_CHANCE, FUSED_PRIOR
from monitor.scoring.features import TickFrames
from monitor.scoring.scorer import ScorerSpec
from train.recipes.recipe import load_recipe
from train.synth import MACHINES, Growth, Scene

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def spec() -> ScorerSpec:
    return load_recipe("mimii-mel").scorer_spec


@pytest.fixture(scope="module")
def ticks(spec: ScorerSpec) -> list[TickFrames]:
    """Some seconds of a fan, over and over: six minutes."""
    collector = TickCollector(spec)
    chunks = list(Scene(machine=MACHINES["fan"](0), growth=Growth()).chunks(30.0))
    collector.push(Block(0, np.concatenate(chunks)))
    some = collector.end()[:25]
    step = some[1].start - some[0].start
    return [replace(some[at % 25], start=at * step, stop=(at + 1) * step, fresh=at == 0) for at in range(350)]


def test_that_no_more_is_written_is_said_once(
    spec: ScorerSpec,
    ticks: list[TickFrames],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(unfinished, "MAX_BYTES", 1_000)
    session = UnfinishedSession(tmp_path, "fan", spec)
    for end in range(10, 351, 10):
        session.update(ticks[:end])
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "full, a restart would lose the sound from now on"
    ]
    assert list(tmp_path.rglob("*.npz")) == []


def test_parts_of_two_runs_are_two_streams_and_each_is_written_once(
    spec: ScorerSpec, ticks: list[TickFrames], tmp_path: Path
) -> None:
    first = UnfinishedSession(tmp_path, "fan", spec)
    for end in range(10, 351, 10):
        first.update(ticks[:end])
    folder = unfinished_folder(tmp_path, "fan")
    assert [path.name for path in sorted(folder.iterdir())] == ["0001-0001.npz", "0001-0002.npz"]
    first.update(ticks, is_end=True)
    first.update(ticks, is_end=True)
    assert len(list(folder.iterdir())) == 3
    second = UnfinishedSession(tmp_path, "fan", spec)
    assert [len(stream) for stream in second.read()] == [350]
    second.update(ticks[:30], is_end=True)
    found = UnfinishedSession(tmp_path, "fan", spec).read()
    assert [[tick.start for tick in stream] for stream in found] == [
        [tick.start for tick in ticks],
        [tick.start for tick in ticks[:30]],
    ]
    remove_unfinished(tmp_path, "fan")
    remove_unfinished(tmp_path, "fan")
    assert UnfinishedSession(tmp_path, "fan", spec).read() == []


def test_a_damaged_part_costs_its_own_sound(
    spec: ScorerSpec, ticks: list[TickFrames], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session = UnfinishedSession(tmp_path, "fan", spec)
    for end in range(10, 351, 10):
        session.update(ticks[:end])
    session.update(ticks, is_end=True)
    (unfinished_folder(tmp_path, "fan") / "0001-0002.npz").write_bytes(b"no archive")
    streams = UnfinishedSession(tmp_path, "fan", spec).read()
    assert len(streams) == 2
    assert 0 < sum(map(len, streams)) < 250
    assert "0001-0002.npz: its sound is lost: is damaged" in caplog.text


def test_what_follows_a_part_that_the_disk_refused_is_another_stream(
    spec: ScorerSpec, ticks: list[TickFrames], tmp_path: Path
) -> None:
    session = UnfinishedSession(tmp_path, "fan", spec)
    for end in range(10, 351, 10):
        session.update(ticks[:end])
    session.update(ticks, is_end=True)
    (unfinished_folder(tmp_path, "fan") / "0001-0002.npz").unlink()
    first, second = UnfinishedSession(tmp_path, "fan", spec).read()
    assert first[0].start == 0
    assert second[-1].start == ticks[-1].start
    assert second[0].start > first[-1].stop


def test_sound_of_another_front_end_is_not_used(spec: ScorerSpec, ticks: list[TickFrames], tmp_path: Path) -> None:
    UnfinishedSession(tmp_path, "fan", spec).update(ticks[:30], is_end=True)
    other = replace(spec, front_end=replace(spec.front_end, hop_length=256))
    assert UnfinishedSession(tmp_path, "fan", other).read() == []


def test_a_disk_that_cannot_be_written_costs_nothing_but_the_resuming(
    spec: ScorerSpec, ticks: list[TickFrames], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "learned").write_text("a file in the place of the folder")
    UnfinishedSession(tmp_path, "fan", spec).update(ticks, is_end=True)
    assert "a restart would lose the sound" in caplog.text


def test_the_promise_is_the_level_of_a_machine_whose_scores_spread_like_the_prior() -> None:
    promise = promise_after(30.0, segment_s=10.0)
    n = 180
    spread = FUSED_PRIOR.spread(n)
    logs = np.random.default_rng(0).standard_normal(n)
    logs = spread * (logs - logs.mean()) / logs.std(ddof=1)
    model = fit_score_model(np.exp(logs - np.median(logs)), n_learned=n, prior=FUSED_PRIOR)
    assert model.threshold(ALARM_CHANCE) / np.exp(model.mean) / model.typical == pytest.approx(promise.alarm_from, rel=0.005)
    longer = promise_after(120.0, segment_s=10.0)
    assert longer.warning_from < promise.warning_from < promise.alarm_from
    assert longer.false_per_day == pytest.approx(promise.false_per_day / 4, rel=0.01)
    assert promise.text == (
        "after 30 min: a warning from 1.9 x the usual score, an alarm from 2.7 x; fewer than 144 false events a day verified"
    )

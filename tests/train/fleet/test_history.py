"""The history of a machine: scores by day, from the device's own pipeline."""

import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from monitor import Monitor, Recording, load_bundle
from monitor.errors import SourceError
from tests.train.fleet.plant import recordings, write
from train.datasets import read_dataset
from train.fleet.history import write_scores


def written(bundle: Path, sound: Path, out: Path) -> dict[str, dict[str, list[Any]]]:
    """The columns of each day; the summaries must be of the same days."""
    days = write_scores(bundle, read_dataset(sound), out, channel=None)
    tables = {path.stem: pq.read_table(path).to_pydict() for path in sorted(out.iterdir())}
    assert [day.day for day in days] == list(tables)
    return tables


@pytest.fixture(scope="module")
def one() -> bytes:
    """A recording of 14 s."""
    return next(iter(recordings(0, seconds=14.0, n=1).values()))


def test_the_scores_are_those_of_the_device(demo_bundle: Path, one: bytes, tmp_path: Path) -> None:
    write(tmp_path / "fan", {"normal/a.flac": one})
    (table,) = written(demo_bundle, tmp_path / "fan", tmp_path / "out").values()
    monitor = Monitor(load_bundle(demo_bundle))
    recording = Recording(tmp_path / "fan/normal/a.flac", sample_rate_hz=monitor.sample_rate_hz)
    results = [result for block in recording.blocks() for result in monitor.push(block)] + monitor.flush()
    assert table["score"] == [result.tick.score for result in results]
    assert table["ratio"] == [result.ratio for result in results]
    assert table["state"] == [result.state for result in results]
    assert table["end_s"][-1] == pytest.approx(14.0, abs=0.1)


def test_days_follow_the_times_of_the_recordings_in_utc(demo_bundle: Path, one: bytes, tmp_path: Path) -> None:
    write(tmp_path / "fan", {f"normal/{name}.flac": one for name in ("2026-11-21T23-59-53", "2026-11-22T10-00-00")})
    tables = written(demo_bundle, tmp_path / "fan", tmp_path / "out")
    assert list(tables) == ["2026-11-21", "2026-11-22"]
    times = [time for table in tables.values() for time in table["time"]]
    assert times == sorted(times)
    assert set(tables["2026-11-22"]["recording"]) == {
        f"normal/{name}.flac" for name in ("2026-11-21T23-59-53", "2026-11-22T10-00-00")
    }
    assert times[0] == datetime(2026, 11, 21, 23, 59, 54, 44000, timezone.utc)  # the end of the first tick


def test_cuts_of_one_recording_follow_each_other(demo_bundle: Path, one: bytes, tmp_path: Path) -> None:
    write(tmp_path / "fan", {f"normal/2026-11-21T10-00-00-00{n}.flac": one for n in (1, 2)})
    write(tmp_path / "fan", {"normal/2026-11-21T11-00-00-001.flac": one})
    (table,) = written(demo_bundle, tmp_path / "fan", tmp_path / "out").values()
    starts = [f"{time:%H:%M:%S}" for time, end_s in zip(table["time"], table["end_s"], strict=True) if end_s == table["end_s"][0]]
    assert starts == ["10:00:01", "10:00:15", "11:00:01"]


def test_file_times_are_those_of_the_end(demo_bundle: Path, one: bytes, tmp_path: Path) -> None:
    ends = {"normal/one.flac": 1_764_583_200, "normal/two.flac": 1_764_583_300}  # 2025-12-01 10:00:00 and 10:01:40
    write(tmp_path / "fan", dict.fromkeys(ends, one))
    for name, at in ends.items():
        os.utime(tmp_path / "fan" / name, (at, at))
    (table,) = written(demo_bundle, tmp_path / "fan", tmp_path / "out").values()
    last = dict(zip(table["recording"], table["time"], strict=True))
    assert [round(time.timestamp()) for time in last.values()] == list(ends.values())


def test_cuts_are_in_the_order_of_their_numbers(demo_bundle: Path, one: bytes, tmp_path: Path) -> None:
    write(tmp_path / "fan", {f"normal/2026-11-21T10-00-00-{n}.flac": one for n in ("998", "999", "1000", "1001")})
    (table,) = written(demo_bundle, tmp_path / "fan", tmp_path / "out").values()
    names = list(dict.fromkeys(name.rpartition("-")[2] for name in table["recording"]))
    assert names == ["998.flac", "999.flac", "1000.flac", "1001.flac"]


def test_a_name_that_is_not_utf_8_is_stored_as_it_is_printed(demo_bundle: Path, one: bytes, tmp_path: Path) -> None:
    write(tmp_path / "fan", {"normal/fan\udcff.flac": one})
    (table,) = written(demo_bundle, tmp_path / "fan", tmp_path / "out").values()
    assert set(table["recording"]) == {r"normal/fan\udcff.flac"}


def test_recordings_without_times_are_one_day_and_an_unreadable_one_is_left_out(
    demo_bundle: Path, one: bytes, tmp_path: Path
) -> None:
    write(tmp_path / "fan", {"normal/a.flac": one, "normal/b.flac": one[:50], "normal/c.flac": one})
    tables = written(demo_bundle, tmp_path / "fan", tmp_path / "out")
    assert list(tables) == ["undated"]
    assert set(tables["undated"]["recording"]) == {"normal/a.flac", "normal/c.flac"}
    assert set(tables["undated"]["time"]) == {None}


def test_nothing_to_score_is_an_error(demo_bundle: Path, one: bytes, tmp_path: Path) -> None:
    write(tmp_path / "fan", {"normal/b.flac": one[:50]})
    with pytest.raises(SourceError, match="no normal recording can be scored"):
        written(demo_bundle, tmp_path / "fan", tmp_path / "out")

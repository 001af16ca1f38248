"""The order in which recordings were made, their sessions, and folds in time: by every source, on real files."""

import os
import shutil
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from monitor.arrays import F32
from monitor.cli.recording.session import RecordingSession, Take
from monitor.errors import SourceError
from tests.signals import hum
from train.cli.main import main as train
from train.datasets import RecordingOrder, clip_folds, folds, one_session_note, read_dataset, recording_order
from train.datasets.sessions.session_distances import session_distances
from train.datasets.survey import survey

DAY_S = 86_400


def make(root: Path, names: Iterable[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(160, np.float32), 16_000)
    return root


def order_of(root: Path) -> RecordingOrder:
    dataset = read_dataset(root)
    return recording_order(dataset, dataset.labelled("normal"))


def table(root: Path, *lines: str) -> None:
    (root / "recorded.csv").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    "names",
    [
        ("b_2026-11-20T23-59-59", "a_2026-11-21T10-00-00"),
        ("z 20261120_235959", "y 20261121_100000"),
        ("fan_20261120T235959Z-0001", "fan_20261121T100000Z-0001"),
        ("2026-11-20 23.59.59", "2026-11-21 10.00.00"),
        ("REC20261120235959", "REC20261121100000"),
        ("2026.11.20_23:59", "2026.11.21_10:00"),
        ("2026-11-20/23-59-59 fan", "2026-11-21/10-00-00 fan"),
        ("2027-01-01 export/x_20261120T235959.250", "2027-01-01 export/a_20261121T100000.125"),
        ("b_1795219199", "a_1795255200"),
        ("b-1795219199.250", "a-1795255200.125"),
        ("1795219199250", "1795255200125"),
    ],
)
def test_times_in_names_are_understood(names: tuple[str, str], tmp_path: Path) -> None:
    order = order_of(make(tmp_path, [f"normal/{name}.wav" for name in names]))
    assert order.source == "times in names"
    assert [name.removeprefix("normal/") for name in order.recordings] == [name.removesuffix("-0001") for name in names]
    assert len(order.sessions) == 2
    if "/" not in names[0]:
        assert order.session_names == ("2026-11-20 23:59", "2026-11-21 10:00")


def test_a_pause_begins_a_session_and_slow_recording_does_not(tmp_path: Path) -> None:
    begin = datetime(2026, 11, 21, 22, 0, tzinfo=timezone.utc)
    minutes = [0, 1, 2, 3, 50, 51, 52, 52 + 29]  # one pause of 47 minutes, one of 29
    order = order_of(make(tmp_path, [f"normal/{begin + timedelta(minutes=one):%Y%m%d-%H%M%S}.wav" for one in minutes]))
    assert [len(session) for session in order.sessions] == [4, 4]
    hourly = make(tmp_path / "hourly", [f"normal/{begin + timedelta(hours=one):%Y%m%d-%H%M%S}.wav" for one in range(30)])
    assert [len(session) for session in order_of(hourly).sessions] == [24, 6]  # other days are other sessions


def test_days_alone_are_times_too(tmp_path: Path) -> None:
    names = [f"normal/fan {day} take {take}.wav" for day in ("2026-11-30", "2026-12-01") for take in (2, 10)]
    order = order_of(make(tmp_path, names))
    assert order.source == "times in names"
    assert [name[-2:].strip() for name in order.recordings] == ["2", "10", "2", "10"]
    assert [len(session) for session in order.sessions] == [2, 2]


def test_numbers_that_are_no_times_are_not_taken_for_them(tmp_path: Path) -> None:
    """One serial number in all names, a day that does not exist, a name without a time among others."""
    assert order_of(make(tmp_path / "a", [f"normal/1200010001_{n}.wav" for n in (10, 9)])).source == "numbers in names"
    assert order_of(make(tmp_path / "b", [f"normal/2026023{n}.wav" for n in (0, 1)])).source == "numbers in names"
    mixed = make(tmp_path / "c", ["normal/fan.wav", "normal/20261121_100000.wav", "normal/20261121_110000.wav"])
    assert order_of(mixed).source == "names"


def test_what_monitor_record_writes_on_several_days_comes_out_as_sessions(tmp_path: Path) -> None:
    """The clips of a session are cuts of one recording; folds of clips split it in time."""
    folder = tmp_path / "normal"
    folder.mkdir()
    take = Take(name="fan", rate_hz=8_000, n_channels=1, sample_format="int16", comment={})
    for day in (22, 21, 9):
        day_folder = tmp_path / "days" / str(day)
        day_folder.mkdir(parents=True)
        session = RecordingSession(day_folder, take, clip_s=2.0, wanted_s=10.0)
        session.write((hum(day, 80_000)[:, None] * 2**31).astype(np.int32))
        session.close()
        for path in day_folder.glob(f"{session.stem}-*"):
            path.rename(folder / path.name.replace(session.stem, f"fan_202611{day:02}T100000Z"))
    shutil.rmtree(tmp_path / "days")
    dataset = read_dataset(tmp_path)
    order = recording_order(dataset, dataset.clips)
    assert order.source == "times in names"
    assert order.recordings == tuple(f"normal/fan_202611{day:02}T100000Z" for day in (9, 21, 22))
    assert order.session_names == tuple(f"2026-11-{day:02} 10:00" for day in (9, 21, 22))
    assert folds(order) == tuple((name,) for name in order.recordings)
    cut = clip_folds(order, dataset, dataset.clips)
    assert [len(fold) for fold in cut] == [2, 3, 2, 3, 5]
    assert [clip.path.stem[-4:] for fold in cut[:2] for clip in fold] == ["0001", "0002", "0003", "0004", "0005"]


def test_folders_are_sessions_in_natural_order(tmp_path: Path) -> None:
    names = ["normal/load-100/b-2.wav", "normal/load-100/a-1.wav", "normal/load-50/fan-10.wav", "normal/load-50/fan-2.wav"]
    order = order_of(make(tmp_path, names))
    assert order.source == "folders"
    assert order.session_names == ("load-50", "load-100")
    assert order.sessions == (("normal/load-50/fan-2", "normal/load-50/fan-10"), ("normal/load-100/a-1", "normal/load-100/b-2"))
    assert order.recordings == order.sessions[0] + order.sessions[1]
    assert one_session_note(order) is None


def test_folders_with_times_in_their_names_follow_time(tmp_path: Path) -> None:
    names = ["normal/b-half load/20261121_100000.wav", "normal/a-full load/20261122_100000.wav"]
    order = order_of(make(tmp_path, [*names, "normal/b-half load/20261123_100000.wav"]))
    assert order.source == "times in names"
    assert order.session_names == ("b-half load", "a-full load")
    assert [name[-15:-13] for name in order.recordings] == ["20", "20", "20"]
    assert [name.rpartition("/")[2][:8] for name in order.recordings] == ["20261121", "20261122", "20261123"]


def test_numbers_sort_by_value_and_are_one_session(tmp_path: Path) -> None:
    order = order_of(make(tmp_path, [f"normal/fan-{n}.wav" for n in (1, 2, 10, 21, 3)]))
    assert order.source == "numbers in names"
    assert [int(name.rpartition("-")[2]) for name in order.recordings] == [1, 2, 3, 10, 21]
    assert len(order.sessions) == 1
    assert (one_session_note(order) or "").startswith("the recordings have no times, so they count as one session")


def named_by_people(root: Path, spacing_s: float, *, n: int = 4) -> Path:
    make(root, [f"normal/{name}.wav" for name in ("delta", "alpha", "echo", "bravo", "golf", "fox")[:n]])
    for number, path in enumerate(sorted((root / "normal").iterdir())):
        os.utime(path, (0, 1_795_255_200 - spacing_s * number))  # the reverse of their names
    return root


def test_file_times_count_where_no_copy_has_made_them(tmp_path: Path) -> None:
    order = order_of(named_by_people(tmp_path / "recorded", 60.0))
    assert order.source == "file times"
    assert [name.removeprefix("normal/") for name in order.recordings] == ["echo", "delta", "bravo", "alpha"]
    assert one_session_note(order) == (
        "all recordings are from one session: record other days, loads and speeds, or they will look like faults"
    )
    assert len(order_of(named_by_people(tmp_path / "daily", DAY_S)).sessions) == 4
    copied = order_of(named_by_people(tmp_path / "copied", 0.2))
    assert copied.source == "names"
    assert [name.removeprefix("normal/") for name in copied.recordings] == ["alpha", "bravo", "delta", "echo"]


def test_file_times_of_large_files_that_were_copied_do_not_count(tmp_path: Path) -> None:
    """Two seconds apart, but of 20 MB each: no recording grows so fast."""
    root = named_by_people(tmp_path, 2.0)
    for path in sorted((root / "normal").iterdir()):
        before = path.stat().st_mtime
        os.truncate(path, 20_000_000)
        os.utime(path, (before, before))
    assert order_of(root).source == "names"


@pytest.mark.parametrize(
    ("names", "sessions"),
    [
        (
            [f"fan/train/section_0{s}_{d}_train_normal_000{n}_vel_{n}.wav" for s in (0, 1) for d in ("source",) for n in (1, 2)],
            (
                "fan section 00 source vel 1",
                "fan section 00 source vel 2",
                "fan section 01 source vel 1",
                "fan section 01 source vel 2",
            ),
        ),
        (
            [
                f"ToyCar/ch{ch}/NormalSound_IND/12000{e}0001_ToyCar_case{e}_normal_IND_ch{ch}_0001.wav"
                for ch in (1, 2)
                for e in (1, 2)
            ],
            ("ToyCar case1 condition normal run IND", "ToyCar case2 condition normal run IND"),
        ),
        (
            [f"{snr}_dB_fan/fan/id_0{i}/normal/0000000{n}.wav" for snr in (0, 6) for i in (0, 2) for n in (0, 1)],
            ("fan id_00", "fan id_02"),
        ),
    ],
)
def test_conditions_of_published_layouts_are_sessions(names: list[str], sessions: tuple[str, ...], tmp_path: Path) -> None:
    order = order_of(make(tmp_path / "set", names))
    assert order.source == "numbers in names"
    assert order.session_names == sessions


NAMES = [f"normal/{name}.wav" for name in ("a", "b", "c")]


def test_a_table_goes_before_all_else(tmp_path: Path) -> None:
    """Also before times in names; in whatever zone, and as a spreadsheet writes it."""
    make(tmp_path, [f"normal/20261121_10000{n}.wav" for n in range(3)])
    text = "path;recorded_at\nnormal/20261121_100000.wav;2026-11-21T12:00:00+02:00\n\n"
    text += "normal/20261121_100001.wav;2026-11-21T09:00:00Z\n"
    (tmp_path / "recorded.csv").write_bytes(f"\ufeff{text}normal/20261121_100002.wav;2026-11-20T09:00:00Z\n".encode())
    order = order_of(tmp_path)
    assert order.source == "recorded.csv"
    assert [name[-1] for name in order.recordings] == ["2", "1", "0"]
    assert order.session_names == ("2026-11-20 09:00", "2026-11-21 09:00")


def test_sessions_and_conditions_of_a_table_count(tmp_path: Path) -> None:
    make(tmp_path, [*NAMES, "anomaly/x.wav"])
    table(
        tmp_path, "path,recorded_at,session", *(f"{name},2026-11-21,{'late' if name < 'normal/c' else 'early'}" for name in NAMES)
    )
    assert order_of(tmp_path).session_names == ("late", "early")
    table(tmp_path, "recorded_at, load, path", *(f"2026-11-2{n},{n % 2 * 50} %,{name}" for n, name in enumerate(NAMES)))
    order = order_of(tmp_path)
    assert order.session_names == ("load 0 %", "load 50 %")
    assert order.sessions == (("normal/a", "normal/c"), ("normal/b",))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("file,time",), "must begin with the names of the columns path, recorded_at and, if any, .* got 'file,time'"),
        (("path,recorded_at,path",), "each once, got"),
        ((), "must begin with the names of the columns"),
        (("path,recorded_at", "normal/x.wav,2026-11-21"), "line 2: path must name a sound file of .*, got 'normal/x.wav'"),
        (("path,recorded_at", "../normal/a.wav,2026-11-21"), "line 2: path must name a sound file of"),
        (("path,recorded_at", "normal/a.wav,21.11.2026"), "line 2: recorded_at must be ISO 8601 such as .*, got '21.11.2026'"),
        (("path,recorded_at", "normal/a.wav,"), "line 2: recorded_at must be ISO 8601"),
        (("path,recorded_at", "normal/a.wav"), "line 2: must have 2 columns, got 1"),
        (("path,recorded_at", "normal/a.wav,2026-11-21", "normal/a.wav,2026-11-22"), "line 3: path must name each file once"),
        (("path,recorded_at", "normal/a.wav,2026-11-21", "normal/b.wav,2026-11-22T00:00Z"), "line 3: .* time zone in all"),
        (("path,recorded_at", "normal/a.wav,2026-11-21"), "must list every normal recording; 'normal/b.wav' and 1 more"),
        (
            ("path,recorded_at,session", *(f"{name},2026-11-21,{name[7].strip('b')}" for name in NAMES)),
            "session or conditions must be given for all recordings or for none; 'normal/b.wav' has none",
        ),
        (("path,recorded_at", '"normal/a.wav,2026-11-21'), "line 2: unexpected end of data"),
    ],
)  # fmt: skip
def test_a_table_that_is_wrong_is_refused_in_one_line(lines: tuple[str, ...], message: str, tmp_path: Path) -> None:
    make(tmp_path, NAMES)
    table(tmp_path, *lines)
    with pytest.raises(SourceError, match=message) as error:
        order_of(tmp_path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/recorded.csv")


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    make(tmp_path, NAMES)
    (tmp_path / "recorded.csv").write_bytes(b"path,recorded_at\n\xff\xfe")
    with pytest.raises(SourceError, match="must be UTF-8, got something else at byte 17"):
        order_of(tmp_path)


def test_inspect_refuses_a_wrong_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, NAMES)
    table(tmp_path, "path,recorded_at", "normal/x.wav,2026-11-21")
    assert train(["inspect", str(tmp_path)]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("got 'normal/x.wav'")


def in_sessions(*sizes: int) -> RecordingOrder:
    sessions = tuple(tuple(f"{number}/{at}" for at in range(size)) for number, size in enumerate(sizes))
    recordings = tuple(name for session in sessions for name in session)
    return RecordingOrder(
        source="folders", recordings=recordings, sessions=sessions, session_names=tuple(map(str, range(len(sizes))))
    )


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((10,), [2, 2, 2, 2, 2]),
        ((3,), [1, 1, 1]),
        ((30, 30), [10, 10, 10, 15, 15]),
        ((1, 59), [1, 14, 15, 15, 15]),
        ((4, 4, 4, 4, 4), [4, 4, 4, 4, 4]),
        ((2, 2, 2, 2, 2, 10), [4, 2, 2, 2, 10]),
        ((1, 1, 1), [1, 1, 1]),
        ((20, 1, 1, 1, 1, 1), [20, 1, 1, 1, 2]),
    ],
)
def test_folds_are_whole_sessions_unless_there_are_too_few(sizes: tuple[int, ...], expected: list[int]) -> None:
    assert [len(fold) for fold in folds(in_sessions(*sizes))] == expected


@given(st.lists(st.integers(1, 20), min_size=1, max_size=15), st.integers(2, 8))
def test_folds_hold_each_recording_once_and_in_order(sizes: list[int], n_folds: int) -> None:
    order = in_sessions(*sizes)
    found = folds(order, n_folds=n_folds)
    assert tuple(name for fold in found for name in fold) == order.recordings
    assert len(found) == min(n_folds, len(order.recordings))
    assert all(found)
    if len(sizes) >= n_folds:
        of = {name: number for number, fold in enumerate(found) for name in fold}
        assert all(len({of[name] for name in session}) == 1 for session in order.sessions)


def sound(root: Path, name: str, samples: F32) -> None:
    path = root / "normal" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, 16_000)


def test_inspect_says_the_order_the_sessions_and_how_alike_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for day in range(3):
        for take in range(4):
            seed = 10 * day + take
            sound(tmp_path / "alike", f"day-{day}/{take}.wav", hum(seed, 64_000))
            t = np.arange(64_000) / 16_000
            other = np.sin(2 * np.pi * 2_000 * t) * (0.2 if day == 1 else 0.0)  # another load on the second day
            sound(tmp_path / "unlike", f"day-{day}/{take}.wav", hum(seed, 64_000) + other.astype(np.float32))
            sound(tmp_path / "one", f"fan-{seed}.wav", hum(seed, 64_000))
    facts = {}
    for name in ("alike", "unlike", "one"):
        train(["inspect", str(tmp_path / name)])
        facts[name] = capsys.readouterr().out
    assert "\norder       by folders: normal/day-0/0 first, normal/day-2/3 last\n" in facts["alike"]
    assert "\nsessions    3; sessions differ 1.0 x as much as recordings within one" in facts["alike"]
    assert "they sound similar\n            day-0 (4 recordings)\n" in facts["alike"]
    (line,) = [line for line in facts["unlike"].splitlines() if line.startswith("sessions ")]
    assert float(line.split("differ ")[1].split(" x")[0]) > 3.0
    assert line.endswith("day-1 most: other days, loads or speeds may look like faults unless they are recorded")
    assert "\nsessions    1; the recordings have no times" in facts["one"]


def test_recordings_of_one_session_at_random_are_alike(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).normal(0.0, 2.0, (60, 20)).tolist()
    found = session_distances(levels, [at % 3 for at in range(60)])
    assert found is not None
    assert found.ratio == pytest.approx(1.0, abs=0.05)
    assert session_distances(levels, [0] * 60) is None
    assert session_distances(levels[:3], [0, 1, 2]) is None


@pytest.mark.parametrize("name", ["slide-rail-id00", "air-compressor", "bldc-motor"])
def test_real_recordings_are_put_in_the_order_of_their_numbers(name: str, real_data: Path) -> None:
    order = order_of(real_data / name)
    assert order.source == "numbers in names"
    assert list(order.recordings) == sorted(order.recordings)  # all have as many digits
    assert [name for fold in folds(order) for name in fold] == list(order.recordings)


@pytest.mark.parametrize("name", ["slide-rail-id00", "air-compressor"])
def test_real_recordings_assigned_to_sessions_at_random_are_alike(
    name: str, real_data: Path, record_property: Callable[[str, object], None]
) -> None:
    levels = [one.levels_db for one in survey(read_dataset(real_data / name).labelled("normal"))]
    draws = [np.random.default_rng(seed).integers(0, 4, len(levels)).tolist() for seed in range(50)]
    ratios = [found.ratio for draw in draws if (found := session_distances(levels, draw)) is not None]
    record_property("figures", f"{name}: four sessions at random differ at most {max(ratios):.2f} x as much")
    assert len(ratios) == 50
    assert max(ratios) < 1.2

"""The history on disk: restarts, a kill, limits, a full disk and damage."""

import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.events.event import Event
from monitor.history import store as store_module
from monitor.history.database import Database, Limits
from monitor.history.recorder import ScoreRecorder
from monitor.history.store import HistoryStore
from tests.history.hours import BEGINNING, filled, hour
from tests.mqtt.anomalies import anomaly
from tests.tmpfs import tmpfs

LIMITS = Limits(events=1_000, n_bytes=10**8)


def opened(path: Path | None, limits: Limits = LIMITS, recorder: ScoreRecorder | None = None) -> HistoryStore:
    store = HistoryStore(path, limits, recorder or ScoreRecorder(), clock_synced=True)
    store.open()
    return store


def add(store: HistoryStore, *events: Event) -> None:
    for event in events:
        store.add_event(event.to_dict())


def ids(store: HistoryStore, *, machine: str | None = None, before: str | None = None, limit: int = 100) -> list[str]:
    return [event["id"] for event in store.events(machine, before, limit)]


@pytest.mark.parametrize("name", ["history.sqlite", None], ids=["disk", "memory"])
def test_pages_of_events_of_the_same_millisecond_lose_none(tmp_path: Path, name: str | None) -> None:
    store = opened(None if name is None else tmp_path / name)
    names = ("compressor", "fan", "mixer", "pump", "saw")
    add(store, *(anomaly(hour, machine=machine)[0] for hour in (1, 2) for machine in names))
    read, before, after_id = list[str](), None, None
    while page := store.events(None, before, 2, after_id=after_id):
        read += [event["id"] for event in page]
        before, after_id = page[-1]["started_at"], page[-1]["id"]
    assert read == ids(store)
    assert len(set(read)) == 10
    store.close()


def test_events_and_scores_survive_a_restart(tmp_path: Path) -> None:
    path, recorder = tmp_path / "state" / "history.sqlite", ScoreRecorder()
    store = opened(path, recorder=recorder)
    first, second, other = anomaly(1), anomaly(2), anomaly(3, machine="pump")
    add(store, *first, *second, *other)
    store.acknowledge(first[0].id, "2026-11-21T11:01:00.000Z")
    store.acknowledge(first[0].id, "2026-11-21T12:00:00.000Z")  # the first one counts
    filled(recorder, BEGINNING, 1_000.0)
    before = store.points("fan", BEGINNING, BEGINNING + 3_600, 10)
    store.close()
    store = opened(path)
    event = store.event(first[0].id)
    assert event is not None
    assert (event["event_type"], event["started_at"]) == ("end", "2026-11-21T11:00:00.000Z")
    assert event["acknowledged_at"] == "2026-11-21T11:01:00.000Z"
    assert ids(store) == [other[0].id, second[0].id, first[0].id]
    assert ids(store, machine="fan", limit=1) == [second[0].id]
    assert ids(store, before="2026-11-21T12:00:00.000Z") == [first[0].id]
    assert store.event("no") is None
    after = store.points("fan", BEGINNING, BEGINNING + 3_600, 10)
    assert [point["n"] for point in after[1]] == [point["n"] for point in before[1]]
    assert [point["states"] for point in after[1]] == [point["states"] for point in before[1]]
    wide = store.points("fan", BEGINNING, BEGINNING + 3_600, 3_600)
    assert (wide[0], len(wide[1])) == (3_600, 1)
    assert wide[1][0]["ratio"] == {"min": 0.5, "mean": 0.5, "max": 0.5, "p50": 0.5, "p95": 0.5}
    store.close()


WRITER = """
import os, signal, sys
from pathlib import Path
from tests.history.test_store import add, opened
from tests.mqtt.anomalies import anomaly
store = opened(Path(sys.argv[1]))
add(store, *anomaly(1), *anomaly(2)[:-1])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_loses_no_event_and_its_open_one_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    done = subprocess.run([sys.executable, "-c", WRITER, path], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -9
    store = opened(path)
    newest, oldest = store.events(None, None, 10)
    assert (oldest["end_reason"], oldest["seq"]) == ("cleared", 2)
    assert (newest["event_type"], newest["end_reason"], newest["seq"]) == ("end", "restarted", 2)
    assert newest["ts"] > newest["started_at"]
    store.close()


def test_rows_are_bounded_and_the_oldest_go(tmp_path: Path) -> None:
    store = opened(tmp_path / "history.sqlite", Limits(events=20, n_bytes=10**7))
    for number in range(30):
        add(store, *anomaly(number))
    assert ids(store) == [anomaly(number)[0].id for number in range(29, 9, -1)]
    store.close()


def test_bytes_are_bounded_and_the_oldest_scores_go_before_events(tmp_path: Path) -> None:
    path, chance = tmp_path / "history.sqlite", np.random.default_rng(1)
    database = Database(path, Limits(events=1_000, n_bytes=1_000_000))
    database.write([{**anomaly(1)[-1].to_dict(), "started_at": "2026-11-21T10:00:00.000Z"}], [], unsure=False)
    for number in range(1_000):
        database.write([], [hour(BEGINNING + 3_600 * number, chance)], unsure=False)
    n_bytes = path.stat().st_size
    assert n_bytes < 1_100_000
    totals = database.totals("fan", 0, 2**40)
    assert 300 < len(totals) < 700
    assert totals["t"][-1] == BEGINNING + 3_600 * 999
    assert len(database.steps("fan", 0, 2**40)) == len(totals)
    assert len(database.events(None, None, 10)) == 1
    database.close()


def test_a_year_of_a_machine_is_small_and_read_fast(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    chance = np.random.default_rng(1)
    text = []
    for noise in (1.0, 3.0):
        path = tmp_path / f"{noise}.sqlite"
        database = Database(path, LIMITS)
        hours = [hour(BEGINNING + 3_600 * number, chance, noise=noise) for number in range(120)]
        for day in range(73):
            for block in hours:
                for rows in (block.steps, block.total):
                    rows["t"] += 0 if day == 0 else 5 * 86_400
            database.write([], hours, unsure=False)
        database.close()
        store = opened(path)
        took_s = []
        for days, step_s in ((1, 10), (30, 10), (365, 10)):
            end = BEGINNING + 365 * 86_400
            began = time.perf_counter()
            width_s, found = store.points("fan", end - days * 86_400, end, step_s)
            took_s.append(f"{days} d in {time.perf_counter() - began:.2f} s (steps of {width_s} s)")
            assert all(point["n"] for point in found[1:-1])
        store.close()
        text.append(f"noise x {noise:g}: {path.stat().st_size / 1e6:.1f} MB a year; " + ", ".join(took_s))
        assert path.stat().st_size < 20e6
    record_property("figures", "; ".join(text))


def test_a_full_disk_is_one_line_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store_module, "RETRY_S", 0.0)
    caplog.set_level("INFO")
    with tmpfs(tmp_path, n_bytes=1_000_000) as disk, ExitStack() as stack:
        recorder = ScoreRecorder()
        store = opened(disk / "history.sqlite", recorder=recorder)
        stack.callback(store.close)
        add(store, *anomaly(1))
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4_096))
            except OSError:
                pass
        for number in range(2, 40):
            add(store, *anomaly(number))
        filled(recorder, BEGINNING, 3_600.0)
        store.add_blocks()
        assert len([line for line in caplog.messages if "continuing in memory" in line]) == 1
        assert store.error is not None
        assert len(ids(store)) == 39
        n_scores = sum(point["n"] for point in store.points("fan", BEGINNING, BEGINNING + 3_600, 10)[1])
        assert n_scores > 3_000
        filler.unlink()
        store.flush()
        assert store.error is None
        assert caplog.messages[-1].startswith("history: written to ")
        store.close()
        store = opened(disk / "history.sqlite")
        stack.callback(store.close)
        assert len(ids(store)) == 39
        assert sum(point["n"] for point in store.points("fan", BEGINNING, BEGINNING + 3_600, 10)[1]) == n_scores


def test_memory_is_bounded_without_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_EVENTS", 10)
    store = opened(None)
    for number in range(15):
        add(store, *anomaly(number))
    assert ids(store) == [anomaly(number)[0].id for number in range(14, 4, -1)]
    assert store.n_lost == 0  # the configuration wants it so
    store.close()


@pytest.mark.parametrize("how", ["garbage", "empty", "folder", "schema", "link"])
def test_a_file_that_cannot_be_used_is_set_aside(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "history.sqlite"
    match how:
        case "garbage":
            path.write_bytes(os.urandom(10_000))
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
        case "schema":
            with sqlite3.connect(path) as other:
                other.execute("PRAGMA user_version = 99")
        case "link":
            path.symlink_to(tmp_path / "elsewhere")
    store = opened(path)
    add(store, *anomaly(1))
    store.close()
    assert len(caplog.messages) == (0 if how == "empty" else 1), caplog.messages
    assert not (tmp_path / "elsewhere").exists()
    store = opened(path)
    assert len(ids(store)) == 1
    store.close()


def test_damage_in_the_middle_never_ends_anything(tmp_path: Path) -> None:
    path, chance = tmp_path / "history.sqlite", random.Random(7)
    for seed in range(25):
        for beside in tmp_path.iterdir():
            beside.unlink()
        recorder = ScoreRecorder()
        store = opened(path, recorder=recorder)
        for number in range(30):
            add(store, *anomaly(number))
        filled(recorder, BEGINNING, 3_000.0)
        store.close()
        content = bytearray(path.read_bytes())
        for _ in range(30):
            content[chance.randrange(0 if seed % 2 else 100, len(content))] = chance.randrange(256)
        path.write_bytes(content[: chance.choice((len(content), chance.randrange(len(content))))])
        store = opened(path)
        add(store, *anomaly(99))
        store.points("fan", BEGINNING, BEGINNING + 3_600, 10)
        store.points("fan", BEGINNING, BEGINNING + 36_000, 3_600)
        assert anomaly(99)[0].id in ids(store)
        store.close()
        assert anomaly(99)[0].id in ids(opened(path))


def test_damaged_rows_are_left_out_with_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, recorder = tmp_path / "history.sqlite", ScoreRecorder()
    store = opened(path, recorder=recorder)
    add(store, *anomaly(1), *anomaly(2), *anomaly(3))
    filled(recorder, BEGINNING, 600.0)
    store.close()
    with sqlite3.connect(path) as other:
        other.execute("UPDATE event SET message = '{}' WHERE id = ?", (anomaly(1)[0].id,))
        other.execute("UPDATE event SET message = x'ff00' WHERE id = ?", (anomaly(2)[0].id,))
        other.execute("UPDATE steps SET data = x'0102'")
        other.execute("UPDATE block SET n = 'many', ratio_mean = x'00'")
    other.close()
    store = opened(path)
    assert ids(store) == [anomaly(3)[0].id]
    assert ids(store) == [anomaly(3)[0].id]
    assert not any(point["n"] for point in store.points("fan", BEGINNING, BEGINNING + 600, 10)[1])
    assert store.points("fan", BEGINNING, BEGINNING + 7_200, 3_600)[1][0]["ratio"]["mean"] is None
    assert [line for line in caplog.messages if "damaged rows" in line] == [
        f"history: {path} has damaged rows, which are left out"
    ]
    store.close()


def test_a_file_that_is_deleted_while_it_is_open_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "history.sqlite"
    store = opened(path)
    add(store, *anomaly(1))
    for beside in tmp_path.iterdir():
        beside.unlink()
    add(store, *anomaly(2))
    store.close()
    assert "was deleted or replaced" in caplog.text
    assert ids(opened(path)) == [anomaly(2)[0].id]


def test_times_recorded_before_the_clock_was_set_are_shifted(tmp_path: Path) -> None:
    path, recorder = tmp_path / "history.sqlite", ScoreRecorder()
    store = HistoryStore(path, LIMITS, recorder, clock_synced=False)
    store.open()
    add(store, *anomaly(1, clock_synced=False))
    filled(recorder, BEGINNING - 7_200, 600.0)
    store.add_blocks()
    filled(recorder, BEGINNING - 3_600, 600.0)
    store.correct(7_200.0, synced=True)
    (event,) = store.events(None, None, 10)
    expected: dict[str, Any] = {"started_at": "2026-11-21T13:00:00.000Z", "ts": "2026-11-21T13:02:00.000Z", "clock_synced": True}
    assert expected.items() <= event.items()
    for _ in range(2):
        counts = [point["n"] for point in store.points("fan", BEGINNING, BEGINNING + 7_200, 3_600)[1]]
        assert counts == [585, 585]
        steps = store.points("fan", BEGINNING, BEGINNING + 900, 10)[1]
        assert sum(1 for point in steps if point["n"]) == 60
        store.close()
        store = opened(path)
    store.close()


def test_an_event_of_an_earlier_run_keeps_its_beginning_when_the_clock_is_set(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    store = opened(path)
    add(store, anomaly(1)[0])
    store.close()
    store = HistoryStore(path, LIMITS, ScoreRecorder(), clock_synced=False)
    store.open()
    (before,) = store.events(None, None, 10)
    store.correct(7_200.0, synced=True)
    (event,) = store.events(None, None, 10)
    assert (event["started_at"], event["onset_ts"]) == (before["started_at"], before["onset_ts"])
    assert event["ts"] > before["ts"]
    store.close()

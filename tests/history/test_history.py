"""The history's thread: it never holds up the listening loop, writes once an hour, and its watchdog sees it."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.config import HistoryConfig
from monitor.history import history as history_module
from monitor.history.history import FILE, History
from monitor.history.store import HistoryStore
from monitor.threads import Watchdog
from tests.history.hours import BEGINNING, TICK_S
from tests.mqtt.anomalies import anomaly
from tests.waiting import wait_until


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    one = History(tmp_path, HistoryConfig(), clock_synced=True)
    one.start()
    yield one
    one.close(10.0)


def ask(history: History, question: Any) -> Any:
    answers: list[Any] = []
    wait_until(lambda: history.ask(question, answers.append))
    wait_until(lambda: answers)
    return answers[0]


def test_questions_see_what_was_recorded_before_them(history: History) -> None:
    first, *_, last = anomaly(1)
    history.record(first)
    history.acknowledge(first.id, "2026-11-21T11:01:00.000Z")
    history.record(last)
    event = ask(history, lambda store: store.event(first.id))
    assert (event["event_type"], event["acknowledged_at"]) == ("end", "2026-11-21T11:01:00.000Z")
    assert isinstance(ask(history, lambda _: 1 / 0), ZeroDivisionError)


def test_the_disk_is_written_once_an_hour_and_at_the_stop(tmp_path: Path, record_property: Any) -> None:
    history = History(tmp_path, HistoryConfig(), clock_synced=True)
    history.start()
    files = [tmp_path / f"{FILE}{suffix}" for suffix in ("", "-wal")]
    wait_until(lambda: ask(history, lambda store: store.event("none")) is None)

    def changes() -> list[tuple[int, int]]:
        return [(file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.exists()]

    written: list[int] = []  # seconds after the beginning
    before, at, began = changes(), float(BEGINNING), time.perf_counter()
    n_ticks = 0
    while at < BEGINNING + 3 * 3_600:
        at += TICK_S
        n_ticks += 1
        history.push("fan", at, ratio=0.5, rms_dbfs=-35.0, state="normal")
        history.poll(at)
        if n_ticks % 100 == 0:
            ask(history, lambda store: store.event("none"))
            if changes() != before:
                written.append(round(at - BEGINNING))
                before = changes()
    record_property("figures", f"{1e6 * (time.perf_counter() - began) / n_ticks:.0f} us a tick, questions included")
    assert len(written) == 2
    assert all(0 <= seconds % 3_600 < 110 for seconds in written)
    history.close(10.0)
    assert changes() != before


def test_a_stalled_disk_holds_up_nobody_and_what_waits_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(history_module, "MAX_WAITING", 50)
    history = History(tmp_path, HistoryConfig(), clock_synced=True)
    history.start()
    stalled, goes_on, watchdog = threading.Event(), threading.Event(), Watchdog()

    def stall(_: HistoryStore) -> None:
        stalled.set()
        goes_on.wait(30)

    assert history.ask(stall, lambda _: None)
    assert stalled.wait(10)
    watchdog.watch(history.probe(patience_s=5.0))
    assert watchdog.stalled(0.0) == []
    began = time.perf_counter()
    events = anomaly(1, n_updates=100)
    for number, event in enumerate(events):
        history.record(event)
        history.push("fan", BEGINNING + number, ratio=0.5, rms_dbfs=-35.0, state="normal")
    assert time.perf_counter() - began < 1.0
    assert history.n_dropped == len(events) - 50
    assert not history.ask(lambda store: store.error, lambda _: None)  # refused, not queued
    assert caplog.messages == ["history: the disk is too slow; dropping events and scores"]
    assert watchdog.stalled(6.0) == ["history for 6 s"]
    goes_on.set()
    assert ask(history, lambda store: store.event(events[0].id))["seq"] == 49
    assert watchdog.stalled(6.1) == []
    history.close(10.0)


def test_without_a_disk_the_latest_stay_in_memory(tmp_path: Path) -> None:
    history = History(tmp_path, HistoryConfig(enabled=False), clock_synced=True)
    history.start()
    history.record(anomaly(1)[0])
    assert ask(history, lambda store: len(store.events(None, None, 10))) == 1
    history.close(10.0)
    assert list(tmp_path.iterdir()) == []

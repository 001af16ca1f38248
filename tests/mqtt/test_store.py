"""Where the outbox lives when the disk fails: full, not writable, locked, corrupt."""

import logging
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from monitor.config import MqttConfig
from monitor.events.event import Event
from monitor.mqtt.event_queue import MAX_UNCOMMITTED
from monitor.mqtt.outbox import Limits, Outbox
from monitor.mqtt.sink import MqttSink
from monitor.mqtt.store import Store
from tests.conftest import need
from tests.mqtt.anomalies import anomaly, keys
from tests.waiting import wait_until

AMPLE = Limits(messages=10_000, n_bytes=10_000_000)


def open_store(path: Path) -> Store:
    store = Store(path, AMPLE, clock_synced=True, retry_s=0.0)
    assert store.change([store.end_open])
    return store


def put(store: Store, *events: Event) -> None:
    for event in events:
        assert store.change([partial(Outbox.add, event=event)])


def held(store: Store) -> list[tuple[str, int, str]]:
    return keys([row.payload for row in store.after(0, 10_000)])


@contextmanager
def tiny_disk(folder: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    need(os.geteuid() == 0, "root, to mount a tmpfs")
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False)
    need(mounted.returncode == 0, "permission to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (4096, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return ballast


def test_a_disk_that_fills_up_is_replaced_by_memory_until_there_is_room(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with tiny_disk(tmp_path / "disk") as disk:
        store = open_store(disk / "outbox.sqlite")
        put(store, *anomaly(1))
        ballast = fill(disk)
        expected = list(anomaly(1))
        for number in range(2, 40):
            put(store, *anomaly(number))
            expected += anomaly(number)
            store.retry_disk()
        assert store.error is not None
        assert "full" in store.error
        assert held(store) == keys(expected)
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
            f"outbox: cannot write {disk / 'outbox.sqlite'}, events are in memory only: {store.error}"
        ]
        ballast.unlink()
        store.retry_disk()
        assert store.error is None
        assert held(store) == keys(expected)
        store.outbox.close()
        assert held(open_store(disk / "outbox.sqlite")) == keys(expected)


def test_a_disk_that_is_full_at_the_start_is_no_loss(tmp_path: Path) -> None:
    with tiny_disk(tmp_path / "disk") as disk:
        store = open_store(disk / "outbox.sqlite")
        put(store, *anomaly(1)[:2])
        store.outbox.close()
        ballast = fill(disk)
        store = open_store(disk / "outbox.sqlite")
        put(store, *anomaly(2))
        ballast.unlink()
        store.retry_disk()
        assert store.error is None
        restarted = (anomaly(1)[0].id, 2, "end")
        assert held(store) == [*keys(anomaly(1)[:2]), restarted, *keys(anomaly(2))]


def test_a_folder_that_cannot_be_made_is_replaced_by_memory(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    store = open_store(tmp_path / "state" / "outbox.sqlite")
    put(store, *anomaly(1))
    assert store.error is not None
    assert held(store) == keys(anomaly(1))
    (tmp_path / "state").unlink()
    store.retry_disk()
    assert store.error is None
    assert held(store) == keys(anomaly(1))


@pytest.mark.parametrize("damage", ["not a database", "half a page", "a page of noise", "a schema from the future"])
def test_a_corrupt_file_is_set_aside_with_one_line(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "outbox.sqlite"
    store = open_store(path)
    put(store, *(event for number in range(40) for event in anomaly(number)))
    store.outbox.close()
    content = path.read_bytes()
    if damage == "not a database":
        path.write_text("Sound and fury, signifying nothing. " * 100)
    elif damage == "half a page":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "a page of noise":
        path.write_bytes(content[:4096] + os.urandom(8192) + content[4096 + 8192 :])
    else:
        with sqlite3.connect(path) as future:
            future.execute("PRAGMA user_version = 99")
    caplog.clear()
    store = open_store(path)
    assert store.error is None
    assert held(store) == []
    put(store, *anomaly(1))
    assert held(store) == keys(anomaly(1))
    assert (tmp_path / "outbox.corrupt").is_file()
    assert len(caplog.records) == 1
    assert "moved it to outbox.corrupt and created a new one" in caplog.text


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the file."""
    code = f"""
import sqlite3, sys
db = sqlite3.connect({str(path)!r}, isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        yield
    finally:
        holder.kill()
        holder.communicate()


def running_sink(state_dir: Path) -> MqttSink:
    """One without a broker."""
    sink = MqttSink(MqttConfig(port=9), node="hall-2", state_dir=state_dir, clock_synced=True)
    sink.start()
    sink.publish(anomaly(0)[0])
    wait_until(lambda: sink.counts.queued == 1 and sink.counts.commit_ms_p99 is not None)
    return sink


def test_a_disk_that_stalls_stalls_nobody_and_what_finds_no_room_is_counted(tmp_path: Path) -> None:
    sink = running_sink(tmp_path)
    path = tmp_path / "outbox.sqlite"
    anomalies = [anomaly(number) for number in range(1, 1 + MAX_UNCOMMITTED)]
    with locked(path):
        slowest = 0.0
        for event in [*(event for events in anomalies for event in events), *anomaly(0)[1:]]:
            began = time.monotonic()
            sink.publish(event)
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1.0  # whoever waited would wait till the end
        assert sink.counts.dropped >= MAX_UNCOMMITTED
        assert sink.counts.queued <= 3 * MAX_UNCOMMITTED + 1
        heartbeat = sink.advanced()
        wait_until(lambda: sink.advanced() > heartbeat + 2)
    sink.stop(20.0)
    outbox = Outbox(path, AMPLE)
    kept = keys([row.payload for row in outbox.after(0, 10_000)])
    starts = {key for key, _, kind in kept if kind == "start"}
    ends = {key for key, _, kind in kept if kind == "end"}
    assert starts == ends
    assert sink.counts.dropped + len(kept) == 3 * (1 + MAX_UNCOMMITTED)


def test_stopping_does_not_wait_for_a_disk_that_stalls(tmp_path: Path) -> None:
    sink = running_sink(tmp_path)
    with locked(tmp_path / "outbox.sqlite"):
        for event in anomaly(1):
            sink.publish(event)
        began = time.monotonic()
        assert sink.stop(3.0) == 4
        assert time.monotonic() - began < 5.0

"""Where the outbox lives when the disk fails: full, not writable, locked, corrupt."""

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from functools import partial, partialmethod
from pathlib import Path

import pytest

from monitor.config import MqttConfig
from monitor.events.event import Event
from monitor.mqtt.event_queue import MAX_UNCOMMITTED
from monitor.mqtt.outbox import Limits, Outbox
from monitor.mqtt.sink import MqttSink
from monitor.mqtt.store import Store
from tests.broker import Broker, running_broker
from tests.conftest import need
from tests.mqtt.anomalies import anomaly, keys
from tests.subscriber import Subscriber
from tests.waiting import wait_until

EVENTS = "stethos/hall-2/fan/event"
AMPLE = Limits(messages=10_000, n_bytes=10_000_000)


def open_store(path: Path) -> Store:
    store = Store(path, AMPLE, clock_synced=True, retry_s=0.0)
    store.change([store.end_open])
    return store


def put(store: Store, *events: Event) -> None:
    for event in events:
        store.change([partial(Outbox.add, event=event)])


def retry(store: Store) -> None:
    store._check_at = 0.0
    store.check_disk()


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
            retry(store)
        assert store.error is not None
        assert "full" in store.error
        assert held(store) == keys(expected)
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
            f"outbox: cannot write {disk / 'outbox.sqlite'}, events are in memory only: {store.error}"
        ]
        ballast.unlink()
        retry(store)
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
        retry(store)
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
    retry(store)
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
        with closing(sqlite3.connect(path)) as future, future:
            future.execute("PRAGMA user_version = 99")
    caplog.clear()
    store = open_store(path)
    assert store.error is None
    assert held(store) == []
    put(store, *anomaly(1))
    assert held(store) == keys(anomaly(1))
    assert (tmp_path / "outbox.corrupt").is_file()
    assert len(caplog.records) == 1
    assert "to outbox.corrupt and created a new one: it cannot be read: " in caplog.text


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


@contextmanager
def stalled_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every commit waits."""
    released = threading.Event()
    original = Outbox.transaction

    def transaction(outbox: Outbox) -> AbstractContextManager[None]:
        released.wait(60.0)
        return original(outbox)

    monkeypatch.setattr(Outbox, "transaction", transaction)
    try:
        yield
    finally:
        released.set()


def test_a_disk_that_stalls_stalls_nobody_and_what_finds_no_room_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = running_sink(tmp_path)
    anomalies = [anomaly(number) for number in range(1, 1 + MAX_UNCOMMITTED)]
    with stalled_disk(monkeypatch):
        slowest = 0.0
        for event in [*(event for events in anomalies for event in events), *anomaly(0)[1:]]:
            began = time.monotonic()
            sink.publish(event)
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1.0  # whoever waited would wait till the end
        assert sink.counts.dropped >= MAX_UNCOMMITTED
        assert sink.counts.queued <= 3 * MAX_UNCOMMITTED + 1
    sink.stop(20.0)
    outbox = Outbox(tmp_path / "outbox.sqlite", AMPLE)
    kept = keys([row.payload for row in outbox.after(0, 10_000)])
    starts = {key for key, _, kind in kept if kind == "start"}
    ends = {key for key, _, kind in kept if kind == "end"}
    assert starts == ends
    assert sink.counts.dropped + len(kept) == 3 * (1 + MAX_UNCOMMITTED)


def test_stopping_does_not_wait_for_a_disk_that_stalls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = running_sink(tmp_path)
    with stalled_disk(monkeypatch):
        for event in anomaly(1):
            sink.publish(event)
        began = time.monotonic()
        assert sink.stop(3.0) == 4
        assert time.monotonic() - began < 5.0


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Store.__init__
    monkeypatch.setattr(Store, "__init__", partialmethod(original, retry_s=0.5))


def connected_sink(broker: Broker, state_dir: Path) -> MqttSink:
    config = MqttConfig.model_validate({"port": broker.port, "reconnect_min_s": 0.1, "reconnect_max_s": 0.2})
    sink = MqttSink(config, node="hall-2", state_dir=state_dir, clock_synced=True)
    sink.start()
    return sink


def test_no_other_program_can_lock_the_file_while_it_is_in_use(tmp_path: Path) -> None:
    store = open_store(tmp_path / "outbox.sqlite")
    put(store, *anomaly(1))
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite", timeout=0.1, isolation_level=None)) as other:
        for statement in ("BEGIN EXCLUSIVE", "BEGIN IMMEDIATE", "SELECT * FROM message"):
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute(statement)
    put(store, *anomaly(2))
    assert store.error is None
    assert held(store) == keys([*anomaly(1), *anomaly(2)])


@pytest.mark.usefixtures("quick_retries")
def test_a_file_that_another_program_has_locked_is_reported_and_read_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(tmp_path / "outbox.sqlite")
    put(store, *anomaly(1))
    store.outbox.close()
    with running_broker(tmp_path) as broker, Subscriber(broker) as watcher:
        with locked(tmp_path / "outbox.sqlite"):
            sink = connected_sink(broker, tmp_path)
            for event in anomaly(2):
                sink.publish(event)
            wait_until(lambda: sink.counts.outbox_error == "another program has locked it", 5.0)
            wait_until(lambda: keys(watcher.on(EVENTS)) == keys(anomaly(2)), 5.0)
            assert "events are in memory only: another program has locked it" in caplog.text
            sink.publish(anomaly(3)[0])
        wait_until(lambda: sink.counts.outbox_error is None, 5.0)
        for event in anomaly(3)[1:]:
            sink.publish(event)
        wait_until(lambda: keys(watcher.on(EVENTS))[3:] == keys([anomaly(3)[0], *anomaly(1), *anomaly(3)[1:]]), 5.0)
        wait_until(lambda: sink.counts.queued == 0)
        assert sink.stop(2.0) == 0
        assert sink.counts.dropped == 0


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_text("of somebody else")


def replaced_by_noise(path: Path) -> None:
    (path.parent / "noise").write_bytes(os.urandom(100_000))
    (path.parent / "noise").replace(path)


def replaced_by_another_outbox(path: Path) -> None:
    other = Outbox(path.parent / "other", AMPLE)
    with other.transaction():
        other.add(anomaly(99)[0])
    other.close()
    (path.parent / "other").replace(path)


def truncated(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists():
            os.truncate(file, 0)


def both_deleted(path: Path) -> None:
    path.unlink()
    path.with_name(path.name + "-wal").unlink()


def moved_away(path: Path) -> None:
    path.replace(path.with_name("moved"))


def folder_deleted(path: Path) -> None:
    shutil.rmtree(path.parent)


INTERFERENCE: dict[str, Callable[[Path], None]] = {
    "deleted": Path.unlink,
    "log deleted": lambda path: path.with_name(path.name + "-wal").unlink(),
    "both deleted": both_deleted,
    "folder deleted": folder_deleted,
    "moved away": moved_away,
    "replaced by a folder": replaced_by_a_folder,
    "replaced by noise": replaced_by_noise,
    "replaced by another outbox": replaced_by_another_outbox,
    "truncated": truncated,
}


@pytest.mark.parametrize("kind", INTERFERENCE)
def test_a_file_that_another_program_destroys_is_written_again_within_seconds(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost at the next kill."""
    caplog.set_level(logging.INFO)
    state = tmp_path / "state"
    config = MqttConfig.model_validate({"port": 9, "reconnect_min_s": 0.1, "reconnect_max_s": 0.2})
    sink = MqttSink(config, node="hall-2", state_dir=state, clock_synced=True)
    sink.start()
    events = [event for number in range(20) for event in anomaly(number)]
    for event in events:
        sink.publish(event)
    wait_until(lambda: sink.counts.queued == 60 and sink.n_uncommitted == 0)
    INTERFERENCE[kind](state / "outbox.sqlite")
    wait_until(lambda: "events are on disk again" in caplog.text, 5.0)
    assert "another program has deleted, replaced or truncated it" in caplog.text
    assert (sink.counts.outbox_error, sink.counts.queued, sink.counts.dropped) == (None, 60, 0)
    for event in anomaly(50):
        sink.publish(event)
    wait_until(lambda: sink.n_uncommitted == 0)
    copy = tmp_path / "after a kill"
    shutil.copytree(state, copy)
    store = open_store(copy / "outbox.sqlite")
    assert held(store) == keys([*events, *anomaly(50)])
    assert sink.stop(2.0) == 63
    assert sink.counts.worker_errors == 0
    assert not list(state.glob("*-shm"))


def test_a_folder_in_place_of_the_file_is_moved_out_of_the_way_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    path.mkdir()
    (path / "file").write_text("of somebody else")
    store = open_store(path)
    put(store, *anomaly(1))
    assert store.error is None
    assert (tmp_path / "outbox.folder" / "file").is_file()


def test_a_file_that_cannot_be_read_for_a_while_is_read_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path / "outbox.sqlite")
    put(store, *anomaly(1), anomaly(2)[0])

    def fails(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "transaction", fails)
        patch.setattr(Outbox, "copy_to", fails)
        with pytest.raises(sqlite3.OperationalError):
            put(store, anomaly(2)[1])
    assert store.error == "disk I/O error"
    put(store, *anomaly(2)[1:], anomaly(3)[0])
    retry(store)
    assert store.error is None
    assert held(store) == keys([*anomaly(1), *anomaly(2), anomaly(3)[0]])
    assert store.outbox.totals.n_dropped == 0
    store.outbox.close()
    assert held(open_store(tmp_path / "outbox.sqlite"))[-1] == (anomaly(3)[0].id, 1, "end")


def test_a_file_without_the_right_to_write_is_reported_and_read_when_it_is_writable(tmp_path: Path) -> None:
    store = open_store(tmp_path / "outbox.sqlite")
    put(store, *anomaly(1))
    store.outbox.close()
    mount = ["mount", "--bind", "-o", "ro", str(tmp_path / "outbox.sqlite"), str(tmp_path / "outbox.sqlite")]
    need(subprocess.run(mount, check=False, capture_output=True).returncode == 0, "the right to mount")
    try:
        store = open_store(tmp_path / "outbox.sqlite")
        assert store.error is not None
        put(store, *anomaly(2))
        assert held(store) == keys(anomaly(2))
    finally:
        subprocess.run(["umount", str(tmp_path / "outbox.sqlite")], check=True)
    retry(store)
    assert store.error is None
    assert held(store) == keys([*anomaly(1), *anomaly(2)])

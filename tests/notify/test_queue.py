"""The queue: order, limits, restarts, and files in every state."""

import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest

from monitor.events.event import Severity
from monitor.notify.message import Message
from monitor.notify.queue import DISK_RETRY_S, Limits, NotifyQueue
from tests.tmpfs import tmpfs
from tests.waiting import wait_until


def message(number: int, severity: Severity = "alarm", *, target: str = "shift", size: int = 10) -> Message:
    return Message(target=target, event=f"event-{number}", severity=severity, title=f"Title {number}", body="x" * size)


def opened(path: Path, limits: Limits | None = None, *, retry_s: float = DISK_RETRY_S) -> NotifyQueue:
    queue = NotifyQueue(path, limits, retry_s=retry_s)
    queue.check_disk()
    return queue


def titles(queue: NotifyQueue) -> list[str]:
    found = [queue.read(one) for one in queue.waiting()]
    return [one[0].title for one in found if one is not None]


def test_messages_survive_a_restart_in_their_order_with_their_pictures(tmp_path: Path) -> None:
    queue = opened(tmp_path / "queue.sqlite")
    queue.add([message(1), message(2, "warning"), message(3)])
    queue.attach("event-2", b"picture")
    queue.attach("event-2", b"a later picture")
    queue.remove(queue.waiting()[0].row)
    queue.close()
    again = opened(tmp_path / "queue.sqlite")
    first, second = again.waiting()
    assert again.read(first) == (message(2, "warning"), b"picture")
    assert again.read(second) == (message(3), None)
    assert (again.n, again.n_dropped, again.error) == (2, 0, None)


def test_a_full_queue_drops_the_oldest_warnings_and_then_the_oldest_alarms(tmp_path: Path) -> None:
    queue = opened(tmp_path / "queue.sqlite", Limits(messages=3))
    queue.add([message(1), message(2, "warning"), message(3)])
    queue.add([message(4)])
    assert titles(queue) == ["Title 1", "Title 3", "Title 4"]
    queue.add([message(5)])
    assert titles(queue) == ["Title 3", "Title 4", "Title 5"]
    assert queue.n_dropped == 2


def test_the_limit_of_bytes_counts_pictures(tmp_path: Path) -> None:
    queue = opened(tmp_path / "queue.sqlite", Limits(n_bytes=5_000))
    queue.add([message(1), message(2), message(3, size=2_000)])
    queue.attach("event-2", bytes(4_000))
    assert titles(queue) == ["Title 3"]


@pytest.mark.parametrize("content", [b"no database" * 100, b""])
def test_a_file_that_cannot_be_read_is_set_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "queue.sqlite"
    path.write_bytes(content)
    queue = opened(path)
    queue.add([message(1)])
    queue.close()
    assert titles(opened(path)) == ["Title 1"]
    assert (tmp_path / "queue.corrupt").exists() == bool(content)


def test_a_file_of_a_later_version_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    assert opened(path).waiting() == []
    assert (tmp_path / "queue.corrupt").exists()


def test_a_locked_file_means_memory_until_it_is_free_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    first = opened(path)
    first.add([message(1)])
    queue = opened(path, retry_s=0.0)
    assert queue.error is not None
    queue.add([message(2)])
    queue.check_disk()
    assert titles(queue) == ["Title 2"]
    first.close()
    queue.check_disk()
    assert queue.error is None
    assert titles(queue) == ["Title 1", "Title 2"]
    queue.close()
    assert titles(opened(path)) == ["Title 1", "Title 2"]


def test_a_full_disk_means_memory_and_what_was_sent_meanwhile_is_not_sent_again(tmp_path: Path) -> None:
    with tmpfs(tmp_path, n_bytes=262_144) as disk:
        queue = opened(disk / "queue.sqlite", retry_s=0.0)
        queue.add([message(1)])
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1_024)):
                pass
        queue.add([message(2, size=100_000)])
        assert queue.error is not None
        assert titles(queue) == ["Title 1", "Title 2"]
        queue.remove(queue.waiting()[0].row)
        filler.unlink()
        queue.check_disk()
        assert queue.error is None
        queue.close()
        again = opened(disk / "queue.sqlite")
        assert titles(again) == ["Title 2"]
        again.close()


def test_a_message_in_flight_while_the_disk_fails_is_the_one_that_is_removed(tmp_path: Path) -> None:
    with tmpfs(tmp_path, n_bytes=262_144) as disk:
        queue = opened(disk / "queue.sqlite")
        queue.add([message(number) for number in range(1, 5)])
        queue.remove(queue.waiting()[0].row)
        sending = queue.waiting()[0]
        with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1_024)):
                pass
        queue.add([message(5, size=100_000)])
        assert queue.error is not None
        queue.remove(sending.row)
        assert titles(queue) == ["Title 3", "Title 4", "Title 5"]
        queue.close()


def test_the_stop_stores_what_was_in_memory_if_the_disk_works_again(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    other = opened(path)  # holds the lock
    queue = opened(path)
    queue.add([message(1)])
    assert queue.error is not None
    other.close()
    queue.close()
    assert titles(opened(path)) == ["Title 1"]


@pytest.mark.parametrize("what", ["deleted", "replaced"])
def test_no_message_is_lost_when_the_file_is_deleted_while_it_is_open(tmp_path: Path, what: str) -> None:
    path = tmp_path / "queue.sqlite"
    queue = opened(path, retry_s=0.0)
    queue.add([message(1)])
    path.unlink()
    if what == "replaced":
        path.write_bytes(b"another program's")

    def is_on_disk() -> bool:
        queue.check_disk()
        return path.exists() and path.read_bytes().startswith(b"SQLite")

    wait_until(is_on_disk, what="a new file")
    assert queue.error is None
    queue.add([message(2)])
    queue.close()
    assert titles(opened(path)) == ["Title 1", "Title 2"]

"""The queue between the decision and the acknowledgement: order, and acknowledged rows that do not return."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from monitor.events.event import Event
from monitor.mqtt.event_queue import EventQueue
from monitor.mqtt.outbox import Limits, Outbox
from tests.mqtt.anomalies import anomaly, keys


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[EventQueue]:
    opened = EventQueue(tmp_path / "outbox.sqlite", Limits(messages=100, n_bytes=1_000_000), clock_synced=True)
    yield opened
    opened.close()


def put(queue: EventQueue, *events: Event) -> None:
    for event in events:
        assert queue.accept(event)
        queue.uncommitted.append((0.0, partial(Outbox.add, event=event)))


def sent(queue: EventQueue) -> list[tuple[str, int, str]]:
    payloads = []
    while (row := queue.next(set())) is not None:
        payloads.append(row.payload)
        queue.pop()
    return keys(payloads)


def test_a_parked_start_is_kept_after_its_update_was_acknowledged_and_sent_when_it_is_retried(queue: EventQueue) -> None:
    start, update, end = anomaly(1)
    put(queue, start, update)
    queue.advance()
    assert sent(queue) == keys([start, update])
    queue.park(1)
    queue.acknowledged(2)
    queue.restart()  # a reconnect before acknowledged rows are deleted
    put(queue, end)
    queue.advance()
    assert sent(queue) == keys([end])
    assert (queue.n_queued, queue.n_parked, queue.n_dropped) == (2, 1, 0)
    queue.unpark()
    assert sent(queue) == keys([start, end])
    assert (queue.n_queued, queue.n_parked) == (2, 0)


def test_acknowledged_rows_are_deleted_even_if_another_change_cannot_be_applied(queue: EventQueue) -> None:
    start, update, end = anomaly(1)
    put(queue, start)
    queue.advance()
    assert sent(queue) == keys([start])
    queue.acknowledged(1)
    put(queue, replace(anomaly(2)[0], score=float("nan")), update)
    with pytest.raises(ValueError, match="JSON"):
        queue.advance()
    put(queue, end)
    queue.restart()
    queue.advance()
    assert sent(queue) == keys([update, end])
    assert (queue.n_queued, queue.n_dropped) == (2, 1)

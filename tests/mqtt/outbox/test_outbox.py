"""The outbox alone: order, bounds, what is open, times."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.events.event import Event
from monitor.mqtt.event_queue import EventQueue
from monitor.mqtt.outbox import WINDOW, Limits, Outbox
from tests.mqtt.anomalies import anomaly, keys

AMPLE = Limits(messages=10_000, n_bytes=10_000_000)
NOW = datetime(2026, 12, 1, 6, 0, 0, tzinfo=timezone.utc)


def put(outbox: Outbox, *events: Event) -> None:
    for event in events:
        with outbox.transaction():
            outbox.add(event)


def store(path: Path, *events: Event) -> None:
    """Left behind by an earlier run."""
    outbox = Outbox(path, AMPLE)
    put(outbox, *events)
    outbox.close()


def held(outbox: Outbox) -> list[dict[str, Any]]:
    rows = outbox._db.execute("SELECT payload FROM message ORDER BY row").fetchall()
    return [json.loads(payload) for (payload,) in rows]


def end_open(outbox: Outbox, *, clock_synced: bool = True) -> None:
    with outbox.transaction():
        outbox.end_open(NOW, clock_synced=clock_synced)


def test_events_survive_in_order_and_go_when_they_are_done(tmp_path: Path) -> None:
    events = [*anomaly(1), *anomaly(2, machine="pump")]
    store(tmp_path / "outbox.sqlite", *events)
    outbox = Outbox(tmp_path / "outbox.sqlite", AMPLE)
    rows = outbox.after(0, 4)
    assert [json.loads(row.payload) for row in rows] == [event_as_sent(event) for event in events[:4]]
    assert [row.machine for row in rows] == ["fan", "fan", "fan", "pump"]
    assert keys([row.payload for row in outbox.after(rows[-1].row, 10)]) == keys(events[4:])
    with outbox.transaction():
        outbox.delete([row.row for row in rows])
    assert keys([row.payload for row in outbox.after(0, 10)]) == keys(events[4:])
    assert outbox.totals.n == 2
    assert outbox.totals.n_bytes == sum(len(row.payload.encode()) for row in outbox.after(0, 10))


def event_as_sent(event: Event) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(json.dumps(event.to_dict()))
    return sent


def test_when_full_the_oldest_updates_go_first() -> None:
    outbox = Outbox(":memory:", replace(AMPLE, messages=6))
    first, second = anomaly(1, n_updates=3), anomaly(2, n_updates=2)
    put(outbox, *first, *second)
    assert keys(held(outbox)) == keys([first[0], first[-1], *second])
    assert outbox.totals.n_dropped == 3


def test_then_whole_oldest_anomalies_go() -> None:
    outbox = Outbox(":memory:", replace(AMPLE, messages=4))
    put(outbox, *anomaly(1), *anomaly(2), *anomaly(3))
    assert keys(held(outbox)) == keys([event for n in (2, 3) for event in anomaly(n) if event.event_type != "update"])
    assert outbox.totals.n_dropped == 5


def test_the_bound_in_bytes_holds_too() -> None:
    size = len(json.dumps(anomaly(1)[0].to_dict(), ensure_ascii=False).encode())
    outbox = Outbox(":memory:", replace(AMPLE, n_bytes=5 * size))
    put(outbox, *anomaly(1), *anomaly(2), *anomaly(3))
    assert outbox.totals.n_bytes <= 5 * size
    assert outbox.totals.n_bytes == sum(len(json.dumps(m, ensure_ascii=False).encode()) for m in held(outbox))


def test_an_anomaly_that_was_dropped_while_it_went_on_stays_away_to_its_end() -> None:
    outbox = Outbox(":memory:", replace(AMPLE, messages=2))
    first, second = anomaly(1), anomaly(2, n_updates=0)
    put(outbox, first[0], *second, *first[1:])
    assert keys(held(outbox)) == keys(second)
    assert outbox.totals.n_dropped == 3
    end_open(outbox)
    assert keys(held(outbox)) == keys(second)
    assert outbox.totals.evicted == frozenset()


def test_the_end_of_what_may_have_been_heard_is_never_dropped() -> None:
    outbox = Outbox(":memory:", replace(AMPLE, messages=2))
    first, second = anomaly(1), anomaly(2, n_updates=0)
    put(outbox, first[0])
    outbox.after(0, 1)
    put(outbox, *second, *first[1:])
    assert keys(held(outbox)) == keys([first[0], first[-1]])


KINDS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["start", "update", "end", "send"])), max_size=120)


@settings(max_examples=60)
@given(KINDS)
def test_nobody_ever_hears_a_lone_start_or_an_end_out_of_the_blue(steps: list[tuple[int, str]]) -> None:
    """Whatever happens in whatever order on three machines with room for five: a start that was heard is ended."""
    outbox = Outbox(":memory:", replace(AMPLE, messages=5))
    open_: dict[int, Event] = {}
    heard: list[str] = []
    for number, (machine, kind) in enumerate(steps):
        if kind == "send":
            rows = outbox.after(0, 2)
            heard += [row.payload for row in rows]
            with outbox.transaction():
                outbox.delete([row.row for row in rows])
        elif machine not in open_:
            open_[machine] = anomaly(number, machine=f"fan-{machine}")[0]
            put(outbox, open_[machine])
        elif kind != "start":
            last = open_.pop(machine)
            event = replace(last, seq=last.seq + 1, event_type=kind)  # type: ignore[arg-type]
            put(outbox, event)
            if kind == "update":
                open_[machine] = event
    end_open(outbox)
    assert outbox.totals.n <= 5 + 3
    heard += [row.payload for row in outbox.after(0, 100)]
    starts = [key for key, _, kind in keys(heard) if kind == "start"]
    ends = [key for key, _, kind in keys(heard) if kind == "end"]
    assert sorted(starts) == sorted(ends)
    assert {key for key, _, _ in keys(heard)} == set(starts)


def test_what_a_crash_leaves_open_is_ended_with_what_was_known(tmp_path: Path) -> None:
    events = anomaly(1, n_updates=2)[:-1]
    store(tmp_path / "outbox.sqlite", *anomaly(0), *events)
    outbox = Outbox(tmp_path / "outbox.sqlite", AMPLE)
    end_open(outbox)
    end = held(outbox)[-1]
    last = event_as_sent(events[-1])
    assert end == {**last, "event_type": "end", "seq": 3, "ts": "2026-12-01T06:00:00.000Z", "end_reason": "restarted"}
    end_open(outbox)
    assert outbox.totals.n == 3 + 4


@pytest.mark.parametrize(("before", "now"), [(False, True), (True, False), (False, False)])
def test_an_end_after_a_crash_is_as_sure_of_its_times_as_both_runs(before: bool, now: bool, tmp_path: Path) -> None:
    store(tmp_path / "outbox.sqlite", anomaly(1, clock_synced=before)[0])
    outbox = Outbox(tmp_path / "outbox.sqlite", AMPLE)
    end_open(outbox, clock_synced=now)
    assert not held(outbox)[-1]["clock_synced"]


def test_a_refused_row_stays_when_a_later_one_of_its_anomaly_is_delivered() -> None:
    outbox = Outbox(":memory:", AMPLE)
    put(outbox, *anomaly(1), *anomaly(2))
    rows = outbox.after(0, 10)
    outbox.park(rows[0].row)
    outbox.park(rows[3].row)
    with outbox.transaction():
        outbox.delete([rows[1].row, rows[5].row])
    assert keys(held(outbox)) == keys([anomaly(1)[0], anomaly(1)[2], *anomaly(2)[:2]])
    assert (outbox.totals.n, outbox.totals.n_dropped, outbox.totals.parked) == (4, 0, frozenset({rows[0].row, rows[3].row}))


def test_a_refused_start_that_was_overtaken_is_dropped_without_the_end_that_subscribers_wait_for() -> None:
    outbox = Outbox(":memory:", replace(AMPLE, messages=5))
    start, update, end = anomaly(1)
    put(outbox, start, update)
    rows = outbox.after(0, 10)
    outbox.park(rows[0].row)
    with outbox.transaction():
        outbox.delete([rows[1].row])
    put(outbox, *anomaly(2, n_updates=0), *anomaly(3, n_updates=0), end)
    assert keys(held(outbox))[0] == keys(anomaly(2))[0]
    assert keys(held(outbox))[-1] == keys([end])[0]
    assert outbox.totals.n_dropped == 1


def test_refused_rows_are_the_first_to_go_when_the_outbox_is_full() -> None:
    outbox = Outbox(":memory:", replace(AMPLE, messages=6))
    for number in range(100):
        put(outbox, *anomaly(number))
        for row in outbox.after(0, 10):
            outbox.park(row.row)
    assert outbox.totals.n <= 6
    assert keys(held(outbox)[-2:]) == keys([anomaly(99)[0], anomaly(99)[-1]])
    assert outbox.totals.parked == {row.row for row in outbox.after(0, 10)}
    outbox.unpark()
    assert outbox.totals.parked == frozenset()


@pytest.mark.parametrize("payload", ["{", "[]", "{}", "null", '{"id": 3}', "\x00"])
def test_malformed_rows_are_dropped_at_the_start_and_counted(payload: str, tmp_path: Path) -> None:
    store(tmp_path / "outbox.sqlite", *anomaly(1)[:2], *anomaly(2)[:1])
    with closing(sqlite3.connect(tmp_path / "outbox.sqlite")) as damaged, damaged:
        damaged.execute("UPDATE message SET payload = ? WHERE row = 2", (payload,))
        damaged.execute("UPDATE open SET payload = ? WHERE id = ?", (payload, anomaly(1)[0].id))
    outbox = Outbox(tmp_path / "outbox.sqlite", AMPLE)
    end_open(outbox)
    restarted = (anomaly(2)[0].id, 1, "end")
    assert keys(held(outbox)) == [*keys([anomaly(1)[0], anomaly(2)[0]]), restarted]
    assert (outbox.totals.n, outbox.totals.n_dropped) == (3, 2)


COLUMNS = [("message", "payload"), ("message", "id"), ("message", "machine"), ("open", "payload"), ("open", "id")]


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_a_row_that_is_not_valid_utf_8_is_dropped_alone(table: str, column: str, tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    starts = [anomaly(number)[0] for number in (1, 2, 3)]
    store(path, *starts)
    with closing(sqlite3.connect(path)) as damaged, damaged:
        damaged.execute(f"UPDATE {table} SET {column} = CAST(X'7B22FF22' AS TEXT) WHERE id = ?", (starts[1].id,))
    queue = EventQueue(path, AMPLE, clock_synced=True)
    queue.advance()
    rows = []
    while (row := queue.next(set())) is not None:
        rows.append(row.payload)
        queue.pop()
    ends = [(start.id, 1, "end") for start in starts]
    expected = [*keys(starts), *ends]
    expected.remove(keys(starts)[1] if table == "message" else ends[1])
    assert keys(rows) == expected
    assert (queue.n_queued, queue.n_dropped, queue.error) == (5, 1, None)


def test_damaged_text_within_an_event_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    store(path, replace(anomaly(1)[0], summary="two words"))
    with closing(sqlite3.connect(path)) as damaged, damaged:
        damaged.execute("UPDATE message SET payload = CAST(replace(CAST(payload AS BLOB), ' words', X'FF') AS TEXT)")
    outbox = Outbox(path, AMPLE)
    end_open(outbox)
    assert [message["summary"] for message in held(outbox)] == ["two\ufffd", "two words"]


def test_times_from_before_the_clock_was_set_are_corrected() -> None:
    outbox = Outbox(":memory:", AMPLE)
    put(outbox, *anomaly(1)[:2], *anomaly(2, machine="pump", clock_synced=False)[:2])
    with outbox.transaction():
        outbox.correct(86_400.5)
    sure, _, unsure, _ = held(outbox)
    assert sure == event_as_sent(anomaly(1)[0])
    expected = {"ts": "2026-11-22T12:00:00.500Z", "onset_ts": "2026-11-22T11:59:48.500Z", "clock_synced": True}
    assert unsure == {**event_as_sent(anomaly(2, machine="pump", clock_synced=False)[0]), **expected}
    end_open(outbox)
    assert held(outbox)[-1]["onset_ts"] == "2026-11-22T11:59:48.500Z"
    assert held(outbox)[-1]["clock_synced"]


def test_what_may_have_been_heard_is_not_altered() -> None:
    outbox = Outbox(":memory:", AMPLE)
    put(outbox, *anomaly(1, clock_synced=False))
    heard = outbox.after(0, 1)[0]
    with outbox.transaction():
        outbox.correct(3_600.0)
    first, *rest = outbox.after(0, 10)
    assert first == heard
    assert all(json.loads(row.payload)["clock_synced"] for row in rest)


def test_times_of_an_earlier_run_stay_unsure(tmp_path: Path) -> None:
    store(tmp_path / "outbox.sqlite", *anomaly(1, clock_synced=False)[:2])
    outbox = Outbox(tmp_path / "outbox.sqlite", AMPLE)
    end_open(outbox, clock_synced=False)
    with outbox.transaction():
        outbox.correct(3_600.0)
    assert [message["clock_synced"] for message in held(outbox)] == [False, False, False]


def test_an_end_made_before_the_clock_was_set_keeps_the_onset_of_a_run_that_knew_it(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    store(path, *(event for n in range(WINDOW) for event in anomaly(n)), anomaly(99)[0])
    outbox = Outbox(path, AMPLE)
    end_open(outbox, clock_synced=False)
    with outbox.transaction():
        outbox.correct(3_600.0)
    end = held(outbox)[-1]
    assert (end["ts"], end["clock_synced"]) == ("2026-12-01T07:00:00.000Z", True)
    assert end["onset_ts"] == event_as_sent(anomaly(99)[0])["onset_ts"]


def test_a_transaction_that_fails_changes_nothing(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", AMPLE)
    put(outbox, *anomaly(1))
    before = outbox.totals
    with pytest.raises(sqlite3.OperationalError), outbox.transaction():
        outbox.add(anomaly(2)[0])
        outbox._db.execute("INSERT INTO nowhere VALUES (1)")
    assert outbox.totals == before
    assert keys(held(outbox)) == keys(anomaly(1))


def test_a_limit_of_messages_or_bytes_may_be_reached() -> None:
    start, end = anomaly(1)[0], anomaly(1)[-1]
    ample = Outbox(":memory:", AMPLE)
    put(ample, start, end)
    n_bytes = sum(len(row.payload.encode()) for row in ample.after(0, 2))
    for limits, n in (
        (Limits(messages=2, n_bytes=10_000), 2),
        (Limits(messages=1, n_bytes=10_000), 0),
        (Limits(messages=9, n_bytes=n_bytes), 2),
        (Limits(messages=9, n_bytes=n_bytes - 1), 0),
    ):
        outbox = Outbox(":memory:", limits)
        put(outbox, start, end)
        assert (outbox.totals.n, outbox.totals.n_bytes) == (n, n_bytes if n else 0)
        assert outbox.totals.n_dropped == 2 - n


def test_rows_are_numbered_from_the_first_and_on_from_what_is_there(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", AMPLE, first_row=100)
    put(outbox, *anomaly(1))
    numbers = [row.row for row in outbox.after(0, 10)]
    assert numbers == list(range(100, 100 + len(numbers)))
    assert [row.row for row in outbox.after(100, 1)] == [101]
    outbox.close()
    again = Outbox(tmp_path / "outbox.sqlite", AMPLE)
    put(again, anomaly(2)[0])
    assert [row.row for row in again.after(numbers[-1], 10)] == [numbers[-1] + 1]


def test_a_file_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    store(path, *anomaly(1))
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 1
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(sqlite3.DatabaseError, match="schema must be 1, got 2"):
        Outbox(path, AMPLE)


def test_uncertain_times_are_shifted_and_certain_ones_are_not() -> None:
    outbox = Outbox(":memory:", AMPLE)
    unsure, sure = anomaly(1, clock_synced=False)[0], anomaly(2, clock_synced=True)[0]
    put(outbox, unsure, sure)
    before = held(outbox)
    with outbox.transaction():
        outbox.correct(60.0, synced=False)
    after = held(outbox)
    assert datetime.fromisoformat(after[0]["ts"].replace("Z", "+00:00")) == (
        datetime.fromisoformat(before[0]["ts"].replace("Z", "+00:00")) + timedelta(seconds=60)
    )
    assert after[0]["clock_synced"] is False
    assert after[1] == before[1]
    with outbox.transaction():
        outbox.correct(1.0)
        outbox.correct(1.0)  # once the clock is set, the times are certain
    last = held(outbox)[0]
    assert last["clock_synced"] is True
    assert datetime.fromisoformat(last["onset_ts"].replace("Z", "+00:00")) == (
        datetime.fromisoformat(before[0]["onset_ts"].replace("Z", "+00:00")) + timedelta(seconds=61)
    )


def test_an_outbox_takes_over_the_rows_of_another() -> None:
    first, second = Outbox(":memory:", AMPLE), Outbox(":memory:", AMPLE, first_row=50)
    put(first, anomaly(1)[0])
    put(second, anomaly(1)[-1], anomaly(2)[0])
    second.after(0, 1)
    with first.transaction():
        first.absorb(second)
    assert [row.row for row in first.after(0, 10)] == [1, 50, 51]
    assert first.totals.n == 3
    end_open(first)
    assert [message["id"] for message in held(first)[3:]] == [anomaly(2)[0].id]  # the first one had ended
    put(first, anomaly(3)[0])
    assert [row.row for row in first.after(52, 10)] == [53]

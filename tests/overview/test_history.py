"""The history in SQLite and in a real PostgreSQL: what is kept, what is deleted, and a database that is away, frozen or full."""

import asyncio
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import plant_messages
from monitor.config.fleet import FleetConfig
from monitor.errors import StethosError
from monitor.overview.fleet import Fleet
from monitor.overview.history import MAX_WAITING, History
from monitor.overview.model import Change, Changes
from tests.broker import running_broker
from tests.overview.postgres import Postgres, running_postgres
from tests.overview.rig import Overview, Plant
from tests.waiting import wait_until

pytestmark = pytest.mark.waits
ID = "00000000-0000-4000-8000-{:012d}"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    if request.param == "sqlite":
        return None
    server: Postgres = request.getfixturevalue("postgres")
    server.query("drop table if exists fleet_events; drop table if exists fleet_states")
    monkeypatch.setenv("PGPASSFILE", str(server.pass_file(tmp_path)))
    return server.url


def started(url: str | None, folder: Path, **settings: Any) -> History:
    history = History(FleetConfig(database=url, **settings), folder)
    history.start()
    wait_until(lambda: history.is_ready, what="the tables")
    return history


def changes_of(*messages: tuple[str, str, dict[str, Any]]) -> Changes:
    """What a fleet makes of events of (node, machine, arguments)."""
    fleet = Fleet(FleetConfig())
    fleet.set_connected(True)
    for node, machine, arguments in messages:
        payload = plant_messages.event(node, machine, **arguments).encode()
        fleet.take(f"{node}/{machine}/event", payload, retained=False, now=time.time())
    return fleet.take_changes()


def change(number: int, at: float) -> Change:
    return Change(at=at, node="saw", machine="fan", kind="alarm" if number % 2 else "normal", reason=None, ratio=1.5)


def events(history: History, **asked: Any) -> list[dict[str, Any]]:
    return asyncio.run(history.events(limit=100, **asked))


def ids(history: History) -> list[str] | None:
    """Of all events; None while there is no table."""
    with suppress(StethosError):
        return [one["id"] for one in events(history)]
    return None


def states(history: History) -> list[dict[str, Any]]:
    return asyncio.run(history.states(machine=("saw", "fan"), limit=10_000))


def written(history: History) -> None:
    wait_until(lambda: history.n_waiting == 0 and history.error is None, what=f"all written: {history.error}")


def test_an_event_is_one_row_with_its_latest_message(url: str | None, tmp_path: Path) -> None:
    history = started(url, tmp_path)
    history.keep(changes_of(("saw", "fan", {"id_": ID.format(1)})))
    history.keep(changes_of(("saw", "fan", {"id_": ID.format(1), "kind": "end", "seq": 3})))
    history.keep(changes_of(("saw", "fan", {"id_": ID.format(1), "kind": "update", "seq": 2})))  # out of order
    history.keep(changes_of(("pump", "a", {"id_": ID.format(2), "severity": "warning"})))
    wait_until(lambda: len(events(history)) == 2, what="both events")
    (row,) = events(history, machine=("saw", "fan"))
    assert (row["seq"], row["event_type"], row["end_reason"], row["peak_ratio"]) == (3, "end", "cleared", 3.4)
    assert row["onset"].tzinfo is not None
    assert abs(row["onset"].timestamp() - time.time()) < 60
    first, second = events(history)
    assert events(history, before=first["onset"], after_id=first["id"]) == [second]
    assert events(history, before=second["onset"], after_id=second["id"]) == []
    history.stop()


def test_changes_of_state_are_kept_up_to_their_limits(url: str | None, tmp_path: Path) -> None:
    now = time.time()
    history = started(url, tmp_path, keep_days=1, keep_rows=1_000)
    changes = Changes()
    changes.kinds = [change(number, now - 100 * 86_400) for number in range(50)]
    changes.kinds += [change(number, now - 2_000 + number) for number in range(1_500)]
    history.keep(changes)
    written(history)
    history.stop()
    history = started(url, tmp_path, keep_days=1, keep_rows=1_000)  # it is pruned at the start
    history.keep(changes_of(("saw", "fan", {})))
    wait_until(lambda: len(states(history)) == 1_000, what="1,000 rows")
    assert states(history)[0]["at"].timestamp() == pytest.approx(now - 2_000 + 1_499, abs=0.001)
    history.stop()


def test_a_row_that_the_database_refuses_does_not_hold_up_the_others(url: str | None, tmp_path: Path) -> None:
    history = started(url, tmp_path)
    bad, good = changes_of(("saw", "fan", {"id_": ID.format(1)})), changes_of(("saw", "fan", {"id_": ID.format(2)}))
    bad.events[ID.format(1)]["summary"] = "NUL \0" if url else None
    bad.events |= good.events
    history.keep(bad)
    wait_until(lambda: [one["id"] for one in events(history)] == [ID.format(2)], what="the good row")
    wait_until(lambda: history.n_lost == 1, what="the count")
    assert history.error is None
    history.stop()


def test_a_kind_that_is_the_same_after_a_restart_is_no_change(url: str | None, tmp_path: Path) -> None:
    now = time.time()
    for number, at in ((1, 0), (1, 1), (2, 2), (2, 3)):  # alarm, alarm, normal, normal
        history, changes = started(url, tmp_path), Changes()
        changes.kinds = [change(number, now + at)]
        history.keep(changes)
        written(history)
        history.stop()
    history = started(url, tmp_path)
    assert [(one["kind"], round(one["at"].timestamp() - now)) for one in states(history)] == [("normal", 2), ("alarm", 0)]
    history.stop()


def test_a_file_that_is_deleted_is_begun_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history = started(None, tmp_path)
    history.keep(changes_of(("saw", "fan", {"id_": ID.format(1)})))
    written(history)
    for path in tmp_path.glob("fleet.sqlite*"):
        path.unlink()
    history.keep(changes_of(("saw", "fan", {"id_": ID.format(2)})))
    wait_until(lambda: ids(history) == [ID.format(2)], what="the row")
    assert f"history: {tmp_path / 'fleet.sqlite'} was deleted or replaced, and is begun again" in caplog.messages
    assert (history.n_lost, history.error) == (0, None)
    history.stop()


def test_tables_that_are_dropped_come_back_and_no_row_is_lost(tmp_path: Path) -> None:
    history = started(None, tmp_path)
    with sqlite3.connect(tmp_path / "fleet.sqlite") as database:
        database.execute("drop table fleet_events")
    history.keep(changes_of(("saw", "fan", {"id_": ID.format(1)})))
    wait_until(lambda: ids(history) == [ID.format(1)], what="the row")
    assert history.n_lost == 0
    history.stop()


def test_times_are_utc_whatever_zone_the_role_and_the_client_have(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSFILE", str(postgres.pass_file(tmp_path)))
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    postgres.query("alter role stethos set timezone = 'Europe/Berlin'; drop table if exists fleet_events, fleet_states")
    history = started(postgres.url, tmp_path)
    changes = changes_of(("saw", "fan", {"id_": ID.format(1)}))
    changes.events[ID.format(1)]["onset_ts"] = "9999-12-31T23:59:59.000Z"
    history.keep(changes)
    written(history)
    assert [one["onset"].isoformat() for one in events(history)] == ["9999-12-31T23:59:59+00:00"]
    history.stop()
    postgres.query("alter role stethos reset timezone")


def test_what_comes_while_postgresql_is_away_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_postgres() as server:
        monkeypatch.setenv("PGPASSFILE", str(server.pass_file(tmp_path)))
        history = started(server.url, tmp_path)
        history.keep(changes_of(("saw", "fan", {"id_": ID.format(1)})))
        written(history)
        server.stop()
        history.keep(changes_of(("saw", "fan", {"id_": ID.format(2)})))
        wait_until(lambda: history.error is not None, what="the error")
        with pytest.raises(StethosError, match=r"cannot be read|does not answer"):
            events(history)
        server.start()
        wait_until(lambda: history.error is None, what="the end of the error")
        assert server.query("select count(*) from fleet_events") == "2"
        server.signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            history.keep(changes_of(("saw", "fan", {"id_": ID.format(3)})))
            with pytest.raises(StethosError, match=r"cannot be read|does not answer"):
                events(history)
            many = Changes()
            many.kinds = [change(number, 0.0) for number in range(MAX_WAITING + 500)]
            history.keep(many)
            assert 0 < history.n_lost <= 501  # the queue is bounded, and what finds no room is counted
            assert time.monotonic() - began < 15
        finally:
            server.signal(signal.SIGCONT)
        wait_until(lambda: history.n_waiting == 0, 60, what="the rest")
        assert server.query("select count(*) from fleet_events") == "3"
        history.stop()


def test_a_locked_database_is_shown_and_the_overview_goes_on(tmp_path: Path) -> None:
    with ExitStack() as stack:
        broker = stack.enter_context(running_broker(tmp_path))
        plant = stack.enter_context(Plant(broker, 2))
        overview = stack.enter_context(Overview(tmp_path / "fleet", broker_port=broker.port))
        overview.open(passwords=False)
        wait_until(lambda: overview.fleet()["connected"], what="the connection")
        plant.births().states()
        overview.wait_for_kind("n-001/fan", "normal")
        path = tmp_path / "fleet" / "fleet-state" / "fleet.sqlite"
        lock = sqlite3.connect(path, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")  # somebody else's transaction
        plant.state("n-001", "alarm", 3.0)
        overview.wait_for_kind("n-001/fan", "alarm")
        wait_until(lambda: overview.fleet()["history"]["error"], what="the error")
        assert "locked" in overview.fleet()["history"]["error"]
        lock.execute("ROLLBACK")
        wait_until(lambda: overview.fleet()["history"]["error"] is None, what="the end of the error")
        past = overview.client().get("api/fleet/n-001/fan/past").json
        assert [one["kind"] for one in past["states"]][:2] == ["alarm", "normal"]
        assert overview.stop() == 0

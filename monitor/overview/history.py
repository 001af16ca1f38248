"""The history of states and events, in SQLite or PostgreSQL. Rows that find no room while it is away are dropped and counted."""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Select, Table, and_, create_engine, delete, event, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError

from monitor.config.fleet import FleetConfig
from monitor.errors import ConfigError, StethosError
from monitor.events.event import from_rfc3339
from monitor.files import OpenFiles
from monitor.log_limit import of_kind
from monitor.overview.model import Changes
from monitor.overview.tables import EVENTS, METADATA, STATES

log = logging.getLogger(__name__)
FILE = "fleet.sqlite"
MAX_WAITING = 20_000  # rows in memory while the database is away
BATCH = 500
MAX_READS = 8  # requests that wait
READ_S = 5.0
RETRY_S = (0.5, 30.0)
PRUNE_EVERY_S = 3_600.0
PRUNE_ROWS = 20_000  # written rows after which it is pruned earlier
Item = tuple[Table, dict[str, Any]]


class History:
    """Writes in one thread, reads in another. No method but `stop` waits for the database."""

    def __init__(self, config: FleetConfig, folder: Path) -> None:
        self.n_lost = 0
        self.is_ready = False  # the tables exist
        self.error: str | None = None  # why nothing can be written at present
        self._config = config
        self._engine = _engine(config.database, folder)
        self._path, self._file = folder / FILE if config.database is None else None, OpenFiles()
        self._place = "SQLite" if config.database is None else "PostgreSQL"
        self._waiting: queue.Queue[Item | None] = queue.Queue(MAX_WAITING)
        self._reads: queue.Queue[Callable[[], None]] = queue.Queue(MAX_READS)
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._write_all, name="history", daemon=True)
        self._reader = threading.Thread(target=self._read_all, name="history-reads", daemon=True)
        self._prune_at, self._n_written = 0.0, 0
        self._stored: dict[tuple[str, str], tuple[str, str | None] | None] = {}  # the last kind of each machine

    @property
    def n_waiting(self) -> int:
        """Rows that are not written yet."""
        return self._waiting.unfinished_tasks

    def start(self) -> None:
        """Open the database in the background."""
        self._writer.start()
        self._reader.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Write what is possible in that time."""
        self._closing.set()
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._writer.join(timeout_s)

    def keep(self, changes: Changes) -> None:
        """Store the events and changes of kind among the changes."""
        items = [(EVENTS, _event_row(one)) for one in changes.events.values()]
        items += [(STATES, {**asdict(one), "at": _utc(one.at)}) for one in changes.kinds]
        with suppress(queue.Full):
            while items:
                self._waiting.put_nowait(items[0])
                del items[0]
        self.n_lost += len(items)

    async def events(
        self, *, limit: int, machine: tuple[str, str] | None = None, before: datetime | None = None, after_id: str = ""
    ) -> list[dict[str, Any]]:
        """The last events, the newest first, of a (node, machine) or of all. StethosError if the database cannot be read.

        With the onset and id of an event as `before` and `after_id`, those that follow it.
        """
        query = select(EVENTS).order_by(EVENTS.c.onset.desc(), EVENTS.c.id).limit(limit)
        if before is not None:
            query = query.where(or_(EVENTS.c.onset < before, and_(EVENTS.c.onset == before, EVENTS.c.id > after_id)))
        return await self._read(query if machine is None else _of(query, EVENTS, machine))

    async def states(self, *, limit: int, machine: tuple[str, str]) -> list[dict[str, Any]]:
        """The last changes of a machine's kind, the newest first."""
        return await self._read(_of(select(STATES).order_by(STATES.c.number.desc()).limit(limit), STATES, machine))

    async def _read(self, query: Select[Any]) -> list[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[dict[str, Any]]] = loop.create_future()

        def done(rows: list[dict[str, Any]] | None) -> None:
            if not answer.done():
                answer.set_exception(StethosError("the history cannot be read")) if rows is None else answer.set_result(rows)

        def run() -> None:
            rows = None
            try:
                with self._engine.connect() as connection:
                    rows = [dict(row) for row in connection.execute(query).mappings()]
            except (SQLAlchemyError, OSError) as error:
                log.warning("history: cannot be read: %s", _reason(error), extra=of_kind("read"))
            loop.call_soon_threadsafe(done, rows)

        try:
            self._reads.put_nowait(run)
            return await asyncio.wait_for(answer, READ_S)
        except (queue.Full, asyncio.TimeoutError):
            raise StethosError("the database does not answer; try again later") from None

    def _read_all(self) -> None:
        while True:
            run = self._reads.get()
            try:
                run()
            except Exception:  # such as a loop that is closed
                log.debug("history: a read failed", exc_info=True)

    # The writer's thread.

    def _write_all(self) -> None:
        pause_s = RETRY_S[0]
        batch: list[Item] = []
        while True:
            batch = batch or (self._next() if self.is_ready else [])
            try:
                self._write(batch)
                if self.error is not None:
                    log.info("history: %s can be written again", self._place)
                for _ in batch:
                    self._waiting.task_done()
                self.error, batch, pause_s = None, [], RETRY_S[0]
                if self._closing.is_set() and self._waiting.empty():
                    return
                continue
            except (SQLAlchemyError, OSError) as error:
                reason = _reason(error)
            except Exception as error:
                log.exception("history: unexpected error")
                reason = str(error)
            self.is_ready = False  # the tables may be gone
            if self.error is None:
                log.warning("history: %s cannot be written, retrying: %s", self._place, reason, extra=of_kind("history"))
            self.error = reason
            if self._closing.wait(pause_s):
                self.n_lost += len(batch)
                return
            pause_s = min(2 * pause_s, RETRY_S[1])

    def _next(self) -> list[Item]:
        """The rows that wait; none after a minute, or at the end."""
        found: list[Item | None] = []
        try:
            found.append(self._waiting.get(timeout=60.0))
            while len(found) < BATCH:
                found.append(self._waiting.get_nowait())
        except queue.Empty:
            pass
        return [item for item in found if item is not None]

    def _write(self, batch: list[Item]) -> None:
        if self._file.are_replaced():
            log.warning("history: %s was deleted or replaced, and is begun again", self._path)
            self._engine.dispose()
            self.is_ready = False
        if not self.is_ready:
            METADATA.create_all(self._engine)
            self._stored.clear()
            self._file = OpenFiles(*([self._path] if self._path else []))
            self.is_ready = True
        try:
            with self._engine.begin() as connection:
                for item in batch:
                    self._write_row(connection, *item)
        except (DataError, IntegrityError, ValueError):  # a row that the database does not take: the others are kept
            self._stored.clear()
            for item in batch:
                self._write_alone(item)
        self._n_written += len(batch)
        if time.monotonic() >= self._prune_at or self._n_written >= PRUNE_ROWS:
            self._prune_at, self._n_written = time.monotonic() + PRUNE_EVERY_S, 0
            self._prune()

    def _write_alone(self, item: Item) -> None:
        try:
            with self._engine.begin() as connection:
                self._write_row(connection, *item)
        except (DataError, IntegrityError, ValueError):
            self._stored.clear()
            self.n_lost += 1

    def _write_row(self, connection: Connection, table: Table, row: dict[str, Any]) -> None:
        if table is not EVENTS:
            self._write_kind(connection, row)
            return
        make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        insert: Any = make(EVENTS).values(row)
        later = {name: insert.excluded[name] for name in row if name != "id"}
        connection.execute(
            insert.on_conflict_do_update(index_elements=["id"], set_=later, where=EVENTS.c.seq < insert.excluded.seq)
        )

    def _write_kind(self, connection: Connection, row: dict[str, Any]) -> None:
        """Insert a change of kind. The first one after a restart may be none."""
        machine, kind = (row["node"], row["machine"]), (row["kind"], row["reason"])
        if machine not in self._stored:
            last = _of(select(STATES.c.kind, STATES.c.reason).order_by(STATES.c.at.desc()).limit(1), STATES, machine)
            found = connection.execute(last).first()
            self._stored[machine] = None if found is None else (found.kind, found.reason)
        if self._stored[machine] != kind:
            connection.execute(STATES.insert(), row)
            self._stored[machine] = kind

    def _prune(self) -> None:
        """Delete what is too old or too much."""
        oldest = datetime.now(timezone.utc) - timedelta(days=self._config.keep_days)
        with self._engine.begin() as connection:
            for table, name in ((EVENTS, "onset"), (STATES, "at")):
                at = table.c[name]
                connection.execute(delete(table).where(at < oldest))
                n_rows = connection.scalar(select(func.count()).select_from(table)) or 0
                if n_rows > self._config.keep_rows:
                    last = select(at).order_by(at.desc()).offset(self._config.keep_rows).limit(1).scalar_subquery()
                    connection.execute(delete(table).where(at <= last))


def _engine(url: str | None, folder: Path) -> Engine:
    if url is None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        engine = create_engine(f"sqlite:///{folder / FILE}", connect_args={"timeout": 5.0})

        @event.listens_for(engine, "connect")
        def _connected(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        return engine
    try:
        place = make_url(url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError) as error:
        raise ConfigError(f"fleet.database must be postgresql://USER@HOST/DATABASE: {error}") from None
    limits = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "options": "-c statement_timeout=15000"}
    engine = create_engine(place, connect_args=limits, pool_size=2, max_overflow=0, pool_timeout=2, pool_pre_ping=True)

    @event.listens_for(engine, "connect")
    def _in_utc(connection: Any, _: Any) -> None:  # whatever the role, PGTZ or the server say
        connection.execute("SET TIME ZONE 'UTC'")
        connection.commit()

    return engine


def _of(query: Select[Any], table: Table, machine: tuple[str, str]) -> Select[Any]:
    return query.where(table.c.node == machine[0], table.c.machine == machine[1])


def _event_row(message: dict[str, Any]) -> dict[str, Any]:
    row = {name: value for name, value in message.items() if name in EVENTS.c}
    return {**row, "onset": from_rfc3339(message["onset_ts"]), "at": from_rfc3339(message["ts"])}


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, timezone.utc)


def _reason(error: Exception) -> str:
    """The first line of what the database says."""
    return (str(getattr(error, "orig", None) or error).strip().splitlines() or ["no reason given"])[0][:300]

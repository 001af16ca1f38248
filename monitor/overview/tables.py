"""The history's two tables, for SQLite and PostgreSQL."""

from datetime import datetime, timezone
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Dialect, Float, Index, Integer, MetaData, String, Table
from sqlalchemy.types import TypeDecorator


class Utc(TypeDecorator[datetime]):
    """A time with its zone, UTC. SQLite stores it without."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database."""
        return value.replace(tzinfo=None) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database."""
        return None if value is None else value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value


METADATA = MetaData()
EVENTS = Table(
    "fleet_events",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("node", String(64), nullable=False),
    Column("machine", String(64), nullable=False),
    Column("event_type", String(16), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("onset", Utc, nullable=False),
    Column("at", Utc, nullable=False),  # of the last message
    Column("duration_s", Float, nullable=False),
    Column("peak_ratio", Float, nullable=False),
    Column("summary", String(500), nullable=False),
    Column("bundle", String(500), nullable=False),
    Column("end_reason", String(64)),
    Column("raised_by", String(64), nullable=False),
    Column("test", Boolean, nullable=False),
    Index("fleet_events_onset", "onset"),
    Index("fleet_events_machine", "node", "machine", "onset"),
)
STATES = Table(
    "fleet_states",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", Utc, nullable=False),
    Column("node", String(64), nullable=False),
    Column("machine", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("reason", String(64)),
    Column("ratio", Float),
    Index("fleet_states_at", "at"),
    Index("fleet_states_machine", "node", "machine", "at"),
)

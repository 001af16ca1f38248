"""The SQLite database of the queue: its table, and how it is opened, changed and copied."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SCHEMA = 1
MEMORY = ":memory:"
COLUMNS = "target, event, severity, title, body, picture"
_TABLE = """CREATE TABLE message (row INTEGER PRIMARY KEY, target TEXT NOT NULL, event TEXT NOT NULL, severity TEXT NOT NULL,
title TEXT NOT NULL, body TEXT NOT NULL, picture BLOB);"""


def copy(source: sqlite3.Connection, target: sqlite3.Connection, *, keeps_rows: bool) -> None:
    """Append all messages of one database to another, which must be empty if they are to keep their numbers."""
    number = "row" if keeps_rows else "NULL"
    rows = source.execute(f"SELECT {number}, {COLUMNS} FROM message ORDER BY row").fetchall()
    target.executemany(f"INSERT INTO message (row, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit all changes, or none of them."""
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise


def connect(path: Path | str) -> sqlite3.Connection:
    """Open or create the database; sqlite3.Error if it cannot be used."""
    db = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
    db.text_factory = lambda data: data.decode("utf-8", "replace")
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            db.executescript(f"BEGIN; {_TABLE} PRAGMA user_version = {SCHEMA}; COMMIT")
        elif found != SCHEMA:
            raise sqlite3.DatabaseError(f"schema must be {SCHEMA}, got {found}")
        if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("file is malformed")
    except sqlite3.Error:
        db.close()
        raise
    return db

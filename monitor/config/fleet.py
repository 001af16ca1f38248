"""The section `fleet`: the overview of many nodes, a process of its own (`monitor web --fleet`)."""

import re
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from monitor.config.fields import ConfigPath, OneLine
from monitor.config.messages import shown
from monitor.config.web import WebConfig

PATTERN = r"^[a-z0-9_*?\[\]!/-]{1,200}$"


def _pattern(text: str) -> str:
    if not re.fullmatch(PATTERN, text):
        raise ValueError(f"must be NODE or NODE/MACHINE, where * and ? stand for any characters, got {shown(text)}")
    return text


Pattern = Annotated[str, AfterValidator(_pattern), Field(json_schema_extra={"pattern": PATTERN})]


def _database(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "postgresql":
        raise ValueError(f"must be postgresql://USER@HOST/DATABASE, got {shown(url.partition(':')[0])}")
    if parts.password is not None or "password" in parts.query:
        raise ValueError("must not contain a password, which is read from the file in PGPASSFILE (~/.pgpass) instead")
    return url


class FleetConfig(WebConfig):
    """The overview of many nodes: `monitor web --fleet`, which needs stethos[overview]. Its broker is that of `mqtt`."""

    section: ClassVar[str] = "fleet"
    unit: ClassVar[str] = "stethos-fleet"
    command: ClassVar[str] = "monitor web --fleet"
    served: ClassVar[str] = "overview"

    port: Annotated[int, Field(ge=1, le=65535)] = 8471
    """TCP port."""

    state_dir: ConfigPath | None = None
    """Folder of passwords, sessions and history; null: systemd's (/var/lib/stethos-fleet), else $XDG_STATE_HOME/stethos-fleet."""

    groups: dict[OneLine, Annotated[tuple[Pattern, ...], Field(max_length=500)]] = Field(
        default={}, max_length=200, json_schema_extra={"additionalProperties": False}
    )
    """Halls or other groups by name, each a list of patterns of NODE or NODE/MACHINE: `hall-1: [press-*, saw-2/fan]`."""

    silent_after_s: Annotated[int, Field(ge=30, le=3_600)] = 90
    """A machine is unknown when its node has sent nothing about it for this many seconds; a node, for twice as long."""

    max_machines: Annotated[int, Field(ge=1, le=5_000)] = 2_000
    """Maximum number of machines; further ones are ignored and counted."""

    database: Annotated[OneLine, AfterValidator(_database)] | None = None
    """postgresql://USER@HOST/DATABASE for the history, with the password in ~/.pgpass; null: SQLite in the folder `state_dir`."""

    keep_days: Annotated[int, Field(ge=1, le=3_650)] = 365
    """Maximum age of the history in days."""

    keep_rows: Annotated[int, Field(ge=1_000, le=100_000_000)] = 1_000_000
    """Maximum number of events, and of changes of state, in the history."""
